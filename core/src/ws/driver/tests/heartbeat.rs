//! Pings: how long they take, and what they find.

use std::time::Duration;

use tokio::{
    io::AsyncReadExt,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

use super::peer::{Peer, config, serve};
use crate::ws::{Error, Message, Sender, WebSocket};

const T: Duration = Duration::from_secs(30);
const PING: [u8; 2] = [0x89, 0];
/// A pong without payload, masked with a key of zeros.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

async fn next_ping(peer: &mut Peer) {
    let mut frame = [0; 2];
    timeout(T * 3, peer.io.read_exact(&mut frame))
        .await
        .expect("a ping")
        .unwrap();
    assert_eq!(frame, PING);
}

#[tokio::test(start_paused = true)]
async fn the_round_trip_is_measured() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut peer = serve(config().heartbeat(T), async move |mut socket: WebSocket| {
        tell.send(socket.rtt()).unwrap();
        while socket.recv().await?.is_some() {
            tell.send(socket.rtt()).unwrap();
        }
        Ok(())
    });
    assert_eq!(told.recv().await.unwrap(), None, "before the first pong");
    for millis in [250, 40] {
        next_ping(&mut peer).await;
        let time = Duration::from_millis(millis);
        sleep(time).await;
        // Data in front of it is life, and no pong.
        peer.send("data").await;
        let before = told.recv().await.unwrap();
        peer.send_raw(&PONG).await;
        peer.send("data").await;
        let measured = told.recv().await.unwrap().expect("a time");
        assert_ne!(before, Some(measured));
        let off = measured.saturating_sub(time);
        assert!(
            measured >= time && off <= Duration::from_millis(2),
            "{measured:?}"
        );
    }
    // One that nobody asked for changes nothing.
    sleep(T / 2).await;
    peer.send_raw(&PONG).await;
    peer.send("data").await;
    let measured = told.recv().await.unwrap().expect("a time");
    assert!(measured < Duration::from_millis(50), "{measured:?}");
}

/// A socket whose handler takes nothing of a full inbox, and its other half.
async fn unread() -> (Peer, Sender) {
    let (tell, told) = oneshot::channel();
    let small = config().heartbeat(T).inbound_bytes(1000);
    let mut peer = serve(small, async move |socket: WebSocket| {
        let (sender, _receiver) = socket.split();
        let _ = tell.send(sender);
        std::future::pending().await
    });
    let sender = told.await.unwrap();
    for _ in 0..4 {
        peer.send(Message::binary(vec![0; 1000])).await;
    }
    (peer, sender)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_vanishes_while_nothing_is_read_is_found() {
    let (mut peer, mut sender) = unread().await;
    let start = Instant::now();
    next_ping(&mut peer).await;
    let Peer { io, driver, .. } = peer;
    drop(io);
    let end = timeout(T * 3, sender.closed()).await;
    assert_eq!(end.expect("it is found"), Error::PeerGone);
    assert!(start.elapsed() <= T * 2 + Duration::from_millis(10));
    driver.abort();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stays_while_nothing_is_read_is_not_taken_for_gone() {
    let (mut peer, mut sender) = unread().await;
    for _ in 0..20 {
        next_ping(&mut peer).await;
    }
    assert!(timeout(T, sender.closed()).await.is_err());
}
