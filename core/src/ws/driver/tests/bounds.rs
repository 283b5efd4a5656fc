//! What may wait for a peer: so many messages, so many bytes, and who is told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::peer::{Peer, config, serve_with};
use crate::{
    hub::Hub,
    ws::{HandlerError, Sender, WebSocket, WsConfig},
};

const SECOND: Duration = Duration::from_secs(1);
/// What the transport takes of a peer that reads nothing.
const PIPE: usize = 100;

fn patient() -> WsConfig {
    config().write_timeout(None).heartbeat(None)
}

fn serve<F>(config: WsConfig, handler: impl FnOnce(WebSocket) -> F + Send + 'static) -> Peer
where
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    serve_with(config, None, PIPE, Bytes::new(), handler)
}

/// Sends frames of three bytes, and counts them.
async fn send(sender: &mut Sender, count: usize, sent: &AtomicUsize) -> Result<(), HandlerError> {
    for _ in 0..count {
        sender.send("x").await?;
        sent.fetch_add(1, SeqCst);
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn so_many_messages_wait_and_no_more() {
    for elsewhere in [false, true] {
        let sent = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&sent);
        let mut peer = serve(patient().outbound_messages(10), async move |socket| {
            let (mut sender, _receiver) = socket.split();
            if elsewhere {
                let send = async move { send(&mut sender, 100, &counts).await.is_ok() };
                assert!(tokio::spawn(send).await?);
                Ok(())
            } else {
                send(&mut sender, 100, &counts).await
            }
        });
        sleep(SECOND).await;
        // The pipe has taken 33 and a part of the next, which waits too.
        assert_eq!(sent.load(SeqCst), 43, "{elsewhere}");
        // Eight more have gone: 17 of 100 and 2 of 3 bytes are read.
        for _ in 0..8 {
            assert_eq!(peer.text().await, "x");
        }
        sleep(SECOND).await;
        let more = sent.load(SeqCst);
        assert!(more > 43 && more <= 43 + 100 / 3, "{more}");
        for _ in 8..100 {
            assert_eq!(peer.text().await, "x");
        }
        assert_eq!(peer.closed().await, 1000);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_forwarded_leaves_the_handler_room() {
    const EVENTS: usize = 1000;
    let hub = Hub::new();
    for _ in 0..EVENTS {
        hub.publish("topic", "event").await.unwrap();
    }
    let subscription = hub.subscribe("topic").last(EVENTS).await.unwrap();
    let mut peer = serve(patient().outbound_messages(4), async move |mut socket| {
        socket.forward(subscription);
        // Behind what was forwarded first.
        sleep(SECOND).await;
        for _ in 0..10 {
            socket.send("own").await?;
        }
        std::future::pending().await
    });
    sleep(2 * SECOND).await;
    let mut texts = Vec::new();
    for _ in 0..EVENTS / 2 {
        texts.push(timeout(SECOND, peer.text()).await.expect("more"));
    }
    let own = texts.iter().filter(|text| *text == "own").count();
    assert_eq!(own, 10, "{texts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_becomes_slow_is_told_of_once_until_it_has_caught_up() {
    let told = Arc::new(AtomicUsize::new(0));
    let tells = Arc::clone(&told);
    let config = patient()
        .outbound_messages(10)
        .slow_at(80)
        .on_slow(move |slow| {
            assert!((8..=10).contains(&slow.buffered_messages), "{slow:?}");
            assert!(slow.buffered_bytes > 0);
            tells.fetch_add(1, SeqCst);
            panic!("which changes nothing");
        });
    let mut peer = serve(config, async move |mut socket| {
        while socket.recv().await?.is_some() {
            for _ in 0..43 {
                socket.send("x").await?;
            }
        }
        Ok(())
    });
    for round in 1..=3 {
        peer.send("more").await;
        sleep(SECOND).await;
        assert_eq!(told.load(SeqCst), round);
        // One that wavers between the threshold and its half is told of no more.
        for _ in 0..43 {
            assert_eq!(peer.text().await, "x");
        }
        sleep(SECOND).await;
    }
    let stats = peer.stats.snapshot();
    assert_eq!((stats.slow_total, stats.panics_total), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn bytes_make_a_peer_slow_too_and_nobody_is_where_it_is_off() {
    for (slow_at, expected) in [(Some(80), 1), (None, 0)] {
        let config = patient().outbound_bytes(1000).slow_at(slow_at);
        let peer = serve(config, async |mut socket| {
            socket.send(vec![0; 990]).await?;
            std::future::pending().await
        });
        sleep(SECOND).await;
        assert_eq!(peer.stats.snapshot().slow_total, expected);
    }
}
