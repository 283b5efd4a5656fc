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
        Admission, BackpressureLayer, BackpressureService, Key, Limits, LimitsError, Permit,
        Refused,
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
