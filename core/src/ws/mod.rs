//! WebSocket (RFC 6455).

pub mod handshake;
pub mod protocol;

pub use protocol::{CloseCode, CloseFrame, Message, ProtocolError, Text};
