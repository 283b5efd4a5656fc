//! WebSocket and Server-Sent Events for Rust web services, as `tower` layers.
//!
//! This is the core, which knows no framework: the protocols ([`ws`], [`sse`]), topics
//! with history ([`hub`]), [`Drain`] and [`Stats`]. For axum and actix-web there are
//! `towpath-axum` and `towpath-actix`; over plain `hyper` a handler looks like this:
//!
//! ```
//! use http::{Request, Response};
//! use towpath::ws::{WsUpgrade, handshake::UpgradeRejection};
//!
//! fn echo<B>(request: Request<B>) -> Result<Response<String>, UpgradeRejection> {
//!     let (mut parts, _) = request.into_parts();
//!     let upgrade = WsUpgrade::from_parts(&mut parts)?;
//!     Ok(upgrade.on_upgrade(|mut socket| async move {
//!         while let Some(message) = socket.recv().await? {
//!             socket.send(message).await?;
//!         }
//!         Ok(())
//!     }))
//! }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod backpressure;
#[cfg(feature = "client")]
#[cfg_attr(docsrs, doc(cfg(feature = "client")))]
pub mod client;
mod drain;
mod encoded;
mod expiry;
pub mod hub;
mod settings;
pub mod sse;
mod stats;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;
mod waker;
pub mod ws;

pub use drain::{Drain, DrainGuard, DrainOutcome, Draining};
pub use expiry::{ExpiresAt, Expiry};
pub use stats::{Snapshot, Stats};
