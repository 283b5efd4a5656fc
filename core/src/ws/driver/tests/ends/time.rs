//! A time-out ends the connection, and what does not run into one.

use std::time::Duration;

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant, time::sleep};

use super::super::peer::{Peer, config, serve, serve_with};
use crate::ws::{CloseCode, Error, Message, WebSocket, protocol::Event};

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_our_close_is_reset_in_time() {
    let mut peer = serve(
        config().close_timeout(Duration::from_secs(2)),
        async |_socket| Ok(()),
    );
    let start = Instant::now();
    assert!(matches!(peer.event().await, Some(Event::Close(_))));
    assert_eq!(peer.read_raw().await, None);
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_fails_both_ends_with_the_write_timeout() {
    let (sender, seen) = oneshot::channel();
    let config = config()
        .write_timeout(Duration::from_secs(3))
        .heartbeat(None)
        .outbound_bytes(4096);
    let peer = serve_with(
        config,
        None,
        1024,
        Bytes::new(),
        async move |mut socket: WebSocket| {
            let end = loop {
                if let Err(end) = socket.send(vec![0; 1000]).await {
                    break end;
                }
            };
            sender.send((end, socket.recv().await)).unwrap();
            Ok(())
        },
    );
    let start = Instant::now();
    let (sent, received) = seen.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 3);
    assert_eq!(sent, Error::WriteTimeout);
    assert_eq!(received, Err(Error::WriteTimeout));
    peer.finished().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_lives() {
    let config = config()
        .write_timeout(Duration::from_secs(3))
        .outbound_bytes(4096);
    let mut peer = serve_with(
        config,
        None,
        1024,
        Bytes::new(),
        async |mut socket: WebSocket| {
            for _ in 0..20 {
                socket.send(vec![0; 1000]).await?;
            }
            Ok(())
        },
    );
    for _ in 0..20 {
        sleep(Duration::from_secs(2)).await;
        assert_eq!(peer.message().await.len(), 1000);
    }
    assert_eq!(peer.closed().await, 1000);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_gone_after_two_heartbeats() {
    let (sender, seen) = oneshot::channel();
    let mut peer = serve(config(), async move |mut socket: WebSocket| {
        sender.send(socket.recv().await).unwrap();
        Ok(())
    });
    let start = Instant::now();
    let ping = peer.read_raw().await.unwrap();
    assert_eq!(&ping[..], [0x89, 0], "a ping");
    assert_eq!(start.elapsed().as_secs(), 30);
    assert_eq!(peer.read_raw().await, None, "no close frame");
    assert_eq!(start.elapsed().as_secs(), 60);
    assert_eq!(seen.await.unwrap(), Err(Error::PeerGone));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_pings_lives() {
    let mut peer = serve(config(), async |mut socket: WebSocket| {
        sleep(Duration::from_secs(300)).await;
        socket.send("still here").await?;
        Ok(())
    });
    assert_eq!(peer.text().await, "still here");
    assert_eq!(peer.closed().await, 1000);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_slow_is_not_a_dead_peer() {
    let config = config()
        .heartbeat(Duration::from_millis(500))
        .inbound_bytes(1000);
    let mut peer = serve(config, async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            sleep(Duration::from_secs(2)).await;
            socket.send(message.len().to_string()).await?;
        }
        Ok(())
    });
    // More than the inbox takes: reading stops, and with it the silence's clock.
    let frames = Peer::frames((0..10).map(|_| Message::binary(vec![0; 500])));
    peer.send_raw(&frames).await;
    for _ in 0..10 {
        assert_eq!(peer.text().await, "500");
    }
    peer.close(CloseCode::NORMAL).await;
    assert_eq!(peer.closed().await, 1000);
}

#[tokio::test]
async fn a_handler_that_computes_does_not_use_up_the_close_timeout() {
    let config = config().close_timeout(Duration::from_millis(300));
    let mut peer = serve(config, async |mut socket: WebSocket| {
        socket.recv().await?;
        std::thread::sleep(Duration::from_millis(400));
        Ok(())
    });
    peer.send("compute").await;
    assert!(matches!(peer.event().await, Some(Event::Close(_))));
    sleep(Duration::from_millis(50)).await;
    assert!(!peer.driver.is_finished(), "the peer's close is awaited");
}
