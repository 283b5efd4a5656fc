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

    /// WHATWG HTML §9.2: a reader takes this type alone; and RFC 9112 §6: how the body ends.
    async fn the_head_says_what_comes_and_nothing_twice(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let headers = [("Accept-Encoding", "gzip, br"), ("Accept", "application/json")];
        let path = "/count?n=2&interval_ms=0";
        let mut stream = EventStream::open_with(testbed.address(), path, &headers).await;
        let head = stream.head().clone();
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-cache, no-transform"),
            ("x-accel-buffering", "no"),
            ("transfer-encoding", "chunked"),
        ] {
            let found: Vec<_> = head.headers.iter().filter(|(found, _)| found == name).collect();
            assert_eq!(found, [&(name.to_owned(), value.to_owned())]);
        }
        for name in ["content-length", "content-encoding", "connection", "etag"] {
            assert_eq!(head.get(name), None, "{name}");
        }
        assert_eq!(ids(&stream.rest().await), ["1", "2"]);
    }

    /// RFC 9112 §6.3: without chunks the body ends with the connection.
    async fn a_reader_of_http_1_0_is_given_no_chunks(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut connection = http::Connection::open(testbed.address()).await;
        connection.write(b"GET /count?n=2&interval_ms=0 HTTP/1.0\r\n\r\n").await;
        let head = connection.head().await;
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.get("content-type"), Some("text/event-stream"));
        assert_eq!(head.get("transfer-encoding"), None);
        assert_eq!(head.get("content-length"), None);
        let mut body = http::Body::new(connection, &head);
        let mut text = Vec::new();
        while let Some(chunk) = tokio::time::timeout(SOON, body.chunk()).await.expect("soon").expect("in order") {
            text.extend_from_slice(&chunk);
        }
        let expected = "retry: 3000\n\nid: 1\nevent: tick\ndata: 1\n\nid: 2\nevent: tick\ndata: 2\n\n";
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }

    /// RFC 9110 §9.3.2: no content, and the connection goes on.
    async fn a_head_has_no_content_behind_it(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut connection = http::Connection::open(testbed.address()).await;
        for path in ["/count?n=5&interval_ms=1", "/topics/a"] {
            connection.write(http::head("HEAD", path, &[]).as_bytes()).await;
            let head = connection.head().await;
            assert!([200, 405].contains(&head.status), "{path}: {head:?}");
            // What comes next is the next answer's first byte.
            connection.write(http::head("GET", "/healthz", &[]).as_bytes()).await;
            let head = connection.head().await;
            assert_eq!(head.status, 200, "{path}");
            connection = http::Body::new(connection, &head).skip().await;
        }
    }

    /// CR, LF and CRLF arrive as LF; everything else arrives as it was published.
    async fn any_text_arrives_as_it_was_published(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut stream = EventStream::open(testbed.address(), "/topics/texts").await;
        for text in [
            "",
            " ",
            "  leading",
            "trailing  ",
            ":",
            ": no comment",
            "data: no field",
            "id: 1\nevent: x\nretry: 1",
            "a\nb",
            "a\rb",
            "a\r\nb",
            "a\n\rb",
            "\n",
            "\r",
            "\r\n",
            "\n\n\n",
            "\r\r\n\n",
            "ends\n",
            "ends\r\n\r\n",
            "\n\nbegins",
            "\u{FEFF}",
            "\u{FEFF}data",
            "a\0b",
            "\0",
            "a\u{2028}b\u{2029}c\u{85}d\u{B}e\u{C}f",
            "\t\ttabs\t",
            "h\u{e9}llo \u{1f980}",
            "data",
            "data:",
            "[DONE]",
        ] {
            let response = http::post(testbed.address(), "/topics/texts", text).await;
            assert_eq!(response.status, 201, "{text:?}");
            let event = stream.event().await;
            assert_eq!(event.data, text.replace("\r\n", "\n").replace('\r', "\n"), "{text:?}");
            assert_eq!(event.event, "message", "{text:?}");
            assert!(response.text().contains(&event.id), "{text:?}");
        }
    }
}
