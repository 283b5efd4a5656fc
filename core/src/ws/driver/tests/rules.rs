//! Wakes, cancellation, halves, bounds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::{
    sync::{Notify, oneshot},
    time::{sleep, timeout},
};

use super::peer::{Peer, config, serve, serve_with};
use crate::ws::{CloseCode, HandlerError, Message, WebSocket, protocol::Event};

fn numbers(count: u32) -> Bytes {
    Peer::frames((0..count).map(|number| Message::from(number.to_string())))
}

async fn expect_numbers(peer: &mut Peer, count: u32) {
    for number in 0..count {
        assert_eq!(peer.text().await, number.to_string());
    }
}

/// Rule 1 and 10: what is pipelined behind the handshake is read, and then the
/// socket is.
#[tokio::test(start_paused = true)]
async fn a_frame_behind_the_handshake_does_not_lose_the_read_wake() {
    let ahead = numbers(1);
    let mut peer = serve_with(
        config(),
        None,
        1024,
        ahead,
        async |mut socket: WebSocket| {
            while let Some(message) = socket.recv().await? {
                socket.send(message).await?;
            }
            Ok(())
        },
    );
    expect_numbers(&mut peer, 1).await;
    for _ in 0..3 {
        peer.send("more").await;
        assert_eq!(peer.text().await, "more");
    }
}

/// Rule 1: only what was woken is polled by `join!`, `select!` and the like.
#[tokio::test(start_paused = true)]
async fn nested_select_and_join_are_woken() {
    let mut peer = serve(config(), async |socket: WebSocket| {
        let (sender, mut receiver) = socket.split();
        let (give, mut take) = tokio::sync::mpsc::channel::<Message>(1);
        let reads = async move {
            loop {
                tokio::select! {
                    biased;
                    () = sleep(Duration::from_secs(3600)) => break,
                    message = receiver.recv() => match message {
                        Ok(Some(message)) => give.send(message).await.unwrap(),
                        _ => break,
                    }
                }
            }
        };
        let writes = async move {
            let mut pending = futures_util::stream::FuturesUnordered::new();
            while let Some(message) = take.recv().await {
                let mut sender = sender.clone();
                pending.push(async move { sender.send(message).await });
                pending.next().await;
            }
        };
        tokio::join!(reads, writes);
        Ok(())
    });
    peer.send_raw(&numbers(200)).await;
    expect_numbers(&mut peer, 200).await;
    peer.close(CloseCode::NORMAL).await;
    assert_eq!(peer.closed().await, 1000);
}

/// Rule 2: a handler that is always ready, and so uses up its task's budget at each
/// poll, does not keep its own connection from being read and written.
#[tokio::test(start_paused = true)]
async fn a_handler_that_is_always_ready_does_not_starve_its_connection() {
    let mut peer = serve(config(), async |mut socket: WebSocket| {
        // Time stands still while there is work: only a count can end this.
        for _ in 0..100_000 {
            while let Some(message) = socket.recv().now_or_never() {
                match message? {
                    Some(message) => socket.send(message).await?,
                    None => return Ok(()),
                }
            }
            while tokio::task::coop::has_budget_remaining() {
                tokio::task::consume_budget().await;
            }
            tokio::task::consume_budget().await;
        }
        Err(std::io::Error::other("starved").into())
    });
    // More than a turn reads, and than a budget has room for.
    peer.send_raw(&numbers(2000)).await;
    expect_numbers(&mut peer, 2000).await;
    peer.send_raw(&[0x89, 0x80, 0, 0, 0, 0]).await;
    assert_eq!(peer.read_raw().await.unwrap()[..], [0x8a, 0]);
    peer.send(Message::binary(vec![7; 1 << 20])).await;
    assert_eq!(peer.message().await.len(), 1 << 20);
    peer.close(CloseCode::NORMAL).await;
    assert_eq!(peer.closed().await, 1000);
}

/// Lets time pass without the runtime's doing anything, as a long computation does.
fn compute(time: Duration) {
    let advanced = tokio::time::advance(time).now_or_never();
    assert_eq!(advanced, None, "it would yield once the time has passed");
}

const HEARTBEAT: Duration = Duration::from_secs(10);

