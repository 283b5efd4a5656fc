//! The protocol without input or output: bytes go in and events come out,
//! messages go in and bytes come out (RFC 6455 §5–§8).

mod close;
mod error;
mod message;

pub use close::{CloseCode, CloseFrame};
pub use error::ProtocolError;
pub use message::{Message, Text};
