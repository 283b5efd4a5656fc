//! The rules of the driver, each by its name (`docs/driver.md`).

mod bounds;
mod budget;
#[cfg(feature = "deflate")]
mod deflate;
mod drain;
mod ends;
mod expiry;
mod heartbeat;
mod idle;
mod lent;
mod peer;
mod rules;