/// Rule 8: while the handler computes its peer cannot be heard.
#[tokio::test(start_paused = true)]
async fn a_handler_that_computes_does_not_make_its_peer_gone() {
    let mut peer = serve(
        config().heartbeat(HEARTBEAT),
        async |mut socket: WebSocket| {
            while let Some(message) = socket.recv().await? {
                compute(HEARTBEAT * 5);
                socket.send(message).await?;
            }
            Ok(())
        },
    );
    for _ in 0..3 {
        peer.send("work").await;
        assert_eq!(peer.text().await, "work");
    }
    peer.close(CloseCode::NORMAL).await;
    assert_eq!(peer.closed().await, 1000);
}

/// Rule 5: a peer that vanished is found though its handler is never idle.
#[tokio::test]
async fn a_handler_that_is_always_ready_does_not_hide_that_its_peer_is_gone() {
    let (tell, told) = oneshot::channel();
    let heartbeat = config().heartbeat(Duration::from_millis(50));
    let _silent = serve(heartbeat, async move |mut socket: WebSocket| {
        let end = loop {
            while tokio::task::coop::has_budget_remaining() {
                tokio::task::consume_budget().await;
            }
            tokio::task::consume_budget().await;
            if let Some(end) = socket.recv().now_or_never() {
                break end;
            }
        };
        tell.send(end).unwrap();
        Ok(())
    });
    let end = timeout(Duration::from_secs(10), told).await;
    assert_eq!(
        end.expect("found").unwrap(),
        Err(crate::ws::Error::PeerGone)
    );
}

/// Rule 8: nor where a ping was on its way, and there is more to do at once.
#[tokio::test(start_paused = true)]
async fn a_pong_that_came_while_the_handler_computed_counts() {
    const PING: [u8; 2] = [0x89, 0];
    const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
    let mut peer = serve(
        config().heartbeat(HEARTBEAT),
        async |mut socket: WebSocket| {
            sleep(HEARTBEAT + Duration::from_millis(5)).await;
            compute(HEARTBEAT * 5);
            // So often that the driver begins another turn in between.
            let mut left = 100;
            std::future::poll_fn(|cx| {
                left -= 1;
                cx.waker().wake_by_ref();
                if left == 0 {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            })
            .await;
            while let Some(message) = socket.recv().await? {
                socket.send(message).await?;
            }
            Ok(())
        },
    );
    assert_eq!(peer.read_raw().await.unwrap()[..], PING);
    // On the wire. As what a socket hears, a timer is seen only when the runtime has
    // its turn.
    sleep(Duration::from_millis(10)).await;
    peer.send_raw(&PONG).await;
    peer.send("still there").await;
    assert_eq!(peer.text().await, "still there");
    peer.close(CloseCode::NORMAL).await;
    assert_eq!(peer.closed().await, 1000);
}

/// Rule 4: a handler may spawn its halves and return.
#[tokio::test(start_paused = true)]
async fn spawned_halves_outlive_the_handler() {
    let mut peer = serve(config(), async |socket: WebSocket| {
        let (mut sender, mut receiver) = socket.split();
        tokio::spawn(async move {
            while let Ok(Some(message)) = receiver.recv().await {
                sender.send(message).await.unwrap();
            }
        });
        Ok(())
    });
    peer.send_raw(&numbers(300)).await;
    expect_numbers(&mut peer, 300).await;
    peer.send_raw(&numbers(10)).await;
    peer.close(CloseCode::NORMAL).await;
    expect_numbers(&mut peer, 10).await;
    assert_eq!(peer.closed().await, 1000);
    peer.finished().await;
}

/// Rule 4: the last half dropped closes with 1000.
#[tokio::test(start_paused = true)]
async fn the_last_half_dropped_closes() {
    let release = Arc::new(Notify::new());
    let released = Arc::clone(&release);
    let mut peer = serve(config(), async move |socket: WebSocket| {
        let (sender, receiver) = socket.split();
        let mut clone = sender.clone();
        drop((sender, receiver));
        tokio::spawn(async move {
            released.notified().await;
            clone.send("last").await.unwrap();
        });
        Ok(())
    });
    // Nobody receives: what comes is thrown away, and does not block.
    peer.send_raw(&numbers(5000)).await;
    release.notify_one();
    assert_eq!(peer.text().await, "last");
    assert_eq!(peer.closed().await, 1000);
}

/// Rule 6: a dropped `recv` has taken nothing.
#[tokio::test(start_paused = true)]
async fn recv_is_cancel_safe() {
    let mut peer = serve(config(), async |mut socket: WebSocket| {
        loop {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                message = socket.recv() => match message? {
                    Some(message) => socket.send(message).await?,
                    None => return Ok(()),
                }
            }
            if let Some(Ok(Some(message))) = socket.recv().now_or_never() {
                socket.send(message).await?;
            }
        }
    });
    peer.send_raw(&numbers(500)).await;
    expect_numbers(&mut peer, 500).await;
}

