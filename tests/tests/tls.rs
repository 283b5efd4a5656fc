//! Both testbeds over TLS (rustls), with HTTP/1.1 and HTTP/2 as ALPN chooses them.

use std::{fs, time::Duration};

use bytes::BytesMut;
use http::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::client::TlsStream;
use towpath_tests::{
    http::Connection,
    http2::{self, Client, settings},
    on_both,
    process::{Framework, SOON, Testbed},
    sse::EventStream,
    tls::Identity,
    ws::{Incoming, WebSocket},
};

type Alpn = &'static [&'static [u8]];

const HTTP1: Alpn = &[b"http/1.1"];
const HTTP2: Alpn = &[b"h2"];

async fn start(framework: Framework, identity: &Identity, more: &[&str]) -> Testbed {
    let [certificate, key] = [identity.certificate(), identity.key()];
    let tls = ["--tls", &certificate, &key];
    framework.start(&[&tls, more].concat()).await
}

type Tls = TlsStream<TcpStream>;

async fn socket(testbed: &Testbed, identity: &Identity, path: &str) -> WebSocket<Tls> {
    let stream = identity.connect(testbed.address(), HTTP1).await;
    WebSocket::upgrade(Connection::from(stream), path, &[]).await
}

/// What `/stats` says of the live sockets; it is asked over TLS.
async fn sockets(testbed: &Testbed, identity: &Identity) -> u64 {
    let stream = identity.connect(testbed.address(), HTTP2).await;
    let mut client = Client::over(stream, &settings()).await;
    let stats = client.get("/stats").await;
    let stats: serde_json::Value = serde_json::from_slice(&stats.body).expect("JSON");
    stats["websockets"].as_u64().expect("a number")
}

/// The peer learns of an end before it is counted.
async fn no_socket_is_left(testbed: &Testbed, identity: &Identity) {
    let start = Instant::now();
    while sockets(testbed, identity).await > 0 {
        assert!(start.elapsed() < SOON);
    }
}

