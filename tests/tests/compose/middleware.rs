//! Each row of `docs/composition.md` about the middleware of actix.

use std::{
    net::TcpListener,
    sync::{Mutex, Once},
    time::Duration,
};

use actix_cors::Cors;
use actix_session::{
    Session, SessionMiddleware, config::CookieContentSecurity, storage::CookieSessionStore,
};
use actix_web::{
    App, HttpServer, Responder,
    cookie::Key,
    middleware::{Compress, Logger, NormalizePath},
    web::{self, ServiceConfig},
};
use tokio::time::{sleep, timeout};
use towpath_actix::{
    Sse, WsLayer, WsUpgrade,
    backpressure::{BackpressureLayer, Limits},
    on_connect, ws,
};
use towpath_tests::{http, process::SOON, sse::EventStream, ws as client};

use super::rows::{self, ECHO, FEED, TRAP};

async fn echo(upgrade: WsUpgrade) -> impl Responder {
    upgrade.on_upgrade(super::echo)
}

async fn trap(upgrade: WsUpgrade) -> impl Responder {
    upgrade.on_upgrade(super::trap)
}

async fn feed() -> impl Responder {
    Sse::new(rows::feed())
}

async fn falling() -> impl Responder {
    Sse::new(rows::falling())
}

fn routes(config: &mut ServiceConfig) {
    config
        .route(ECHO, ws(echo))
        .route(TRAP, ws(trap))
        .route(FEED, web::get().to(feed))
        .route("/falling", web::get().to(falling))
        .route(
            "/page",
            web::get().to(async || "a text to compress ".repeat(100)),
        );
}

#[tokio::test]
async fn compress_flushes_each_event_and_leaves_sockets_alone() {
    let address = serve!(|| App::new()
        .configure(routes)
        .wrap(WsLayer)
        .wrap(Compress::default()));
    let gzip = [("Accept-Encoding", "gzip")];
    let page = http::request(address, "GET", "/page", &gzip, b"").await;
    assert_eq!(page.get("content-encoding"), Some("gzip"));
    let text = rows::compressed(address, SOON).await;
    assert!(
        text.contains("data: 1\n\n") && text.contains("data: 2"),
        "{text:?}"
    );
    let mut socket = client::WebSocket::open_with(address, ECHO, &gzip).await;
    assert_eq!(socket.head().get("content-encoding"), None);
    socket.send("plain").await;
    assert_eq!(socket.text().await, "plain");
    rows::panics_are_told(address).await;
}

/// What was logged for the logger's target.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
const TARGET: &str = "composition";

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == TARGET
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.lock().expect("whole").push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn lines() -> Vec<String> {
    LINES.lock().expect("whole").clone()
}

#[tokio::test]
async fn logger_logs_sockets_and_streams_at_their_end() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Lines).expect("the only one");
        log::set_max_level(log::LevelFilter::Info);
    });
    let logger = || Logger::new("%U %s").log_target(TARGET);
    let address = serve!(move || App::new().configure(routes).wrap(WsLayer).wrap(logger()));
    let (mut socket, mut events) = rows::both(address).await;
    rows::live_on(&mut socket, &mut events).await;
    assert_eq!(lines(), Vec::<String>::new());
    socket.close(1000).await;
    socket.closed().await;
    logged("/echo 101").await;
    assert_eq!(lines().len(), 1);
    drop(events);
    logged("/feed 200").await;
}

async fn logged(line: &str) {
    let wait = async {
        while !lines().iter().any(|logged| logged == line) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(SOON, wait).await.is_ok(), "{line}: {:?}", lines());
}

#[tokio::test]
async fn normalize_path_finds_the_route() {
    let address = serve!(|| App::new()
        .configure(routes)
        .wrap(WsLayer)
        .wrap(NormalizePath::trim()));
    let mut socket = client::WebSocket::open(address, "//echo/").await;
    socket.send("hello").await;
    assert_eq!(socket.text().await, "hello");
    let mut events = EventStream::open(address, "/feed/").await;
    assert_eq!(events.event().await.data, "1");
    rows::live_on(&mut socket, &mut events).await;
}

async fn visits(session: Session) -> Result<u32, actix_web::Error> {
    let visits = session.get::<u32>("visits")?.unwrap_or(0) + 1;
    session.insert("visits", visits)?;
    Ok(visits)
}

async fn told(upgrade: WsUpgrade, session: Session) -> Result<impl Responder, actix_web::Error> {
    let visits = visits(session.clone()).await?;
    Ok(upgrade.on_upgrade(async move |mut socket| {
        // Too late: the head with the cookie is gone.
        session.insert("visits", 1_000)?;
        socket.send(visits.to_string()).await?;
        while let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        Ok(())
    }))
}

async fn streamed(session: Session) -> Result<impl Responder, actix_web::Error> {
    let visits = visits(session).await?.to_string();
    let event = towpath::sse::Event::new().data(visits);
    Ok(Sse::new(futures_util::stream::iter([event])))
}

#[tokio::test]
async fn sessions_are_read_and_written_before_the_head() {
    let key = Key::from(&[7; 64]);
    let address = serve!(move || {
        let store = CookieSessionStore::default();
        let session = SessionMiddleware::builder(store, key.clone())
            .cookie_secure(false)
            .cookie_content_security(CookieContentSecurity::Signed);
        App::new()
            .route("/told", ws(told))
            .route("/streamed", web::get().to(streamed))
            .configure(routes)
            .wrap(WsLayer)
            .wrap(session.build())
    });
    let cookie = |set: Option<&str>| {
        let set = set.expect("a cookie");
        set.split(';').next().unwrap_or_default().to_owned()
    };
    let mut socket = client::WebSocket::open(address, "/told").await;
    assert_eq!(socket.text().await, "1");
    let first = cookie(socket.head().get("set-cookie"));
    socket.send("hello").await;
    assert_eq!(socket.text().await, "hello");
    let mut socket = client::WebSocket::open_with(address, "/told", &[("Cookie", &first)]).await;
    assert_eq!(socket.text().await, "2");
    let second = cookie(socket.head().get("set-cookie"));
    let mut events = EventStream::open_with(address, "/streamed", &[("Cookie", &second)]).await;
    assert_eq!(events.event().await.data, "3");
    assert!(events.head().get("set-cookie").is_some());
}

#[tokio::test]
async fn cors_of_actix_lets_streams_be_read_and_does_not_guard_sockets() {
    let address = serve!(|| {
        let cors = Cors::default().allowed_origin("https://a.example");
        App::new().configure(routes).wrap(WsLayer).wrap(cors)
    });
    let foreign = [("Origin", "https://a.example")];
    let mut events = EventStream::open_with(address, FEED, &foreign).await;
    let allowed = events.head().get("access-control-allow-origin");
    assert_eq!(allowed, Some("https://a.example"));
    assert_eq!(events.event().await.data, "1");
    // Its 403 is the socket's own, whatever CORS allows.
    assert_eq!(rows::upgrade(address, &foreign).await, 403);
    let own = [("Origin", "http://testbed.example")];
    assert_eq!(rows::upgrade(address, &own).await, 101);
}

#[tokio::test]
async fn backpressure_of_actix_lives_as_long_as_what_it_admits() {
    let layer = BackpressureLayer::new(Limits::new().max_connections(1));
    let address = serve!(move || App::new()
        .configure(routes)
        .wrap(WsLayer)
        .wrap(layer.clone()));
    rows::one_at_a_time(address).await;
}
