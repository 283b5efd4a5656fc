//! WebSocket and Server-Sent Events for actix-web.

mod connect;
mod pump;
mod socket;

pub use connect::{on_connect, on_connect_through, on_connect_with};
