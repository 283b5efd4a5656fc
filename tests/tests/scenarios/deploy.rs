//! SIGTERM with thousands of sockets and streams.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{sync::Barrier, task::JoinSet, time::Instant};
use towpath_tests::{http, on_both, sse::EventStream, ws::WebSocket};

use super::{LONG, begin, crowd, in_full, many};

/// What is published, and what each socket says, just before.
const MESSAGES: usize = 20;
const DRAIN: Duration = Duration::from_secs(20);

/// A socket that echoes: what it has sent is answered, then it is told 1012.
async fn echoes(mut socket: WebSocket, sent: Arc<Barrier>) -> u16 {
    for number in 0..MESSAGES {
        socket.send(number.to_string()).await;
    }
    sent.wait().await;
    for number in 0..MESSAGES {
        assert_eq!(socket.text().await, number.to_string());
    }
    socket.closed().await.code.get()
}

/// A socket on the topic: what was published comes, then it is told 1012.
async fn listens(mut socket: WebSocket, sent: Arc<Barrier>) -> u16 {
    sent.wait().await;
    for number in 0..MESSAGES {
        assert_eq!(socket.text().await, number.to_string());
    }
    socket.closed().await.code.get()
}

/// A stream on the topic: what was published comes, then the time to come back at.
async fn reads(mut stream: EventStream, sent: Arc<Barrier>) -> u64 {
    sent.wait().await;
    let events = stream.rest().await;
    let data: Vec<_> = events.into_iter().map(|event| event.data).collect();
    assert_eq!(
        data,
        (0..MESSAGES)
            .map(|number| number.to_string())
            .collect::<Vec<_>>()
    );
    let mut times = stream
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("retry: "));
    let last = times.next_back().expect("a time");
    last.parse().expect("a number")
}

on_both! {
    async fn everyone_is_told_and_the_process_ends_with_0(framework: Framework) {
        let sockets = many(5_000, 500);
        let streams = many(1_000, 100);
        let _one = begin(sockets + streams).await;
        let milliseconds = DRAIN.as_millis().to_string();
        let mut testbed = framework.start(&["--drain-ms", &milliseconds]).await;
        let address = testbed.address();
        let echoing = crowd::arrive(sockets / 2, |_| WebSocket::open(address, "/echo")).await;
        let listening =
            crowd::arrive(sockets - sockets / 2, |_| WebSocket::open(address, "/topics/t/ws")).await;
        let reading = crowd::arrive(streams, |_| EventStream::open(address, "/topics/t")).await;

        let sent = Arc::new(Barrier::new(sockets + streams + 1));
        let mut told = JoinSet::new();
        for socket in echoing {
            told.spawn(echoes(socket, Arc::clone(&sent)));
        }
        for socket in listening {
            told.spawn(listens(socket, Arc::clone(&sent)));
        }
        let mut retries = JoinSet::new();
        for stream in reading {
            retries.spawn(reads(stream, Arc::clone(&sent)));
        }
        for number in 0..MESSAGES {
            let published = http::post(address, "/topics/t", number.to_string()).await;
            assert_eq!(published.status, 201);
        }
        sent.wait().await;
        testbed
            .until_within(LONG, |counts| counts.messages_in_total == (sockets / 2 * MESSAGES) as u64)
            .await;
        testbed.terminate();
        let start = Instant::now();
        let codes = told.join_all().await;
        assert!(codes.iter().all(|code| *code == 1012), "{codes:?}");
        let retries = retries.join_all().await;
        let different: HashSet<_> = retries.iter().collect();
        assert!(different.len() > streams / 3, "{} of {streams}", different.len());
        let status = testbed.exit(DRAIN * 2).await;
        let took = start.elapsed();
        assert_eq!(status.code(), Some(0));
        println!(
            "{framework}: {sockets} sockets and {streams} streams ended in {took:?}, {} retry times",
            different.len()
        );
        if in_full() {
            assert!(took < DRAIN, "{took:?}");
        }
    }
}
