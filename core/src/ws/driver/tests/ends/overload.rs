//! A subscriber that lags ends its connection.

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::super::peer::{config, serve, serve_with};
use crate::{
    hub::Hub,
    ws::{CloseCode, Error, WebSocket, protocol::Event},
};

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_lags_too_far_is_closed_with_1013() {
    let (sender, seen) = oneshot::channel();
    let hub = Hub::builder().history(1000).queue(10).build().unwrap();
    let subscription = hub.subscribe("topic").await.unwrap();
    let mut peer = serve_with(
        config(),
        None,
        1024,
        Bytes::new(),
        async move |mut socket: WebSocket| {
            socket.forward(subscription);
            sender.send(socket.recv().await).unwrap();
            Ok(())
        },
    );
    // More than the driver takes ahead of a peer that reads nothing.
    for _ in 0..120 {
        hub.publish("topic", vec![0; 1000]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let code = CloseCode::TRY_AGAIN_LATER;
    assert!(matches!(
        seen.await.unwrap(),
        Err(Error::Closed { code: Some(closed), .. }) if closed == code
    ));
    // What was begun is finished, what waited in the log is not sent.
    let mut received = 0;
    while let Some(Event::Message(_)) = peer.event().await {
        received += 1;
    }
    assert!((60..80).contains(&received), "{received}");
    assert_eq!(peer.close_code(), Some(1013));
}

#[tokio::test(start_paused = true)]
async fn overload_is_said_at_once_where_the_handler_does_not_wake() {
    let hub = Hub::builder().history(1000).queue(10).build().unwrap();
    let subscription = hub.subscribe("topic").await.unwrap();
    let mut peer = serve(config(), async move |mut socket: WebSocket| {
        socket.forward(subscription);
        std::future::pending().await
    });
    tokio::task::yield_now().await;
    for _ in 0..20 {
        hub.publish("topic", "x").await.unwrap();
    }
    let start = Instant::now();
    assert_eq!(peer.closed().await, 1013);
    assert_eq!(start.elapsed().as_millis(), 0);
}
