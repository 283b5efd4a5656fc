//! The client over memory: what it sends, what it takes, and what it refuses.

use std::{
    convert::Infallible,
    future::Future,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream},
    time::Instant,
};
use tower::service_fn;

use super::*;
use crate::{
    Stats,
    ws::{CloseCode, Error, Message},
};

pub(super) type Peer = BufReader<DuplexStream>;

/// A client whose peer is `serve`.
pub(super) fn over<F>(serve: impl Fn(Peer) -> F + Clone + Send + 'static) -> Connect
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    connect("ws://server.example/chat").connector(service_fn(move |_: Uri| {
        let (client, server) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve(BufReader::new(server)));
        async { Ok::<_, Infallible>(TokioIo::new(client)) }
    }))
}

/// Reads the request.
pub(super) async fn request(peer: &mut Peer) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if peer.read_line(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// The head of the answer that accepts `head`, and further lines.
pub(super) fn accepted(head: &str, more: &str) -> String {
    let request = Request::builder().method("GET").uri("/");
    let lines = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "));
    let request = lines.fold(request, |request, (name, value)| {
        request.header(name, value)
    });
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let config = crate::ws::WsConfig::new();
    let handshake = crate::ws::handshake::check_parts(&parts, &config).unwrap();
    let mut answer = "HTTP/1.1 101 Switching Protocols\r\n".to_owned();
    for (name, value) in handshake.answer(None).headers() {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer + more + "\r\n"
}

pub(super) async fn answer(peer: &mut Peer, more: &str, behind: &[u8]) -> io::Result<()> {
    let head = request(peer).await?;
    let mut bytes = accepted(&head, more).into_bytes();
    bytes.extend_from_slice(behind);
    peer.write_all(&bytes).await
}

#[tokio::test]
async fn the_request_is_what_the_rfc_asks_for() {
    let seen = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&seen);
    let client = over(move |mut peer| {
        let seen = Arc::clone(&told);
        async move {
            let head = request(&mut peer).await?;
            *seen.lock().unwrap() = head;
            peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await
        }
    });
    let client = client
        .query("after", "a b&c")
        .header(header::AUTHORIZATION, "Bearer x")
        .protocols(["chat.v2", "chat.v1"]);
    assert!(client.await.is_err());
    let head = seen.lock().unwrap().clone();
    let mut lines: Vec<_> = head.trim_end().split("\r\n").collect();
    let key = lines
        .iter()
        .position(|line| line.starts_with("Sec-WebSocket-Key: "));
    let key = lines.remove(key.unwrap());
    assert_eq!(key.len(), "Sec-WebSocket-Key: ".len() + 24);
    assert_eq!(
        lines,
        [
            "GET /chat?after=a+b%26c HTTP/1.1",
            "Host: server.example",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: chat.v2, chat.v1",
            "authorization: Bearer x",
        ]
    );
}

#[tokio::test]
async fn what_comes_in_one_piece_with_the_answer_is_received() {
    let client = over(|mut peer| async move {
        answer(&mut peer, "", b"\x81\x02hi\x81\x03").await?;
        peer.write_all(b"you").await?;
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).await.map(drop)
    });
    let (mut socket, response) = client.open().await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(socket.recv().await.unwrap(), Some(Message::text("hi")));
    assert_eq!(socket.recv().await.unwrap(), Some(Message::text("you")));
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let client = over(|mut peer| async move {
        let head = request(&mut peer).await?;
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
        let all = format!("{hints}{hints}{}", accepted(&head, ""));
        // However it is cut.
        for byte in all.bytes() {
            peer.write_all(&[byte]).await?;
            tokio::task::yield_now().await;
        }
        peer.write_all(b"\x88\x02\x03\xe8").await?;
        peer.read_u8().await.map(drop)
    });
    let mut socket = client.await.unwrap();
    assert_eq!(socket.recv().await.unwrap(), None);
    assert_eq!(socket.close_frame().unwrap().code, CloseCode::NORMAL);
}

