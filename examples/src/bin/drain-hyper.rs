//! A deploy that loses nothing, with hyper and tower alone and hyper-util's
//! `GracefulShutdown`: `cargo run -p towpath-examples --bin drain-hyper -- 127.0.0.1:8080 30`,
//! then SIGTERM.

#![allow(clippy::print_stdout, clippy::exit, reason = "a program of its own")]

use std::{convert::Infallible, env, io, process::ExitCode, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix,
    time::sleep,
};
use tower::{ServiceBuilder, service_fn};
use towpath::{
    Drain,
    sse::{self, Event, LastEventId, OnDrain, Source, Sse},
    ws::{HandlerError, WebSocket, WsExecutor, WsLayer, WsUpgrade},
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

#[tokio::main]
async fn main() -> io::Result<ExitCode> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let seconds = arguments.next().and_then(|text| text.parse().ok());
    let drain = Drain::new(Duration::from_secs(seconds.unwrap_or(30)));
    let listener = TcpListener::bind(address).await?;
    drain_on_sigterm(drain.clone())?;
    println!("listening on http://{}", listener.local_addr()?);
    let outcome = drain.run(serve(listener, drain.clone())).await;
    Ok(outcome.exit_code())
}

/// The first SIGTERM begins the drain, a second one ends the process at once.
fn drain_on_sigterm(drain: Drain) -> io::Result<()> {
    let mut sigterm = unix::signal(unix::SignalKind::terminate())?;
    tokio::spawn(async move {
        sigterm.recv().await;
        drain.start();
        sigterm.recv().await;
        std::process::exit(1);
    });
    Ok(())
}

async fn serve(listener: TcpListener, drain: Drain) {
    let graceful = GracefulShutdown::new();
    let mut builder = Builder::new(WsExecutor);
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol();
    let answers = drain.clone();
    let app = ServiceBuilder::new()
        // Every socket is told 1012, new ones are refused from the signal on.
        .layer(WsLayer::new().drain(drain.clone()))
        .service(service_fn(move |request| {
            let response = answer(request, &answers);
            async move { Ok::<_, Infallible>(response) }
        }));
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    prepare(&stream);
                    let service = TowerToHyperService::new(app.clone());
                    let stream = TokioIo::new(stream);
                    let connection = builder.serve_connection_with_upgrades(stream, service);
                    tokio::spawn(graceful.watch(connection.into_owned()));
                }
                // Too many open files: there is nobody to tell.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    };
    // The listener stands until the last socket and stream is gone; then what is being
    // answered is waited for.
    tokio::select! {
        () = accept => {}
        () = drain.finished() => {}
    }
    graceful.shutdown().await;
}

/// Small messages go out at once, and an event stream that nobody reads ends.
fn prepare(stream: &TcpStream) {
    // A connection that is gone already ends by itself.
    let _ = stream.set_nodelay(true);
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(Duration::from_secs(30)));
}

fn answer(request: Request<Incoming>, drain: &Drain) -> Response<Body> {
    let (mut parts, _) = request.into_parts();
    let last = parts
        .headers
        .get("last-event-id")
        .map(|value| value.as_bytes());
    let last = LastEventId::new(last, parts.uri.query());
    match parts.uri.path() {
        "/echo" => match WsUpgrade::from_parts(&mut parts) {
            Ok(upgrade) => upgrade.on_upgrade(echo),
            Err(refused) => Response::from(&refused).map(|text: String| body(text)),
        },
        // Has no end of its own, so the drain ends it. A browser comes back by itself: its
        // `EventSource` would give up at a 503, and `sse_retry` tells it to wait instead.
        "/ticks" => events(
            Sse::new(numbers(&last))
                .retry(Duration::from_secs(1))
                .drain(drain)
                .sse_retry(),
        ),
        // Half of it is worth nothing, so it runs to its end within the deadline.
        "/export" => events(
            Sse::new(numbers(&last).take(30))
                .drain(drain)
                .on_drain(OnDrain::Finish),
        ),
        // Tells the load balancer to send nobody any more.
        "/healthz" if drain.is_draining() => status(StatusCode::SERVICE_UNAVAILABLE),
        "/healthz" => status(StatusCode::OK),
        _ => status(StatusCode::NOT_FOUND),
    }
}

async fn echo(mut socket: WebSocket) -> Result<(), HandlerError> {
    // Only a drain sends it, in front of the close frame.
    socket.last_message("restarting");
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

fn events(events: Sse<impl Source + Send + 'static>) -> Response<Body> {
    match events.into_body() {
        Ok(body) => {
            let mut response = Response::new(body.boxed_unsync());
            for (name, value) in sse::HEADERS {
                let value = HeaderValue::from_static(value);
                response.headers_mut().insert(name, value);
            }
            response
        }
        Err(draining) => {
            let mut response = status(StatusCode::SERVICE_UNAVAILABLE);
            let seconds = HeaderValue::from(draining.retry_after());
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
            response
        }
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body(""));
    *response.status_mut() = status;
    response
}

fn body(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

fn numbers(last: &LastEventId) -> impl Stream<Item = Event> + use<> {
    let seen = last.id().and_then(|id| id.parse::<u64>().ok());
    stream::iter(seen.map_or(1, |seen| seen + 1)..).then(|number| async move {
        sleep(Duration::from_millis(100)).await;
        Event::new().id(number).data(number.to_string())
    })
}
