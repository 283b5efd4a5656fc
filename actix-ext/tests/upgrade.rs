//! Upgrades and event streams over real sockets.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::ServerHandle,
    web::{self, ServiceConfig},
};
use towpath::{
    Drain,
    sse::{Event as SseEvent, Source},
    ws::{
        Error, HandlerError, Message, Outbox, WebSocket,
        protocol::{Connection, Event, Limits, Role},
    },
};
use towpath_actix::{LastEventId, Sse, WsLayer, WsUpgrade, on_connect_with, ws};

struct Server(SocketAddr, ServerHandle);

impl Server {
    fn start(layer: WsLayer, routes: fn(&mut ServiceConfig)) -> Self {
        Self::with(layer, routes)
    }

    fn with(layer: WsLayer, routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (told, handle) = mpsc::channel();
        thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || App::new().wrap(layer.clone()).configure(routes.clone());
                let server = HttpServer::new(app)
                    .workers(1)
                    .disable_signals()
                    .client_disconnect_timeout(Duration::ZERO)
                    .on_connect(on_connect_with(Duration::from_secs(1)))
                    .listen(listener)
                    .unwrap()
                    .run();
                told.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self(addr, handle.recv().unwrap())
    }

    fn request(&self, lines: &str) -> (TcpStream, String) {
        let mut peer = TcpStream::connect(self.0).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        peer.write_all(format!("{lines}\r\nhost: a.example\r\n\r\n").as_bytes())
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            peer.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        (peer, String::from_utf8(head).unwrap().to_ascii_lowercase())
    }

    fn socket(&self, path: &str, more: &str) -> (Client, String) {
        let lines = format!(
            "GET {path} HTTP/1.1\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13{more}"
        );
        let (tcp, head) = self.request(&lines);
        let limits = Limits {
            max_frame_size: 1 << 24,
            max_message_size: 1 << 24,
            max_fragments: 9,
        };
        (
            Client {
                tcp,
                connection: Connection::new(Role::Client, limits),
            },
            head,
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The command is in the channel at once; nobody has to wait for its answer.
        drop(self.1.stop(false));
    }
}

/// The client's end of a socket.
struct Client {
    tcp: TcpStream,
    connection: Connection,
}

impl Client {
    fn send(&mut self, message: impl Into<Message>) {
        let mut out = Outbox::default();
        self.connection.send(message.into(), &mut out);
        self.write(&mut out);
    }

    fn write(&mut self, out: &mut Outbox) {
        use bytes::Buf;
        let bytes = out.copy_to_bytes(out.len());
        self.tcp.write_all(&bytes).unwrap();
    }

