//! Clients that come and go in every ugly way.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep, timeout},
};
use towpath_tests::{
    Counts,
    http::{self, Connection},
    on_both,
    process::Testbed,
    ws::{frame, handshake},
};

use super::{Facts, LONG, begin, crowd, kib, many};

/// At the same time.
const CLIENTS: usize = 200;
/// The ways, each as often as the others.
const WAYS: usize = 12;

/// Comes, and goes in one of the ways.
async fn come_and_go(address: SocketAddr, way: usize) {
    let mut connection = Connection::open(address).await;
    let half = b"GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: webso";
    match way % WAYS {
        // Nothing of a request.
        0 => {}
        // Half of one: gone, reset, or silent until it is not waited for any more.
        1 => connection.write(half).await,
        2 => {
            connection.write(half).await;
            let (stream, _) = connection.into_parts();
            crowd::reset(&stream);
        }
        3 => {
            connection.write(half).await;
            cut(connection).await;
        }
        // Byte by byte.
        4 => {
            let start = Instant::now();
            let drip = format!("GET /echo HTTP/1.1\r\nX-Long: {}", "x".repeat(100_000));
            for byte in drip.bytes() {
                if connection.try_write(&[byte]).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(50)).await;
                assert!(start.elapsed() < LONG, "it drips on");
            }
        }
        // Gone before the answer.
        5 => connection.write(handshake("/echo", &[]).as_bytes()).await,
        // A socket, reset in the middle of a message.
        6 => {
            let mut connection = open(connection, "/echo").await;
            let message = frame(0x81, &[b'a'; 1_000]);
            connection.write(&message).await;
            connection.write(&message[..500]).await;
            let (stream, _) = connection.into_parts();
            crowd::reset(&stream);
        }
        // A FIN without a close.
        7 => {
            let mut connection = open(connection, "/echo").await;
            connection.write(&frame(0x81, b"a")).await;
            let (mut stream, input) = connection.into_parts();
            let _ = stream.shutdown().await;
            cut(Connection::from(stream)).await;
            drop(input);
        }
        // Silence: no pong, until it is taken for gone.
        8 => cut(open(connection, "/echo").await).await,
        // A close, whose answer nobody reads.
        9 => {
            let mut connection = open(connection, "/flood?n=100&size=10000").await;
            connection.write(&frame(0x88, &[3, 232])).await;
        }
        // A stream, dropped or reset.
        10 => drop(stream(connection).await),
        _ => {
            let connection = stream(connection).await;
            let (stream, _) = connection.into_parts();
            crowd::reset(&stream);
        }
    }
}

async fn open(mut connection: Connection, path: &str) -> Connection {
    connection.write(handshake(path, &[]).as_bytes()).await;
    assert_eq!(connection.head().await.status, 101);
    connection
}

async fn stream(mut connection: Connection) -> Connection {
    let request = http::head("GET", "/count?n=1000000000&interval_ms=10", &[]);
    connection.write(request.as_bytes()).await;
    assert_eq!(connection.head().await.status, 200);
    connection
}

/// Waits until the server has ended it.
async fn cut(mut connection: Connection) {
    // How is not what this is about.
    let _ = timeout(LONG, connection.ended())
        .await
        .expect("it is ended");
}

/// Waits until nobody is left, and returns what the process is then.
async fn quiet(testbed: &Testbed, files: Option<usize>) -> Facts {
    let nobody = |counts: &Counts| {
        (counts.websockets, counts.sse_streams, counts.buffered_bytes) == (0, 0, 0)
    };
    testbed.until_within(LONG, nobody).await;
    let start = Instant::now();
    loop {
        // Of files one may be the connection that asked for the counts.
        let facts = Facts::of(testbed);
        if files.is_none_or(|files| facts.files <= files) {
            return facts;
        }
        assert!(start.elapsed() < LONG, "{facts:?}, {files:?} files before");
        sleep(Duration::from_millis(20)).await;
    }
}

on_both! {
    async fn whoever_comes_and_goes_leaves_nothing_behind(framework: Framework) {
        let clients = many(10_000, 1_000);
        let places = CLIENTS * 2;
        let _one = begin(places).await;
        let limit = places.to_string();
        let testbed = framework
            .start(&[
                "--max-connections", &limit,
                "--handshake-timeout-ms", "1000",
                "--heartbeat-ms", "500",
                "--close-timeout-ms", "500",
                "--write-timeout-ms", "1000",
            ])
            .await;
        let address = testbed.address();
        let idle = quiet(&testbed, None).await;
        // What an allocator keeps for good it has after as many.
        crowd::all(0..clients, CLIENTS, |way| come_and_go(address, way)).await;
        // The first reset opens a descriptor that is kept: the process's own, by which actix's
        // sockets are reached. The second crowd may open none.
        let kept = Some(idle.files + 1);
        let before = quiet(&testbed, kept).await;
        crowd::all(0..clients, CLIENTS, |way| come_and_go(address, way)).await;
        let after = quiet(&testbed, kept).await;
        println!(
            "{framework}: {clients} came and went: {} files before, {} after; {} KiB before, {} KiB after",
            idle.files, after.files, kib(before.resident), kib(after.resident)
        );
        assert!(after.threads <= before.threads, "{before:?} {after:?}");
        let grown = after.grown_since(before);
        assert!(grown < 4 << 20, "{} KiB", kib(grown));

        // Each place is free.
        let held = crowd::all(0..places, 64, |_| async move {
            open(Connection::open(address).await, "/echo").await
        });
        assert_eq!(held.await.len(), places);
    }
}
