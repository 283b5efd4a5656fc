//! towpath in axum: the plain loop, where the testbed has no option for what is measured.

use std::io;

use axum::{Router, response::Response, serve::ListenerExt as _};
use bench_servers::{Compress, Options};
use clap::Parser;
use towpath_axum::{Deflate, WsLayer, WsUpgrade, on_connect, ws};

fn main() -> io::Result<()> {
    let options = Options::parse();
    options.runtime()?.block_on(async {
        let layer = match options.compress {
            None => WsLayer::new(),
            Some(compress) => {
                let keep = compress == Compress::Takeover;
                WsLayer::new().deflate(Deflate::new().context_takeover(keep))
            }
        };
        let app = Router::new().route("/echo", ws(echo)).layer(layer);
        let listener = options.listen_tokio()?;
        axum::serve(listener.tap_io(on_connect), app).await
    })
}

async fn echo(upgrade: WsUpgrade) -> Response {
    upgrade.on_upgrade(async |mut socket| {
        while let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        Ok(())
    })
}
