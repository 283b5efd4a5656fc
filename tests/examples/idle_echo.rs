//! An echo server with all defaults, heartbeat among them, on one thread: what
//! `tests/costs.rs` measures the memory of, and what a heap profiler is pointed at.
//!
//! `idle_echo axum|actix [deflate]` prints where it listens, serves `/echo` and `/live` (how
//! many sockets live), and ends with its standard input.

use std::{
    env,
    io::{self, Error, Read, Write},
    net::TcpListener,
};

use axum::{Router, routing::get, serve::ListenerExt};
use towpath::{
    Stats,
    ws::{Deflate, HandlerError, WebSocket, WsConfig},
};

const USAGE: &str = "usage: idle_echo axum|actix [deflate]";

fn main() -> io::Result<()> {
    let framework = env::args().nth(1);
    let deflate = match env::args().nth(2).as_deref() {
        Some("deflate") => true,
        None => false,
        Some(_) => return Err(Error::other(USAGE)),
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on http://{}", listener.local_addr()?)?;
    stdout.flush()?;
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        // Whoever started us is gone, however the pipe says so.
        let _ = io::stdin().read_to_end(&mut rest);
        std::process::exit(0);
    });
    match framework.as_deref() {
        Some("axum") => over_axum(listener, deflate),
        Some("actix") => over_actix(listener, deflate),
        _ => Err(Error::other(USAGE)),
    }
}

/// What everyone writes.
async fn echo(mut socket: WebSocket) -> Result<(), HandlerError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

async fn live() -> String {
    Stats::global().snapshot().websockets.to_string()
}

/// All defaults; compression is off by default.
fn config(deflate: bool) -> WsConfig {
    WsConfig::new().deflate(deflate.then(Deflate::new))
}

fn over_axum(listener: TcpListener, deflate: bool) -> io::Result<()> {
    use towpath_axum::{WsLayer, WsUpgrade, on_connect, ws};

    let upgrade = async |upgrade: WsUpgrade| upgrade.on_upgrade(echo);
    let app = Router::new()
        .route("/echo", ws(upgrade))
        .route("/live", get(live))
        .layer(WsLayer::from(config(deflate)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(on_connect);
        axum::serve(listener, app).await
    })
}

fn over_actix(listener: TcpListener, deflate: bool) -> io::Result<()> {
    use actix_web::{App, HttpServer, rt::System, web};
    use towpath_actix::{WsLayer, WsUpgrade, on_connect, ws};

    async fn upgrade(upgrade: WsUpgrade) -> impl actix_web::Responder {
        upgrade.on_upgrade(echo)
    }
    System::new().block_on(async {
        HttpServer::new(move || {
            App::new()
                .wrap(WsLayer::from(config(deflate)))
                .service(web::resource("/echo").route(ws(upgrade)))
                .service(web::resource("/live").get(live))
        })
        .workers(1)
        .on_connect(on_connect)
        .listen(listener)?
        .run()
        .await
    })
}
