//! The handler ends the connection, or its closing.

use std::time::Duration;

use tokio::{sync::oneshot, time::sleep};

use super::super::peer::{Peer, config, serve};
use crate::ws::{CloseCode, Error, HandlerError, Message, WebSocket, protocol::Event};

#[tokio::test(start_paused = true)]
async fn a_handler_that_returns_closes_with_1000_behind_what_it_sent() {
    let mut peer = serve(config(), async |mut socket: WebSocket| {
        for number in 0..100 {
            socket.send(number.to_string()).await?;
        }
        Ok(())
    });
    for number in 0..100 {
        assert_eq!(peer.text().await, number.to_string());
    }
    assert_eq!(peer.closed().await, 1000);
    peer.finished().await;
}

#[tokio::test(start_paused = true)]
async fn close_wins_over_the_1000_of_a_return() {
    let mut peer = serve(config(), async |mut socket: WebSocket| {
        socket.send("last").await?;
        socket
            .close(CloseCode::new(4001).unwrap(), "because")
            .await?;
        assert!(matches!(
            socket.send("late").await,
            Err(Error::Closed { code: Some(code), .. }) if code.get() == 4001
        ));
        Ok(())
    });
    assert_eq!(peer.text().await, "last");
    assert_eq!(peer.closed().await, 4001);
    peer.finished().await;
}

#[tokio::test(start_paused = true)]
async fn after_our_close_messages_are_received_until_the_peers() {
    let (sender, received) = oneshot::channel();
    let mut peer = serve(config(), async move |mut socket: WebSocket| {
        socket.close(CloseCode::NORMAL, "").await?;
        let first = socket.recv().await?;
        let end = socket.recv().await;
        sender.send((first, end, socket.close_frame())).unwrap();
        Ok(())
    });
    assert!(matches!(peer.event().await, Some(Event::Close(_))));
    peer.send("crossed").await;
    peer.close(CloseCode::NORMAL).await;
    let (first, end, frame) = received.await.unwrap();
    assert_eq!(first, Some(Message::text("crossed")));
    assert_eq!(end, Ok(None));
    assert_eq!(frame.unwrap().reason, "bye");
    peer.finished().await;
}

#[tokio::test(start_paused = true)]
async fn an_error_is_1011_or_its_code_behind_what_was_sent() {
    let mut peer = serve(config(), async |mut socket: WebSocket| {
        socket.send("first").await?;
        Err(HandlerError::message("broken"))
    });
    assert_eq!(peer.text().await, "first");
    assert_eq!(peer.closed().await, 1011);

    let mut peer = serve(config(), async |_socket: WebSocket| {
        Err(HandlerError::message("no").with_code(CloseCode::FORBIDDEN))
    });
    assert_eq!(peer.closed().await, 3003);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_1011_and_other_halves_see_it() {
    let (sender, seen) = oneshot::channel();
    let mut peer = serve(config(), async move |socket: WebSocket| {
        let (mut sending, mut receiving) = socket.split();
        tokio::spawn(async move { sender.send(receiving.recv().await).unwrap() });
        sending.send("before").await?;
        panic!("on purpose");
    });
    assert_eq!(peer.text().await, "before");
    assert_eq!(peer.closed().await, 1011);
    assert!(matches!(
        seen.await.unwrap(),
        Err(Error::Closed {
            code: Some(CloseCode::INTERNAL_ERROR),
            ..
        })
    ));
    assert_eq!(peer.stats.snapshot().panics_total, 1);
    peer.finished().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_drop_is_caught_too() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("dropped");
            }
        }
    }
    let bomb = Bomb;
    let mut peer = serve(config(), async move |socket: WebSocket| {
        let _held = (bomb, socket);
        Ok(())
    });
    assert_eq!(peer.closed().await, 1011);
    assert_eq!(peer.stats.snapshot().panics_total, 1);
}

#[tokio::test(start_paused = true)]
async fn after_our_close_what_nobody_takes_is_thrown_away() {
    let (sender, seen) = oneshot::channel();
    let mut peer = serve(config(), async move |mut socket: WebSocket| {
        socket.close(CloseCode::NORMAL, "").await?;
        socket.closed().await;
        let mut sum = 0;
        while let Ok(Some(message)) = socket.recv().await {
            sum += message.len();
        }
        sender.send(sum).unwrap();
        Ok(())
    });
    let frames = Peer::frames((0..300).map(|_| Message::binary(vec![0; 10_000])));
    peer.send_raw(&frames).await;
    peer.close(CloseCode::NORMAL).await;
    let sum = seen.await.unwrap();
    assert!((60_000..140_000).contains(&sum), "{sum}");
}

#[tokio::test(start_paused = true)]
async fn other_halves_get_nothing_that_was_queued_when_the_handler_failed() {
    let (sender, got) = oneshot::channel();
    let mut peer = serve(config(), async move |mut socket: WebSocket| {
        tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            sender.send(socket.recv().await).unwrap();
        });
        sleep(Duration::from_millis(500)).await;
        Err(HandlerError::message("of no use"))
    });
    peer.send("queued").await;
    assert_eq!(peer.closed().await, 1011);
    assert!(matches!(got.await.unwrap(), Err(Error::Closed { .. })));
}