#[tokio::test]
async fn a_refusal_is_kept_whole() {
    let client = over(|mut peer| async move {
        request(&mut peer).await?;
        let head = "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\n";
        peer.write_all(head.as_bytes()).await?;
        tokio::task::yield_now().await;
        peer.write_all(b"later, and more").await
    });
    let error = client.await.unwrap_err();
    assert_eq!(error.to_string(), "refused with 503 Service Unavailable");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert_eq!(error.response().unwrap().body(), "later");
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let after = |value: &str| {
        let response = Response::builder().header("retry-after", value);
        let response = response.body(bytes::Bytes::new()).unwrap();
        ConnectError::Refused(Box::new(response)).retry_after()
    };
    assert_eq!(after("120"), Some(Duration::from_secs(120)));
    assert_eq!(after("99999999999999999999999"), Some(Duration::MAX));
    assert_eq!(after("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
    let date = std::time::SystemTime::now() + Duration::from_secs(600);
    let left = after(&httpdate::fmt_http_date(date)).unwrap();
    assert!((590..=600).contains(&left.as_secs()), "{left:?}");
    for wrong in ["", "soon", "-1", "1.5"] {
        assert_eq!(after(wrong), None, "{wrong:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_end_is_waited_for_as_long_as_was_asked() {
    let client = over(|mut peer| async move {
        request(&mut peer).await?;
        peer.write_all(b"HTTP/1.1 101 ").await?;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            peer.write_all(b"x").await?;
        }
    });
    let start = Instant::now();
    let after = Duration::from_secs(5);
    let error = client.connect_timeout(after).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Timeout { stage: Stage::Answer, after: told } if told == after),
        "{error:?}"
    );
    assert_eq!(start.elapsed(), after);
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_never_answers_is_waited_for_as_long_as_was_asked() {
    let never = service_fn(|_: Uri| std::future::pending::<io::Result<TokioIo<DuplexStream>>>());
    let start = Instant::now();
    let error = connect("ws://a.example")
        .connector(never)
        .await
        .unwrap_err();
    let stage = Stage::Connecting;
    assert!(
        matches!(error, ConnectError::Timeout { stage: told, .. } if told == stage),
        "{error:?}"
    );
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}

/// The most bytes that were held at once while `test` ran.
fn most_held(test: impl Future<Output = ()>) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    allocation_counter::measure(|| runtime.block_on(test)).bytes_max
}

#[test]
fn an_endless_head_is_bounded() {
    let held = most_held(async {
        let client = over(|mut peer| async move {
            request(&mut peer).await?;
            peer.write_all(b"HTTP/1.1 101 Switching Protocols\r\nX: ")
                .await?;
            loop {
                peer.write_all(&[b'x'; 4096]).await?;
            }
        });
        let error = client.max_answer_size(8192).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::AnswerTooLarge { limit: 8192 }),
            "{error:?}"
        );
    });
    // Most of it is the pipe.
    assert!(held < 512 * 1024, "{held}");
}

#[test]
fn endless_interim_answers_are_bounded() {
    let held = most_held(async {
        let client = over(|mut peer| async move {
            request(&mut peer).await?;
            loop {
                peer.write_all(b"HTTP/1.1 102 Processing\r\n\r\n").await?;
            }
        });
        let error = client.await.unwrap_err();
        assert!(
            matches!(error, ConnectError::AnswerTooLarge { limit: 16_384 }),
            "{error:?}"
        );
    });
    assert!(held < 512 * 1024, "{held}");
}