/// Rule 6: reading goes on while a send waits, up to the inbound bound.
#[tokio::test(start_paused = true)]
async fn both_sides_only_sending_do_not_lock_each_other() {
    let config = config().outbound_bytes(2000).inbound_bytes(2000);
    let mut peer = serve_with(
        config,
        None,
        512,
        Bytes::new(),
        async |mut socket: WebSocket| {
            for _ in 0..50 {
                socket.send(vec![0; 500]).await?;
            }
            while let Some(message) = socket.recv().await? {
                assert_eq!(message.len(), 500);
            }
            Ok(())
        },
    );
    for _ in 0..3 {
        peer.send(Message::binary(vec![0; 500])).await;
    }
    for _ in 0..50 {
        assert_eq!(peer.message().await.len(), 500);
    }
    peer.close(CloseCode::NORMAL).await;
    assert_eq!(peer.closed().await, 1000);
}

/// Rule 10: a handler that was behind and takes all at once, and says nothing, has the
/// reading go on: for what is read ahead, and for what still lies in the transport.
#[tokio::test(start_paused = true)]
async fn a_handler_that_catches_up_is_not_forgotten() {
    for behind in [3, 30] {
        let (tell, told) = oneshot::channel();
        let config = config().inbound_bytes(1000).heartbeat(None);
        let mut peer = serve(config, async move |mut socket: WebSocket| {
            sleep(Duration::from_secs(60)).await;
            for _ in 0..behind {
                assert_eq!(socket.recv().await?.unwrap().len(), 800);
            }
            tell.send(()).unwrap();
            Ok(())
        });
        for _ in 0..behind {
            peer.send(vec![0; 800]).await;
        }
        let all = timeout(Duration::from_secs(3600), told).await;
        all.expect("reading goes on").unwrap();
    }
}

/// Rule 6: at most the bound and one message is held.
#[tokio::test(start_paused = true)]
async fn send_waits_at_the_bound_and_a_permit_is_room() {
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let config = config()
        .outbound_bytes(10_000)
        .write_timeout(None)
        .heartbeat(None);
    let mut peer = serve_with(
        config,
        None,
        100,
        Bytes::new(),
        async move |mut socket: WebSocket| {
            socket.send(vec![1; 50_000]).await?;
            count.fetch_add(1, SeqCst);
            for _ in 0..3 {
                let permit = socket.reserve().await?;
                permit.send(vec![2; 9_000])?;
                count.fetch_add(1, SeqCst);
            }
            Ok(())
        },
    );
    sleep(Duration::from_secs(1)).await;
    assert_eq!(accepted.load(SeqCst), 1, "one message passes however large");
    let buffered = peer.stats.snapshot().buffered_bytes;
    assert!((40_000..60_000).contains(&buffered), "{buffered}");
    for len in [50_000, 9_000, 9_000, 9_000] {
        assert_eq!(peer.message().await.len(), len);
    }
    assert_eq!(peer.closed().await, 1000);
}

