//! WebSocket (RFC 6455, over HTTP/2 RFC 8441).

mod config;
#[cfg(feature = "deflate")]
mod deflate;
mod driver;
mod error;
pub mod handshake;
mod heartbeat;
mod http2;
mod idle;
mod inbox;
mod layer;
mod lent;
mod negotiation;
mod origin;
pub mod protocol;
mod service;
mod shared;
mod slow;
mod socket;
mod source;
mod span;
mod transport;
mod upgrade;
mod waiters;

pub use config::{ConfigError, WsConfig};
#[cfg(feature = "deflate")]
#[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
pub use deflate::Deflate;
pub use driver::{Accepted, drive};
pub use error::{Error, HandlerError};
pub use http2::WsExecutor;
pub use layer::WsLayer;
pub use negotiation::Negotiation;
pub use origin::{AllowedOrigin, OriginPolicy};
pub use protocol::{
    Broadcast, CloseCode, CloseFrame, Message, Outbox, Outgoing, ProtocolError, Text,
};
pub use service::{WsService, WsSettings};
#[cfg(feature = "client")]
pub(crate) use shared::{weight, weight_out};
pub use slow::SlowPeer;
pub use socket::{Permit, Receiver, Sender, Uncompressed, WebSocket};
pub use source::{FrameSink, FrameSource};
pub use transport::{IoTransport, Received, TcpTransport, Transport};
pub use upgrade::WsUpgrade;
