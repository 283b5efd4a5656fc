//! WebSocket (RFC 6455).

mod config;
pub mod handshake;
mod layer;
mod origin;
pub mod protocol;
mod service;

pub use config::{ConfigError, WsConfig};
pub use layer::WsLayer;
pub use origin::{AllowedOrigin, OriginPolicy};
pub use protocol::{CloseCode, CloseFrame, Message, ProtocolError, Text};
pub use service::{WsService, WsSettings};
