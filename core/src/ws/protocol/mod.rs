//! The protocol without input or output: bytes go in and events come out,
//! messages go in and bytes come out (RFC 6455 §5–§8).

mod broadcast;
mod close;
mod connection;
#[cfg(feature = "deflate")]
mod deflate;
#[cfg(not(feature = "deflate"))]
#[path = "deflate/absent.rs"]
mod deflate;
mod error;
mod extensions;
mod frame;
mod input;
mod mask;
mod message;
mod outbox;
mod outgoing;
mod receive;
mod spare;
mod utf8;

pub use broadcast::Broadcast;
pub use close::{CloseCode, CloseFrame};
pub use connection::{Connection, Event};
#[cfg(feature = "deflate")]
pub(crate) use deflate::{Direction, Terms};
pub use error::ProtocolError;
pub use extensions::Extensions;
pub(crate) use input::Input;
pub use message::{Message, Text};
pub use outbox::Outbox;
pub use outgoing::Outgoing;
pub use receive::{Limits, Role};
pub(crate) use spare::Spares;

#[cfg(test)]
mod violations;
