//! The span that lives as long as the connection.

use std::time::Duration;

use towpath_tests::{http, http2, on_both, process::Framework, sse::EventStream, ws::WebSocket};

use super::{Server, capture::Capture};

const HOUR: Duration = Duration::from_secs(3600);

on_both! {
    async fn a_sockets_span_has_what_its_handler_says_and_ends_last(framework: Framework) {
        let capture = Capture::global();
        let server = Server::start(framework).await;
        let user = format!("ann of {}", framework.name());
        server.house.admit(&user, HOUR);
        let path = format!("/echo?user={}", user.replace(' ', "%20"));
        let mut socket = WebSocket::open(server.address, &path).await;
        let peer = socket.stream().local_addr().expect("connected").to_string();
        for text in ["hello", "again"] {
            socket.send(text).await;
            assert_eq!(socket.text().await, text);
        }
        socket.close(1000).await;
        assert_eq!(socket.closed().await.code.get(), 1000);

        let seen = capture.ended(&user).await;
        assert_eq!(seen.name, "websocket");
        assert_eq!(seen.parent, Some("request"));
        let field = |name: &str| seen.fields.get(name).map(String::as_str);
        assert_eq!(field("peer"), Some(&*peer));
        assert_eq!(field("route"), Some("/echo"));
        assert_eq!(field("protocol"), Some("HTTP/1.1"));
        let expected = ["WebSocket open", "said", "said", "WebSocket closed"];
        assert_eq!(seen.messages(), expected);
        seen.is_quiet_but_for_the_handler();
        let end = seen.end();
        for (name, value) in [
            ("cause", "peer closed"),
            ("code", "1000"),
            ("messages_in", "2"),
            ("messages_out", "2"),
            // Two masked frames of five letters and a close frame; two frames and one.
            ("bytes_in", "30"),
            ("bytes_out", "18"),
        ] {
            assert_eq!(end[name], value, "{name}: {end:?}");
        }
        assert!(end.contains_key("duration"));
    }

    async fn a_socket_tells_why_it_ended(framework: Framework) {
        let capture = Capture::global();
        let server = Server::start(framework).await;
        for cause in ["peer gone", "protocol error", "credential expired"] {
            let user = format!("{cause} of {}", framework.name());
            let expiry = server.house.admit(&user, HOUR);
            let path = format!("/echo?user={}", user.replace(' ', "%20"));
            let mut socket = WebSocket::open(server.address, &path).await;
            let code = match cause {
                "peer gone" => {
                    drop(socket);
                    "1006"
                }
                "protocol error" => {
                    // A reserved bit.
                    socket.write(&towpath_tests::ws::frame(0xf1, b"")).await;
                    assert_eq!(socket.closed().await.code.get(), 1002);
                    "1002"
                }
                _ => {
                    expiry.expire();
                    assert_eq!(socket.closed().await.code.get(), 3000);
                    "3000"
                }
            };
            let seen = capture.ended(&user).await;
            let end = seen.end();
            assert_eq!(end["cause"], cause, "{seen:?}");
            assert_eq!(end["code"], code, "{seen:?}");
            let closed = |message: &&&str| **message == "WebSocket closed";
            assert_eq!(seen.messages().iter().filter(closed).count(), 1);
        }
    }

    async fn a_streams_span_opens_and_closes(framework: Framework) {
        let capture = Capture::global();
        let server = Server::start(framework).await;
        for (path, cause) in [("feed", "reader left"), ("trap", "panicked"), ("feed", "credential expired")] {
            let user = format!("{cause} of {path} of {}", framework.name());
            let expiry = server.house.admit(&user, HOUR);
            let path = format!("/{path}?user={}", user.replace(' ', "%20"));
            let mut stream = EventStream::open(server.address, &path).await;
            assert_eq!(stream.event().await.data, "first");
            if cause == "credential expired" {
                expiry.expire();
            }
            if cause != "reader left" {
                assert!(stream.next().await.is_none());
            }
            drop(stream);
            let seen = capture.ended(&user).await;
            assert_eq!((seen.name, seen.parent), ("event stream", Some("request")));
            assert_eq!(seen.messages(), ["event stream open", "event stream closed"]);
            seen.is_quiet_but_for_the_handler();
            let end = seen.end();
            assert_eq!((&*end["cause"], &*end["events"]), (cause, "1"), "{end:?}");
            assert_ne!(end["bytes"], "0");
        }
        let health = http::get(server.address, "/feed").await;
        assert_eq!(health.status, 401);
    }

    async fn what_was_agreed_on_is_in_the_span(framework: Framework) {
        let server = Server::start(framework).await;
        let user = format!("hedwig of {}", framework.name());
        server.house.admit(&user, HOUR);
        let path = format!("/chat?user={}", user.replace(' ', "%20"));
        let mut socket = WebSocket::open_with(server.address, &path, &OFFERS).await;
        socket.close(1000).await;
        assert_eq!(socket.closed().await.code.get(), 1000);
        tells_what_was_agreed_on(&user, "HTTP/1.1").await;
    }
}

/// The handshake of `/chat`, which takes the second protocol, and compresses.
const OFFERS: [(&str, &str); 2] = [
    ("sec-websocket-protocol", "chat.v3, chat.v2"),
    (
        "sec-websocket-extensions",
        "permessage-deflate; server_max_window_bits=10",
    ),
];

async fn tells_what_was_agreed_on(user: &str, protocol: &str) {
    let seen = Capture::global().ended(user).await;
    assert_eq!((seen.name, seen.parent), ("websocket", Some("request")));
    for (name, value) in [
        ("route", "/chat"),
        ("protocol", protocol),
        ("subprotocol", "chat.v2"),
        (
            "extensions",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
             server_max_window_bits=10",
        ),
        ("user", user),
    ] {
        let said = seen.fields.get(name).map(String::as_str);
        assert_eq!(said, Some(value), "{name}: {seen:?}");
    }
    assert!(seen.fields.contains_key("peer"), "{seen:?}");
    assert_eq!(seen.messages(), ["WebSocket open", "WebSocket closed"]);
    let end = seen.end();
    assert_eq!((&*end["cause"], &*end["code"]), ("peer closed", "1000"));
}

/// RFC 8441; actix-web does not speak it.
#[tokio::test]
async fn over_http2_too() {
    let server = Server::start(Framework::Axum).await;
    let mut client = http2::Client::open(server.address).await;
    let users = ["isolde over h2", "jan over h2"];
    let mut sockets = Vec::new();
    for user in users {
        server.house.admit(user, HOUR);
        let path = format!("/chat?user={}", user.replace(' ', "%20"));
        sockets.push(client.socket(&path, &OFFERS).await);
    }
    // Two on one connection, each with a span of its own.
    for (user, mut socket) in users.into_iter().zip(sockets) {
        socket.close(1000).await;
        assert_eq!(socket.close_frame().await.code.get(), 1000);
        tells_what_was_agreed_on(user, "HTTP/2").await;
    }
}
