//! Event streams over sockets.

use std::time::Duration;

use towpath_tests::{http, on_both, process::SOON, sse::EventStream};

fn ids(events: &[towpath::sse::MessageEvent]) -> Vec<&str> {
    events.iter().map(|event| event.id.as_str()).collect()
}

on_both! {
    async fn counting(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut stream = EventStream::open(testbed.address(), "/count?n=3&interval_ms=1").await;
        let head = stream.head().clone();
        assert_eq!(head.get("cache-control"), Some("no-cache, no-transform"));
        assert_eq!(head.get("x-accel-buffering"), Some("no"));
        assert_eq!(head.get("connection"), None);
        let events = stream.rest().await;
        assert_eq!(ids(&events), ["1", "2", "3"]);
        for event in &events {
            assert_eq!((event.event.as_str(), &event.data), ("tick", &event.id));
        }
        let counts = testbed.until(|counts| counts.sse_streams == 0).await;
        assert_eq!(counts.messages_out_total, 3);
    }

    async fn resuming(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let path = "/count?n=5&interval_ms=0";
        let mut stream = EventStream::resume(testbed.address(), path, "3").await;
        assert_eq!(ids(&stream.rest().await), ["4", "5"]);
        let by_query = format!("{path}&last_event_id=4");
        let mut stream = EventStream::open(testbed.address(), &by_query).await;
        assert_eq!(ids(&stream.rest().await), ["5"]);
        // The header wins.
        let mut stream = EventStream::resume(testbed.address(), &by_query, "2").await;
        assert_eq!(ids(&stream.rest().await), ["3", "4", "5"]);
        let mut stream = EventStream::resume(testbed.address(), path, "5").await;
        assert_eq!(stream.rest().await, []);
    }

    async fn a_long_stream_is_whole(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut stream = EventStream::open(testbed.address(), "/count?n=100000&interval_ms=0").await;
        let events = stream.rest().await;
        assert_eq!(events.len(), 100_000);
        assert_eq!(events.last().map(|event| event.id.as_str()), Some("100000"));
    }

    async fn the_first_bytes_come_at_once(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let path = "/count?n=1&interval_ms=3600000";
        let mut stream = EventStream::open(testbed.address(), path).await;
        stream.until("retry: 3000\n\n").await;
        let mut stream = EventStream::open(testbed.address(), "/topics/quiet").await;
        stream.until("retry: 3000\n\n").await;
    }

    async fn events_are_not_held_back(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut stream = EventStream::open(testbed.address(), "/count?n=2&interval_ms=300").await;
        assert_eq!(stream.event().await.id, "1");
        assert!(!stream.text().contains("id: 2"), "gathered for a time");
        assert_eq!(stream.event().await.id, "2");
    }

    async fn a_quiet_stream_is_kept_alive(framework: Framework) {
        let testbed = framework.start(&["--keep-alive-ms", "50"]).await;
        let mut stream = EventStream::open(testbed.address(), "/topics/quiet").await;
        stream.until(":\n\n:\n\n").await;
        let off = framework.start(&["--keep-alive-ms", "0"]).await;
        let mut stream = EventStream::open(off.address(), "/count?n=1&interval_ms=300").await;
        stream.rest().await;
        assert_eq!(stream.text(), "retry: 3000\n\nid: 1\nevent: tick\ndata: 1\n\n");
    }

    async fn a_reader_that_leaves_is_seen(framework: Framework) {
        let testbed = framework.start(&[]).await;
        for path in ["/count?n=1&interval_ms=3600000", "/topics/quiet"] {
            let stream = EventStream::open(testbed.address(), path).await;
            testbed.until(|counts| counts.sse_streams == 1).await;
            drop(stream);
            let second = Duration::from_secs(1);
            testbed.until_within(second, |counts| counts.sse_streams == 0).await;
        }
    }

    async fn head_is_no_stream(framework: Framework) {
        let testbed = framework.start(&[]).await;
        for path in ["/count?n=5&interval_ms=1", "/topics/a"] {
            let response = http::request(testbed.address(), "HEAD", path, &[], b"").await;
            assert!([200, 405].contains(&response.status), "{path}: {}", response.status);
        }
        let counts = testbed.until_within(SOON, |counts| counts.sse_streams == 0).await;
        assert_eq!(counts.messages_out_total, 0);
    }

    async fn a_bad_query_is_a_rejection(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let response = http::get(testbed.address(), "/count?n=many&interval_ms=1").await;
        assert_eq!(response.status, 400);
        assert_eq!(testbed.counts().await.rejected_total, 1);
    }
}
