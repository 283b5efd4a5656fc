//! Server-Sent Events (WHATWG HTML §9.2).
//!
//! A handler returns the [`Sse`] of its framework's extension crate, which
//! wraps the one here: a stream of [`Event`]s, and what holds for as long as
//! it lives. [`SseBody`] is what it turns into, and [`Parser`] reads the other
//! end.
//!
//! ```
//! use towpath::sse::{Event, Sse};
//!
//! # fn ticks() -> impl futures_core::Stream<Item = Event> {
//! futures_util::stream::iter((1..=3).map(|n| Event::new().id(n).event("tick").data("…")))
//! # }
//! # let _ = Sse::new(ticks());
//! ```

mod body;
mod encode;
mod error;
mod event;
mod gather;
mod keep_alive;
mod last_event_id;
mod parse;
mod response;
mod source;
mod span;

pub use self::{
    body::SseBody,
    error::EventError,
    event::Event,
    keep_alive::KeepAlive,
    last_event_id::LastEventId,
    parse::{EventTooBig, MessageEvent, Parser},
    response::{OnDrain, Sse},
    source::{IntoEvent, Remainder, Source},
};

/// The headers of a response that is an event stream.
///
/// `no-transform` and `X-Accel-Buffering` keep proxies from holding events
/// back. There is no `Connection`, which HTTP/2 forbids (RFC 9113 §8.2.2).
pub const HEADERS: [(&str, &str); 3] = [
    ("content-type", "text/event-stream"),
    ("cache-control", "no-cache, no-transform"),
    ("x-accel-buffering", "no"),
];
