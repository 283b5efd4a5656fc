//! A deploy that loses nothing, with actix-web's `HttpServer`:
//! `cargo run -p towpath-examples --bin drain-actix -- 127.0.0.1:8080 30`, then SIGTERM.

#![allow(clippy::print_stdout, clippy::exit, reason = "a program of its own")]

use std::{env, io, net::TcpListener, process::ExitCode, time::Duration};

use actix_web::{
    App, HttpResponse, HttpServer, Responder,
    web::{self, Data},
};
use futures_util::{Stream, StreamExt, stream};
use tokio::{signal::unix, time::sleep};
use towpath_actix::{Drain, Event, LastEventId, OnDrain, Sse, WsLayer, WsUpgrade, on_connect, ws};

#[actix_web::main]
async fn main() -> io::Result<ExitCode> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    let seconds = arguments.next().and_then(|text| text.parse().ok());
    let drain = Drain::new(Duration::from_secs(seconds.unwrap_or(30)));

    let shared = Data::new(drain.clone());
    let app = move || {
        App::new()
            // Every socket is told 1012, new ones are refused from the signal on.
            .wrap(WsLayer::new().drain(Drain::clone(&shared)))
            .app_data(shared.clone())
            .route("/echo", ws(echo))
            .route("/ticks", web::get().to(ticks))
            .route("/export", web::get().to(export))
            .route("/healthz", web::get().to(healthz))
    };
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let server = HttpServer::new(app)
        .on_connect(on_connect)
        .h1_allow_half_closed(false)
        .client_disconnect_timeout(Duration::ZERO)
        // actix would stop accepting at the signal, and drop the sockets 30 s later.
        .disable_signals()
        .listen(listener)?
        .run();
    drain_on_sigterm(drain.clone())?;
    println!("listening on http://{address}");

    // The listener stands until the last socket and stream is gone.
    let (handle, finished) = (server.handle(), drain.finished());
    actix_web::rt::spawn(async move {
        finished.await;
        handle.stop(true).await;
    });
    let outcome = drain.run(server).await;
    Ok(outcome.exit_code())
}

/// The first SIGTERM begins the drain, a second one ends the process at once.
fn drain_on_sigterm(drain: Drain) -> io::Result<()> {
    let mut sigterm = unix::signal(unix::SignalKind::terminate())?;
    actix_web::rt::spawn(async move {
        sigterm.recv().await;
        drain.start();
        sigterm.recv().await;
        std::process::exit(1);
    });
    Ok(())
}

async fn echo(upgrade: WsUpgrade) -> impl Responder {
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
async fn ticks(drain: Data<Drain>, last: LastEventId) -> impl Responder {
    Sse::new(numbers(&last))
        .retry(Duration::from_secs(1))
        .drain(&drain)
        .sse_retry()
}

/// Half of it is worth nothing, so it runs to its end within the deadline.
async fn export(drain: Data<Drain>, last: LastEventId) -> impl Responder {
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
async fn healthz(drain: Data<Drain>) -> HttpResponse {
    if drain.is_draining() {
        return HttpResponse::ServiceUnavailable().finish();
    }
    HttpResponse::Ok().finish()
}
