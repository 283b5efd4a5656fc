//! WebSocket and Server-Sent Events for actix-web, over [`towpath`].
//!
//! What a handler needs is here, that of `towpath` too: [`WsUpgrade`] and [`ws()`] for
//! sockets, [`Sse`] and [`LastEventId`] for event streams, [`WsLayer`](struct@WsLayer)
//! for settings, and [`on_connect`] for the server, without which small messages crawl
//! and a reader that stops reading keeps its stream for ever.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use actix_web::{App, HttpResponse, HttpServer, web};
//! use futures_util::{Stream, stream};
//! use towpath_actix::{Event, LastEventId, Sse, WsLayer, WsUpgrade, on_connect, ws};
//!
//! async fn echo(upgrade: WsUpgrade) -> HttpResponse {
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
//! HttpServer::new(|| {
//!     App::new()
//!         .wrap(WsLayer)
//!         .route("/echo", ws(echo))
//!         .route("/count", web::get().to(count))
//! })
//! .on_connect(on_connect)
//! .h1_allow_half_closed(false) // an idle stream's end is noticed
//! .client_disconnect_timeout(Duration::ZERO) // a closed socket's FIN is not held back
//! .bind(("127.0.0.1", 8080))?
//! .run()
//! .await
//! # }
//! ```
//!
//! Handlers run in a task of the worker's thread and need not be [`Send`]. HTTP/2's
//! extended CONNECT is not spoken by actix-web: browsers open a connection of HTTP/1.1
//! for their sockets.
//!
//! # Requests that do not come to an end
//!
//! A client that sends half a request is cut by actix itself, after the
//! `client_request_timeout` of `HttpServer`: 5 s, unless it is set.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backpressure_layer;
mod connect;
mod last_event_id;
mod middleware;
mod pump;
mod rejection;
mod socket;
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
    },
};

/// Limits that last as long as the connection.
pub mod backpressure {
    pub use towpath::backpressure::{
        Admission, Key, Limits, LimitsError, Overflow, Permit, Refused,
    };

    pub use crate::backpressure_layer::{
        AdmittedBody, BackpressureLayer, BackpressureService, ResponseFuture, peer_key,
    };
}

pub use connect::{on_connect, on_connect_through, on_connect_with};
pub use last_event_id::LastEventId;
pub use middleware::{WsLayer, WsService};
pub use rejection::UpgradeRejection;
pub use sse::Sse;
pub use ws::{WsUpgrade, ws};
