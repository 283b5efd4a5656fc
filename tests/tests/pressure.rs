//! Frames that carry nothing cost no memory, and leave the others their turn.

use std::fs;

use socket2::{Domain, Socket, Type};
use tokio::{net::TcpStream, time::timeout};
use towpath_tests::{
    http::Connection,
    on_both,
    process::{SOON, Testbed},
    ws::{Incoming, WebSocket, frame},
};

const FRAMES: usize = 1_000_000;
/// Frames that are written in one go, between two looks at the others.
const BATCH: usize = 10_000;
/// Kept, the pongs of all pings would be 127 MB, and a piece of memory for each empty frame
/// 16 MB at least; threads that wake up for the first time own some.
const GROWTH: u64 = 8 << 20;
const PING: u8 = 0x89;
const TEXT_BEGINS: u8 = 0x01;
const CONTINUES: u8 = 0x00;
const CONTINUES_AND_ENDS: u8 = 0x80;

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

/// `VmRSS`, in bytes.
fn resident(testbed: &Testbed) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", testbed.id()));
    let status = status.expect("Linux tells a process's memory");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib = kib.and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a number of KiB") * 1024
}

/// One who is answered all the time, and what the process holds meanwhile.
struct Watch<'a> {
    testbed: &'a Testbed,
    healthy: WebSocket,
    before: u64,
}

impl<'a> Watch<'a> {
    /// Once the process owns what it owns anyway for sockets that send much.
    async fn new(testbed: &'a Testbed) -> Self {
        let mut healthy = WebSocket::open(testbed.address(), "/echo").await;
        let mut other = WebSocket::open(testbed.address(), "/echo").await;
        let batch = frame(PING, &[7; 125]).repeat(BATCH);
        let pinging = other.try_write(&batch[..BATCH / 10 * 131]);
        pinging.await.expect("sent");
        healthy.send("first").await;
        assert_eq!(healthy.text().await, "first");
        let before = resident(testbed);
        Self {
            testbed,
            healthy,
            before,
        }
    }

    async fn look(&mut self) {
        self.healthy.send("still here").await;
        assert_eq!(self.healthy.text().await, "still here");
        let grown = resident(self.testbed).saturating_sub(self.before);
        assert!(grown < GROWTH, "{grown}");
    }
}

on_both! {
    async fn a_million_pings_whose_pongs_nobody_reads(framework: Framework) {
        let testbed = framework.start(&["--write-timeout-ms", "2000"]).await;
        let mut watch = Watch::new(&testbed).await;
        let mut pinging = WebSocket::upgrade(narrow(&testbed), "/echo", &[]).await;
        let batch = frame(PING, &[7; 125]).repeat(BATCH);
        let mut sent = 0;
        while sent < FRAMES {
            // Who does not read its pongs is not read, and cut after the write time-out.
            let written = timeout(SOON, pinging.try_write(&batch)).await;
            watch.look().await;
            if written.expect("taken, or cut").is_err() {
                break;
            }
            sent += BATCH;
        }
        drop(pinging);
        let counts = testbed.until(|counts| counts.websockets == 1).await;
        assert_eq!(counts.buffered_bytes, 0);
        watch.look().await;
    }

    async fn a_million_continuations_of_nothing(framework: Framework) {
        let testbed = framework.start(&["--max-fragments", "2000000"]).await;
        let mut watch = Watch::new(&testbed).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        socket.write(&frame(TEXT_BEGINS, b"be")).await;
        let batch = frame(CONTINUES, b"").repeat(BATCH);
        for _ in 0..FRAMES / BATCH {
            socket.write(&batch).await;
            watch.look().await;
        }
        socket.write(&frame(CONTINUES_AND_ENDS, b"gun")).await;
        assert_eq!(socket.text().await, "begun");
    }

    async fn a_million_continuations_are_too_many_by_default(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut watch = Watch::new(&testbed).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        socket.write(&frame(TEXT_BEGINS, b"begun")).await;
        let batch = frame(CONTINUES, b"").repeat(BATCH);
        for _ in 0..FRAMES / BATCH {
            let written = socket.try_write(&batch).await;
            watch.look().await;
            if written.is_err() {
                break;
            }
        }
        match socket.next().await {
            Incoming::Close(Some(frame)) => assert_eq!(frame.code.get(), 1008),
            other => unreachable!("{other:?}"),
        }
    }
}
