//! WebSocket and Server-Sent Events for Rust web services, as `tower` layers.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod hub;
pub mod sse;
mod stats;
pub mod ws;

pub use stats::{Snapshot, Stats};
