//! Sockets and event streams over hyper, in memory and in paused time.

mod faults;
mod service;
mod stream;
mod transport;
mod upgrade;