on_both! {
    async fn alpn_chooses_what_is_spoken(framework: Framework) {
        let identity = Identity::new();
        let testbed = start(framework, &identity, &[]).await;
        let offers: [(Alpn, Option<&[u8]>); 4] = [
            (&[b"h2", b"http/1.1"], Some(b"h2")),
            (&[b"http/1.1", b"h2"], Some(b"h2")),
            (HTTP1, Some(b"http/1.1")),
            (&[], None),
        ];
        for (offer, chosen) in offers {
            let stream = identity.connect(testbed.address(), offer).await;
            assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
            if chosen == Some(b"h2") {
                let mut client = Client::over(stream, &settings()).await;
                assert_eq!(client.get("/healthz").await.text(), "ok");
            } else {
                let mut connection = Connection::from(stream);
                let request = towpath_tests::http::head("GET", "/healthz", &[]);
                connection.write(request.as_bytes()).await;
                assert_eq!(connection.head().await.status, 200);
            }
        }
    }

    async fn a_socket_over_http1_works_as_ever(framework: Framework) {
        let identity = Identity::new();
        let testbed = start(framework, &identity, &[]).await;
        let mut echo = socket(&testbed, &identity, "/echo").await;
        for len in [0, 1, 125, 126, 65_535, 65_536, 4 << 20] {
            let text = "x".repeat(len);
            echo.send(text.as_str()).await;
            assert_eq!(echo.text().await, text);
        }
        echo.close(4001).await;
        assert_eq!(echo.closed().await.code.get(), 4001);

        let mut flood = socket(&testbed, &identity, "/flood?n=50&size=20000").await;
        for _ in 0..50 {
            assert_eq!(flood.message().await.len(), 20_000);
        }
        // The close frame, and behind it TLS's own end: not a connection that was cut.
        assert_eq!(flood.closed().await.code.get(), 1000);
        no_socket_is_left(&testbed, &identity).await;
    }

    async fn a_peer_that_is_gone_is_found(framework: Framework) {
        let identity = Identity::new();
        let testbed = start(framework, &identity, &["--heartbeat-ms", "200"]).await;
        let mut silent = socket(&testbed, &identity, "/echo").await;
        let mut read = [0; 256];
        let ended = async {
            loop {
                match silent.stream().read(&mut read).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => assert_eq!(&read[..count], [0x89, 0].repeat(count / 2)),
                }
            }
        };
        timeout(SOON, ended).await.expect("it ends");
        no_socket_is_left(&testbed, &identity).await;

        let gone = socket(&testbed, &identity, "/echo").await;
        drop(gone);
        no_socket_is_left(&testbed, &identity).await;
    }

    async fn an_event_stream_comes_over_both(framework: Framework) {
        let identity = Identity::new();
        let testbed = start(framework, &identity, &[]).await;
        let path = "/count?n=5&interval_ms=20";
        let stream = identity.connect(testbed.address(), HTTP1).await;
        let mut http1 = EventStream::request(Connection::from(stream), path, &[]).await;
        let stream = identity.connect(testbed.address(), HTTP2).await;
        let mut client = Client::over(stream, &settings()).await;
        let mut resumed = client.events(path, &[("last-event-id", "2")]).await;
        let mut whole = client.events(path, &[]).await;
        assert_eq!(whole.head().get("connection"), None);
        assert_eq!(whole.head().get("transfer-encoding"), None);
        let ids = |events: Vec<towpath::sse::MessageEvent>| -> Vec<String> {
            events.into_iter().map(|event| event.id).collect()
        };
        assert_eq!(ids(http1.rest().await), ["1", "2", "3", "4", "5"]);
        assert_eq!(ids(whole.rest().await), ["1", "2", "3", "4", "5"]);
        assert_eq!(ids(resumed.rest().await), ["3", "4", "5"]);

        // One that has no end, which its reader leaves.
        let mut topic = client.events("/topics/news", &[]).await;
        assert_eq!(client.post("/topics/news", "now").await.status, 201);
        assert_eq!(topic.event().await.data, "now");
        drop(topic);
        assert_eq!(client.get("/healthz").await.text(), "ok");
    }

    async fn many_streams_share_a_connection(framework: Framework) {
        let identity = Identity::new();
        let testbed = start(framework, &identity, &[]).await;
        let stream = identity.connect(testbed.address(), HTTP2).await;
        let mut client = Client::over(stream, &settings()).await;
        let mut streams = Vec::new();
        for _ in 0..50 {
            streams.push(client.events("/count?n=20&interval_ms=1", &[]).await);
        }
        for mut stream in streams {
            assert_eq!(stream.rest().await.len(), 20);
        }
    }

    async fn half_a_handshake_is_not_waited_for(framework: Framework) {
        let identity = Identity::new();
        let testbed = start(framework, &identity, &["--handshake-timeout-ms", "500"]).await;
        let start = Instant::now();
        // The head of a record that never comes.
        let mut half = Connection::open(testbed.address()).await;
        half.write(&[0x16, 3, 1, 1, 0]).await;
        // TLS, and no request behind it.
        let mut tls = Connection::from(identity.connect(testbed.address(), HTTP1).await);
        let _ = timeout(SOON, half.ended()).await.expect("ended");
        let _ = timeout(SOON, tls.ended()).await.expect("ended");
        assert!(start.elapsed() >= Duration::from_millis(400));
    }

    async fn no_tls_is_no_harm(framework: Framework) {
        let identity = Identity::new();
        let testbed = start(framework, &identity, &[]).await;
        let mut plain = Connection::open(testbed.address()).await;
        plain.write(b"GET /healthz HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        let _ = timeout(SOON, plain.ended()).await.expect("ended");
        let mut echo = socket(&testbed, &identity, "/echo").await;
        echo.send("still here").await;
        assert_eq!(echo.text().await, "still here");
    }

    async fn the_drain_reaches_those_over_tls(framework: Framework) {
        let identity = Identity::new();
        let mut testbed = start(framework, &identity, &[]).await;
        let mut echo = socket(&testbed, &identity, "/echo").await;
        echo.send("before").await;
        assert_eq!(echo.text().await, "before");
        testbed.terminate();
        assert_eq!(echo.closed().await.code.get(), 1012);
        assert!(testbed.exit(SOON).await.success());
    }

    async fn what_cannot_be_used_is_named(framework: Framework) {
        let identity = Identity::new();
        let other = Identity::new();
        let [certificate, key] = [identity.certificate(), identity.key()];
        let junk = format!("{key}.junk");
        fs::write(&junk, "-----BEGIN CERTIFICATE-----\nno base64!\n-----END CERTIFICATE-----\n")
            .expect("a file");
        let foreign = other.key();
        let missing = format!("{key}.missing");
        let cases = [
            (&missing, &key, &missing),
            (&certificate, &missing, &missing),
            (&key, &key, &key),
            (&certificate, &certificate, &certificate),
            (&junk, &key, &junk),
            (&certificate, &foreign, &foreign),
        ];
        for (certificate, key, named) in cases {
            let output = framework.output(&["--tls", certificate, key]).await;
            assert!(!output.status.success());
            assert!(output.stdout.is_empty());
            let text = String::from_utf8(output.stderr).expect("text");
            let line = text.strip_suffix('\n').expect("a line");
            assert!(!line.contains('\n'), "{text:?}");
            assert!(line.contains("--tls") && line.contains(named.as_str()), "{line}");
        }
    }
}

