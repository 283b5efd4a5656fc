//! Readers that read nothing, or little.

use std::time::Duration;

use tokio::{
    io::AsyncReadExt,
    time::{Instant, sleep, timeout},
};
use towpath_tests::{
    http::{self, Connection},
    on_both,
    process::{Framework, Testbed},
    ws::handshake,
};

use super::{Facts, LONG, begin, crowd, in_full, kib, many};

/// `--write-timeout-ms`
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// What is bound for each: the queue in bytes, and what a connection costs besides.
const BOUND: u64 = (1 << 20) + (8 << 10);
/// Who echo meanwhile.
const OTHERS: usize = 16;

const FLOOD: &str = "/flood?n=1000000000&size=16384";
const COUNT: &str = "/count?n=1000000000&interval_ms=0";

async fn start(framework: Framework) -> Testbed {
    // Else a socket that answers no ping would end without it, later.
    framework
        .start(&["--write-timeout-ms", "3000", "--heartbeat-ms", "0"])
        .await
}

/// Opens a response, and reads no further than its head.
async fn open(mut connection: Connection, path: &str) -> Connection {
    if path == FLOOD {
        connection.write(handshake(path, &[]).as_bytes()).await;
        assert_eq!(connection.head().await.status, 101);
    } else {
        connection
            .write(http::head("GET", path, &[]).as_bytes())
            .await;
        assert_eq!(connection.head().await.status, 200);
    }
    connection
}

async fn nobody_suffers_from_those_who_do_not_read(framework: Framework, path: &'static str) {
    let readers = many(1_000, 200);
    let _one = begin(readers).await;
    let testbed = start(framework).await;
    let address = testbed.address();
    let time = Duration::from_secs(if in_full() { 3 } else { 1 });
    let alone = crowd::latencies(address, OTHERS, time).await.p99();
    let before = Facts::of(&testbed);

    let stuck = crowd::arrive(readers, |_| async move {
        open(Connection::open(address).await, path).await
    });
    let stuck = stuck.await;
    let opened = Instant::now();
    let others = crowd::latencies(address, OTHERS, time);
    let grown = async {
        let mut most = 0;
        while opened.elapsed() < time {
            most = most.max(Facts::of(&testbed).grown_since(before));
            sleep(Duration::from_millis(20)).await;
        }
        most
    };
    let (others, grown) = tokio::join!(others, grown);
    let beside = others.p99();
    let bound = readers as u64 * BOUND;
    assert!(grown <= bound, "{} KiB of {} KiB", kib(grown), kib(bound));

    let nobody = |counts: &towpath_tests::Counts| counts.websockets + counts.sse_streams == 0;
    let counts = testbed.until_within(LONG, nobody).await;
    let cut = opened.elapsed();
    assert_eq!(counts.buffered_bytes, 0);
    println!(
        "{framework} {path}: {readers} readers grow it by {} KiB each; p99 of the others {alone:?} alone, \
         {beside:?} beside them; all cut {cut:?} after the last came",
        kib(grown) / readers as u64
    );
    if in_full() {
        // Twice, and what a clock's granularity adds to so little.
        let most = alone * 2 + Duration::from_millis(5);
        assert!(beside <= most, "{alone:?} alone, {beside:?} beside them");
        let most = WRITE_TIMEOUT * 2 + Duration::from_secs(4);
        assert!(cut <= most, "{cut:?}");
    }
    drop(stuck);
}

/// Reads 10 KB/s for four times the write time-out.
///
/// Of a socket's driver it can be asked; an event stream has the kernel's
/// `TCP_USER_TIMEOUT` alone, which cuts some of those who read so little
/// (`docs/driver-hyper.md`, 2).
async fn a_slow_reader_lives(framework: Framework) {
    let _one = begin(16).await;
    let testbed = start(framework).await;
    let connection = open(crowd::narrow(testbed.address()).await, FLOOD).await;
    let (mut stream, _) = connection.into_parts();
    let start = Instant::now();
    let mut buffer = [0; 1_000];
    let mut read = 0;
    while start.elapsed() < WRITE_TIMEOUT * 4 {
        let more = timeout(LONG, stream.read_exact(&mut buffer)).await;
        if let Err(error) = more.expect("more") {
            panic!("cut after {:?} and {read} bytes: {error}", start.elapsed());
        }
        read += buffer.len();
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(testbed.counts().await.websockets, 1);
    println!("{framework}: {read} bytes in {:?}", start.elapsed());
}

on_both! {
    async fn sockets_that_nobody_reads_are_cut_and_harm_nobody(framework: Framework) {
        nobody_suffers_from_those_who_do_not_read(framework, FLOOD).await;
    }

    async fn streams_that_nobody_reads_are_cut_and_harm_nobody(framework: Framework) {
        nobody_suffers_from_those_who_do_not_read(framework, COUNT).await;
    }

    async fn a_socket_that_is_read_slowly_lives(framework: Framework) {
        a_slow_reader_lives(framework).await;
    }
}
