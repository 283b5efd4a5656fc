//! Each row of `docs/composition.md` about tower and tower-http.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use ::axum::{
    Router, ServiceExt,
    body::Bytes,
    error_handling::HandleErrorLayer,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    routing::{get, post},
    serve::ListenerExt,
};
use tokio::time::sleep;
use tower::{
    BoxError, ServiceBuilder,
    buffer::BufferLayer,
    limit::{GlobalConcurrencyLimitLayer, RateLimitLayer},
    load_shed::LoadShedLayer,
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer,
        predicate::{DefaultPredicate, Predicate, SizeAbove},
    },
    cors::{AllowOrigin, CorsLayer},
    limit::RequestBodyLimitLayer,
    request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    timeout::{ResponseBodyTimeoutLayer, TimeoutLayer},
    trace::TraceLayer,
};
use towpath::Stats;
use towpath_axum::{
    KeepAlive, Sse, WsLayer, WsUpgrade,
    backpressure::{BackpressureLayer, Limits},
    on_connect, ws,
};
use towpath_tests::{http, process::SOON, sse::EventStream, ws as client};

use super::{
    axum::{listen, serve},
    rows::{self, ECHO, FEED, TRAP},
};

/// Shorter than what it is around lives.
const TIMEOUT: Duration = Duration::from_millis(200);

/// A socket that echoes, one that panics, streams, and pages; the quiet stream has a comment
/// after so long.
#[expect(clippy::panic, reason = "that is what is caught")]
fn routes(stats: &Stats, comments: Duration) -> Router {
    let (of_feed, of_falling) = (stats.clone(), stats.clone());
    let comments = KeepAlive::new().interval(comments);
    Router::new()
        .route(
            ECHO,
            ws(|upgrade: WsUpgrade| async { upgrade.on_upgrade(super::echo) }),
        )
        .route(
            TRAP,
            ws(|upgrade: WsUpgrade| async { upgrade.on_upgrade(super::trap) }),
        )
        .route(
            FEED,
            get(async move || Sse::new(rows::feed()).stats(&of_feed)),
        )
        .route(
            "/quiet",
            get(async move || Sse::new(rows::quiet()).keep_alive(comments.clone())),
        )
        .route("/short", get(async || Sse::new(rows::short())))
        .route(
            "/falling",
            get(async move || Sse::new(rows::falling()).stats(&of_falling)),
        )
        .route(
            "/falls",
            get(async || -> &'static str { panic!("as wanted") }),
        )
        .route("/slow", get(std::future::pending::<()>))
        .route("/page", get(async || "a text to compress ".repeat(100)))
        .route("/post", post(async |body: Bytes| body.len().to_string()))
        .layer(WsLayer.stats(stats.clone()))
}

fn app() -> Router {
    routes(&Stats::new(), Duration::from_secs(15))
}

async fn shed(error: BoxError) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

#[tokio::test]
async fn timeout_bounds_the_head_alone() {
    let layer = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, TIMEOUT);
    let address = serve(app().layer(layer)).await;
    assert_eq!(http::get(address, "/slow").await.status, 504);
    let (mut socket, mut events) = rows::both(address).await;
    sleep(TIMEOUT * 2).await;
    rows::live_on(&mut socket, &mut events).await;
}

#[tokio::test]
async fn response_body_timeout_ends_a_stream_without_shorter_comments() {
    let address = serve(app().layer(ResponseBodyTimeoutLayer::new(TIMEOUT * 5))).await;
    let mut socket = client::WebSocket::open(address, ECHO).await;
    assert!(
        rows::ending(address, "/quiet").await.is_err(),
        "cut within the body"
    );
    // Its 101 has no body.
    socket.send("still here").await;
    assert_eq!(socket.text().await, "still here");

    // With room for a busy machine.
    let limit = Duration::from_secs(3);
    let spoken = routes(&Stats::new(), TIMEOUT);
    let address = serve(spoken.layer(ResponseBodyTimeoutLayer::new(limit))).await;
    let lives = tokio::time::timeout(limit * 2, rows::ending(address, "/quiet")).await;
    assert!(lives.is_err(), "it has ended");
}

