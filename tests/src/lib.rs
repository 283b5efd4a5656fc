//! What the two testbeds share, and what drives them from outside.
//!
//! The binaries `testbed-axum` and `testbed-actix` are the same server over two
//! frameworks: [`Options`], the state behind the routes ([`Testbed`]) and the socket
//! handlers ([`routes`]) are here, since a handler of a `WebSocket` knows no framework.
//! [`process`], [`http`], [`sse`] and [`ws`] are the other side: they start a testbed
//! and speak to it over sockets, without a line of the server's own code but the sans-IO
//! protocol.

pub mod http;
pub mod http2;
mod options;
pub mod process;
pub mod redis;
pub mod relay;
pub mod routes;
mod signals;
pub mod sse;
mod stats;
mod testbed;
pub mod tls;
pub mod ws;

pub use options::{Options, OptionsError};
pub use signals::drain_on_sigterm;
pub use stats::Counts;
pub use testbed::{Testbed, fail};

/// The code of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// So does that of the guide to HTTP/2.
#[cfg(doctest)]
#[doc = include_str!("../../docs/http2.md")]
struct Http2;
