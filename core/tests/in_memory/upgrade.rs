use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Instant, timeout},
};
use towpath::{
    testing::{Fault, RequestError, TestSocket},
    ws::{CloseCode, CloseFrame, Error, Message, WsLayer, protocol::Event},
};

use super::service::{SECOND, Site};

const UPGRADE: &str = "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A masked frame with a short payload, under a key of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).expect("short");
    [&[first, 0x80 | len, 0, 0, 0, 0][..], payload].concat()
}

async fn read_head(io: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(head).expect("text")
}

#[tokio::test(start_paused = true)]
async fn messages_come_back_as_they_went() {
    let site = Site::new();
    for request in site.both("/echo") {
        let mut socket = request.socket().await.expect("upgraded");
        for message in [
            Message::text("grüße"),
            Message::binary(vec![0, 255]),
            Message::text(""),
            Message::binary(vec![7; 1 << 20]),
            Message::text("x".repeat(70_000)),
        ] {
            socket.send(message.clone()).await.expect("sent");
            assert_eq!(socket.message().await, Ok(message));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_the_same_on_several_threads() {
    let mut site = Site::new();
    for request in site.both("/echo") {
        let mut socket = request.socket().await.expect("upgraded");
        for n in 0..100 {
            socket.send(n.to_string()).await.expect("sent");
            assert_eq!(socket.message().await, Ok(n.to_string().into()));
        }
        socket.close(CloseCode::NORMAL, "").await.expect("sent");
        assert!(socket.closed().await.expect("in order").is_some());
        assert_eq!(site.handler_end().await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn the_answer_is_that_of_the_version() {
    let site = Site::new();
    let [http1, http2] = site.both("/echo");
    let http1 = http1.protocols(["chat.v1", "chat.v2"]).socket().await;
    let http1 = http1.expect("upgraded");
    assert_eq!(http1.response().status(), StatusCode::SWITCHING_PROTOCOLS);
    let accept = &http1.response().headers()["sec-websocket-accept"];
    assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(http1.protocol(), Some("chat.v2"));
    let http2 = http2.protocols(["chat.v1"]).socket().await;
    let http2 = http2.expect("upgraded");
    assert_eq!(http2.response().status(), StatusCode::OK);
    assert!(
        !http2
            .response()
            .headers()
            .contains_key("sec-websocket-accept")
    );
    assert_eq!(http2.protocol(), Some("chat.v1"));
}

#[tokio::test(start_paused = true)]
async fn the_clients_close_is_answered_with_its_code() {
    let mut site = Site::new();
    for request in site.both("/echo") {
        for code in [1000, 1001, 3000, 4999].map(|code| CloseCode::new(code).expect("valid")) {
            let mut socket = site.server.get("/echo").socket().await.expect("upgraded");
            socket.send("before").await.expect("sent");
            socket.close(code, "enough").await.expect("sent");
            assert_eq!(socket.message().await, Ok("before".into()));
            let closed = socket.closed().await.expect("in order");
            assert_eq!(closed.map(|frame| frame.code), Some(code));
            assert_eq!(site.handler_end().await, Ok(()));
        }
        let mut socket = request.socket().await.expect("upgraded");
        socket.send_raw(&frame(0x88, b"")).await.expect("sent");
        assert_eq!(socket.closed().await, Ok(None), "no code, as it was asked");
        assert_eq!(site.handler_end().await, Ok(()));
    }
    site.nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn the_servers_close_arrives_and_then_the_end() {
    let mut site = Site::new();
    for request in site.both("/bye") {
        let began = Instant::now();
        let mut socket = request.socket().await.expect("upgraded");
        let frame = CloseFrame::new(CloseCode::new(4001).expect("valid"), "bye");
        assert_eq!(socket.recv().await, Ok(Some(Event::Close(Some(frame)))));
        assert_eq!(socket.recv().await, Ok(None));
        assert_eq!(site.handler_end().await, Ok(()));
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody waited");
    }
    site.nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn breaches_are_closed_with_their_code() {
    let site = Site::new();
    for (frame, code) in [
        (vec![0x81, 0x01, b'a'], CloseCode::PROTOCOL_ERROR),
        (frame(0xC1, b"a"), CloseCode::PROTOCOL_ERROR),
        (frame(0x81, b"\xFF"), CloseCode::INVALID_PAYLOAD),
        // 1 MiB and one byte, of which none was sent.
        (
            vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0],
            CloseCode::MESSAGE_TOO_BIG,
        ),
    ] {
        for request in site.both("/echo") {
            let mut socket = request.socket().await.expect("upgraded");
            socket.send("before").await.expect("sent");
            socket.send_raw(&frame).await.expect("sent");
            assert_eq!(socket.message().await, Ok("before".into()));
            let closed = socket.closed().await.expect("in order").expect("a code");
            assert_eq!(closed.code, code, "{frame:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_without_close_is_a_peer_that_is_gone() {
    let mut site = Site::new();
    for request in site.both("/echo") {
        let mut socket = request.socket().await.expect("upgraded");
        socket.send("last").await.expect("sent");
        socket.shutdown().await.expect("sent");
        assert_eq!(socket.message().await, Ok("last".into()));
        assert_eq!(socket.message().await, Err(Error::PeerGone));
        assert_eq!(site.handler_end().await, Err(Error::PeerGone));
    }
    for request in site.both("/echo") {
        let socket = request.socket().await.expect("upgraded");
        drop(socket);
        assert_eq!(site.handler_end().await, Err(Error::PeerGone));
    }
    site.nothing_is_left().await;
}

/// HTTP/2's frames by hand (RFC 9113 §4.1).
mod http2 {
    use super::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;

    pub(super) async fn write(io: &mut DuplexStream, kind: u8, flags: u8, payload: &[u8]) {
        // Pings and settings are the connection's, all else stream 1's.
        let stream = u8::from(!matches!(kind, PING | SETTINGS));
        let len = u8::try_from(payload.len()).expect("short");
        let head = [0, 0, len, kind, flags, 0, 0, 0, stream];
        io.write_all(&[&head[..], payload].concat())
            .await
            .expect("written");
    }

    /// Reads to the next frame of this kind.
    pub(super) async fn read(io: &mut DuplexStream, wanted: u8) -> Vec<u8> {
        loop {
            let mut head = [0; 9];
            io.read_exact(&mut head).await.expect("a frame");
            let [a, b, c, kind, ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            io.read_exact(&mut payload).await.expect("a frame");
            let ends = kind == DATA && head[4] & 1 != 0;
            assert!(!ends, "END_STREAM");
            if kind == wanted {
                return payload;
            }
        }
    }

    pub(super) async fn extended_connect(io: &mut DuplexStream, path: &str) {
        io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .expect("written");
        write(io, SETTINGS, 0, &[]).await;
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("sec-websocket-version", "13"),
        ] {
            // A literal, not indexed (RFC 7541 §6.2.2).
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("short"));
                block.extend_from_slice(text.as_bytes());
            }
        }
        write(io, HEADERS, 4, &block).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_stream_is_a_peer_that_is_gone_and_the_connection_lives() {
    const CANCEL: u8 = 8;
    const INTERNAL_ERROR: u8 = 2;
    let mut site = Site::new();
    for code in [CANCEL, INTERNAL_ERROR] {
        let mut io = site.server.connect(&Fault::new());
        http2::extended_connect(&mut io, "/echo").await;
        // The first byte of the block is `:status 200` (RFC 7541, appendix A).
        assert_eq!(http2::read(&mut io, http2::HEADERS).await[0], 0x88);
        http2::write(&mut io, http2::RST_STREAM, 0, &[0, 0, 0, code]).await;
        assert_eq!(site.handler_end().await, Err(Error::PeerGone));
        http2::write(&mut io, http2::PING, 0, b"12345678").await;
        assert_eq!(http2::read(&mut io, http2::PING).await, b"12345678");
    }
    site.nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_peers_stream_is_reset_and_the_connection_lives() {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let mut site = Site::with(WsLayer.heartbeat(SECOND));
    let mut io = site.server.connect(&Fault::new());
    http2::extended_connect(&mut io, "/echo").await;
    assert_eq!(http2::read(&mut io, http2::HEADERS).await[0], 0x88);
    assert_eq!(http2::read(&mut io, http2::DATA).await, [0x89, 0]);
    // Not END_STREAM, which would be an end in order.
    assert_eq!(http2::read(&mut io, http2::RST_STREAM).await, CANCEL);
    assert_eq!(site.handler_end().await, Err(Error::PeerGone));
    http2::write(&mut io, http2::PING, 0, b"12345678").await;
    assert_eq!(http2::read(&mut io, http2::PING).await, b"12345678");
    site.nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn frames_behind_the_handshake_in_the_same_write_are_answered() {
    let mut site = Site::new();
    let mut io = site.server.connect(&Fault::new());
    let mut bytes = format!("GET /echo HTTP/1.1\r\n{UPGRADE}\r\n").into_bytes();
    bytes.extend(frame(0x81, b"one"));
    bytes.extend(frame(0x89, b"ping"));
    bytes.extend(frame(0x82, b"two"));
    // The third is cut in its header.
    let third = frame(0x81, b"three");
    bytes.extend_from_slice(&third[..3]);
    io.write_all(&bytes).await.expect("written");
    let head = read_head(&mut io).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");

    let mut socket = TestSocket::over(io, Response::new(()), Fault::new());
    let soon = timeout(SECOND, async {
        assert_eq!(socket.message().await, Ok("one".into()));
        assert_eq!(socket.message().await, Ok(Message::binary(b"two".to_vec())));
        socket.send_raw(&third[3..]).await.expect("sent");
        assert_eq!(socket.message().await, Ok("three".into()));
        socket.close(CloseCode::NORMAL, "").await.expect("sent");
        socket.closed().await.expect("in order").expect("a code")
    });
    assert_eq!(soon.await.expect("not hung").code, CloseCode::NORMAL);
    assert_eq!(site.handler_end().await, Ok(()));
}

fn refusal(result: Result<TestSocket, RequestError>) -> (u16, HeaderMap, String) {
    let error = result.expect_err("refused");
    let (parts, body) = error.response().expect("an answer").clone().into_parts();
    let body = String::from_utf8(body.to_vec()).expect("text");
    (parts.status.as_u16(), parts.headers, body)
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_what_was_wrong() {
    let site = Site::new();
    for request in site.both("/echo") {
        let result = request.header("sec-websocket-version", "8").socket().await;
        let (status, headers, body) = refusal(result);
        assert_eq!(
            (status, body.as_str()),
            (426, "Sec-WebSocket-Version must be 13, it is \"8\"")
        );
        assert_eq!(headers["sec-websocket-version"], "13");
    }
    for request in site.both("/echo") {
        let result = request
            .header("origin", "http://evil.example")
            .socket()
            .await;
        let (status, _, body) = refusal(result);
        assert_eq!(status, 403);
        assert!(
            body.contains("http://evil.example") && body.contains("localhost"),
            "{body}"
        );
    }
    let short = site
        .server
        .get("/echo")
        .header("sec-websocket-key", "c2hvcnQ=");
    let (status, _, body) = refusal(short.socket().await);
    assert_eq!(
        (status, body.contains("Sec-WebSocket-Key")),
        (400, true),
        "{body}"
    );
    let post = site.server.request(Method::POST, "/echo").socket().await;
    let (status, headers, _) = refusal(post);
    assert_eq!((status, headers["allow"].as_bytes()), (405, &b"GET"[..]));

    site.drain.start();
    for request in site.both("/echo") {
        let (status, headers, body) = refusal(request.socket().await);
        assert_eq!((status, body.contains("draining")), (503, true), "{body}");
        assert!(
            headers["retry-after"]
                .to_str()
                .expect("text")
                .parse::<u64>()
                .is_ok()
        );
    }
    // All but the 405, which says nothing of load or misuse.
    assert_eq!(site.stats.snapshot().rejected_total, 7);
    site.nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn ordinary_requests_pass_untouched() {
    let site = Site::new();
    for version in 0..2 {
        let request = || {
            let request = site.server.request(Method::PUT, "/plain");
            let request = if version == 0 {
                request
            } else {
                request.http2()
            };
            request
                .header("x-tag", "7")
                .header("sec-websocket-key", "odd")
                .body("content")
        };
        let response = request().send().await.expect("answered");
        let text = String::from_utf8(response.body().to_vec()).expect("text");
        assert_eq!(response.status(), StatusCode::OK);
        for part in ["PUT /plain", "\"x-tag\": \"7\"", "\"odd\"", "b\"content\""] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    let response = site.server.get("/echo").send().await.expect("answered");
    assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(response.headers()["upgrade"], "websocket");
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_is_dropped_costs_nothing() {
    let mut site = Site::new();
    let mut io = site.server.connect(&Fault::new());
    let declined = format!("GET /declined HTTP/1.1\r\n{UPGRADE}\r\n");
    for _ in 0..2 {
        io.write_all(declined.as_bytes()).await.expect("written");
        let head = read_head(&mut io).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
        let mut body = [0; 9];
        io.read_exact(&mut body).await.expect("a body");
        assert_eq!(&body, b"not today");
    }
    let echo = format!("GET /echo HTTP/1.1\r\n{UPGRADE}\r\n");
    io.write_all(echo.as_bytes()).await.expect("written");
    assert!(read_head(&mut io).await.starts_with("HTTP/1.1 101 "));
    assert_eq!(site.stats.snapshot().websockets, 1, "the echo alone");
    drop(io);
    assert_eq!(site.handler_end().await, Err(Error::PeerGone));

    let response = site.server.get("/declined").http2().socket().await;
    let response = response.expect_err("declined");
    let body = response.response().map(Response::body);
    assert_eq!(body, Some(&Bytes::from_static(b"not today")));
    assert_eq!(site.drain.live(), 0);
}