#[tokio::test]
async fn compression_leaves_streams_alone_and_a_predicate_of_ones_own_must_too() {
    let own = DefaultPredicate::new().and(SizeAbove::new(64));
    let own = CompressionLayer::new().compress_when(own);
    for app in [app().layer(CompressionLayer::new()), app().layer(own)] {
        let address = serve(app).await;
        let gzip = [("Accept-Encoding", "gzip")];
        let page = http::request(address, "GET", "/page", &gzip, b"").await;
        assert_eq!(page.get("content-encoding"), Some("gzip"));
        let mut events = EventStream::open_with(address, FEED, &gzip).await;
        assert_eq!(events.head().get("content-encoding"), None);
        assert_eq!(events.event().await.data, "1");
        assert_eq!(events.event().await.data, "2");
        let mut socket = client::WebSocket::open_with(address, ECHO, &gzip).await;
        assert_eq!(socket.head().get("content-encoding"), None);
        socket.send("plain").await;
        assert_eq!(socket.text().await, "plain");
    }
}

#[tokio::test]
async fn compression_of_a_stream_flushes_each_event() {
    let layer = CompressionLayer::new().compress_when(SizeAbove::new(0));
    let address = serve(app().layer(layer)).await;
    let text = rows::compressed(address, SOON).await;
    let (first, second) = (text.contains("data: 1\n\n"), text.contains("data: 2\n\n"));
    assert!(
        first && second && !text.contains("data: 9"),
        "{text:?} came"
    );
}

#[tokio::test]
async fn trace_sees_the_end_of_a_stream_and_only_the_head_of_a_socket() {
    let ends = Arc::new(AtomicUsize::new(0));
    let ended = Arc::clone(&ends);
    let on_eos = move |_: Option<&HeaderMap>, _: Duration, _: &tracing::Span| {
        ended.fetch_add(1, Relaxed);
    };
    let address = serve(app().layer(TraceLayer::new_for_http().on_eos(on_eos))).await;
    let (mut socket, mut events) = rows::both(address).await;
    let before = ends.load(Relaxed);
    let mut short = EventStream::open(address, "/short").await;
    assert_eq!(short.rest().await.len(), 1);
    assert_eq!(ends.load(Relaxed), before + 1);
    rows::live_on(&mut socket, &mut events).await;
    socket.close(1000).await;
    socket.closed().await;
    assert_eq!(
        ends.load(Relaxed),
        before + 1,
        "nothing of the socket's end"
    );
}

#[tokio::test]
async fn catch_panic_catches_answers_and_towpath_the_rest() {
    let stats = Stats::new();
    let address =
        serve(routes(&stats, Duration::from_secs(15)).layer(CatchPanicLayer::new())).await;
    assert_eq!(http::get(address, "/falls").await.status, 500);
    assert_eq!(stats.snapshot().panics_total, 0);
    let (mut socket, mut events) = rows::both(address).await;
    rows::panics_are_told(address).await;
    assert_eq!(stats.snapshot().panics_total, 2);
    rows::live_on(&mut socket, &mut events).await;
}

#[tokio::test]
async fn request_body_limit_is_none_of_messages() {
    let address = serve(app().layer(RequestBodyLimitLayer::new(10))).await;
    assert_eq!(
        http::post(address, "/post", "0123456789").await.text(),
        "10"
    );
    assert_eq!(
        http::post(address, "/post", "0123456789a").await.status,
        413
    );
    let (mut socket, mut events) = rows::both(address).await;
    socket.send("a message of 26 characters").await;
    assert_eq!(socket.text().await, "a message of 26 characters");
    rows::live_on(&mut socket, &mut events).await;

    super::the_inner_limit_counts(|outer, inner| {
        let echo = ws(|upgrade: WsUpgrade| async { upgrade.on_upgrade(super::echo) });
        let app = Router::new().route("/echo", echo);
        let app = app.layer(WsLayer.max_message_size(inner));
        serve(app.layer(RequestBodyLimitLayer::new(outer)))
    })
    .await;
}

#[derive(Clone, Default)]
struct Numbers(Arc<AtomicUsize>);

impl MakeRequestId for Numbers {
    fn make_request_id<B>(&mut self, _: &::axum::http::Request<B>) -> Option<RequestId> {
        let number = self.0.fetch_add(1, Relaxed) + 1;
        HeaderValue::from_str(&number.to_string())
            .ok()
            .map(RequestId::new)
    }
}