/// Rule 6: what waits for the peer can be asked for, by every half.
#[tokio::test(start_paused = true)]
async fn what_the_peer_has_not_taken_is_told() {
    let (tell, told) = oneshot::channel();
    let config = config().write_timeout(None).heartbeat(None);
    let mut peer = serve_with(
        config,
        None,
        100,
        Bytes::new(),
        async move |mut socket: WebSocket| {
            assert_eq!(socket.buffered_amount(), 0);
            for sent in 1..=10 {
                socket.send(vec![1; 10_000]).await?;
                // Also what was said since the driver last looked.
                let buffered = socket.buffered_amount();
                let expected = sent * 10_000..sent * 10_100;
                assert!(expected.contains(&buffered), "{buffered} after {sent}");
            }
            let (sender, mut receiver) = socket.split();
            tell.send(sender).unwrap();
            while receiver.recv().await?.is_some() {}
            Ok(())
        },
    );
    let sender = told.await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let buffered = sender.buffered_amount();
    assert!((99_900..101_000).contains(&buffered), "{buffered}");
    for left in (0..10).rev() {
        assert_eq!(peer.message().await.len(), 10_000);
        sleep(Duration::from_secs(1)).await;
        // The pipe has a little of the next one.
        let buffered = sender.buffered_amount();
        let expected = (left * 10_000_usize).saturating_sub(200)..=left * 10_100;
        assert!(expected.contains(&buffered), "{buffered} of {left}");
    }
    drop(sender);
    peer.close(CloseCode::NORMAL).await;
    assert_eq!(peer.closed().await, 1000);
}

/// Rule 7: reading stops where the handler does not take.
#[tokio::test(start_paused = true)]
async fn a_handler_that_stalls_stops_the_reading() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let mut peer = serve_with(
        config(),
        None,
        1000,
        Bytes::new(),
        async move |mut socket: WebSocket| {
            wait.notified().await;
            let mut sum = 0;
            while let Some(message) = socket.recv().await? {
                sum += message.len();
                if sum == 1_000_000 {
                    socket.send("all").await?;
                }
            }
            Ok(())
        },
    );
    let frames = Peer::frames((0..1000).map(|_| Message::binary(vec![0; 1000])));
    let sent = timeout(Duration::from_secs(1), peer.send_raw(&frames)).await;
    assert!(sent.is_err(), "the pipe filled up");
    let taken = peer.stats.snapshot().messages_in_total * 1000;
    assert!(taken <= 66_000, "{taken}");
    go.notify_one();
    // How much of the frames went out is not known: a new socket tells it.
    drop(peer);
    let mut peer = serve(config(), async |mut socket: WebSocket| {
        let mut sum = 0;
        while let Some(message) = socket.recv().await? {
            sum += message.len();
            if sum == 1_000_000 {
                socket.send("all").await?;
            }
        }
        Ok(())
    });
    peer.send_raw(&frames).await;
    assert_eq!(peer.text().await, "all");
}

/// A waker whose drop drops the other half, as a task's waker may.
#[tokio::test(start_paused = true)]
async fn a_waker_whose_drop_drops_the_other_half() {
    struct Holds {
        _sender: std::sync::Mutex<crate::ws::Sender>,
    }
    impl Wake for Holds {
        fn wake(self: Arc<Self>) {}
    }
    let (done, is_done) = oneshot::channel();
    let mut peer = serve(config(), async move |socket: WebSocket| {
        let (sender, mut receiver) = socket.split();
        {
            let waker = Waker::from(Arc::new(Holds {
                _sender: std::sync::Mutex::new(sender),
            }));
            let mut cx = std::task::Context::from_waker(&waker);
            let mut recv = std::pin::pin!(receiver.recv());
            assert!(recv.as_mut().poll(&mut cx).is_pending());
        }
        // Replaces the waker, which drops the sender in there.
        let message = receiver.recv().await?;
        done.send(message).unwrap();
        Ok(())
    });
    tokio::task::yield_now().await;
    peer.send("hello").await;
    let got = timeout(Duration::from_secs(1), is_done)
        .await
        .expect("no deadlock");
    assert_eq!(got.unwrap(), Some(Message::text("hello")));
    assert_eq!(peer.closed().await, 1000);
}

