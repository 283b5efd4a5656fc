//! The echo server of yawc's documentation: `Options::default()` without compression, unless it is asked for.

use std::io;

use bench_servers::{Compress, Options};
use bytes::Bytes;
use clap::Parser;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Empty;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use yawc::{OpCode, UpgradeFut, WebSocket, WebSocketError};

const LARGEST: usize = 64 << 20;

fn main() -> io::Result<()> {
    let options = Options::parse();
    options.runtime()?.block_on(async {
        let listener = options.listen_tokio()?;
        let compress = options.compress;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                http1::Builder::new()
                    .serve_connection(
                        TokioIo::new(stream),
                        service_fn(move |request| server_upgrade(request, compress)),
                    )
                    .with_upgrades()
                    .await
            });
        }
    })
}

async fn server_upgrade(
    mut request: Request<Incoming>,
    compress: Option<Compress>,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let options = yawc::Options::default()
        .with_limits(LARGEST, LARGEST)
        .with_utf8();
    let options = match compress {
        None => options.without_compression(),
        Some(Compress::Takeover) => {
            options.with_compression_level(yawc::CompressionLevel::default())
        }
        Some(Compress::NoTakeover) => options
            .with_compression_level(yawc::CompressionLevel::default())
            .server_no_context_takeover()
            .client_no_context_takeover(),
    };
    let (response, upgraded) = WebSocket::upgrade_with_options(&mut request, options)?;
    tokio::spawn(async move {
        // How a connection ends is nothing to report.
        let _ = echo(upgraded).await;
    });
    Ok(response)
}

async fn echo(upgraded: UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = upgraded.await?;
    while let Some(frame) = socket.next().await {
        if matches!(frame.opcode(), OpCode::Text | OpCode::Binary) {
            socket.send(frame).await?;
        }
    }
    Ok(())
}