#[tokio::test]
async fn request_ids_reach_the_handler_and_both_heads() {
    let name = HeaderName::from_static("x-request-id");
    let who = ws(|upgrade: WsUpgrade, headers: HeaderMap| async move {
        upgrade.on_upgrade(async move |mut socket| {
            let id = headers["x-request-id"]
                .to_str()
                .unwrap_or_default()
                .to_owned();
            socket.send(id).await?;
            Ok(())
        })
    });
    let app = app()
        .route("/who", who)
        .layer(PropagateRequestIdLayer::new(name.clone()))
        .layer(SetRequestIdLayer::new(name, Numbers::default()));
    let address = serve(app).await;
    let mut socket = client::WebSocket::open(address, "/who").await;
    assert_eq!(socket.head().get("x-request-id"), Some("1"));
    assert_eq!(socket.text().await, "1");
    let (mut socket, mut events) = rows::both(address).await;
    assert_eq!(socket.head().get("x-request-id"), Some("2"));
    assert_eq!(events.head().get("x-request-id"), Some("3"));
    rows::live_on(&mut socket, &mut events).await;
}

#[tokio::test]
async fn cors_lets_streams_be_read_and_does_not_guard_sockets() {
    let foreign = [("Origin", "https://a.example")];
    let allowed = AllowOrigin::exact(HeaderValue::from_static("https://a.example"));
    let address = serve(app().layer(CorsLayer::new().allow_origin(allowed))).await;
    let mut events = EventStream::open_with(address, FEED, &foreign).await;
    assert_eq!(
        events.head().get("access-control-allow-origin"),
        Some("https://a.example")
    );
    assert_eq!(events.event().await.data, "1");
    // Its 403 is the socket's own, whatever CORS allows.
    assert_eq!(rows::upgrade(address, &foreign).await, 403);
    let own = [("Origin", "http://testbed.example")];
    assert_eq!(rows::upgrade(address, &own).await, 101);
}

#[tokio::test]
async fn concurrency_limit_counts_heads_and_backpressure_lives() {
    let one = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(shed))
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(1));
    let address = serve(app().layer(one)).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(rows::both(address).await);
    }
    for (socket, events) in &mut held {
        rows::live_on(socket, events).await;
    }

    let one = BackpressureLayer::new(Limits::new().max_connections(1));
    let address = serve(app().layer(one)).await;
    rows::one_at_a_time(address).await;
}

#[tokio::test]
async fn load_shed_sheds_requests_and_no_sockets() {
    let one = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(shed))
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(1));
    let address = serve(app().layer(one)).await;
    let (mut socket, mut events) = rows::both(address).await;
    // The one place is taken by what has no answer yet.
    let mut slow = http::Connection::open(address).await;
    slow.write(http::head("GET", "/slow", &[]).as_bytes()).await;
    rows::until_refused(address).await;
    assert_eq!(http::get(address, FEED).await.status, 503);
    rows::live_on(&mut socket, &mut events).await;
}

#[tokio::test]
async fn buffer_queues_requests_and_no_messages() {
    let buffered = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(shed))
        .layer(BufferLayer::<Request>::new(1));
    let address = serve(app().layer(buffered)).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(rows::both(address).await);
    }
    for (socket, events) in &mut held {
        rows::live_on(socket, events).await;
    }
}

#[tokio::test]
async fn rate_limit_counts_requests_and_no_messages() {
    // Around the finished app, where there is one for all.
    let limited = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(shed))
        .layer(BufferLayer::<Request>::new(64))
        .layer(LoadShedLayer::new())
        .layer(RateLimitLayer::new(2, Duration::from_secs(3_600)))
        .service(app());
    let listener = listen().await;
    let address = listener.local_addr().expect("bound");
    let limited = ServiceExt::<Request>::into_make_service(limited);
    tokio::spawn(::axum::serve(listener.tap_io(on_connect), limited).into_future());
    let (mut socket, mut events) = rows::both(address).await;
    for number in 0..100 {
        socket.send(number.to_string()).await;
        assert_eq!(socket.text().await, number.to_string());
    }
    rows::live_on(&mut socket, &mut events).await;
    assert_eq!(rows::upgrade(address, &[]).await, 503);
    assert_eq!(http::get(address, FEED).await.status, 503);
}