#[test]
fn a_frame_that_claims_ten_gibibytes_is_refused_by_its_header() {
    let held = most_held(async {
        let client = over(|mut peer| async move {
            let mut frame = vec![0x82, 127];
            frame.extend_from_slice(&(10_u64 << 30).to_be_bytes());
            answer(&mut peer, "", &frame).await?;
            let mut close = [0; 8];
            peer.read_exact(&mut close).await?;
            assert_eq!(close[0], 0x88);
            let code = [close[6] ^ close[2], close[7] ^ close[3]];
            assert_eq!(u16::from_be_bytes(code), 1009);
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).await.map(drop)
        });
        let mut socket = client.await.unwrap();
        let error = socket.recv().await.unwrap_err();
        let Error::Protocol(error) = error else {
            unreachable!("{error:?}");
        };
        assert_eq!(error.close_code(), CloseCode::MESSAGE_TOO_BIG);
        socket.closed().await;
    });
    assert!(held < 1024 * 1024, "{held}");
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_an_error_before_anything_is_connected() {
    let uri = |uri: &str| connect(uri).check().unwrap_err().to_string();
    for (wrong, why) in [
        ("", "empty string"),
        ("ws://", "empty string"),
        ("/chat", "it has no scheme"),
        ("chat.example:80", "it has no scheme"),
        ("ws://a b/", "invalid uri character"),
        (
            "ws://me:secret@a.example/",
            "credentials belong in a header",
        ),
        ("ws://a.example:0/", "its port is none"),
        ("ws://a.example:99999/", ""),
        ("ws://:80/", ""),
    ] {
        let told = uri(wrong);
        assert!(told.contains("no address to connect to"), "{told}");
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(
        uri("ftp://a/"),
        "the scheme must be ws or wss, and is \"ftp\""
    );

    let invalid = |client: Connect| client.check().unwrap_err();
    let client = || connect("ws://a.example");
    assert!(client().check().is_ok());
    assert_eq!(
        invalid(client().header("sec-websocket-key", "x")),
        InvalidRequest::ReservedHeader(header::SEC_WEBSOCKET_KEY)
    );
    for header in [("a b", "c"), ("a", "b\r\nc: d")] {
        let error = invalid(client().header(header.0, header.1));
        assert!(matches!(error, InvalidRequest::Header(_)), "{error:?}");
    }
    for names in [vec!["a", "a"], vec![""], vec!["a, b"]] {
        let error = invalid(client().protocols(names));
        assert!(matches!(error, InvalidRequest::Subprotocol(_)), "{error:?}");
    }
    assert_eq!(
        invalid(client().connect_timeout(Duration::ZERO)),
        InvalidRequest::Zero("connect_timeout")
    );
    assert_eq!(
        invalid(client().max_answer_size(0)),
        InvalidRequest::Zero("max_answer_size")
    );
    // The first of them is told, also when it is awaited.
    let both = client().max_answer_size(0).header("upgrade", "x");
    let error = both.await.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Invalid(InvalidRequest::Zero("max_answer_size"))
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_host_is_told_without_the_port_that_goes_without_saying() {
    for (uri, told, line) in [
        ("ws://a.example", "a.example", "GET / HTTP/1.1"),
        ("ws://a.example:80?x=1", "a.example", "GET /?x=1 HTTP/1.1"),
        (
            "ws://a.example:443/#part",
            "a.example:443",
            "GET / HTTP/1.1",
        ),
        ("wss://a.example:443/", "a.example", "GET / HTTP/1.1"),
        ("https://a.example:80/", "a.example:80", "GET / HTTP/1.1"),
        ("ws://[::1]:9/", "[::1]:9", "GET / HTTP/1.1"),
    ] {
        let (give, taken) = tokio::sync::mpsc::unbounded_channel();
        let connector = service_fn(move |_: Uri| {
            let (client, server) = tokio::io::duplex(1024);
            let give = give.clone();
            tokio::spawn(async move { give.send(request(&mut BufReader::new(server)).await) });
            async { Ok::<_, Infallible>(TokioIo::new(client)) }
        });
        let client = connect(uri).connector(connector).tls_by_connector();
        assert!(client.await.is_err());
        let mut taken = taken;
        let head = taken.recv().await.unwrap().unwrap();
        assert!(head.starts_with(line), "{head}");
        assert!(head.contains(&format!("\r\nHost: {told}\r\n")), "{head}");
    }
}

#[cfg(feature = "testing")]
mod with_our_server {
    use tower_layer::Layer;

    use super::*;
    use crate::{
        testing::{Fault, TestServer},
        ws::{WsConfig, WsLayer, WsUpgrade},
    };

    async fn echo<B>(request: Request<B>) -> Result<Response<String>, Infallible> {
        let (mut parts, _) = request.into_parts();
        Ok(match WsUpgrade::from_parts(&mut parts) {
            Err(rejection) => Response::from(&rejection),
            Ok(upgrade) => upgrade
                .protocols(["chat"])
                .on_upgrade(|mut socket| async move {
                    while let Some(message) = socket.recv().await? {
                        socket.send(message).await?;
                    }
                    Ok(())
                }),
        })
    }

    fn client(layer: &WsLayer, fault: Fault) -> Connect {
        let server = TestServer::new(layer.layer(service_fn(echo)));
        connect("ws://localhost/echo").connector(service_fn(move |_: Uri| {
            let io = server.connect(&fault);
            async move { Ok::<_, Infallible>(TokioIo::new(io)) }
        }))
    }

    #[tokio::test]
    async fn both_ends_are_ours() {
        let stats = Stats::new();
        let client = client(&WsLayer::new(), Fault::new())
            .protocols(["chat"])
            .configure(|config| config.stats(stats.clone()));
        let mut socket = client.await.unwrap();
        assert_eq!(socket.protocol(), Some("chat"));
        for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
            let message = Message::binary(vec![7; size]);
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.recv().await.unwrap(), Some(message));
        }
        assert_eq!(stats.snapshot().websockets, 1);
        socket.close(CloseCode::NORMAL, "bye").await.unwrap();
        assert_eq!(socket.recv().await.unwrap(), None);
        socket.closed().await;
        while stats.snapshot().websockets > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_handler_is_polled_by_the_driver() {
        let mut echoed = Vec::new();
        client(&WsLayer::new(), Fault::new())
            .run(async |mut socket| {
                for n in 0..100 {
                    socket.send(n.to_string()).await?;
                }
                for _ in 0..100 {
                    echoed.extend(socket.recv().await?);
                }
                Ok(())
            })
            .await
            .unwrap();
        let expected = (0..100).map(|n| Message::text(n.to_string()));
        assert_eq!(echoed, expected.collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_dropped_socket_closes_with_1000() {
        let (give, taken) = tokio::sync::oneshot::channel();
        let give = Arc::new(Mutex::new(Some(give)));
        let serve = move |request: Request<hyper::body::Incoming>| {
            let give = give.lock().unwrap().take();
            async move {
                let (mut parts, _) = request.into_parts();
                let upgrade = WsUpgrade::from_parts(&mut parts).unwrap();
                Ok::<_, Infallible>(upgrade.on_upgrade::<_, _, String>(|mut socket| async move {
                    while socket.recv().await?.is_some() {}
                    drop(give.unwrap().send(socket.close_frame()));
                    Ok(())
                }))
            }
        };
        let server = TestServer::new(WsLayer::new().layer(service_fn(serve)));
        let connector = service_fn(move |_: Uri| {
            let io = server.connect(&Fault::new());
            async move { Ok::<_, Infallible>(TokioIo::new(io)) }
        });
        drop(
            connect("ws://localhost")
                .connector(connector)
                .await
                .unwrap(),
        );
        assert_eq!(taken.await.unwrap().unwrap().code, CloseCode::NORMAL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_has_vanished_is_found_by_heartbeats() {
        let fault = Fault::new();
        let client = client(&WsLayer::new().heartbeat(None), fault.clone());
        let mut socket = client.await.unwrap();
        fault.half_open();
        let start = Instant::now();
        assert_eq!(socket.recv().await, Err(Error::PeerGone));
        assert_eq!(start.elapsed(), Duration::from_secs(60));
    }

    #[cfg(feature = "deflate")]
    #[tokio::test]
    async fn every_combination_of_compression_is_agreed_on() {
        use crate::ws::Deflate;

        let forms = [false, true].into_iter().flat_map(|keep| {
            [8, 9, 12, 15].map(|bits| {
                let deflate = Deflate::new().threshold(0);
                deflate.context_takeover(keep).window_bits(bits)
            })
        });
        let forms: Vec<_> = forms.map(Some).chain([None]).collect();
        for &served in &forms {
            for &asked in &forms {
                let layer = WsLayer::from(WsConfig::new().deflate(served));
                let client = client(&layer, Fault::new()).configure(|config| config.deflate(asked));
                let (mut socket, response) = client.open().await.unwrap();
                let agreed = response.headers().contains_key("sec-websocket-extensions");
                assert_eq!(agreed, served.is_some() && asked.is_some());
                for size in [0, 10, 5_000] {
                    let text = "and all who read this, Grüße. ".repeat(size / 30 + 1);
                    for message in [Message::text(text.clone()), Message::binary(vec![1; size])] {
                        socket.send(message.clone()).await.unwrap();
                        assert_eq!(socket.recv().await.unwrap(), Some(message));
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_is_left_to_the_server() {
    let (give, taken) = tokio::sync::oneshot::channel();
    let give = Arc::new(Mutex::new(Some(give)));
    let client = over(move |mut peer| {
        let give = give.lock().unwrap().take();
        async move {
            answer(&mut peer, "", b"\x88\x02\x03\xe8").await?;
            let mut close = [0; 8];
            peer.read_exact(&mut close).await?;
            let start = Instant::now();
            // It keeps the connection, and the client ends it in the end.
            assert_eq!(peer.read(&mut close).await?, 0);
            let _ = give.unwrap().send(start.elapsed());
            Ok(())
        }
    });
    let start = Instant::now();
    let mut socket = client.await.unwrap();
    assert_eq!(socket.recv().await, Ok(None));
    socket.closed().await;
    // For whoever has the socket it is closed at once.
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(taken.await.unwrap(), Duration::from_secs(5));
}

#[tokio::test]
async fn what_stands_in_front_of_a_breach_is_answered_first() {
    let (give, taken) = tokio::sync::oneshot::channel();
    let give = Arc::new(Mutex::new(Some(give)));
    let client = over(move |mut peer| {
        let give = give.lock().unwrap().take();
        async move {
            // Opcode 3 is of no frame.
            answer(&mut peer, "", b"\x81\x02hi\x83\x00").await?;
            let mut said = Vec::new();
            peer.read_to_end(&mut said).await?;
            let _ = give.unwrap().send(said);
            Ok(())
        }
    });
    let mut socket = client.await.unwrap();
    let message = socket.recv().await.unwrap().unwrap();
    socket.send(message).await.unwrap();
    assert!(matches!(socket.recv().await, Err(Error::Protocol(_))));
    let said = taken.await.unwrap();
    assert_eq!((said[0], said[8]), (0x81, 0x88), "{said:?}");
}
