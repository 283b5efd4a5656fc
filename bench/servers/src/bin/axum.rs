//! axum's own `ws` and `sse`: the echo of its documentation, and the broadcast of its chat example.

use std::{convert::Infallible, io};

use axum::{
    Router,
    extract::{
        State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{any, get, post},
    serve::ListenerExt as _,
};
use bench_servers::Options;
use clap::Parser;
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::broadcast};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::BroadcastStream;

type Sender = broadcast::Sender<String>;

fn main() -> io::Result<()> {
    let options = Options::parse();
    options.runtime()?.block_on(async {
        let app = Router::new()
            .route("/echo", any(echo))
            .route("/fan", any(fan))
            .route("/sse", get(events))
            .route("/publish", post(publish))
            .with_state(broadcast::channel(1024).0);
        if let Some(tls) = options.tls()? {
            return serve_tls(options.listen_tokio()?, tls.into(), app).await;
        }
        let listener = options.listen_tokio()?.tap_io(|stream| {
            // Fails for a connection that is gone already, which its reader will tell.
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, app).await
    })
}

/// As axum's example `low-level-rustls`, since `axum::serve` has no TLS.
async fn serve_tls(listener: TcpListener, acceptor: TlsAcceptor, app: Router) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, app) = (acceptor.clone(), app.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = TowerToHyperService::new(app);
            // A reset is the client's way to end.
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .max_message_size(64 << 20)
        .max_frame_size(16 << 20)
        .on_upgrade(async |mut socket: WebSocket| {
            while let Some(Ok(message)) = socket.recv().await {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        })
}

async fn fan(upgrade: WebSocketUpgrade, State(sender): State<Sender>) -> Response {
    upgrade.on_upgrade(async |socket: WebSocket| {
        let (mut sink, mut stream) = socket.split();
        let mut events = sender.subscribe();
        let mut forward = tokio::spawn(async move {
            while let Ok(text) = events.recv().await {
                if sink.send(Message::text(text)).await.is_err() {
                    break;
                }
            }
        });
        let mut receive = tokio::spawn(async move {
            while let Some(Ok(Message::Text(text))) = stream.next().await {
                let _ = sender.send(text.as_str().to_owned());
            }
        });
        tokio::select! {
            _ = &mut forward => receive.abort(),
            _ = &mut receive => forward.abort(),
        };
    })
}

async fn events(
    State(sender): State<Sender>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = BroadcastStream::new(sender.subscribe());
    let events = events.filter_map(async |text| Some(Ok(Event::default().data(text.ok()?))));
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn publish(State(sender): State<Sender>, text: String) -> impl IntoResponse {
    let _ = sender.send(text);
    axum::http::StatusCode::CREATED
}
