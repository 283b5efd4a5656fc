//! WebSocket and Server-Sent Events for axum, over [`towpath`].
//!
//! What a handler needs is here, that of `towpath` too: [`WsUpgrade`] and [`ws()`] for
//! sockets, [`Sse`] and [`LastEventId`] for event streams, and [`on_connect`] for the
//! listener, without which small messages crawl and a reader that stops reading keeps
//! its stream for ever.
//!
//! ```no_run
//! use axum::{Router, response::Response, routing::get, serve::ListenerExt};
//! use futures_util::{Stream, stream};
//! use tokio::net::TcpListener;
//! use towpath_axum::{Event, LastEventId, Sse, WsLayer, WsUpgrade, on_connect, ws};
//!
//! async fn echo(upgrade: WsUpgrade) -> Response {
//!     upgrade.on_upgrade(|mut socket| async move {
//!         while let Some(message) = socket.recv().await? {
//!             socket.send(message).await?;
//!         }
//!         Ok(())
//!     })
//! }
//!
//! async fn count(last: LastEventId) -> Sse<impl Stream<Item = Event>> {
//!     let seen = last.id().and_then(|id| id.parse().ok()).unwrap_or(0);
//!     Sse::new(stream::iter((seen + 1..=10_u64).map(|n| Event::new().id(n).data("…"))))
//! }
//!
//! # async fn run() -> std::io::Result<()> {
//! let app = Router::new()
//!     .route("/echo", ws(echo))
//!     .route("/count", get(count))
//!     .layer(WsLayer);
//! let listener = TcpListener::bind("127.0.0.1:1984").await?;
//! axum::serve(listener.tap_io(on_connect), app).await
//! # }
//! ```
//!
//! # Requests that do not come to an end
//!
//! A client that sends half a request, or a byte of it now and then, is no socket yet, and
//! none of the sockets' time-outs sees it. hyper has one for it, which needs a timer;
//! `axum::serve` gives it none, so that such connections stay. Where a server meets the
//! world without a proxy in front of it, it serves with hyper-util's builder:
//!
//! ```no_run
//! # async fn run(app: axum::Router) -> std::io::Result<()> {
//! use std::time::Duration;
//! use hyper_util::{
//!     rt::{TokioIo, TokioTimer},
//!     server::conn::auto::Builder,
//!     service::TowerToHyperService,
//! };
//! use tokio::{net::TcpListener, time::timeout};
//! use towpath_axum::{WsExecutor, on_connect};
//!
//! let listener = TcpListener::bind("0.0.0.0:1984").await?;
//! loop {
//!     let (mut stream, _) = listener.accept().await?;
//!     on_connect(&mut stream);
//!     let service = TowerToHyperService::new(app.clone());
//!     tokio::spawn(async move {
//!         // hyper's time begins with the first byte, so that silence has one of its own.
//!         let first = timeout(Duration::from_secs(10), stream.readable()).await;
//!         if !matches!(first, Ok(Ok(()))) {
//!             return;
//!         }
//!         let mut server = Builder::new(WsExecutor);
//!         server
//!             .http1()
//!             .timer(TokioTimer::new())
//!             .header_read_timeout(Duration::from_secs(10));
//!         server.http2().timer(TokioTimer::new()).enable_connect_protocol();
//!         // How a connection breaks is its client's business.
//!         let _ = server
//!             .serve_connection_with_upgrades(TokioIo::new(stream), service)
//!             .await;
//!     });
//! }
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod connect;
mod last_event_id;
mod peer;
mod rejection;
mod routing;
mod sse;
mod ws;

#[cfg(feature = "deflate")]
#[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
pub use towpath::ws::Deflate;
pub use towpath::{
    Drain, DrainGuard, DrainOutcome, Draining, ExpiresAt, Expiry, Snapshot, Stats,
    hub::{self, EventId, Hub, Subscription},
    sse::{Event, EventError, KeepAlive, OnDrain},
    ws::{
        AllowedOrigin, CloseCode, CloseFrame, ConfigError, Error, HandlerError, Message,
        OriginPolicy, Permit, ProtocolError, Receiver, Sender, Text, WebSocket, WsConfig,
        WsExecutor, WsLayer,
    },
};

/// Limits that last as long as the connection.
pub mod backpressure {
    pub use towpath::backpressure::{
        Admission, BackpressureLayer, BackpressureService, Key, Limits, LimitsError, Overflow,
        Permit, Refused,
    };

    pub use crate::peer::peer_key;
}

pub use self::{
    connect::{on_connect, on_connect_with},
    last_event_id::LastEventId,
    rejection::UpgradeRejection,
    routing::ws,
    sse::Sse,
    ws::WsUpgrade,
};