/// actix-web has no extended CONNECT, and does not say that it has: a browser opens a
/// connection of HTTP/1.1 for its sockets, and whoever asks all the same is refused on
/// that stream alone.
#[tokio::test]
async fn actix_announces_no_extended_connect() {
    let identity = Identity::new();
    let testbed = start(Framework::Actix, &identity, &[]).await;
    let stream = identity.connect(testbed.address(), HTTP2).await;
    let mut client = Client::over(stream, &settings()).await;
    assert!(!client.extended_connect());
    // A GET is no handshake over HTTP/2, whatever its headers say.
    let get = http2::request(Method::GET, "/echo", &http2::HANDSHAKE);
    let refused = client.request(get).await;
    assert_eq!(refused.status, 426);
    assert_eq!(refused.get("sec-websocket-version"), Some("13"));
    assert_eq!(refused.get("upgrade"), None, "HTTP/2 has no such header");

    // By hand, since no client would.
    let mut stream = identity.connect(testbed.address(), HTTP2).await;
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .expect("open");
    stream
        .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .expect("open");
    let block = header_block(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":path", "/echo"),
        (":authority", "localhost"),
        ("sec-websocket-version", "13"),
    ]);
    let len = u8::try_from(block.len()).expect("short");
    let head = [0, 0, len, 1, 4, 0, 0, 0, 1];
    stream
        .write_all(&[&head[..], &block].concat())
        .await
        .expect("open");
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    stream.write_all(&ping).await.expect("open");
    let (mut answers, mut alive) = (Vec::new(), false);
    // In which order they come is actix's affair.
    while answers.is_empty() || !alive {
        let (kind, payload) = frame(&mut stream).await;
        match kind {
            6 => {
                assert_eq!(payload[..], ping[9..]);
                alive = true;
            }
            // SETTINGS and WINDOW_UPDATE are the connection's own.
            4 | 8 => {
                let enable_connect_protocol = payload.chunks(6).any(|one| one[..2] == [0, 8]);
                assert!(kind == 8 || !enable_connect_protocol);
            }
            kind => answers.push((kind, payload)),
        }
    }
    // RST_STREAM with PROTOCOL_ERROR, and no HEADERS: never 2xx.
    assert_eq!(answers, [(3, BytesMut::from(&[0, 0, 0, 1][..]))]);
}

async fn frame(stream: &mut Tls) -> (u8, BytesMut) {
    let read = async {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("a frame");
        let [a, b, c, kind, ..] = head;
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let mut payload = BytesMut::zeroed(len);
        stream.read_exact(&mut payload).await.expect("a frame");
        (kind, payload)
    };
    timeout(SOON, read).await.expect("a frame")
}

/// Literals that are not indexed (RFC 7541 §6.2.2).
fn header_block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// One topic, one port, both versions.
#[tokio::test]
async fn axum_speaks_both_over_one_port() {
    let identity = Identity::new();
    let testbed = start(Framework::Axum, &identity, &[]).await;
    let stream = identity.connect(testbed.address(), HTTP2).await;
    let mut client = Client::over(stream, &settings()).await;
    assert!(client.extended_connect());
    let mut over_http2 = client.socket("/topics/both/ws", &[]).await;
    let mut over_http1 = socket(&testbed, &identity, "/topics/both/ws").await;
    over_http2.send("to both").await;
    assert_eq!(over_http1.text().await, "to both");
    assert_eq!(over_http2.text().await, "to both");
    over_http2.close(1000).await;
    assert_eq!(over_http2.closed().await.code.get(), 1000);
    over_http1.close(1000).await;
    assert_eq!(over_http1.closed().await.code.get(), 1000);
    assert_eq!(over_http1.next().await, Incoming::Fin);
}
