//! What a socket was let in with expires.

use std::time::Duration;

use tokio::{
    sync::oneshot,
    time::{Instant, advance, sleep, timeout},
};

use super::peer::{Peer, config, serve_until};
use crate::{
    Expiry,
    drain::Drain,
    hub::Hub,
    ws::{CloseCode, Error, HandlerError, Message, WebSocket, protocol::Event},
};

const T: Duration = Duration::from_secs(60);
/// A tick of the timer more or less.
const ABOUT: Duration = Duration::from_millis(5);

fn expired() -> Error {
    Error::Closed {
        code: Some(CloseCode::UNAUTHORIZED),
        reason: "credential expired".into(),
    }
}

async fn receive(mut socket: WebSocket) -> Result<(), HandlerError> {
    while socket.recv().await?.is_some() {}
    Ok(())
}

/// The close frame comes after this time, and so late that nothing else has passed.
async fn expires_after(peer: &mut Peer, time: Duration) {
    let start = Instant::now();
    let event = timeout(T * 100, peer.event()).await.expect("an end");
    let Some(Event::Close(Some(frame))) = event else {
        panic!("a close was expected, not {event:?}");
    };
    let said = (frame.code.get(), frame.reason.as_str());
    assert_eq!(said, (3000, "credential expired"));
    let took = start.elapsed();
    assert!(took >= time && took <= time + ABOUT, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn it_closes_with_3000_and_the_handler_sees_it() {
    let (tell, told) = oneshot::channel();
    let mut peer = serve_until(config(), T, async move |mut socket: WebSocket| {
        let first = socket.recv().await;
        let end = socket.recv().await;
        let sent = socket.send("late").await;
        tell.send((first, end, sent, socket.closed().await))
            .unwrap();
        Ok(())
    });
    peer.send("the only one").await;
    expires_after(&mut peer, T).await;
    peer.close(CloseCode::UNAUTHORIZED).await;
    let (first, end, sent, closed) = told.await.unwrap();
    assert_eq!(first, Ok(Some(Message::text("the only one"))));
    assert_eq!((end, sent), (Err(expired()), Err(expired())));
    assert_eq!(closed, expired());
    assert_eq!(peer.read_raw().await, None);
    peer.finished().await;
}

#[tokio::test(start_paused = true)]
async fn refreshed_in_band_it_lives_on() {
    let mut peer = serve_until(config(), T, async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            let expiry = socket.expiry().expect("it was given one");
            expiry.refresh(T * 2);
            socket.send(message).await?;
        }
        Ok(())
    });
    for _ in 0..3 {
        sleep(T / 2).await;
        peer.send("renewed").await;
        assert_eq!(peer.text().await, "renewed");
    }
    expires_after(&mut peer, T * 2).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_revoked_closes_at_once_all_that_share_it() {
    let expiry = Expiry::from(T * 1000);
    let mut peers =
        [(); 3].map(|()| serve_until(config().heartbeat(None), expiry.clone(), receive));
    for peer in &mut peers {
        assert!(timeout(T, peer.event()).await.is_err(), "it lives");
    }
    expiry.expire();
    for peer in &mut peers {
        expires_after(peer, Duration::ZERO).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_before_it_begins_is_closed_at_once() {
    let expiry = Expiry::from(T);
    advance(T * 2).await;
    let mut peer = serve_until(config(), expiry, receive);
    expires_after(&mut peer, Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn without_one_there_is_none() {
    let (tell, told) = oneshot::channel();
    let mut peer = serve_until(config(), None, async move |socket: WebSocket| {
        tell.send(socket.expiry().is_none()).unwrap();
        receive(socket).await
    });
    assert!(told.await.unwrap());
    assert!(timeout(T * 1000, peer.event()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_before_goes_out_first() {
    const COUNT: usize = 100;
    let bounds = config().write_timeout(None).close_timeout(T);
    let mut peer = serve_until(bounds, T, async |mut socket: WebSocket| {
        for _ in 0..COUNT {
            socket.send(vec![7; 8 << 10]).await?;
        }
        receive(socket).await
    });
    // Nobody reads until it is over; the pipe holds eight of them.
    sleep(T + T / 2).await;
    for number in 0..COUNT {
        assert_eq!(peer.message().await.len(), 8 << 10, "{number}");
    }
    assert_eq!(peer.closed().await, 3000);
    peer.finished().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_received_before_is_given_and_what_comes_later_is_not() {
    let (tell, told) = oneshot::channel();
    let mut peer = serve_until(config(), T, async move |mut socket: WebSocket| {
        sleep(T + T / 4).await;
        let mut seen = Vec::new();
        let end = loop {
            match socket.recv().await {
                Ok(Some(message)) => seen.push(message.as_text().unwrap().to_owned()),
                other => break other,
            }
        };
        tell.send((seen, end)).unwrap();
        Ok(())
    });
    peer.send("in time").await;
    expires_after(&mut peer, T).await;
    peer.send("too late").await;
    peer.close(CloseCode::UNAUTHORIZED).await;
    let (seen, end) = told.await.unwrap();
    assert_eq!((seen, end), (vec!["in time".to_owned()], Err(expired())));
    peer.finished().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_gives_nothing_more() {
    let hub = Hub::new();
    let subscription = hub.subscribe("news").await.unwrap();
    let mut peer = serve_until(config(), T, async move |mut socket: WebSocket| {
        socket.forward(subscription);
        receive(socket).await
    });
    hub.publish("news", "in time").await.unwrap();
    assert_eq!(peer.text().await, "in time");
    expires_after(&mut peer, T).await;
    hub.publish("news", "too late").await.unwrap();
    peer.close(CloseCode::UNAUTHORIZED).await;
    assert_eq!(peer.read_raw().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_pauses_is_closed_too() {
    let mut peer = serve_until(config().heartbeat(None), T, receive);
    let start = Instant::now();
    let message = Peer::frames([Message::text("x".repeat(1000))]);
    let (mut read, mut write) = tokio::io::split(&mut peer.io);
    let sends = async {
        loop {
            tokio::io::AsyncWriteExt::write_all(&mut write, &message)
                .await
                .unwrap();
            if start.elapsed() > T * 2 {
                break;
            }
            advance(Duration::from_millis(20)).await;
        }
    };
    let mut frame = [0; 4];
    tokio::select! {
        () = sends => panic!("it was not closed"),
        read = tokio::io::AsyncReadExt::read_exact(&mut read, &mut frame) => { read.unwrap(); }
    }
    // 0x88: a close frame of 20 bytes, of the code 3000.
    assert_eq!(frame, [0x88, 20, 0x0b, 0xb8]);
    assert!(start.elapsed() >= T);
}

#[tokio::test(start_paused = true)]
async fn in_a_drain_its_code_wins() {
    let drain = Drain::new(T);
    let expiry = Expiry::from(T / 4);
    let mut peer = super::peer::serve_all(
        config(),
        Some(&drain),
        Some(expiry),
        async |socket: WebSocket| {
            // It answers nothing, so that the drain waits for it.
            sleep(T / 2).await;
            receive(socket).await
        },
    );
    assert!(timeout(ABOUT, peer.event()).await.is_err());
    drain.start();
    assert_eq!(peer.closed().await, 1012);
}
