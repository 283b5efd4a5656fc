//! The opening handshake, pure: a request's head goes in, an answer comes out
//! (RFC 6455 §4.2, RFC 8441).
//!
//! [`check`] knows no framework: it takes a [`RequestHead`], whose header lines are
//! whatever implements [`HeaderLines`]. [`check_parts`] is the same for the types of
//! `http` 1.
//!
//! ```
//! use towpath::ws::{OriginPolicy, handshake::{self, HttpVersion, RequestHead}};
//!
//! let lines = [
//!     ("Host", "server.example"),
//!     ("Upgrade", "websocket"),
//!     ("Connection", "keep-alive, Upgrade"),
//!     ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
//!     ("Sec-WebSocket-Version", "13"),
//!     ("Sec-WebSocket-Protocol", "chat.v1, chat.v2"),
//! ];
//! let head = RequestHead {
//!     method: "GET",
//!     version: HttpVersion::Http11,
//!     authority: None,
//!     protocol: None,
//!     lines: &lines[..],
//! };
//! let handshake = handshake::check(&head, &OriginPolicy::SameHost)?;
//! let chosen = handshake.offered().choose(["chat.v2", "chat.v1"]);
//! assert_eq!(chosen, Some("chat.v2"));
//!
//! let answer = handshake.answer(chosen);
//! assert_eq!(answer.status(), 101);
//! assert!(answer.headers().any(|header| {
//!     header == ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
//! }));
//! # Ok::<(), handshake::UpgradeRejection>(())
//! ```

#[cfg(feature = "client")]
mod client;
mod extensions;
mod key;
mod list;
mod parts;
mod rejection;
mod request;
mod response;
mod subprotocol;

#[cfg(feature = "client")]
pub use client::AnswerError;
#[cfg(feature = "client")]
pub(crate) use client::{Agreed, Asked};
pub(crate) use extensions::Agreement;
pub use parts::check_parts;
pub(crate) use parts::{RewrittenConnect, asks_for_upgrade, is_extended_connect};
pub use rejection::UpgradeRejection;
pub use request::{HeaderLines, HttpVersion, RequestHead, check};
pub use response::{Answer, Handshake};
pub use subprotocol::Subprotocols;

#[cfg(test)]
mod tests;
