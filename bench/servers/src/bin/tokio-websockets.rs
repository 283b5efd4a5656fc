//! The `echo_server` example of tokio-websockets.

use std::io;

use bench_servers::Options;
use clap::Parser;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_websockets::{Config, Error, Limits, ServerBuilder};

fn main() -> io::Result<()> {
    let options = Options::parse();
    options.runtime()?.block_on(async {
        let listener = options.listen_tokio()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(tokio::task::unconstrained(echo(stream)));
        }
    })
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let (_request, mut server) = ServerBuilder::new()
        .config(Config::default().frame_size(usize::MAX))
        .limits(Limits::unlimited())
        .accept(stream)
        .await?;
    while let Some(Ok(item)) = server.next().await {
        if item.is_text() || item.is_binary() {
            server.send(item).await?;
        }
    }
    Ok(())
}
