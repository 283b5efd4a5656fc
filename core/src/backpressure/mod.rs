//! Limits that last as long as the connection: how many sockets and streams may live, in
//! all and of each client.
//!
//! `tower`'s own `ConcurrencyLimit` gives its permit back at the response's head, so a
//! limit of 10 lets any number of streams through. The permit of a [`BackpressureLayer`]
//! belongs to the socket or to the response's body, and comes back with it on every way
//! out: close, error, panic, drop, reset, a handshake that was cut off.
//!
//! [`Admission`] is the engine, for those who write the middleware of another framework:
//! it knows no HTTP.

mod admission;
mod body;
mod budget;
mod future;
mod key;
mod layer;
mod limits;
mod meter;
mod outbound;
mod overflow;
mod service;
mod slot;

pub use self::{
    admission::{Admission, Permit, Refused},
    body::AdmittedBody,
    future::ResponseFuture,
    key::Key,
    layer::BackpressureLayer,
    limits::{Limits, LimitsError},
    meter::{Charge, Meter},
    outbound::StreamDefaults,
    overflow::Overflow,
    service::BackpressureService,
    slot::{Held, PermitSlot, PermitSlots, Permits},
};
pub(crate) use self::{meter::Account, outbound::Outbound};
