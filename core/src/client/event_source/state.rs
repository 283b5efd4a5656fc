use tokio::time::Instant;

use super::EventSourceError;

/// What an [`EventSource`](super::EventSource) is about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventSourceState {
    /// It asks for the stream.
    Connecting {
        /// The number of the attempt since the stream was last there, from 1.
        attempt: u32,
    },
    /// The stream is there.
    Open,
    /// It waits before it tries again.
    Waiting {
        /// Why.
        why: EventSourceError,
        /// When it will, if it is polled then.
        until: Instant,
    },
    /// It has ended.
    Closed {
        /// Why; `None` where the server said 204, which asks not to come back, where a
        /// stream that does not reconnect came to its end, and after
        /// [`close`](super::EventSource::close).
        why: Option<EventSourceError>,
    },
}

impl EventSourceState {
    /// Whether the stream is there.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}
