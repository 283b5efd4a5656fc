//! `cargo run -p towpath-examples --bin chat`, then open the address that it
//! prints in two windows.

use std::{
    io::{self, Write},
    net::TcpListener,
    process::ExitCode,
};

use clap::Parser;
use towpath_examples::chat::{Framework, House, Options, Signals, actix, axum};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(filter)
        .init();
    run(&Options::parse()).unwrap_or_else(|error| {
        // Nobody is left to tell where stderr is gone.
        let _ = writeln!(io::stderr(), "chat: {error}");
        ExitCode::FAILURE
    })
}

fn run(options: &Options) -> io::Result<ExitCode> {
    match options.framework {
        Framework::Axum => tokio::runtime::Runtime::new()?.block_on(serve(options)),
        Framework::Actix => actix_web::rt::System::new().block_on(serve(options)),
    }
}

async fn serve(options: &Options) -> io::Result<ExitCode> {
    let listener = TcpListener::bind(&options.addr).map_err(|error| {
        io::Error::new(error.kind(), format!("--addr {}: {error}", options.addr))
    })?;
    listener.set_nonblocking(true)?;
    let house = House::new(options.drain()).map_err(io::Error::other)?;
    // Whoever is told the address may signal the end.
    let signals = Signals::new()?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on http://{}", listener.local_addr()?)?;
    stdout.flush()?;
    match options.framework {
        Framework::Axum => axum::run(listener, house, signals).await,
        Framework::Actix => actix::run(listener, house, signals).await,
    }
}