    /// Reads until `events` of them are there or the connection ends.
    fn receive(&mut self, events: usize) -> Vec<Event> {
        let mut seen = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while seen.len() < events {
            let count = self.tcp.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            let mut bytes = &buffer[..count];
            let mut out = Outbox::default();
            while let Some(event) = self.connection.receive(&mut bytes, &mut out).unwrap() {
                seen.push(event);
            }
            self.write(&mut out);
        }
        seen
    }
}

fn next<T>(told: &Receiver<T>) -> T {
    told.recv_timeout(Duration::from_secs(5))
        .expect("the handler tells it in time")
}

async fn echo(mut socket: WebSocket) -> Result<(), HandlerError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

fn echo_routes(config: &mut ServiceConfig) {
    let echo = |upgrade: WsUpgrade| async move { upgrade.on_upgrade(echo) };
    let name = |upgrade: WsUpgrade| async move {
        upgrade
            .protocols(["chat.v2", "chat.v1"])
            .on_upgrade(|mut socket| async move {
                let name = socket.protocol().unwrap_or("none").to_owned();
                socket.send(name).await?;
                Ok(())
            })
    };
    let small = web::scope("/small")
        .wrap(WsLayer::new().max_message_size(10))
        .route("/echo", ws(echo));
    config
        .route("/echo", ws(echo))
        .route("/protocols", ws(name))
        .service(small);
}

#[test]
fn echoes_messages_of_every_size_in_order() {
    let server = Server::start(WsLayer::new().max_message_size(1 << 24), echo_routes);
    let (mut client, head) = server.socket("/echo", "");
    assert!(
        head.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
        "{head}"
    );
    assert_eq!(head.matches("upgrade: websocket").count(), 1, "{head}");
    assert_eq!(head.matches("connection: upgrade").count(), 1, "{head}");
    let mut messages: Vec<Message> = vec!["".into(), "é".into()];
    messages.extend((0..200).map(|n| Message::binary(vec![n; usize::from(n) * 100])));
    messages.push(Message::binary(vec![3; 4 << 20]));
    for message in &messages {
        client.send(message.clone());
    }
    let expected: Vec<_> = messages.into_iter().map(Event::Message).collect();
    assert_eq!(client.receive(expected.len()), expected);
}

#[test]
fn agrees_on_a_subprotocol() {
    let server = Server::start(WsLayer, echo_routes);
    let (mut client, head) =
        server.socket("/protocols", "\r\nsec-websocket-protocol: chat.v1, chat.v2");
    assert!(
        head.contains("\r\nsec-websocket-protocol: chat.v2\r\n"),
        "{head}"
    );
    assert_eq!(client.receive(1)[0], Event::Message("chat.v2".into()));
}

#[test]
fn the_innermost_layers_settings_count() {
    let server = Server::start(WsLayer::new().max_message_size(1000), echo_routes);
    let (mut client, _) = server.socket("/small/echo", "");
    client.send("eleven char");
    let Some(Event::Close(Some(frame))) = client.receive(1).pop() else {
        panic!("no close")
    };
    assert_eq!(u16::from(frame.code), 1009);
    let (mut client, _) = server.socket("/echo", "");
    client.send("eleven char");
    assert_eq!(client.receive(1), [Event::Message("eleven char".into())]);
}

#[test]
fn refuses_what_is_no_handshake() {
    let server = Server::start(WsLayer, echo_routes);
    let (_, head) = server.request("GET /echo HTTP/1.1");
    assert!(head.starts_with("http/1.1 426 "), "{head}");
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    let (_, head) = server.socket("/echo", "\r\norigin: https://b.example");
    assert!(head.starts_with("http/1.1 403 "), "{head}");
    let (_, head) = server.request("POST /echo HTTP/1.1");
    assert!(head.starts_with("http/1.1 404 "), "{head}");
}

#[test]
fn a_draining_server_refuses_and_says_when_to_come_back() {
    let drain = actix_web::rt::System::new().block_on(async {
        let drain = Drain::new(Duration::from_secs(5));
        drain.start();
        drain
    });
    let server = Server::with(WsLayer::new().drain(drain.clone()), move |config| {
        let drain = drain.clone();
        config.configure(echo_routes).route(
            "/sse",
            web::get().to(move || {
                let sse = Sse::new(Numbers(0)).drain(&drain);
                async { sse }
            }),
        );
    });
    for head in [
        server.socket("/echo", "").1,
        server.request("GET /sse HTTP/1.1").1,
    ] {
        assert!(head.starts_with("http/1.1 503 "), "{head}");
        assert!(head.contains("\r\nretry-after: "), "{head}");
    }
}

#[test]
fn a_handler_need_not_be_send_and_its_panic_closes_with_1011() {
    let server = Server::start(WsLayer, |config| {
        let handler = |upgrade: WsUpgrade| async move {
            upgrade.on_upgrade_infallible(|mut socket| async move {
                let local = Rc::new(1);
                socket.recv().await.unwrap();
                panic!("as wanted: {local}");
            })
        };
        config.route("/", ws(handler));
    });
    let (mut client, _) = server.socket("/", "");
    client.send("go");
    let Some(Event::Close(Some(frame))) = client.receive(1).pop() else {
        panic!("no close")
    };
    assert_eq!(u16::from(frame.code), 1011);
}

#[test]
fn a_peer_that_reads_nothing_is_reset_after_the_write_timeout() {
    let (tell, told) = mpsc::channel();
    let layer = WsLayer::new()
        .write_timeout(Duration::from_millis(700))
        .heartbeat(None);
    let server = Server::with(layer, move |config| {
        let tell = tell.clone();
        let handler = move |upgrade: WsUpgrade| {
            let tell = tell.clone();
            async move {
                upgrade.on_upgrade_infallible(|mut socket| async move {
                    let started = Instant::now();
                    let error = loop {
                        if let Err(error) = socket.send(vec![0; 100_000]).await {
                            break error;
                        }
                    };
                    tell.send((error, started.elapsed())).unwrap();
                })
            }
        };
        config.route("/", ws(handler));
    });
    let (mut client, _) = server.socket("/", "");
    let (error, took) = next(&told);
    assert_eq!(error, Error::WriteTimeout);
    assert!(
        (Duration::from_millis(700)..Duration::from_secs(3)).contains(&took),
        "{took:?}"
    );
    let end = client.tcp.read_to_end(&mut Vec::new());
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_slow_peer_lives_where_the_kernels_timeout_would_end_it() {
    let layer = WsLayer::new()
        .write_timeout(Duration::from_secs(3))
        .heartbeat(None);
    let server = Server::start(layer, |config| {
        let handler = |upgrade: WsUpgrade| async move {
            upgrade.on_upgrade(|mut socket| async move {
                loop {
                    socket.send(vec![0; 100_000]).await?;
                }
            })
        };
        config.route("/", ws(handler));
    });
    // So small that its window opens by less than what waits at the queue's head.
    let tcp = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    tcp.set_recv_buffer_size(4096).unwrap();
    tcp.connect(&server.0.into()).unwrap();
    let mut tcp = TcpStream::from(tcp);
    tcp.write_all(
        b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
          sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
    )
    .unwrap();
    // `on_connect` asked the kernel for 1 s.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(100));
        tcp.read_exact(&mut [0; 1000]).expect("it lives");
    }
}

struct Numbers(u32);

impl Source for Numbers {
    fn poll_event(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<SseEvent>> {
        self.0 += 1;
        let event = SseEvent::new().id(self.0).data("x".repeat(1000));
        std::task::Poll::Ready((self.0 <= 100_000).then_some(event))
    }
}

async fn numbers(last: LastEventId) -> Sse<Numbers> {
    Sse::new(Numbers(
        last.id().and_then(|id| id.parse().ok()).unwrap_or(0),
    ))
}

fn sse_routes(config: &mut ServiceConfig) {
    let events = web::resource("/")
        .route(web::get().to(numbers))
        .route(web::head().to(numbers));
    config.service(events);
}

#[test]
fn an_event_stream_is_sent_whole_and_resumed() {
    let server = Server::start(WsLayer, sse_routes);
    let (mut tcp, head) =
        server.request("GET / HTTP/1.1\r\nconnection: close\r\nlast-event-id: 99990");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(
        head.contains("\r\ncontent-type: text/event-stream\r\n"),
        "{head}"
    );
    let mut body = String::new();
    tcp.read_to_string(&mut body).unwrap();
    let ids: Vec<_> = body
        .lines()
        .filter_map(|line| line.strip_prefix("id:").map(str::trim))
        .collect();
    let expected: Vec<_> = (99_991..=100_000).map(|id| id.to_string()).collect();
    assert_eq!(ids, expected);
    assert!(body.ends_with("0\r\n\r\n"), "the chunked body ends");
}

#[test]
fn a_head_of_an_event_stream_ends_at_once() {
    let server = Server::start(WsLayer, sse_routes);
    let (mut tcp, head) = server.request("HEAD / HTTP/1.1\r\nconnection: close");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(tcp.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn a_reader_that_reads_nothing_is_ended_by_the_timeout_of_the_connection() {
    let (tell, told) = mpsc::channel();
    struct Told(mpsc::Sender<()>, Numbers);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }
    impl Source for Told {
        fn poll_event(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<SseEvent>> {
            std::pin::Pin::new(&mut self.1).poll_event(cx)
        }
    }
    let server = Server::with(WsLayer, move |config| {
        let tell = tell.clone();
        let handler = move || {
            let sse = Sse::new(Told(tell.clone(), Numbers(0)));
            async { sse }
        };
        config.route("/", web::get().to(handler));
    });
    let (_tcp, _) = server.request("GET / HTTP/1.1");
    next(&told);
}

#[test]
fn other_requests_pass_the_layer_untouched() {
    let server = Server::start(WsLayer, |config| {
        config.route(
            "/",
            web::post().to(|body: String| async { HttpResponse::Ok().body(body) }),
        );
    });
    let mut tcp = TcpStream::connect(server.0).unwrap();
    tcp.write_all(
        b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody",
    )
    .unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nbody"),
        "{answer}"
    );
}
