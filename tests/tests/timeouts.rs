//! Peers that are silent, stuck or slow.

use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use towpath_tests::{
    http::{self, Connection},
    on_both,
    process::{SOON, Testbed},
    ws::{Incoming, WebSocket},
};

/// A connection whose kernel keeps little for a reader that does not read.
async fn narrow(testbed: &Testbed) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("an option");
    socket
        .connect(&testbed.address().into())
        .expect("connected");
    socket.set_nonblocking(true).expect("an option");
    let stream = TcpStream::from_std(socket.into()).expect("a stream");
    Connection::from(stream)
}

/// Whether the connection is ended within `most`, and after at least `least`.
async fn ends(connection: &mut Connection, least: Duration, most: Duration) {
    let start = Instant::now();
    let ended = timeout(most, connection.ended()).await;
    assert!(ended.is_ok(), "open after {most:?}");
    assert!(
        start.elapsed() >= least,
        "ended after {:?}",
        start.elapsed()
    );
}

on_both! {
    async fn a_quiet_peer_is_pinged(framework: Framework) {
        let testbed = framework.start(&["--heartbeat-ms", "100"]).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        for _ in 0..5 {
            let mut ping = [0; 2];
            let read = timeout(SOON, socket.stream().read_exact(&mut ping)).await;
            read.expect("a ping").expect("open");
            assert_eq!(ping, [0x89, 0]);
            socket.write(&towpath_tests::ws::frame(0x8a, b"")).await;
        }
        socket.send("still here").await;
        // Pings may stand in front; the client answers them.
        assert_eq!(socket.text().await, "still here");
    }

    async fn a_peer_that_answers_no_ping_is_gone(framework: Framework) {
        let testbed = framework.start(&["--heartbeat-ms", "200"]).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        let start = Instant::now();
        let mut all = Vec::new();
        let read = timeout(SOON, socket.stream().read_to_end(&mut all)).await;
        let end = read.expect("it ends").expect_err("not in order");
        assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
        // By nothing but pings: no close frame.
        assert!(!all.is_empty() && all.chunks(2).all(|frame| frame == [0x89, 0]), "{all:?}");
        assert!(start.elapsed() >= Duration::from_millis(350), "{:?}", start.elapsed());
        testbed.until(|counts| counts.websockets == 0).await;
    }

    async fn a_socket_on_which_no_message_moves_is_closed_with_1001(framework: Framework) {
        let testbed = framework.start(&["--idle-timeout-ms", "2000"]).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        for _ in 0..5 {
            sleep(Duration::from_millis(500)).await;
            socket.send("not idle").await;
            assert_eq!(socket.text().await, "not idle");
        }
        let last = Instant::now();
        let ping = towpath_tests::ws::frame(0x89, b"");
        let frame = loop {
            // Neither these nor the pongs count.
            socket.write(&ping).await;
            match timeout(Duration::from_millis(200), socket.incoming()).await {
                Err(_) => assert!(last.elapsed() < SOON, "{:?}", last.elapsed()),
                Ok(Incoming::Close(frame)) => break frame.expect("a code"),
                Ok(other) => unreachable!("{other:?}"),
            }
        };
        assert_eq!((frame.code.get(), frame.reason.as_str()), (1001, "idle"));
        assert!(last.elapsed() >= Duration::from_millis(1_900), "{:?}", last.elapsed());
        drop(socket);
        testbed.until(|counts| counts.websockets == 0).await;
    }

    async fn a_close_that_is_not_answered_ends_in_a_reset(framework: Framework) {
        let testbed = framework.start(&["--close-timeout-ms", "300"]).await;
        let mut socket = WebSocket::open(testbed.address(), "/flood?n=1&size=3").await;
        socket.message().await;
        assert_eq!(socket.close_frame().await.code.get(), 1000);
        let start = Instant::now();
        assert_eq!(socket.next().await, Incoming::Reset);
        assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
        testbed.until(|counts| counts.websockets == 0).await;
    }

    async fn a_peer_that_reads_nothing_is_cut(framework: Framework) {
        let testbed = framework.start(&["--write-timeout-ms", "500"]).await;
        let path = "/flood?n=100000&size=65536";
        let mut socket = WebSocket::open(testbed.address(), path).await;
        let counts = testbed.until(|counts| counts.messages_out_total > 0).await;
        assert_eq!(counts.websockets, 1);
        let counts = testbed.until(|counts| counts.websockets == 0).await;
        assert_eq!(counts.buffered_bytes, 0);
        // Of what the kernels have still kept nothing is a close frame.
        loop {
            match socket.next().await {
                Incoming::Message(_) => {}
                Incoming::Reset => break,
                other => unreachable!("{other:?}"),
            }
        }
    }

    async fn a_slow_but_steady_reader_lives(framework: Framework) {
        let testbed = framework.start(&["--write-timeout-ms", "2000"]).await;
        let connection = narrow(&testbed).await;
        let path = "/flood?n=100000&size=65536";
        let mut socket = WebSocket::upgrade(connection, path, &[]).await;
        let start = Instant::now();
        let mut buffer = [0; 1024];
        while start.elapsed() < Duration::from_secs(6) {
            let read = timeout(SOON, socket.stream().read_exact(&mut buffer)).await;
            read.expect("more").expect("not cut");
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(testbed.counts().await.websockets, 1);
    }

    async fn a_stream_that_nobody_reads_is_cut(framework: Framework) {
        let testbed = framework.start(&["--write-timeout-ms", "500"]).await;
        let mut connection = Connection::open(testbed.address()).await;
        let request = http::head("GET", "/count?n=1000000000&interval_ms=0", &[]);
        connection.write(request.as_bytes()).await;
        assert_eq!(connection.head().await.status, 200);
        testbed.until(|counts| counts.sse_streams == 0).await;
    }

    async fn half_a_request_is_not_waited_for(framework: Framework) {
        let testbed = framework.start(&["--handshake-timeout-ms", "500"]).await;
        let least = Duration::from_millis(400);
        let most = Duration::from_secs(4);
        let mut silent = Connection::open(testbed.address()).await;
        let mut half = Connection::open(testbed.address()).await;
        half.write(b"GET /echo HTTP/1.1\r\nHost: a").await;
        let mut preface = Connection::open(testbed.address()).await;
        preface.write(b"PRI * HTTP/2.0\r\n").await;
        tokio::join!(
            ends(&mut silent, least, most),
            ends(&mut half, least, most),
            ends(&mut preface, Duration::ZERO, most),
        );
        // One that drips is no better.
        let mut dripping = Connection::open(testbed.address()).await;
        let start = Instant::now();
        let request = handshake_forever();
        for byte in request.bytes() {
            if dripping.try_write(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        assert!(start.elapsed() < most, "{:?}", start.elapsed());
    }

    async fn the_handshake_time_out_spares_what_is_under_way(framework: Framework) {
        let testbed = framework.start(&["--handshake-timeout-ms", "300"]).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        let path = "/count?n=1&interval_ms=1500";
        let mut stream = towpath_tests::sse::EventStream::open(testbed.address(), path).await;
        assert_eq!(stream.event().await.id, "1");
        socket.send("later").await;
        assert_eq!(socket.text().await, "later");
    }
}

/// A request whose head has no end soon.
fn handshake_forever() -> String {
    format!("GET /echo HTTP/1.1\r\nX-Long: {}", "x".repeat(1_000))
}
