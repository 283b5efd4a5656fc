//! Clients: of a WebSocket, by [`connect`], and of an event stream, [`EventSource`].
//!
//! A WebSocket's (RFC 6455 §4.1) is the other half of a server's: the same protocol, limits and
//! driver as a server's, over `ws://` and, with the feature `client-tls`, `wss://`.
//!
//! ```no_run
//! use towpath::client;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut socket = client::connect("ws://127.0.0.1:8080/echo").await?;
//! socket.send("hello").await?;
//! while let Some(message) = socket.recv().await? {
//!     println!("{}", message.as_text().unwrap_or("binary"));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What [`connect`] gives is a builder, [`Connect`], that connects when it is awaited:
//!
//! ```no_run
//! # async fn connect() -> Result<(), towpath::client::ConnectError> {
//! use std::time::Duration;
//! use http::header::AUTHORIZATION;
//! use towpath::client;
//!
//! let socket = client::connect("ws://127.0.0.1:8080/chat")
//!     .header(AUTHORIZATION, "Bearer …")
//!     .protocols(["chat.v2", "chat.v1"])
//!     .configure(|config| config.max_message_size(64 << 10).heartbeat(Duration::from_secs(10)))
//!     .connect_timeout(Duration::from_secs(5))
//!     .await?;
//! assert_eq!(socket.protocol(), Some("chat.v2"));
//! # Ok(())
//! # }
//! ```
//!
//! # Who drives it
//!
//! Awaited, it gives the [`WebSocket`] that a server's handler gets, and the connection
//! is driven by a task that is spawned for it: pings are answered and heartbeats sent
//! whether or not somebody awaits `recv`. Each batch of messages is then a change of
//! tasks. With [`Connect::run`] a handler is polled inside the driver, as a server's is:
//! that is what a program with many connections, or with much to say, should use.
//!
//! # What it does not do
//!
//! Redirects are not followed: [`ConnectError::Redirected`] has the answer. Nothing is
//! tried again: that is what [`Reconnecting`] is for. WebSocket over HTTP/2 is spoken
//! by servers only.

mod build;
mod connector;
mod error;
mod event_source;
mod handshake;
mod reconnect;
mod retry_after;
mod stream;
#[cfg(feature = "client-tls")]
mod tls;

pub use build::{Connect, connect};
pub use error::{BoxError, ConnectError, InvalidRequest, Stage};
pub use event_source::{EventSource, EventSourceBuilder, EventSourceError, EventSourceState};
pub use reconnect::{
    Backoff, Down, Reconnect, Reconnecting, ReconnectingSender, SendError, State, WhenFull,
};

pub use crate::ws::{WebSocket, handshake::AnswerError};

#[cfg(test)]
mod tests;
