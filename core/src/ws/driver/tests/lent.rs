//! What the handler says goes straight into its driver's outbox, and what it
//! receives comes in batches: nobody can tell.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt};
use tokio::{sync::Notify, time::timeout};

use super::peer::{Peer, config, serve, serve_with};
use crate::ws::{
    Accepted, CloseCode, Error, HandlerError, IoTransport, Message, WebSocket, drive,
    protocol::{Event, Extensions, Role},
};

const SOON: Duration = Duration::from_secs(10);

fn numbers(count: u32) -> Bytes {
    Peer::frames((0..count).map(|number| Message::from(number.to_string())))
}

/// What a clone has queued through the lock goes out first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_half_has_said_goes_out_first() {
    let mut peer = serve(config(), async |mut socket: WebSocket| {
        socket.recv().await?;
        for round in 0..100 {
            socket.send(format!("{round} direct")).await?;
            let mut other = socket.sender().clone();
            // While this thread is in the midst of the handler.
            let said =
                std::thread::spawn(move || other.send(format!("{round} other")).now_or_never());
            said.join().unwrap().unwrap()?;
            socket.send(format!("{round} behind")).await?;
        }
        Ok(())
    });
    peer.send("go").await;
    for round in 0..100 {
        for who in ["direct", "other", "behind"] {
            let text = timeout(SOON, peer.text()).await.unwrap();
            assert_eq!(text, format!("{round} {who}"));
        }
    }
    assert_eq!(peer.closed().await, 1000);
}

/// A close that another half has asked for is known at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_behind_the_close_of_another_half_fails() {
    let mut peer = serve(config(), async |mut socket: WebSocket| {
        socket.recv().await?;
        socket.send("first").await?;
        let mut other = socket.sender().clone();
        let closed = std::thread::spawn(move || {
            other
                .close(CloseCode::new(4000).unwrap(), "")
                .now_or_never()
        });
        closed.join().unwrap().unwrap()?;
        let failed = socket.send("second").await;
        assert!(
            matches!(failed, Err(Error::Closed { code: Some(code), .. }) if code.get() == 4000)
        );
        Ok(())
    });
    peer.send("go").await;
    assert_eq!(peer.text().await, "first");
    assert_eq!(peer.closed().await, 4000);
    assert_eq!(peer.stats.snapshot().panics_total, 0);
}

/// A driver that is polled in the midst of another's handler has its own outbox, and
/// gives the other's back.
#[tokio::test]
async fn a_driver_inside_a_handler_says_nothing_to_the_wrong_peer() {
    let (inner_io, mut inner_peer) = tokio::io::duplex(1024);
    let mut peer = serve(config(), async move |mut socket: WebSocket| {
        socket.recv().await?;
        socket.send("outer before").await?;
        let accepted = Accepted {
            settings: config().into(),
            protocol: None,
            extensions: Extensions::default(),
            read_ahead: Bytes::new(),
            guard: None,
            expiry: None,
            permits: Default::default(),
            span: tracing::Span::none(),
            role: Role::Server,
        };
        let inner = drive(IoTransport::new(inner_io), accepted, async |mut socket| {
            socket.send("inner").await?;
            std::future::pending::<Result<(), HandlerError>>().await
        });
        let mut inner = pin!(inner);
        poll_fn(|cx| {
            assert!(inner.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        socket.send("outer behind").await?;
        Ok(())
    });
    peer.send("go").await;
    assert_eq!(peer.text().await, "outer before");
    assert_eq!(peer.text().await, "outer behind");
    assert_eq!(peer.closed().await, 1000);
    let mut said = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut inner_peer, &mut said)
        .await
        .unwrap();
    assert_eq!(said, b"\x81\x05inner");
}

/// What was said before a panic goes out.
#[tokio::test(start_paused = true)]
async fn what_was_said_before_a_panic_goes_out() {
    let mut peer = serve(config(), async |mut socket: WebSocket| {
        socket.recv().await?;
        socket.send("said").await?;
        panic!("on purpose");
    });
    peer.send("go").await;
    assert_eq!(peer.text().await, "said");
    assert_eq!(peer.closed().await, 1011);
}

/// The bound holds for the handler and, at the same moment, for a half on another
/// thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_counts_what_went_straight_out() {
    let config = config().outbound_bytes(1000);
    let mut peer = serve_with(config, None, 64 * 1024, Bytes::new(), async |mut socket| {
        socket.recv().await?;
        socket.send(vec![1; 998]).await?;
        let mut other = socket.sender().clone();
        let full = std::thread::spawn(move || other.send("more").now_or_never().is_none());
        assert!(full.join().unwrap(), "there is no room");
        assert!(socket.sender().send("more").now_or_never().is_none());
        assert!(poll_ready(&mut socket).is_pending());
        socket.send("once there is room").await?;
        Ok::<_, HandlerError>(())
    });
    peer.send("go").await;
    assert_eq!(peer.message().await.len(), 998);
    assert_eq!(peer.text().await, "once there is room");
    assert_eq!(peer.closed().await, 1000);
    assert_eq!(peer.stats.snapshot().panics_total, 0);
}

fn poll_ready(socket: &mut WebSocket) -> Poll<Result<(), Error>> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    socket.poll_ready_unpin(&mut cx)
}

