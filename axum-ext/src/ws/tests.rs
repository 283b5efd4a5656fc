use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, State},
    response::IntoResponse,
};
use http::{Request, Response, StatusCode, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower_service::Service;

use super::*;
use crate::{Stats, WsLayer, ws};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn handshake(uri: &str) -> http::request::Builder {
    Request::get(uri)
        .header(header::HOST, "a.example")
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_KEY, KEY)
        .header(header::SEC_WEBSOCKET_VERSION, "13")
}

async fn ask(mut app: Router, request: http::request::Builder) -> Response<Body> {
    app.call(request.body(Body::empty()).unwrap())
        .await
        .unwrap()
}

/// Both ends of a connection that was upgraded at `path`, and the answer's head.
async fn upgraded(app: Router, path: &str) -> (String, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: chat.v1, chat.v2\r\n\r\n"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(client.read_u8().await.unwrap()));
    }
    (head, client)
}

/// The opcode and the payload of the next frame, which is short.
async fn frame(client: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    client.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; usize::from(head[1])];
    client.read_exact(&mut payload).await.unwrap();
    (head[0] & 0x0f, payload)
}

/// A text of a client, masked with zeros.
async fn say(client: &mut TcpStream, text: &str) {
    let length = u8::try_from(text.len()).unwrap();
    let head = [0x81, 0x80 | length, 0, 0, 0, 0];
    client.write_all(&head).await.unwrap();
    client.write_all(text.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn path_state_and_extensions_are_there_after_the_upgrade() {
    async fn chat(
        upgrade: WsUpgrade,
        Path(room): Path<String>,
        State(server): State<&'static str>,
        Extension(user): Extension<u32>,
    ) -> impl IntoResponse {
        upgrade
            .protocols(["chat.v2", "chat.v1"])
            .on_upgrade(move |mut socket| async move {
                let protocol = socket.protocol().unwrap_or("none").to_owned();
                while let Some(message) = socket.recv().await? {
                    let said = message.as_text().unwrap_or_default();
                    let answer = format!("{server}/{room} {user} {protocol}: {said}");
                    socket.send(answer).await?;
                }
                Ok(())
            })
    }
    let app = Router::new()
        .route("/rooms/{room}", ws(chat))
        .layer(WsLayer)
        .layer(Extension(7_u32))
        .with_state("east");
    let (head, mut client) = upgraded(app, "/rooms/red").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert!(head.contains("sec-websocket-protocol: chat.v2\r\n"));
    say(&mut client, "hello").await;
    assert_eq!(
        frame(&mut client).await,
        (1, b"east/red 7 chat.v2: hello".to_vec())
    );
}

#[tokio::test]
async fn without_a_layer_it_works_and_the_end_of_the_handler_is_1000() {
    let bye = |upgrade: WsUpgrade| async {
        upgrade.on_upgrade_infallible(|mut socket| async move {
            socket.send("bye").await.expect("an open socket");
        })
    };
    let (_, mut client) = upgraded(Router::new().route("/", ws(bye)), "/").await;
    assert_eq!(frame(&mut client).await, (1, b"bye".to_vec()));
    assert_eq!(frame(&mut client).await, (8, 1000_u16.to_be_bytes().into()));
}

fn refusing(stats: &Stats) -> Router {
    Router::new()
        .route("/", ws(|_: WsUpgrade| async { "not reached" }))
        .layer(WsLayer.stats(stats.clone()))
}

#[tokio::test]
async fn what_is_no_handshake_is_told_why() {
    let stats = Stats::new();
    let plain = ask(refusing(&stats), Request::get("/")).await;
    assert_eq!(plain.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(plain.headers()[header::UPGRADE], "websocket");
    let before = stats.snapshot().rejected_total;

    let elsewhere = handshake("/").header(header::ORIGIN, "https://b.example");
    let refused = ask(refusing(&stats), elsewhere).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let body = axum::body::to_bytes(refused.into_body(), 1024)
        .await
        .unwrap();
    let body = std::str::from_utf8(&body).unwrap();
    assert!(
        body.contains("b.example") && body.contains("a.example"),
        "{body}"
    );

    // No server in front of it, so no connection to hand over.
    let alone = ask(refusing(&stats), handshake("/")).await;
    assert_eq!(alone.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(stats.snapshot().rejected_total, before + 2);
}

#[tokio::test]
async fn an_optional_upgrade_is_none_only_where_none_was_asked_for() {
    let stats = Stats::new();
    let either = |upgrade: Option<WsUpgrade>| async move { upgrade.is_some().to_string() };
    let app = Router::new()
        .route("/", ws(either))
        .layer(WsLayer.stats(stats.clone()));

    let page = ask(app.clone(), Request::get("/")).await;
    assert_eq!(page.status(), StatusCode::OK);
    let body = axum::body::to_bytes(page.into_body(), 16).await.unwrap();
    assert_eq!(&body[..], b"false");
    assert_eq!(stats.snapshot().rejected_total, 0, "an ordinary request");

    let broken = Request::get("/").header(header::UPGRADE, "websocket");
    let refused = ask(app, broken).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert_eq!(stats.snapshot().rejected_total, 1);
}
