//! The table of a connection's ends.

use std::{
    future::Future,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::peer::{Peer, accepted, config, serve, serve_accepted, serve_with};
use crate::{
    Stats,
    backpressure::{Admission, Limits, PermitSlot, PermitSlots},
    drain::Drain,
    hub::Hub,
    ws::{
        Accepted, CloseCode, Error, HandlerError, Message, ProtocolError, WebSocket, WsConfig,
        drive,
        protocol::{Event, Outbox, Role},
        transport::{Received, Transport},
    },
};

async fn echo(mut socket: WebSocket) -> Result<(), HandlerError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn echo_of_all_sizes() {
    let mut peer = serve(config(), echo);
    for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let message = Message::binary(vec![7; len]);
        peer.io_echo(message).await;
    }
    peer.io_echo(Message::text("κόσμε")).await;
    peer.close(CloseCode::NORMAL).await;
    assert_eq!(peer.closed().await, 1000);
    let stats = peer.stats.clone();
    peer.finished().await;
    let stats = stats.snapshot();
    assert_eq!((stats.messages_in_total, stats.messages_out_total), (8, 8));
    assert_eq!((stats.websockets, stats.upgrades_total), (0, 1));
    assert_eq!(stats.buffered_bytes, 0);
}

impl Peer {
    async fn io_echo(&mut self, message: Message) {
        let frames = Self::frames([message.clone()]);
        // Both directions at once: the pipe is smaller than the message.
        let (mut read, mut write) = tokio::io::split(&mut self.io);
        let (_, echoed) = tokio::join!(
            async {
                tokio::io::AsyncWriteExt::write_all(&mut write, &frames)
                    .await
                    .unwrap()
            },
            async {
                let want = crate::ws::Broadcast::new(message.clone()).frame().clone();
                let mut got = vec![0; want.len()];
                tokio::io::AsyncReadExt::read_exact(&mut read, &mut got)
                    .await
                    .unwrap();
                assert!(got == want, "the echo of {} bytes differs", message.len());
            }
        );
        let () = echoed;
    }
}

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

/// A peer that always sends, and takes all or nothing.
struct Flood {
    frame: Bytes,
    takes: bool,
}

impl Transport for Flood {
    fn poll_receive(
        &mut self,
        _: &mut Context<'_>,
        _: &mut BytesMut,
        _: usize,
    ) -> Poll<io::Result<Received>> {
        Poll::Ready(Ok(Received::Chunk(self.frame.clone())))
    }

    fn poll_send(&mut self, _: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<usize>> {
        if !self.takes {
            return Poll::Pending;
        }
        let count = out.remaining();
        out.advance(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {}
}

fn flooded<F>(
    flood: Flood,
    config: WsConfig,
    drain: Option<&Drain>,
    handler: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> JoinHandle<()>
where
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let accepted = Accepted {
        settings: config.into(),
        protocol: None,
        extensions: crate::ws::protocol::Extensions::default(),
        read_ahead: Bytes::new(),
        guard: drain.map(|drain| drain.guard().unwrap()),
        role: Role::Server,
        expiry: None,
        permits: Default::default(),
        span: tracing::Span::none(),
    };
    tokio::spawn(drive(flood, accepted, handler))
}

#[tokio::test]
async fn a_peer_that_never_pauses_is_drained() {
    let drain = Drain::new(Duration::from_secs(5));
    let (sender, ended) = oneshot::channel();
    let flood = Flood {
        frame: Peer::frames([Message::binary(vec![0; 60_000])]),
        takes: true,
    };
    let driver = flooded(flood, config(), Some(&drain), async move |mut socket| {
        while socket.recv().await?.is_some() {}
        sender.send(()).unwrap();
        Ok(())
    });
    tokio::task::yield_now().await;
    drain.start();
    let ended = timeout(Duration::from_secs(2), ended).await;
    ended.expect("at its moment").unwrap();
    driver.abort();
}

#[tokio::test]
async fn the_outbound_bound_holds_within_a_turn() {
    let stats = Stats::new();
    let flood = Flood {
        frame: Peer::frames([Message::binary("x")]),
        takes: false,
    };
    let config = config().outbound_bytes(100_000).stats(stats.clone());
    let driver = flooded(flood, config, None, async |mut socket| {
        while socket.recv().await?.is_some() {
            socket.send(vec![0; 90_000]).await?;
        }
        Ok(())
    });
    sleep(Duration::from_millis(10)).await;
    let buffered = stats.snapshot().buffered_bytes;
    assert!((90_000..190_000).contains(&buffered), "{buffered}");
    driver.abort();
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

#[tokio::test(start_paused = true)]
async fn a_close_that_began_before_a_drain_ends_within_it() {
    let drain = Drain::new(Duration::from_secs(2));
    let handler = async |_: WebSocket| Ok(());
    let mut peer = serve_with(config(), Some(&drain), 1024, Bytes::new(), handler);
    assert!(matches!(peer.event().await, Some(Event::Close(_))));
    drain.start();
    assert!(drain.run(drain.finished()).await.is_clean());
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