/// Drop while panicking: the driver's task is aborted with a handler inside.
#[tokio::test(start_paused = true)]
async fn an_aborted_driver_ends_the_other_halves() {
    let (sender, seen) = oneshot::channel();
    let peer = serve(config(), async move |socket: WebSocket| {
        let (sending, mut receiving) = socket.split();
        tokio::spawn(async move { sender.send(receiving.recv().await).unwrap() });
        let _kept = sending;
        std::future::pending().await
    });
    tokio::task::yield_now().await;
    peer.driver.abort();
    assert_eq!(seen.await.unwrap(), Err(crate::ws::Error::PeerGone));
    assert_eq!(peer.stats.snapshot().websockets, 0);
}

/// `Stream + Sink`, as `forward` uses them.
#[tokio::test(start_paused = true)]
async fn a_socket_is_a_stream_and_a_sink() {
    let mut peer = serve(config(), async |socket: WebSocket| {
        let (sender, receiver) = socket.split();
        receiver.forward(sender).await?;
        Ok(())
    });
    peer.send_raw(&numbers(1000)).await;
    expect_numbers(&mut peer, 1000).await;
    peer.close(CloseCode::NORMAL).await;
    assert!(matches!(peer.event().await, Some(Event::Close(_))));
    let mut peer = serve(
        config(),
        async |mut socket: WebSocket| -> Result<(), HandlerError> {
            socket
                .send_all(&mut futures_util::stream::iter(
                    ["a", "b"].map(|text| Ok(text.into())),
                ))
                .await?;
            SinkExt::<Message>::close(&mut socket).await?;
            Ok(())
        },
    );
    assert_eq!(peer.text().await, "a");
    assert_eq!(peer.text().await, "b");
    assert_eq!(peer.closed().await, 1000);
}

/// Rule 8, and a multi-thread runtime: handles are used from other threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_on_other_threads() {
    for _ in 0..20 {
        let mut peer = serve(config(), async |socket: WebSocket| {
            let (sender, mut receiver) = socket.split();
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..3 {
                let mut sender = sender.clone();
                tasks.spawn(async move {
                    for _ in 0..100 {
                        sender.send("from another").await.unwrap();
                    }
                });
            }
            drop(sender);
            tokio::spawn(async move {
                while let Ok(Some(_)) = receiver.recv().await {}
                tasks.join_all().await;
            });
            Ok(())
        });
        peer.send_raw(&numbers(200)).await;
        for _ in 0..300 {
            assert_eq!(peer.text().await, "from another");
        }
        peer.close(CloseCode::NORMAL).await;
        assert_eq!(peer.closed().await, 1000);
    }
}

/// Rule 1: who waits for the end is not woken by room.
#[tokio::test]
async fn who_waits_for_the_end_costs_nothing() {
    let polls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&polls);
    let mut peer = serve(config(), async move |mut socket: WebSocket| {
        let mut closed = std::pin::pin!(socket.closed());
        std::future::poll_fn(|cx| {
            count.fetch_add(1, SeqCst);
            closed.as_mut().poll(cx)
        })
        .await;
        Ok(())
    });
    sleep(Duration::from_millis(50)).await;
    assert_eq!(polls.load(SeqCst), 1);
    peer.close(CloseCode::NORMAL).await;
    assert_eq!(peer.closed().await, 1000);
    peer.finished().await;
}

/// A handle that waited and is dropped leaves nothing, however stuck the peer is.
#[tokio::test(start_paused = true)]
async fn a_dropped_sender_takes_its_waker_with_it() {
    struct Nothing;
    impl Wake for Nothing {
        fn wake(self: Arc<Self>) {}
    }
    let (sender, wakers) = oneshot::channel();
    let config = config().outbound_bytes(10).write_timeout(None);
    let _peer = serve_with(
        config,
        None,
        10,
        Bytes::new(),
        async move |mut socket: WebSocket| {
            socket.send(vec![0; 1000]).await?;
            let nothing = Arc::new(Nothing);
            let waker = Waker::from(Arc::clone(&nothing));
            for _ in 0..100 {
                let mut clone = socket.sender().clone();
                let mut cx = std::task::Context::from_waker(&waker);
                assert!(std::pin::pin!(clone.reserve()).poll(&mut cx).is_pending());
            }
            sender.send(Arc::strong_count(&nothing)).unwrap();
            std::future::pending().await
        },
    );
    assert_eq!(wakers.await.unwrap(), 2);
}
