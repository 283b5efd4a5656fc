//! The table of a connection's ends (`docs/driver.md`), by what brings them.

mod drain;
mod handler;
mod overload;
mod peer;
mod time;
