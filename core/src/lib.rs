//! WebSocket and Server-Sent Events for Rust web services, as `tower` layers.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod drain;
mod encoded;
pub mod hub;
pub mod sse;
mod stats;
pub mod ws;

pub use drain::{Drain, DrainGuard, DrainOutcome, Draining};
pub use stats::{Snapshot, Stats};
