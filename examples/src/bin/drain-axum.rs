//! A deploy that loses nothing, with `axum::serve`:
//! `cargo run -p towpath-examples --bin drain-axum -- 127.0.0.1:8080 30`, then SIGTERM.

#![allow(clippy::print_stdout, clippy::exit, reason = "a program of its own")]

use std::{env, future::IntoFuture, io, process::ExitCode, time::Duration};

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
    serve::ListenerExt,
};
use futures_util::{Stream, StreamExt, stream};
use tokio::{net::TcpListener, signal::unix, time::sleep};
use towpath_axum::{Drain, Event, LastEventId, OnDrain, Sse, WsLayer, WsUpgrade, on_connect, ws};

#[tokio::main]
async fn main() -> io::Result<ExitCode> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let seconds = arguments.next().and_then(|text| text.parse().ok());
    let drain = Drain::new(Duration::from_secs(seconds.unwrap_or(30)));

    let app = Router::new()
        .route("/echo", ws(echo))
        .route("/ticks", get(ticks))
        .route("/export", get(export))
        .route("/healthz", get(healthz))
        // Every socket is told 1012, new ones are refused from the signal on.
        .layer(WsLayer::new().drain(drain.clone()))
        .with_state(drain.clone());
    let listener = TcpListener::bind(address).await?;
    drain_on_sigterm(drain.clone())?;
    println!("listening on http://{}", listener.local_addr()?);

    // The listener stands until the last socket and stream is gone.
    let server =
        axum::serve(listener.tap_io(on_connect), app).with_graceful_shutdown(drain.finished());
    let outcome = drain.run(server.into_future()).await;
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

async fn echo(upgrade: WsUpgrade) -> Response {
    upgrade.on_upgrade(|mut socket| async move {
        // Only a drain sends it, in front of the close frame.
        socket.last_message("restarting");
        while let Some(message) = socket.recv().await? {
            socket.send(message).await?;
        }
        Ok(())
    })
}

/// Has no end of its own, so the drain ends it. A browser comes back by itself: its
/// `EventSource` would give up at a 503, and `sse_retry` tells it to wait instead.
async fn ticks(State(drain): State<Drain>, last: LastEventId) -> impl IntoResponse {
    Sse::new(numbers(&last))
        .retry(Duration::from_secs(1))
        .drain(&drain)
        .sse_retry()
}

/// Half of it is worth nothing, so it runs to its end within the deadline.
async fn export(State(drain): State<Drain>, last: LastEventId) -> impl IntoResponse {
    Sse::new(numbers(&last).take(30))
        .drain(&drain)
        .on_drain(OnDrain::Finish)
}

fn numbers(last: &LastEventId) -> impl Stream<Item = Event> + use<> {
    let seen = last.id().and_then(|id| id.parse::<u64>().ok());
    stream::iter(seen.map_or(1, |seen| seen + 1)..).then(|number| async move {
        sleep(Duration::from_millis(100)).await;
        Event::new().id(number).data(number.to_string())
    })
}

/// Tells the load balancer to send nobody any more.
async fn healthz(State(drain): State<Drain>) -> StatusCode {
    if drain.is_draining() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    StatusCode::OK
}
