//! `cargo run -p towpath-examples --bin chat`, then open the address that it
//! prints in two windows.

use std::{
    io::{self, Write},
    net::TcpListener,
    process::ExitCode,
};

use clap::Parser;
use towpath_examples::chat::{Framework, House, Options, actix, axum};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(filter)
        .init();
    match serve(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell where stderr is gone.
            let _ = writeln!(io::stderr(), "chat: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> io::Result<ExitCode> {
    let cannot = |error: io::Error| {
        io::Error::new(error.kind(), format!("--addr {}: {error}", options.addr))
    };
    let listener = TcpListener::bind(&options.addr).map_err(cannot)?;
    listener.set_nonblocking(true)?;
    let house = House::new(options.drain()).map_err(io::Error::other)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on http://{}", listener.local_addr()?)?;
    stdout.flush()?;
    match options.framework {
        Framework::Axum => tokio::runtime::Runtime::new()?.block_on(axum::run(listener, house)),
        Framework::Actix => actix_web::rt::System::new().block_on(actix::run(listener, house)),
    }
}
