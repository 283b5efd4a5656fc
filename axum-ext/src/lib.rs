//! WebSocket and Server-Sent Events for axum.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod connect;
mod routing;

pub use connect::{on_connect, on_connect_with};
pub use routing::ws;