/// A receiver that goes to another task takes its batch along, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_goes_where_its_receiver_goes() {
    let mut peer = serve(config(), async |mut socket: WebSocket| {
        for _ in 0..10 {
            let message = socket.recv().await?.unwrap();
            socket.send(message).await?;
        }
        let (mut sender, mut receiver) = socket.split();
        let rest = async move {
            while let Some(message) = receiver.recv().await? {
                sender.send(message).await?;
            }
            Ok::<_, Error>(())
        };
        tokio::spawn(rest).await.unwrap()?;
        Ok(())
    });
    peer.send_raw(&numbers(1000)).await;
    for number in 0..1000 {
        let text = timeout(SOON, peer.text()).await.unwrap();
        assert_eq!(text, number.to_string());
    }
    peer.close(CloseCode::NORMAL).await;
    assert_eq!(
        peer.event().await,
        Some(Event::Close(Some(crate::ws::CloseFrame::new(
            CloseCode::NORMAL,
            ""
        ))))
    );
}

/// A handler that fails with half a batch in its receiver's hand gives no more of it.
#[tokio::test(start_paused = true)]
async fn a_batch_ends_with_the_handler_that_failed() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let (give, take) = tokio::sync::oneshot::channel();
    let mut peer = serve(config(), async move |mut socket: WebSocket| {
        wait.notified().await;
        assert_eq!(socket.recv().await?, Some("0".into()));
        assert_eq!(socket.recv().await?, Some("1".into()));
        let (_, receiver) = socket.split();
        give.send(receiver).unwrap();
        Err(std::io::Error::other("on purpose").into())
    });
    peer.send_raw(&numbers(10)).await;
    go.notify_one();
    let mut receiver = take.await.unwrap();
    assert_eq!(peer.closed().await, 1011);
    assert!(
        matches!(receiver.recv().await, Err(Error::Closed { code: Some(code), .. }) if code.get() == 1011)
    );
}

/// Reading stops at the bound and goes on with the message that makes room, though
/// the handler holds the whole inbox as its batch.
#[tokio::test(start_paused = true)]
async fn room_is_told_with_the_message_that_makes_it() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let config = config().inbound_bytes(1000);
    let mut peer = serve(config, async move |mut socket: WebSocket| {
        loop {
            wait.notified().await;
            let message = socket.recv().await?.unwrap();
            socket.send(message).await?;
        }
    });
    peer.send_raw(&Peer::frames(
        (0..100).map(|_| Message::binary(vec![0; 100])),
    ))
    .await;
    let mut expected = 0;
    let mut taken = peer.stats.snapshot().messages_in_total;
    for _ in 0..50 {
        go.notify_one();
        peer.message().await;
        expected += 1;
        let now = peer.stats.snapshot().messages_in_total;
        assert!(now >= taken, "{now} {taken}");
        taken = now;
        // 1000 bytes are seven messages with their overhead; one more is what passes it.
        assert!(taken - expected <= 8, "{taken} read, {expected} taken");
    }
    assert!(
        taken >= expected + 6,
        "{taken} read, {expected} taken: reading lags"
    );
}

/// A message that goes straight out takes none of tokio's budget; yet the outbox is
/// full soon, and what only asks for room takes some.
#[tokio::test]
async fn a_handler_that_is_never_kept_waiting_lets_others_run() {
    for sends in [true, false] {
        let mut peer = serve(config(), async move |mut socket: WebSocket| {
            socket.recv().await?;
            let other = tokio::spawn(async {});
            for _ in 0..100_000 {
                if other.is_finished() {
                    return Ok(());
                }
                if sends {
                    socket.send("").await?;
                } else {
                    drop(socket.reserve().await?);
                }
            }
            Err(std::io::Error::other("nobody else has run").into())
        });
        peer.send("go").await;
        let code = loop {
            match timeout(SOON, peer.event()).await.unwrap() {
                Some(Event::Message(_)) => {}
                Some(Event::Close(frame)) => break frame.map(|frame| frame.code.get()),
                None => panic!("a close was expected"),
            }
        };
        assert_eq!(code, Some(1000), "sends: {sends}");
    }
}
