//! What the fuzz targets do: each takes any bytes, and panics where the library is
//! wrong. The targets themselves are one line each, so that all of this is compiled
//! once.
//!
//! What the library is held to is written anew here, from the RFCs: frames ([`wire`]),
//! a whole connection ([`model`]), DEFLATE ([`puff`]), the handshake ([`requests`]) and
//! event streams ([`events`]).

pub mod connection;
pub mod driver;
pub mod events;
pub mod frames;
pub mod input;
mod memory;
pub mod model;
pub mod puff;
pub mod requests;
pub mod terms;
pub mod wire;
