//! What is held for all connections together.

use std::{fs, time::Duration};

use socket2::{Domain, Socket, Type};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use towpath_tests::{
    Counts,
    http::{self, Connection},
    on_both,
    process::{SOON, Testbed},
    sse::EventStream,
    ws::{Incoming, WebSocket, handshake},
};

const BUDGET: u64 = 8 << 20;
const STALLED: usize = 200;

/// A connection whose kernel keeps little for a reader that does not read.
fn narrow(testbed: &Testbed) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("an option");
    socket
        .connect(&testbed.address().into())
        .expect("connected");
    socket.set_nonblocking(true).expect("an option");
    let stream = TcpStream::from_std(socket.into()).expect("a stream");
    Connection::from(stream)
}

async fn flood(testbed: &Testbed, size: usize) -> WebSocket {
    let path = format!("/flood?n=1000000&size={size}");
    WebSocket::upgrade(narrow(testbed), &path, &[]).await
}

/// `VmRSS`, in bytes.
fn resident(testbed: &Testbed) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", testbed.id()));
    let status = status.expect("Linux tells a process's memory");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib = kib.and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a number of KiB") * 1024
}

on_both! {
    async fn a_crowd_that_reads_nothing_is_cut_and_the_others_go_on(framework: Framework) {
        let budget = BUDGET.to_string();
        let testbed = framework
            .start(&["--buffer-budget", &budget, "--close-timeout-ms", "1000"])
            .await;
        let mut healthy = WebSocket::open(testbed.address(), "/echo").await;
        let before = resident(&testbed);
        let mut stalled = Vec::new();
        // Past the budget nobody else comes in, until those who were cut are gone.
        while stalled.len() < STALLED {
            let mut connection = narrow(&testbed);
            let path = "/flood?n=1000000&size=16384";
            connection.write(handshake(path, &[]).as_bytes()).await;
            let head = connection.head().await;
            match head.status {
                101 => {
                    let (stream, input) = connection.into_parts();
                    stalled.push(WebSocket::answered(stream, input, head));
                }
                503 => assert!(head.get("retry-after").is_some(), "{head:?}"),
                other => unreachable!("{other}"),
            }
            healthy.send("still here").await;
            assert_eq!(healthy.text().await, "still here");
        }
        // As many stay as fit: each is let wait for a mebibyte, and what is begun.
        let most = BUDGET >> 20;
        let counts = testbed.until(|counts| counts.websockets <= most + 1).await;
        assert!(counts.websockets > 1, "{counts:?}");
        assert!(counts.buffered_bytes <= BUDGET, "{counts:?}");
        let grown = resident(&testbed).saturating_sub(before);
        assert!(grown < 96 << 20, "{grown}");
        healthy.send("and now").await;
        assert_eq!(healthy.text().await, "and now");
        drop(stalled);
        let counts = testbed.until(|counts| counts.websockets == 1).await;
        assert_eq!(counts.buffered_bytes, 0);
    }

    async fn who_is_cut_is_told_1013_and_meanwhile_nobody_comes_in(framework: Framework) {
        // A message that is begun is finished: it is past the budget all by itself.
        const SIZE: usize = 8 << 20;
        let testbed = framework
            .start(&["--buffer-budget", "1MiB", "--close-timeout-ms", "60000"])
            .await;
        let address = testbed.address();
        let mut reader = flood(&testbed, SIZE).await;
        testbed.until(|counts| counts.buffered_bytes > 1 << 20).await;
        let mut refused = Connection::open(address).await;
        refused.write(handshake("/echo", &[]).as_bytes()).await;
        let head = refused.head().await;
        assert_eq!(head.status, 503, "{head:?}");
        assert!(head.get("retry-after").is_some(), "{head:?}");
        let refused = http::get(address, "/topics/t").await;
        assert_eq!(refused.status, 503);
        // Ordinary requests always pass.
        assert_eq!(http::post(address, "/topics/t", "a").await.status, 201);

        assert!(matches!(reader.next().await, Incoming::Message(message) if message.len() == SIZE));
        let Incoming::Close(Some(frame)) = reader.next().await else {
            unreachable!("a close frame was expected");
        };
        assert_eq!((frame.code.get(), frame.reason.as_str()), (1013, "over budget"));
        let counts = testbed.until(|counts| counts.buffered_bytes == 0).await;
        assert_eq!(counts.rejected_total, 2);
        let mut again = WebSocket::open(address, "/echo").await;
        again.send("in").await;
        assert_eq!(again.text().await, "in");
    }

    async fn a_message_that_never_ends_is_let_go(framework: Framework) {
        let testbed = framework.start(&["--buffer-budget", "1MiB"]).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        let mut header = vec![0x82, 0xff];
        header.extend(u64::to_be_bytes(8 << 20));
        header.extend([0; 4]);
        socket.write(&header).await;
        socket.write(&vec![0; 512 << 10]).await;
        let counts = testbed.until(|counts| counts.buffered_bytes >= 512 << 10).await;
        assert_eq!(counts.buffered_bytes, 512 << 10);
        socket.write(&vec![0; 1 << 20]).await;
        assert_eq!(socket.close_frame().await.code.get(), 1013);
        testbed.until(|counts| counts.buffered_bytes == 0).await;
    }

    async fn an_event_stream_ends_where_others_need_the_room(framework: Framework) {
        let testbed = framework.start(&["--buffer-budget", "10KiB"]).await;
        let address = testbed.address();
        let mut stream = EventStream::open(address, "/topics/t").await;
        assert_eq!(http::post(address, "/topics/t", "small").await.status, 201);
        assert_eq!(stream.event().await.data, "small");
        let large = "x".repeat(64 << 10);
        assert_eq!(http::post(address, "/topics/t", large).await.status, 201);
        // In order, without what had no room: its id resumes.
        let rest = timeout(SOON, stream.rest()).await.expect("an end");
        assert!(rest.is_empty(), "{rest:?}");
        // The last chunk counts until it is written, behind the body's end.
        let gone = |counts: &Counts| counts.sse_streams == 0 && counts.buffered_bytes == 0;
        testbed.until(gone).await;
    }

    async fn a_stream_whose_reader_stalls_is_counted(framework: Framework) {
        let testbed = framework.start(&["--buffer-budget", "64MiB"]).await;
        let mut connection = narrow(&testbed);
        let request = http::head("GET", "/count?n=1000000000&interval_ms=0", &[]);
        connection.write(request.as_bytes()).await;
        assert_eq!(connection.head().await.status, 200);
        // No more than hyper takes, or actix.
        testbed.until(|counts| counts.buffered_bytes > 0).await;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(1) {
            let counts = testbed.counts().await;
            assert!(counts.buffered_bytes < 512 << 10, "{counts:?}");
        }
        drop(connection);
        let gone = |counts: &Counts| counts.sse_streams == 0 && counts.buffered_bytes == 0;
        testbed.until(gone).await;
    }
}
