//! A peer that never pauses.

use std::{future::Future, io, task::Context, task::Poll, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{sync::oneshot, task::JoinHandle, time::sleep, time::timeout};

use super::peer::{Peer, config};
use crate::{
    Stats,
    drain::Drain,
    ws::{
        Accepted, HandlerError, Message, WebSocket, WsConfig, drive,
        protocol::{Outbox, Role},
        transport::{Received, Transport},
    },
};

/// A peer that always sends, and takes all or nothing.
struct Flood {
    frame: Bytes,
    takes: bool,
}

impl Transport for Flood {
    fn poll_receive(
        &mut self,
        _: &mut Context<'_>,
        _: &mut BytesMut,
        _: usize,
    ) -> Poll<io::Result<Received>> {
        Poll::Ready(Ok(Received::Chunk(self.frame.clone())))
    }

    fn poll_send(&mut self, _: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<usize>> {
        if !self.takes {
            return Poll::Pending;
        }
        let count = out.remaining();
        out.advance(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {}
}

fn flooded<F>(
    flood: Flood,
    config: WsConfig,
    drain: Option<&Drain>,
    handler: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> JoinHandle<()>
where
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let accepted = Accepted {
        settings: config.into(),
        protocol: None,
        extensions: crate::ws::protocol::Extensions::default(),
        read_ahead: Bytes::new(),
        guard: drain.map(|drain| drain.guard().unwrap()),
        role: Role::Server,
        expiry: None,
        permits: Default::default(),
        span: tracing::Span::none(),
    };
    tokio::spawn(drive(flood, accepted, handler))
}

#[tokio::test]
async fn a_peer_that_never_pauses_is_drained() {
    let drain = Drain::new(Duration::from_secs(5));
    let (sender, ended) = oneshot::channel();
    let flood = Flood {
        frame: Peer::frames([Message::binary(vec![0; 60_000])]),
        takes: true,
    };
    let driver = flooded(flood, config(), Some(&drain), async move |mut socket| {
        while socket.recv().await?.is_some() {}
        sender.send(()).unwrap();
        Ok(())
    });
    tokio::task::yield_now().await;
    drain.start();
    let ended = timeout(Duration::from_secs(2), ended).await;
    ended.expect("at its moment").unwrap();
    driver.abort();
}

#[tokio::test]
async fn the_outbound_bound_holds_within_a_turn() {
    let stats = Stats::new();
    let flood = Flood {
        frame: Peer::frames([Message::binary("x")]),
        takes: false,
    };
    let config = config().outbound_bytes(100_000).stats(stats.clone());
    let driver = flooded(flood, config, None, async |mut socket| {
        while socket.recv().await?.is_some() {
            socket.send(vec![0; 90_000]).await?;
        }
        Ok(())
    });
    sleep(Duration::from_millis(10)).await;
    let buffered = stats.snapshot().buffered_bytes;
    assert!((90_000..190_000).contains(&buffered), "{buffered}");
    driver.abort();
}
