//! The driver over streams that hold back what they are given.

use http::Response;
use tokio::{io::BufStream, time::timeout};
use towpath::{
    testing::{Fault, TestSocket},
    ws::{
        Accepted, CloseCode, IoTransport, WsConfig, drive,
        protocol::{Extensions, Role},
    },
};

use super::service::SECOND;

#[tokio::test(start_paused = true)]
async fn a_stream_that_buffers_is_flushed() {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let accepted = Accepted {
        settings: WsConfig::new().into(),
        protocol: None,
        extensions: Extensions::default(),
        read_ahead: bytes::Bytes::new(),
        guard: None,
        role: Role::Server,
        expiry: None,
        permits: Default::default(),
        span: tracing::Span::none(),
    };
    // As TLS does while its socket is full.
    let transport = IoTransport::new(BufStream::new(server));
    let driver = drive(transport, accepted, |mut socket| async move {
        while let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        Ok(())
    });
    tokio::spawn(driver);
    let mut socket = TestSocket::over(client, Response::new(()), Fault::new());
    for _ in 0..2 {
        socket.send("hello").await.expect("sent");
        let soon = timeout(SECOND, socket.message()).await;
        assert_eq!(soon.expect("flushed"), Ok("hello".into()));
    }
    socket.close(CloseCode::NORMAL, "").await.expect("sent");
    let closed = timeout(SECOND, socket.closed()).await.expect("flushed");
    assert_eq!(
        closed.expect("in order").expect("a code").code,
        CloseCode::NORMAL
    );
}
