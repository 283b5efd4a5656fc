//! The testbed over axum.

use std::{
    io,
    pin::pin,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Request, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tower_http::validate_request::ValidateRequestHeaderLayer;
use towpath::{
    hub::TOWPATH_V1,
    sse::{self, OnDrain},
};
use towpath_axum::{
    LastEventId, Sse, WsExecutor, WsUpgrade, backpressure::BackpressureLayer, on_connect_with, ws,
};
use towpath_tests::{
    Counts, Options, Testbed, drain_on_sigterm, fail,
    routes::{self, CountQuery, FloodQuery, PublishQuery, Published, Refused, SinkQuery},
};

/// Once the last socket and stream is gone the answers under way have so long.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// Between two tries to accept, when there are too many open files.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Streams of one HTTP/2 connection at the same time.
const STREAMS: u32 = 200;
/// What a peer may send on an HTTP/2 stream before it is read. The connection has room
/// for as much of every stream, so that those which nobody reads block no other.
const STREAM_WINDOW: u32 = 64 << 10;

fn main() -> ExitCode {
    let options = match Options::from_args() {
        Ok(options) => options,
        Err(code) => return code,
    };
    let mut builder = match options.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    let code = builder.enable_all().build().and_then(|runtime| {
        let code = runtime.block_on(run(options));
        // What the deadline has cut is not waited for.
        runtime.shutdown_background();
        code
    });
    code.unwrap_or_else(fail)
}

async fn run(options: Options) -> io::Result<ExitCode> {
    let testbed = match Testbed::start(options).await {
        Ok(testbed) => testbed,
        Err(code) => return Ok(code),
    };
    let listener = TcpListener::from_std(testbed.listen()?)?;
    let drain = testbed.drain().clone();
    drain_on_sigterm(drain.clone())?;
    testbed.announce(listener.local_addr()?)?;
    Ok(drain.run(serve(listener, testbed)).await.exit_code())
}

fn app(testbed: Testbed) -> Router {
    let body_limit = DefaultBodyLimit::max(testbed.options().max_message_size);
    let backpressure = testbed.admission().map(|admission| {
        BackpressureLayer::with_admission(admission.clone())
            .by_key(|parts| routes::user(parts.uri.query()))
            .stats(testbed.stats())
    });
    // Around what lives, not around the requests that are over at once.
    let live = |routes: MethodRouter<Testbed>| match &backpressure {
        Some(layer) => routes.layer(layer.clone()),
        None => routes,
    };
    let authentication = ValidateRequestHeaderLayer::custom(authorize);
    Router::new()
        .route("/echo", live(ws(echo)))
        .route("/protocols", live(ws(protocols)))
        .route("/private/echo", live(ws(echo)).layer(authentication))
        .route("/flood", live(ws(flood)))
        .route("/sink", live(ws(sink)))
        .route("/panic", live(ws(panic)))
        .route("/count", without_head(live(get(count))))
        .route(
            "/topics/{topic}",
            without_head(live(get(topic)).post(publish).layer(body_limit)),
        )
        .route("/topics/{topic}/ws", live(ws(topic_ws)))
        .route("/stats", get(stats))
        .route("/healthz", get(healthz))
        .layer(testbed.ws_layer())
        .with_state(testbed)
}

async fn echo(upgrade: WsUpgrade) -> Response {
    upgrade.on_upgrade(routes::echo)
}

async fn protocols(upgrade: WsUpgrade) -> Response {
    let upgrade = upgrade.protocols(routes::PROTOCOLS);
    upgrade.on_upgrade(routes::protocols)
}

async fn flood(
    upgrade: WsUpgrade,
    State(testbed): State<Testbed>,
    query: Result<Query<FloodQuery>, QueryRejection>,
) -> Result<Response, QueryRejection> {
    let Query(query) = testbed.counted(query)?;
    Ok(upgrade.on_upgrade(move |socket| routes::flood(socket, query)))
}

async fn sink(
    upgrade: WsUpgrade,
    State(testbed): State<Testbed>,
    query: Result<Query<SinkQuery>, QueryRejection>,
) -> Result<Response, QueryRejection> {
    let Query(query) = testbed.counted(query)?;
    Ok(upgrade.on_upgrade(move |socket| routes::sink(socket, query)))
}

async fn panic(upgrade: WsUpgrade) -> Response {
    upgrade.on_upgrade(routes::panic)
}

async fn count(
    State(testbed): State<Testbed>,
    last: LastEventId,
    query: Result<Query<CountQuery>, QueryRejection>,
) -> Result<impl IntoResponse, QueryRejection> {
    let Query(query) = testbed.counted(query)?;
    let events = sse::Sse::new(routes::count(query, &last));
    Ok(Sse::from(testbed.sse(events).on_drain(OnDrain::Finish)))
}

async fn topic(
    State(testbed): State<Testbed>,
    Path(topic): Path<String>,
    last: LastEventId,
) -> Result<impl IntoResponse, (StatusCode, String)> {
    let serve = routes::serve(&testbed, topic, &last).await;
    let events = serve.map_err(|error| refused(&error))?.into_sse();
    Ok(Sse::from(testbed.sse(events)))
}

async fn topic_ws(
    upgrade: WsUpgrade,
    State(testbed): State<Testbed>,
    Path(topic): Path<String>,
    last: LastEventId,
) -> Result<Response, (StatusCode, String)> {
    let serve = routes::serve(&testbed, topic, &last).await;
    let serve = serve.map_err(|error| refused(&error))?;
    let upgrade = upgrade.protocols([TOWPATH_V1]);
    Ok(upgrade.on_upgrade(|socket| serve.run(socket)))
}

async fn publish(
    State(testbed): State<Testbed>,
    Path(topic): Path<String>,
    Query(query): Query<PublishQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Published>), (StatusCode, String)> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.map(HeaderValue::as_bytes);
    let published = routes::publish(testbed.hub(), &topic, query, content_type, body).await;
    Ok((
        StatusCode::CREATED,
        Json(published.map_err(|error| refused(&error))?),
    ))
}

