//! The event stream's client against servers: the testbeds, one behind a relay that cuts,
//! one that compresses, and hostile ones.

#![expect(
    clippy::unwrap_used,
    reason = "whatever is not as expected fails the test"
)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::{Router, routing::get};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{StreamExt, stream};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tower_http::compression::{CompressionLayer, predicate::SizeAbove};
use towpath::{
    client::{ConnectError, EventSource, EventSourceBuilder, EventSourceError},
    sse::{Event, MessageEvent},
};
use towpath_axum::Sse;
use towpath_tests::{http, on_both, tls::Identity};

/// Whatever is awaited comes within this, on a machine with much else to do.
const LONG: Duration = Duration::from_secs(60);

async fn next(events: &mut EventSource) -> Option<Result<MessageEvent, EventSourceError>> {
    timeout(LONG, events.next())
        .await
        .expect("an event in time")
}

async fn event(events: &mut EventSource) -> MessageEvent {
    next(events).await.expect("an event").expect("no error")
}

/// One that comes back soon.
fn hasty(uri: String) -> EventSourceBuilder {
    EventSource::builder(uri)
        .retry(Duration::from_millis(100))
        .max_backoff(Duration::from_millis(100))
        .max_retry_after(Duration::from_millis(200))
}

/// Passes connections on to `target`, and cuts all of them whenever it is told to.
async fn relay(target: SocketAddr) -> (SocketAddr, watch::Sender<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (cut, cuts) = watch::channel(());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut cuts = cuts.clone();
            cuts.mark_unchanged();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(target).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    _ = cuts.changed() => {
                        // So that it is a loss and not an end in order.
                        let _ = near.set_zero_linger();
                    }
                }
            });
        }
    });
    (address, cut)
}

on_both! {
    async fn a_count_is_read_to_its_end(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let uri = format!("http://{}/count?n=5&interval_ms=0", testbed.address());
        let mut events = EventSource::builder(uri.as_str()).reconnect(false).open().unwrap();
        for n in 1..=5 {
            let event = event(&mut events).await;
            assert_eq!((event.event.as_str(), event.id, event.data), ("tick", n.to_string(), n.to_string()));
        }
        assert!(next(&mut events).await.is_none());
        assert_eq!(events.retry(), Duration::from_secs(3), "the testbed's");

        let mut resumed = EventSource::builder(uri).last_event_id("3").open().unwrap();
        assert_eq!(event(&mut resumed).await.id, "4");
    }

    async fn a_topic_is_read_without_gap_or_duplicate_over_connections_that_are_cut(framework: Framework) {
        const MESSAGES: usize = 600;
        let testbed = framework.start(&["--history", "1024"]).await;
        let (address, cut) = relay(testbed.address()).await;
        let mut events = hasty(format!("http://{address}/topics/t?last=0")).open().unwrap();
        let mut state = events.state();
        let reader = tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < MESSAGES {
                seen.push(event(&mut events).await);
            }
            seen
        });
        // What is published before the stream is there would be none of its business.
        timeout(LONG, state.wait_for(towpath::client::EventSourceState::is_open)).await.unwrap().unwrap();
        for n in 0..MESSAGES {
            let response = http::post(testbed.address(), "/topics/t", n.to_string()).await;
            assert_eq!(response.status, 201);
            if n % 60 == 30 {
                cut.send_replace(());
            }
        }
        let seen = reader.await.unwrap();
        let expected: Vec<_> = (0..MESSAGES).map(|n| n.to_string()).collect();
        let data: Vec<_> = seen.iter().map(|event| event.data.clone()).collect();
        assert_eq!(data, expected);
        assert!(seen.iter().all(|event| event.event == "message"), "no gap is told");
    }

    async fn over_tls(framework: Framework) {
        let identity = Identity::new();
        let (certificate, key) = (identity.certificate(), identity.key());
        let testbed = framework.start(&["--tls", &certificate, &key]).await;
        let uri = format!("https://localhost:{}/count?n=3&interval_ms=0", testbed.address().port());
        let mut events = EventSource::builder(uri.as_str())
            .tls_config(identity.trusting())
            .open()
            .unwrap();
        assert_eq!(event(&mut events).await.id, "1");

        // The platform knows nothing of that certificate.
        let mut events = EventSource::builder(uri).max_attempts(1).open().unwrap();
        let error = next(&mut events).await.unwrap().unwrap_err();
        let EventSourceError::Connect(error) = error else {
            unreachable!("{error}")
        };
        assert!(
            matches!(*error, ConnectError::Untrusted(_) | ConnectError::NoRoots(_)),
            "{error}",
        );
        assert!(next(&mut events).await.is_none());
    }
}

#[tokio::test]
async fn a_compressed_stream_comes_event_by_event() {
    let (release, released) = watch::channel(0);
    let app = Router::new()
        .route(
            "/",
            get(move |headers: axum::http::HeaderMap| {
                let released = released.clone();
                async move {
                    assert!(
                        headers["accept-encoding"]
                            .to_str()
                            .unwrap()
                            .contains("gzip")
                    );
                    let events = stream::unfold((1, released), |(n, mut released)| async move {
                        released.wait_for(|up_to| *up_to >= n).await.ok()?;
                        Some((Event::new().id(n).data("x".repeat(5000)), (n + 1, released)))
                    });
                    Sse::new(events)
                }
            }),
        )
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(0)));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    let mut events = EventSource::connect(uri).unwrap();
    for n in 1..=5 {
        release.send_replace(n);
        let event = event(&mut events).await;
        assert_eq!((event.id, event.data.len()), (n.to_string(), 5000));
    }
}

