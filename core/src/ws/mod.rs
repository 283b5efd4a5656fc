//! WebSocket (RFC 6455).

mod config;
mod driver;
mod error;
pub mod handshake;
mod heartbeat;
mod layer;
mod origin;
pub mod protocol;
mod service;
mod shared;
mod socket;
mod source;
mod transport;

pub use config::{ConfigError, WsConfig};
pub use driver::{Accepted, Driver};
pub use error::{Error, HandlerError};
pub use layer::WsLayer;
pub use origin::{AllowedOrigin, OriginPolicy};
pub use protocol::{CloseCode, CloseFrame, Message, Outbox, ProtocolError, Text};
pub use service::{WsService, WsSettings};
pub use socket::{Permit, Receiver, Sender, WebSocket};
pub use source::{Forwarded, FrameSource};
pub use transport::{IoTransport, Received, TcpTransport, Transport};
