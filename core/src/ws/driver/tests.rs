//! The rules of the driver, each by its name (`docs/driver.md`).

mod bounds;
mod budget;
#[cfg(feature = "deflate")]
mod deflate;
mod drain;
mod echo;
mod ends;
mod expiry;
mod flood;
mod heartbeat;
mod idle;
mod lent;
mod peer;
mod rules;