/// A server that says `head` and `parts` to the first connection, each part in a packet
/// of its own, and 204 to those that follow.
async fn says(head: &'static str, parts: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut parts = Some(parts);
        while let Ok((mut tcp, _)) = listener.accept().await {
            tcp.set_nodelay(true).unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                if tcp.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let Some(parts) = parts.take() else {
                let _ = tcp.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                continue;
            };
            if tcp.write_all(head.as_bytes()).await.is_err() {
                continue;
            }
            for part in parts {
                if tcp.write_all(&part).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    });
    address
}

const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn cases_of_the_standard_split_at_every_byte() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../../core/tests/cases/sse_parse.json")).unwrap();
    assert_eq!(cases.len(), 114);
    let cases = stream::iter(cases).map(|case| async move {
        let name = case["name"].as_str().unwrap().to_owned();
        let input = case["input"].as_str().unwrap();
        let input = match case["encoding"].as_str() {
            Some("base64") => BASE64_STANDARD.decode(input).unwrap(),
            _ => input.as_bytes().to_vec(),
        };
        let address = says(STREAM, input.chunks(1).map(<[u8]>::to_vec).collect()).await;
        let mut events = hasty(format!("http://{address}/")).open().unwrap();
        let mut seen = Vec::new();
        while let Some(event) = next(&mut events).await {
            let event = event.unwrap_or_else(|error| unreachable!("{name}: {error}"));
            seen.push((event.event, event.data, event.id));
        }
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let expected: Vec<_> = case["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| {
                (
                    text(&event["type"]),
                    text(&event["data"]),
                    text(&event["id"]),
                )
            })
            .collect();
        assert_eq!(seen, expected, "{name}");
        assert_eq!(
            events.last_event_id(),
            case["last_event_id"].as_str().unwrap(),
            "{name}"
        );
        let retry = case["retry"]
            .as_u64()
            .map_or(Duration::from_millis(100), Duration::from_millis);
        assert_eq!(events.retry(), retry, "{name}");
    });
    cases.buffer_unordered(16).collect::<Vec<()>>().await;
}

#[tokio::test]
async fn hostile_servers_are_told_apart() {
    let one = |bytes: &[u8]| vec![bytes.to_vec()];
    let endless = |piece: &'static str| vec![piece.as_bytes().to_vec(); 100_000];
    let once = |address: SocketAddr| {
        EventSource::builder(format!("http://{address}/"))
            .connect_timeout(Duration::from_secs(20))
            .reconnect(false)
    };
    let first = async |builder: EventSourceBuilder| {
        let mut events = builder.open().unwrap();
        let error = loop {
            match next(&mut events).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => unreachable!("it ended in order"),
            }
        };
        assert!(
            next(&mut events).await.is_none(),
            "the error is the last item"
        );
        error
    };
    let error = first(once(
        says("HTTP/1.1 200 OK\r\n", endless("x-filler: 0123456789\r\n")).await,
    ))
    .await;
    assert!(
        matches!(error, EventSourceError::Request(_)),
        "an endless head: {error}"
    );
    let error = first(once(says("SSH-2.0-server\r\n", vec![]).await)).await;
    assert!(
        matches!(error, EventSourceError::Request(_)),
        "no HTTP: {error}"
    );
    let error = first(once(
        says(
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            vec![],
        )
        .await,
    ))
    .await;
    assert_eq!(error.status().unwrap(), 404);
    let html = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n";
    let error = first(once(says(html, one(b"<html>")).await)).await;
    assert!(matches!(error, EventSourceError::ContentType(Some(kind)) if kind == "text/html"));
    let error = first(once(says(STREAM, endless("data: without an end\n")).await)).await;
    assert!(
        matches!(error, EventSourceError::TooBig(_)),
        "an endless event: {error}"
    );
    let error = first(once(
        says(STREAM, endless("data without a line's end")).await,
    ))
    .await;
    assert!(
        matches!(error, EventSourceError::TooBig(_)),
        "an endless line: {error}"
    );
    let cut = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 100\r\n\r\n";
    let error = first(once(says(cut, one(b"data: 1\n\n")).await)).await;
    assert!(
        matches!(error, EventSourceError::Interrupted(_)),
        "cut off: {error}"
    );

    // Somebody accepts, and says nothing.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let hole = listener.local_addr().unwrap();
    let error = first(once(hole).connect_timeout(Duration::from_millis(300))).await;
    assert!(matches!(error, EventSourceError::Timeout { .. }), "{error}");
    drop(listener);
    let error = first(once(hole)).await;
    assert!(
        matches!(&error, EventSourceError::Connect(error) if matches!(**error, ConnectError::Unreachable(_))),
        "nobody listens: {error}",
    );
}

#[tokio::test]
async fn plain_http_on_a_port_for_tls() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let plain = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = copy(&mut tcp, &mut tokio::io::sink()).await;
        }
    });
    let identity = Identity::new();
    let mut events = EventSource::builder(format!("https://localhost:{}/", plain.port()))
        .tls_config(identity.trusting())
        .max_attempts(1)
        .open()
        .unwrap();
    let error = next(&mut events).await.unwrap().unwrap_err();
    assert!(
        matches!(&error, EventSourceError::Connect(error) if matches!(**error, ConnectError::NotTls(_))),
        "{error}",
    );
}
