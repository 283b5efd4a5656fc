use std::time::Duration;

use super::Outbound;
use crate::settings::nonzero;

/// How many connections may live, all of it off until it is set; and what may wait for each
/// of them: defaults for the sockets and streams below.
///
/// | setting | default | a start |
/// | --- | --- | --- |
/// | [`max_connections`](Self::max_connections) | none | 10,000 a server: what its memory and its open files allow |
/// | [`max_per_key`](Self::max_per_key) | none | 5 a user: tabs and devices, not a loop that reconnects |
/// | [`buffer_budget`](Self::buffer_budget) | none | a quarter of the memory: buffers are what grows when readers are slow |
/// | [`retry_after`](Self::retry_after) | 5 s | longer than a reconnect takes, shorter than a person waits |
/// | [`outbound_messages`](Self::outbound_messages), [`outbound_bytes`](Self::outbound_bytes), [`slow_at`](Self::slow_at), [`write_timeout`](Self::write_timeout) | as [`WsConfig`](crate::ws::WsConfig) has them | |
/// | [`overflow`](Self::overflow) | as the [hub](crate::hub::HubBuilder::overflow) has it | |
///
/// ```
/// use towpath::backpressure::{Limits, LimitsError};
///
/// let limits = Limits::new().max_connections(10_000).max_per_key(5);
/// assert_eq!(Limits::new().try_max_connections(0), Err(LimitsError::Zero("max_connections")));
/// # let _ = limits;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Limits {
    max_connections: Option<usize>,
    max_per_key: Option<usize>,
    buffer_budget: Option<usize>,
    retry_after: Duration,
    pub(super) outbound: Outbound,
}

/// A limit that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsError {
    /// A limit of zero would refuse everybody.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// A number that a setting does not take.
    #[error("{name} must be from {from} to {to}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// The smallest that it takes.
        from: u32,
        /// The largest.
        to: u32,
    },
}

impl Limits {
    /// None at all.
    pub const fn new() -> Self {
        Self {
            max_connections: None,
            max_per_key: None,
            buffer_budget: None,
            retry_after: Duration::from_secs(5),
            outbound: Outbound::new(),
        }
    }

    nonzero!(
        /// How many connections live at the most. The next is refused with 503.
        const fn max_connections, try_max_connections: usize, 0, LimitsError => max_connections = Some
    );

    nonzero!(
        /// How many connections of one [`Key`](super::Key) live at the most. The next is
        /// refused with 429. A request without a key has no such limit.
        const fn max_per_key, try_max_per_key: usize, 0, LimitsError => max_per_key = Some
    );

    nonzero!(
        /// How many bytes are held for all connections together: what was accepted for a
        /// connection and not yet taken by its transport, where what many share counts for
        /// each, and messages that are being received. See
        /// [`BackpressureLayer`](super::BackpressureLayer) for what can be counted where.
        ///
        /// While so many are held the next connection is refused with 503. Past it those that
        /// hold the most are cut, until what the others hold is within it: a socket is closed
        /// with 1013, an event stream ends.
        const fn buffer_budget, try_buffer_budget: usize, 0, LimitsError => buffer_budget = Some
    );

    /// What a refusal's `Retry-After` says, in whole seconds, rounded up.
    pub const fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = time;
        self
    }

    pub(super) const fn in_all(&self) -> Option<usize> {
        self.max_connections
    }

    pub(super) const fn per_key(&self) -> Option<usize> {
        self.max_per_key
    }

    pub(super) const fn budget(&self) -> Option<usize> {
        self.buffer_budget
    }

    pub(super) const fn retry_seconds(&self) -> u64 {
        let part = self.retry_after.subsec_nanos() > 0;
        self.retry_after.as_secs().saturating_add(part as u64)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_an_error_that_names_the_limit() {
        let limits = Limits::new();
        let errors = [
            limits.try_max_connections(0),
            limits.try_max_per_key(0),
            limits.try_buffer_budget(0),
        ];
        let texts = errors.map(|error| error.unwrap_err().to_string());
        assert_eq!(texts[0], "max_connections must not be zero");
        assert_eq!(texts[1], "max_per_key must not be zero");
        assert_eq!(texts[2], "buffer_budget must not be zero");
    }

    #[test]
    fn retry_after_is_rounded_up() {
        for (millis, seconds) in [(0, 0), (1, 1), (1000, 1), (1001, 2)] {
            let limits = Limits::new().retry_after(Duration::from_millis(millis));
            assert_eq!(limits.retry_seconds(), seconds);
        }
    }
}