async fn stats(State(testbed): State<Testbed>) -> Json<Counts> {
    Json(testbed.counts())
}

async fn healthz(State(testbed): State<Testbed>) -> impl IntoResponse {
    let (code, text) = testbed.health();
    (status(code), text)
}

fn refused(refused: &Refused) -> (StatusCode, String) {
    (status(refused.status()), refused.to_string())
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

#[expect(clippy::result_large_err, reason = "tower-http asks for it")]
fn authorize(request: &mut Request<Body>) -> Result<(), Response> {
    let header = request.headers().get(header::AUTHORIZATION);
    let token = header.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if token.is_some_and(routes::is_authorized) {
        return Ok(());
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    Err((StatusCode::UNAUTHORIZED, challenge).into_response())
}

/// axum would have a HEAD answered by what answers a GET: by a subscription.
fn without_head(routes: MethodRouter<Testbed>) -> MethodRouter<Testbed> {
    routes.head(async || (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")]))
}

/// `axum::serve`, with TLS where it is asked for, and a time-out from accept to the end
/// of the first request's head.
async fn serve(listener: TcpListener, testbed: Testbed) {
    let prepare = on_connect_with(testbed.options().write_timeout());
    let acceptor = testbed.tls().cloned().map(TlsAcceptor::from);
    let handshake_timeout = testbed.options().handshake_timeout();
    let finished = testbed.drain().finished();
    let app = app(testbed);
    let graceful = GracefulShutdown::new();
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((mut stream, _)) => {
                    prepare(&mut stream);
                    let http = Http {
                        app: app.clone(),
                        handshake_timeout,
                        accepted: Instant::now(),
                        watcher: graceful.watcher(),
                    };
                    match acceptor.clone() {
                        Some(acceptor) => drop(tokio::spawn(http.serve_tls(acceptor, stream))),
                        None => drop(tokio::spawn(http.serve(stream))),
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "not accepted");
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = finished => {}
    }
    // Whoever has not asked by now is owed nothing.
    let _ = timeout(LAST_WORDS, graceful.shutdown()).await;
}

/// What one connection is served with.
struct Http {
    app: Router,
    handshake_timeout: Duration,
    accepted: Instant,
    watcher: Watcher,
}

impl Http {
    async fn serve_tls(self, acceptor: TlsAcceptor, stream: TcpStream) {
        let deadline = self.accepted + self.handshake_timeout;
        match timeout_at(deadline, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS"),
            Err(_) => tracing::debug!("no TLS in time"),
        }
    }

    async fn serve<I>(self, stream: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let asked = Arc::new(AtomicBool::new(false));
        let app = self.app.map_request({
            let asked = Arc::clone(&asked);
            move |request: Request<_>| {
                asked.store(true, Ordering::Relaxed);
                request
            }
        });
        let mut builder = Builder::new(WsExecutor);
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.handshake_timeout);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(STREAMS * STREAM_WINDOW)
            .enable_connect_protocol();
        let service = TowerToHyperService::new(app);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = pin!(self.watcher.watch(connection.into_owned()));
        // hyper's own time begins when it knows which HTTP is spoken, and again with each
        // request.
        let served = tokio::select! {
            served = &mut connection => served,
            () = sleep_until(self.accepted + self.handshake_timeout) => {
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(error, "connection failed");
        }
    }
}
