//! The peer ends the connection.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::Notify, sync::oneshot, time::Instant, time::sleep};

use super::super::echo::echo;
use super::super::peer::{Peer, accepted, config, serve, serve_accepted};
use crate::{
    backpressure::Admission,
    backpressure::Limits,
    backpressure::PermitSlot,
    backpressure::PermitSlots,
    ws::{CloseCode, Error, Message, ProtocolError, WebSocket, protocol::Event},
};

#[tokio::test(start_paused = true)]
async fn messages_in_front_of_the_peers_close_are_answered() {
    let mut peer = serve(config(), echo);
    let frames = Peer::frames((0..500).map(|number| Message::from(number.to_string())));
    peer.send_raw(&frames).await;
    peer.close(CloseCode::GOING_AWAY).await;
    for number in 0..500 {
        assert_eq!(peer.text().await, number.to_string());
    }
    assert_eq!(peer.closed().await, 1001);
    peer.finished().await;
}

#[tokio::test(start_paused = true)]
async fn a_close_without_a_code_is_answered_without_one() {
    let mut peer = serve(config(), echo);
    peer.send_raw(&[0x88, 0x80, 1, 2, 3, 4]).await;
    assert_eq!(peer.closed().await, 1005);
}

#[tokio::test(start_paused = true)]
async fn messages_in_front_of_a_breach_are_answered_and_the_handler_is_told() {
    let (sender, seen) = oneshot::channel();
    let mut peer = serve(config(), async move |mut socket: WebSocket| {
        let end = loop {
            match socket.recv().await {
                Ok(Some(message)) => socket.send(message).await?,
                end => break end,
            }
        };
        sender.send(end).unwrap();
        Ok(())
    });
    // More than the handler can answer within one budget.
    let mut wire = Peer::frames((0..500).map(|number| Message::from(number.to_string()))).to_vec();
    wire.extend([0xF1, 0x80, 0, 0, 0, 0]);
    peer.send_raw(&wire).await;
    for number in 0..500 {
        assert_eq!(peer.text().await, number.to_string());
    }
    assert_eq!(peer.closed().await, 1002);
    let breach = ProtocolError::ReservedBit;
    assert_eq!(seen.await.unwrap(), Err(Error::Protocol(breach)));
    peer.finished().await;
}

#[tokio::test(start_paused = true)]
async fn too_big_is_1009_from_the_header_on() {
    let mut peer = serve(config().max_message_size(100), echo);
    peer.send(Message::binary(vec![0; 100])).await;
    assert_eq!(peer.message().await.len(), 100);
    peer.send_raw(&[0x82, 0x80 | 101]).await;
    // Not a byte of the payload, not even the mask.
    peer.send_raw(&[0, 0, 0, 0]).await;
    assert_eq!(peer.closed().await, 1009);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_ends_without_a_close_gets_what_was_said_to_it() {
    let (sender, seen) = oneshot::channel();
    let mut peer = serve(config(), async move |mut socket: WebSocket| {
        let end = loop {
            match socket.recv().await {
                Ok(Some(message)) => socket.send(message).await?,
                end => break end,
            }
        };
        sender.send(end).unwrap();
        Ok(())
    });
    peer.send("half").await;
    peer.end().await;
    assert_eq!(peer.text().await, "half");
    assert_eq!(peer.event().await, None, "no close frame");
    assert_eq!(seen.await.unwrap(), Err(Error::PeerGone));
    peer.finished().await;
}

#[tokio::test(start_paused = true)]
async fn the_peer_never_cancels_a_handler_and_grace_ends() {
    let told = Arc::new(Notify::new());
    let (sender, dropped) = oneshot::channel::<()>();
    let notify = Arc::clone(&told);
    let admission = Admission::new(Limits::new().max_connections(1));
    let mut slots = PermitSlots::default();
    slots.push(PermitSlot::new(admission.try_admit(None).unwrap()));
    let peer = serve_accepted(
        accepted(config(), None, Bytes::new()),
        64 * 1024,
        |accepted| accepted.permits = slots.take(),
        async move |mut socket: WebSocket| {
            let _until_dropped = sender;
            assert_eq!(socket.recv().await, Err(Error::PeerGone));
            notify.notify_one();
            std::future::pending().await
        },
    );
    let start = Instant::now();
    let Peer {
        io, driver, stats, ..
    } = peer;
    drop(io);
    told.notified().await;
    // What counts as live has its place, and the other way round.
    assert_eq!((stats.snapshot().websockets, admission.live()), (1, 1));
    assert_eq!(stats.snapshot().gone_total, 1);
    assert!(dropped.await.is_err(), "the handler was dropped");
    assert_eq!(start.elapsed().as_secs(), 30, "but not before its grace");
    driver.await.unwrap();
    assert_eq!((stats.snapshot().websockets, admission.live()), (0, 0));
    assert_eq!(stats.snapshot().handlers_dropped_total, 1);
}

#[tokio::test(start_paused = true)]
async fn the_peers_close_is_answered_at_once_where_nobody_receives() {
    let mut peer = serve(config(), async |socket: WebSocket| {
        let (sender, _) = socket.split();
        tokio::spawn(async move {
            let _sender = sender;
            sleep(Duration::from_secs(600)).await;
        });
        Ok(())
    });
    tokio::task::yield_now().await;
    let start = Instant::now();
    peer.close(CloseCode::NORMAL).await;
    assert_eq!(peer.closed().await, 1000);
    assert_eq!(start.elapsed().as_millis(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_peers_close_is_answered_in_time_where_nobody_asks_again() {
    let mut peer = serve(config(), async |mut socket: WebSocket| {
        tokio::spawn(async move {
            while socket.send("tick").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        Ok(())
    });
    assert_eq!(peer.text().await, "tick");
    let start = Instant::now();
    peer.close(CloseCode::NORMAL).await;
    while let Some(Event::Message(_)) = peer.event().await {}
    assert_eq!(peer.close_code(), Some(1000));
    assert_eq!(start.elapsed().as_millis(), 5000);
    peer.finished().await;
}

#[tokio::test(start_paused = true)]
async fn messages_in_front_of_the_peers_close_are_answered_by_halves_that_the_handler_awaits() {
    let mut peer = serve(config(), async |socket: WebSocket| {
        let (mut sender, mut receiver) = socket.split();
        tokio::spawn(async move {
            while let Ok(Some(message)) = receiver.recv().await {
                sender.send(message).await.unwrap();
            }
        })
        .await?;
        Ok(())
    });
    sleep(Duration::from_millis(1)).await;
    let mut wire = Peer::frames(["a", "b", "c"].map(Message::from)).to_vec();
    wire.extend([0x88, 0x82, 0, 0, 0, 0, 3, 0xE8]);
    peer.send_raw(&wire).await;
    for expected in ["a", "b", "c"] {
        assert_eq!(peer.text().await, expected);
    }
    assert_eq!(peer.closed().await, 1000);
}
