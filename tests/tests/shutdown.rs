//! SIGTERM: nothing is lost, everybody is told, and the process ends.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use towpath_tests::{
    http, on_both,
    process::SOON,
    sse::EventStream,
    ws::{Incoming, WebSocket, handshake},
};

/// "At once", on a machine that does other things too.
const AT_ONCE: Duration = Duration::from_secs(2);

/// The times that a stream told, in milliseconds.
fn retries(text: &str) -> Vec<u64> {
    let times = text.lines().filter_map(|line| line.strip_prefix("retry: "));
    times.map(|time| time.parse().expect("a number")).collect()
}

on_both! {
    async fn an_idle_process_ends_at_once(framework: Framework) {
        let mut testbed = framework.start(&["--drain-ms", "60000"]).await;
        // Neither of these is owed anything.
        let _silent = http::Connection::open(testbed.address()).await;
        let mut half = http::Connection::open(testbed.address()).await;
        half.write(b"GET /echo HTTP/1.1\r\nHost: a").await;
        let mut kept_alive = http::Connection::open(testbed.address()).await;
        kept_alive.write(http::head("GET", "/healthz", &[]).as_bytes()).await;
        assert_eq!(kept_alive.head().await.status, 200);
        testbed.terminate();
        assert_eq!(testbed.exit(AT_ONCE).await.code(), Some(0));
    }

    async fn sockets_are_told_and_answered(framework: Framework) {
        let mut testbed = framework.start(&["--drain-ms", "10000"]).await;
        let mut idle = WebSocket::open(testbed.address(), "/echo").await;
        let mut busy = WebSocket::open(testbed.address(), "/echo").await;
        for n in 0..1_000 {
            busy.send(n.to_string()).await;
        }
        testbed.until(|counts| counts.messages_in_total == 1_000).await;
        testbed.terminate();
        let ended = tokio::spawn(async move { idle.closed().await });
        for n in 0..1_000 {
            assert_eq!(busy.text().await, n.to_string());
        }
        assert_eq!(busy.closed().await.code.get(), 1012);
        assert_eq!(ended.await.expect("closed").code.get(), 1012);
        assert_eq!(testbed.exit(AT_ONCE).await.code(), Some(0));
    }

    async fn topics_deliver_what_was_published(framework: Framework) {
        let mut testbed = framework.start(&["--drain-ms", "10000"]).await;
        let address = testbed.address();
        let mut streams = Vec::new();
        for _ in 0..4 {
            streams.push(EventStream::open(address, "/topics/t").await);
        }
        let mut bare = WebSocket::open(address, "/topics/t/ws").await;
        let mut told = WebSocket::open_as(address, "/topics/t/ws", "towpath.v1").await;
        for n in 0..100 {
            assert_eq!(http::post(address, "/topics/t", n.to_string()).await.status, 201);
        }
        testbed.terminate();
        let mut last = Vec::new();
        for stream in &mut streams {
            let events = stream.rest().await;
            let data: Vec<_> = events.iter().map(|event| event.data.clone()).collect();
            assert_eq!(data, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
            let retries = retries(stream.text());
            assert_eq!((retries.len(), retries[0]), (2, 3_000), "{retries:?}");
            // Not before the process is gone and the next one is there.
            assert!((10_000..=14_000).contains(&retries[1]), "{retries:?}");
            last.push(retries[1]);
        }
        last.sort_unstable();
        last.dedup();
        assert!(last.len() > 1, "they come back at different times");
        for n in 0..100 {
            assert_eq!(bare.text().await, n.to_string());
            assert_eq!(told.json().await["data"], n.to_string());
        }
        assert_eq!(bare.closed().await.code.get(), 1012);
        assert_eq!(told.closed().await.code.get(), 1012);
        assert_eq!(testbed.exit(AT_ONCE).await.code(), Some(0));
    }

    async fn newcomers_are_refused_while_a_count_runs_to_its_end(framework: Framework) {
        let mut testbed = framework.start(&["--drain-ms", "10000"]).await;
        let address = testbed.address();
        let mut count = EventStream::open(address, "/count?n=20&interval_ms=100").await;
        assert_eq!(count.event().await.id, "1");
        assert_eq!(http::get(address, "/healthz").await.text(), "ok");
        testbed.terminate();
        let draining = async {
            loop {
                let health = http::get(address, "/healthz").await;
                if health.status == 503 {
                    break health;
                }
            }
        };
        let health = timeout(SOON, draining).await.expect("it drains");
        assert_eq!(health.text(), "draining");

        for path in ["/count?n=1&interval_ms=0", "/topics/t"] {
            let refused = http::get(address, path).await;
            assert_eq!(refused.status, 503, "{path}");
            let seconds = refused.get("retry-after").and_then(|value| value.parse::<u64>().ok());
            assert!(seconds.is_some_and(|seconds| (1..=14).contains(&seconds)), "{refused:?}");
        }
        for path in ["/echo", "/topics/t/ws"] {
            let mut connection = http::Connection::open(address).await;
            connection.write(handshake(path, &[]).as_bytes()).await;
            let head = connection.head().await;
            assert_eq!(head.status, 503, "{path}");
            assert!(head.get("retry-after").is_some(), "{head:?}");
        }
        assert_eq!(http::post(address, "/topics/t", "late").await.status, 503);
        assert_eq!(testbed.counts().await.rejected_total, 4);

        let events = count.rest().await;
        assert_eq!(events.last().map(|event| event.id.as_str()), Some("20"));
        let start = Instant::now();
        assert_eq!(testbed.exit(AT_ONCE).await.code(), Some(0));
        assert!(start.elapsed() < AT_ONCE);
    }

    async fn a_handler_that_hangs_is_cut(framework: Framework) {
        let mut testbed = framework.start(&["--drain-ms", "1000"]).await;
        let mut socket = WebSocket::open(testbed.address(), "/sink?delay_ms=3600000").await;
        socket.send("one").await;
        assert_eq!(socket.text().await, "3");
        let start = Instant::now();
        testbed.terminate();
        assert_eq!(socket.closed().await.code.get(), 1012);
        assert_eq!(testbed.exit(SOON).await.code(), Some(1));
        assert!(start.elapsed() >= Duration::from_millis(700), "{:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }

    async fn a_count_without_end_is_cut(framework: Framework) {
        let mut testbed = framework.start(&["--drain-ms", "500"]).await;
        let mut count = EventStream::open(testbed.address(), "/count?n=1000000&interval_ms=100").await;
        assert_eq!(count.event().await.id, "1");
        let start = Instant::now();
        testbed.terminate();
        assert_eq!(testbed.exit(SOON).await.code(), Some(1));
        assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    }

    async fn a_peer_that_does_not_answer_counts_as_gone(framework: Framework) {
        let mut testbed = framework
            .start(&["--drain-ms", "10000", "--close-timeout-ms", "200"])
            .await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        testbed.terminate();
        assert_eq!(socket.close_frame().await.code.get(), 1012);
        assert_eq!(socket.next().await, Incoming::Reset);
        assert_eq!(testbed.exit(AT_ONCE).await.code(), Some(0));
    }

    async fn a_second_sigterm_ends_it_at_once(framework: Framework) {
        let mut testbed = framework.start(&["--drain-ms", "60000"]).await;
        let mut socket = WebSocket::open(testbed.address(), "/sink?delay_ms=3600000").await;
        socket.send("one").await;
        assert_eq!(socket.text().await, "3");
        testbed.terminate();
        let drains = async {
            while http::get(testbed.address(), "/healthz").await.status != 503 {}
        };
        timeout(SOON, drains).await.expect("it drains");
        assert!(!testbed.has_ended());
        testbed.terminate();
        assert_ne!(testbed.exit(AT_ONCE).await.code(), Some(0));
    }
}
