//! The idle time-out: no data message in either direction for so long.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::{
    io::AsyncReadExt,
    sync::oneshot,
    time::{Instant, advance, sleep, timeout},
};

use super::peer::{Peer, config, serve, serve_with};
use crate::{
    drain::Drain,
    ws::{CloseCode, Error, HandlerError, Message, WebSocket, protocol::Event},
};

const T: Duration = Duration::from_secs(60);
/// A tick of the timer more or less.
const ABOUT: Duration = Duration::from_millis(5);

async fn receive(mut socket: WebSocket) -> Result<(), HandlerError> {
    while socket.recv().await?.is_some() {}
    Ok(())
}

/// The close frame comes after this time, and so late that nothing else has passed.
async fn idle_after(peer: &mut Peer, time: Duration) {
    let start = Instant::now();
    let event = timeout(T * 100, peer.event()).await.expect("an end");
    let Some(Event::Close(Some(frame))) = event else {
        panic!("a close was expected, not {event:?}");
    };
    assert_eq!((frame.code.get(), frame.reason.as_str()), (1001, "idle"));
    let took = start.elapsed();
    assert!(took >= time && took <= time + ABOUT, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_socket_is_closed_with_1001_and_its_handler_sees_it() {
    let (tell, told) = oneshot::channel();
    let mut peer = serve(
        config().idle_timeout(T),
        async move |mut socket: WebSocket| {
            let first = socket.recv().await;
            tell.send((first, socket.recv().await, socket.send("late").await))
                .unwrap();
            Ok(())
        },
    );
    sleep(T / 2).await;
    peer.send("the only one").await;
    idle_after(&mut peer, T).await;
    let (first, end, sent) = told.await.unwrap();
    assert_eq!(first, Ok(Some(Message::text("the only one"))));
    let closed = Error::Closed {
        code: Some(CloseCode::GOING_AWAY),
        reason: "idle".into(),
    };
    assert_eq!((end, sent), (Err(closed.clone()), Err(closed)));
    assert_eq!(peer.stats.snapshot().websockets, 1, "our close is answered");
    peer.close(CloseCode::GOING_AWAY).await;
    assert_eq!(peer.read_raw().await, None);
    peer.finished().await;
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_a_socket_may_be_idle_for_ever() {
    let mut peer = serve(config(), receive);
    assert!(timeout(T * 1000, peer.event()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn pings_and_pongs_do_not_count() {
    // Ours are answered by the peer, and the peer's by us.
    let heartbeat = config().idle_timeout(T).heartbeat(T / 7);
    let mut peer = serve(heartbeat, receive);
    idle_after(&mut peer, T).await;

    let mut peer = serve(config().idle_timeout(T).heartbeat(None), receive);
    for _ in 0..5 {
        sleep(T / 6).await;
        peer.send_raw(&[0x89, 0x80, 0, 0, 0, 0]).await;
        assert_eq!(peer.read_raw().await.unwrap()[..], [0x8a, 0]);
        peer.send_raw(&[0x8a, 0x80, 0, 0, 0, 0]).await;
    }
    idle_after(&mut peer, T / 6).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_in_either_direction_counts() {
    let mut peer = serve(config().idle_timeout(T), receive);
    for _ in 0..5 {
        sleep(T / 3 * 2).await;
        peer.send("").await;
    }
    idle_after(&mut peer, T).await;

    let mut peer = serve(config().idle_timeout(T), async |mut socket: WebSocket| {
        for _ in 0..5 {
            sleep(T / 3 * 2).await;
            socket.send("").await?;
        }
        receive(socket).await
    });
    for _ in 0..5 {
        assert_eq!(peer.text().await, "");
    }
    idle_after(&mut peer, T).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_arrives_in_pieces_counts_and_one_that_stays_half_does_not() {
    // Small frames, and a payload that is read straight into its buffer.
    let small: &[u8] = &Peer::frames([Message::text("hello")]);
    let large: &[u8] = &Peer::frames([Message::binary(vec![7; 40_000])]);
    let mut fragments = vec![0x01, 0x81, 0, 0, 0, 0, b'a'];
    fragments.extend([0x00, 0x81, 0, 0, 0, 0, b'b'].repeat(3));
    for (whole, step) in [(small, 1), (large, 10_000), (&fragments[..], 7)] {
        let mut peer = serve(config().idle_timeout(T).heartbeat(None), receive);
        // The header alone is not yet a message.
        let header = if whole.len() > 1000 { 8 } else { 6 };
        peer.send_raw(&whole[..header]).await;
        let pieces = whole[header..].chunks(step);
        let last = pieces.len() - 1;
        for piece in pieces.take(last) {
            sleep(T / 3 * 2).await;
            peer.send_raw(piece).await;
        }
        idle_after(&mut peer, T).await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_handler_is_behind_the_clock_stands_still() {
    let config = config().idle_timeout(T).inbound_bytes(1000);
    let mut peer = serve(config, async |socket: WebSocket| {
        sleep(T * 10).await;
        receive(socket).await
    });
    // It takes them all at the end, when reading goes on.
    for _ in 0..3 {
        peer.send(vec![0; 800]).await;
    }
    idle_after(&mut peer, T * 11).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_on_its_way_to_a_slow_reader_is_not_idleness() {
    let config = config()
        .idle_timeout(T)
        .write_timeout(T * 4)
        .heartbeat(None);
    let mut peer = serve_with(
        config,
        None,
        100,
        Bytes::new(),
        async |mut socket: WebSocket| {
            socket.send(vec![0; 996]).await?;
            receive(socket).await
        },
    );
    let mut some = [0; 100];
    for _ in 0..9 {
        sleep(T * 3).await;
        peer.io.read_exact(&mut some).await.unwrap();
    }
    // The last of it went out when the one before was taken.
    peer.io.read_exact(&mut some).await.unwrap();
    idle_after(&mut peer, T).await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_computes_is_not_idle() {
    let mut peer = serve(config().idle_timeout(T), async |mut socket: WebSocket| {
        while let Some(message) = socket.recv().await? {
            // Time passes without the runtime's doing anything.
            assert_eq!(advance(T * 5).now_or_never(), None);
            socket.send(message).await?;
        }
        Ok(())
    });
    for _ in 0..3 {
        peer.send("work").await;
        assert_eq!(peer.text().await, "work");
    }
    idle_after(&mut peer, T).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_came_while_the_handler_computed_counts() {
    let mut peer = serve(config().idle_timeout(T), async |mut socket: WebSocket| {
        sleep(T / 2).await;
        assert_eq!(advance(T * 5).now_or_never(), None);
        // Another turn begins before the runtime has looked at the socket.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        while let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        Ok(())
    });
    sleep(T / 2).await;
    peer.send("still there").await;
    assert_eq!(peer.text().await, "still there");
    idle_after(&mut peer, T).await;
}

#[tokio::test(start_paused = true)]
async fn in_a_drain_the_code_is_the_drains() {
    let drain = Drain::new(T * 10);
    let mut peer = serve_with(
        config().idle_timeout(T).heartbeat(None),
        Some(&drain),
        1024,
        Bytes::new(),
        async |socket: WebSocket| {
            // It does not ask again.
            sleep(T * 20).await;
            drop(socket);
            Ok(())
        },
    );
    tokio::task::yield_now().await;
    drain.start();
    assert_eq!(peer.closed().await, 1012);
}

#[tokio::test(start_paused = true)]
async fn times_that_no_clock_can_hold_are_no_harm() {
    let forever = config()
        .heartbeat(Duration::MAX)
        .idle_timeout(Duration::MAX)
        .write_timeout(Duration::MAX)
        .close_timeout(Duration::MAX);
    let mut peer = serve(forever, receive);
    peer.send("a message").await;
    sleep(T).await;
    peer.close(CloseCode::NORMAL).await;
    let event = timeout(T, peer.event()).await.expect("an end");
    assert!(matches!(event, Some(Event::Close(Some(frame))) if frame.code.get() == 1000));
}
