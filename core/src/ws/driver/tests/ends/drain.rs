//! A drain ends the connection.

use std::time::Duration;

use bytes::Bytes;
use tokio::{time::Instant, time::sleep};

use super::super::peer::{Peer, config, serve_with};
use crate::{
    drain::Drain,
    hub::Hub,
    ws::{Message, WebSocket, protocol::Event},
};

#[tokio::test(start_paused = true)]
async fn at_drain_what_was_received_is_answered_then_1012() {
    let drain = Drain::new(Duration::from_secs(5));
    let mut peer = serve_with(
        config(),
        Some(&drain),
        64 * 1024,
        Bytes::new(),
        async |mut socket: WebSocket| {
            while let Some(message) = socket.recv().await? {
                sleep(Duration::from_millis(100)).await;
                socket.send(message).await?;
            }
            socket.send("goodbye").await?;
            Ok(())
        },
    );
    peer.send_raw(&Peer::frames(["a", "b", "c"].map(Message::from)))
        .await;
    drain.start();
    for expected in ["a", "b", "c", "goodbye"] {
        assert_eq!(peer.text().await, expected);
    }
    assert_eq!(peer.closed().await, 1012);
    peer.finished().await;
    let outcome = drain.run(drain.finished()).await;
    assert!(outcome.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_asks_again_is_cut_by_the_deadline() {
    let drain = Drain::new(Duration::from_secs(5));
    let mut peer = serve_with(
        config(),
        Some(&drain),
        64 * 1024,
        Bytes::new(),
        async |mut socket: WebSocket| {
            socket.send("busy").await?;
            std::future::pending().await
        },
    );
    assert_eq!(peer.text().await, "busy");
    drain.start();
    let start = Instant::now();
    assert_eq!(peer.closed().await, 1012);
    assert_eq!(start.elapsed().as_millis(), 4500);
}

#[tokio::test(start_paused = true)]
async fn at_drain_a_subscription_delivers_what_was_published_before() {
    let drain = Drain::new(Duration::from_secs(5));
    let hub = Hub::new();
    let subscription = hub.subscribe("topic").await.unwrap();
    let mut peer = serve_with(
        config(),
        Some(&drain),
        1024,
        Bytes::new(),
        async move |mut socket: WebSocket| {
            socket.forward(subscription);
            assert_eq!(socket.recv().await, Ok(None));
            Ok(())
        },
    );
    for number in 0..1000 {
        hub.publish("topic", number.to_string()).await.unwrap();
    }
    drain.start();
    for number in 0..1000 {
        assert_eq!(peer.text().await, number.to_string());
    }
    assert_eq!(peer.closed().await, 1012);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_forwarded_in_a_drain_does_not_hold_it() {
    let drain = Drain::new(Duration::from_secs(5));
    let hub = Hub::new();
    let subscription = hub.subscribe("topic").await.unwrap();
    let mut peer = serve_with(
        config(),
        Some(&drain),
        1024,
        Bytes::new(),
        async move |mut socket: WebSocket| {
            sleep(Duration::from_millis(100)).await;
            socket.forward(subscription);
            assert_eq!(socket.recv().await, Ok(None));
            Ok(())
        },
    );
    tokio::task::yield_now().await;
    drain.start();
    let start = Instant::now();
    assert_eq!(peer.closed().await, 1012);
    assert!(start.elapsed().as_millis() < 200);
}

#[tokio::test(start_paused = true)]
async fn a_close_that_began_before_a_drain_ends_within_it() {
    let drain = Drain::new(Duration::from_secs(2));
    let handler = async |_: WebSocket| Ok(());
    let mut peer = serve_with(config(), Some(&drain), 1024, Bytes::new(), handler);
    assert!(matches!(peer.event().await, Some(Event::Close(_))));
    drain.start();
    assert!(drain.run(drain.finished()).await.is_clean());
}
