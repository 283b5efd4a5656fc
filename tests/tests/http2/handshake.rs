//! What is answered to an extended CONNECT, and to what is none.

use h2::ext::Protocol;
use http::{Method, Request, Version};
use towpath_tests::{
    http2::{Client, HANDSHAKE, connect, request},
    ws::Incoming,
};

use super::{start, works};

/// A request that is to be refused; its status, `Allow` and `Upgrade`.
async fn refused(client: &mut Client, request: Request<()>) -> (u16, Option<String>) {
    let (head, _stream) = client.send(request, false).await;
    assert!(!(200..300).contains(&head.status), "{head:?}");
    assert_eq!(head.get("upgrade"), None, "HTTP/2 has no such header");
    assert_eq!(head.get("connection"), None, "HTTP/2 has no such header");
    (head.status, head.get("allow").map(str::to_owned))
}

#[tokio::test]
async fn an_extended_connect_is_answered_with_200() {
    let (_testbed, mut client) = start(&[]).await;
    assert!(client.extended_connect());
    let offer = ("sec-websocket-protocol", "chat.v1, chat.v2");
    let mut socket = client.socket("/protocols", &[offer]).await;
    let head = socket.head();
    assert_eq!(head.get("sec-websocket-protocol"), Some("chat.v2"));
    // RFC 8441 §5: neither is part of it.
    assert_eq!(head.get("sec-websocket-accept"), None);
    assert_eq!(head.get("upgrade"), None);
    assert_eq!(socket.text().await, "chat.v2");
    socket.close(1000).await;
    assert_eq!(socket.closed().await.code.get(), 1000);
}

#[tokio::test]
async fn compression_is_agreed_as_over_http1() {
    let (_testbed, mut client) = start(&["--deflate"]).await;
    let offer = ("sec-websocket-extensions", "permessage-deflate");
    let mut request = connect("websocket", "/echo", &HANDSHAKE);
    let (name, value) = offer;
    let value = http::HeaderValue::from_static(value);
    request.headers_mut().insert(name, value);
    let (head, _stream) = client.send(request, false).await;
    assert_eq!(head.status, 200);
    assert_eq!(
        head.get("sec-websocket-extensions"),
        Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
    );
}

#[tokio::test]
async fn a_handshake_that_is_wrong_is_refused_as_over_http1() {
    let (testbed, mut client) = start(&["--allow-origin", "https://a.example"]).await;
    let version = ("sec-websocket-version", "13");
    let cases: [(&[(&str, &str)], u16); 9] = [
        (&[], 426),
        (&[("sec-websocket-version", "8")], 426),
        (&[version, version], 426),
        (&[version, ("origin", "https://b.example")], 403),
        (&[version, ("host", "b.example")], 400),
        (&[version, ("sec-websocket-protocol", "a, a")], 400),
        (
            &[
                version,
                ("content-length", "0"),
                ("sec-websocket-protocol", ","),
            ],
            400,
        ),
        // They say nothing here, and are no fault either.
        (&[version, ("sec-websocket-key", "short")], 200),
        (&[version, ("origin", "https://a.example")], 200),
    ];
    for (headers, status) in cases {
        let (head, _stream) = client
            .send(connect("websocket", "/echo", headers), false)
            .await;
        assert_eq!(head.status, status, "{headers:?}: {head:?}");
        if status != 200 {
            assert_eq!(head.get("sec-websocket-version"), Some("13"));
        }
    }
    assert_eq!(testbed.counts().await.rejected_total, 7);
}

#[tokio::test]
async fn what_is_no_handshake_never_gets_2xx() {
    let (_testbed, mut client) = start(&[]).await;
    // Another protocol (RFC 9220 §3).
    for protocol in ["connect-udp", "webtransport", "websocket2"] {
        let request = connect(protocol, "/echo", &HANDSHAKE);
        assert_eq!(
            refused(&mut client, request).await,
            (501, None),
            "{protocol}"
        );
    }
    // Upgrade tokens are compared without regard to case.
    let (head, _stream) = client
        .send(connect("WebSocket", "/echo", &HANDSHAKE), false)
        .await;
    assert_eq!(head.status, 200);
    // A route that is for no sockets, and one that is not there.
    for path in ["/stats", "/count?n=1&interval_ms=0", "/topics/news"] {
        let request = connect("websocket", path, &HANDSHAKE);
        let (status, allow) = refused(&mut client, request).await;
        assert_eq!(status, 405, "{path}");
        assert!(allow.is_some_and(|allow| allow.contains("GET")), "{path}");
    }
    let request = connect("websocket", "/nowhere", &HANDSHAKE);
    assert_eq!(refused(&mut client, request).await.0, 404);
    // A tunnel (RFC 9113 §8.5), which has no path.
    let request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri("other.example:443")
        .body(())
        .expect("a request");
    assert!(request.extensions().get::<Protocol>().is_none());
    assert!(refused(&mut client, request).await.0 >= 400);
    // The handshake of HTTP/1.1 is none here.
    let get = request_with_handshake(Method::GET);
    let (status, _) = refused(&mut client, get).await;
    assert_eq!(status, 426);
    let post = request_with_handshake(Method::POST);
    assert_eq!(refused(&mut client, post).await.0, 405);
    works(&mut client).await;
}

fn request_with_handshake(method: Method) -> Request<()> {
    request(method, "/echo", &HANDSHAKE)
}

#[tokio::test]
async fn authentication_comes_before_the_upgrade() {
    let (testbed, mut client) = start(&[]).await;
    let request = connect("websocket", "/private/echo", &HANDSHAKE);
    assert_eq!(refused(&mut client, request).await.0, 401);
    assert_eq!(testbed.counts().await.upgrades_total, 0);
    let credential = ("authorization", "Bearer secret");
    let mut socket = client.socket("/private/echo", &[credential]).await;
    socket.send("let in").await;
    assert_eq!(socket.text().await, "let in");
    socket.close(1000).await;
    assert_eq!(socket.closed().await.code.get(), 1000);
    assert_eq!(socket.next().await, Incoming::Fin);
}

#[tokio::test]
async fn an_admission_lasts_as_long_as_the_socket() {
    let (testbed, mut client) = start(&["--max-connections", "2"]).await;
    let first = client.socket("/echo", &[]).await;
    let mut second = client.socket("/echo", &[]).await;
    let request = connect("websocket", "/echo", &HANDSHAKE);
    assert_eq!(refused(&mut client, request).await.0, 503);
    second.stream().reset(h2::Reason::CANCEL);
    testbed.until(|counts| counts.websockets == 1).await;
    super::ends(first, 1000).await;
    testbed.until(|counts| counts.websockets == 0).await;
    for _ in 0..2 {
        works(&mut client).await;
    }
}
