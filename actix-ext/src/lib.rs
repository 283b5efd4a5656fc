//! WebSocket and Server-Sent Events for actix-web.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod connect;
mod last_event_id;
mod middleware;
mod pump;
mod rejection;
mod socket;
mod sse;
mod ws;

pub use connect::{on_connect, on_connect_through, on_connect_with};
pub use last_event_id::LastEventId;
pub use middleware::{WsLayer, WsService};
pub use rejection::UpgradeRejection;
pub use sse::Sse;
pub use ws::{WsUpgrade, ws};
