//! What a layer says of each connection below it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{Limits, LimitsError, Overflow};
use crate::settings::{nonzero, optional_percent, optional_time};

/// What may wait for one peer, as far as a layer says it: `None` where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outbound {
    pub(crate) messages: Option<usize>,
    pub(crate) bytes: Option<usize>,
    pub(crate) slow_at: Option<Option<u8>>,
    pub(crate) write_timeout: Option<Option<Duration>>,
    pub(crate) overflow: Option<Overflow>,
}

impl Outbound {
    pub(crate) const fn new() -> Self {
        Self {
            messages: None,
            bytes: None,
            slow_at: None,
            write_timeout: None,
            overflow: None,
        }
    }

    /// What it does not say is as the layer around it has it.
    pub(crate) fn or(self, outer: Self) -> Self {
        Self {
            messages: self.messages.or(outer.messages),
            bytes: self.bytes.or(outer.bytes),
            slow_at: self.slow_at.or(outer.slow_at),
            write_timeout: self.write_timeout.or(outer.write_timeout),
            overflow: self.overflow.or(outer.overflow),
        }
    }
}

/// What the layers around an event stream say of it, in the extensions of its response:
/// the stream that is below them is made before they see it.
///
/// For those who write an extension crate for another framework.
#[derive(Clone, Debug, Default)]
pub struct StreamDefaults(Arc<OnceLock<Overflow>>);

impl StreamDefaults {
    /// What a layer says; the innermost, which is asked first, wins.
    pub(super) fn say(&self, outbound: Outbound) {
        if let Some(overflow) = outbound.overflow {
            let _ = self.0.set(overflow);
        }
    }

    /// What happens to a subscription that lags too far, where it does not say so itself.
    #[must_use]
    pub fn overflow(&self) -> Option<Overflow> {
        self.0.get().copied()
    }
}

/// Defaults for each socket and stream below the layer.
///
/// What is said nearer to the connection wins: by
/// [`WsUpgrade::configure`](crate::ws::WsUpgrade::configure), then by the socket's
/// [`WsLayer`](struct@crate::ws::WsLayer), then by the innermost `BackpressureLayer` that
/// says it, then by the [table of defaults](super::BackpressureLayer).
impl Limits {
    nonzero!(
        /// How many messages wait for a peer before `send` does: see
        /// [`WsConfig::outbound_messages`](crate::ws::WsConfig::outbound_messages).
        const fn outbound_messages, try_outbound_messages: usize, 0, LimitsError => outbound.messages = Some
    );
    nonzero!(
        /// How many bytes wait for a peer before `send` does: see
        /// [`WsConfig::outbound_bytes`](crate::ws::WsConfig::outbound_bytes).
        const fn outbound_bytes, try_outbound_bytes: usize, 0, LimitsError => outbound.bytes = Some
    );
    optional_percent!(
        /// When a peer counts as slow, in percent of either bound; `None`: never. See
        /// [`WsConfig::slow_at`](crate::ws::WsConfig::slow_at).
        fn slow_at, try_slow_at: LimitsError => outbound.slow_at
    );
    optional_time!(
        /// How long a socket's peer may take no byte of what waits for it; `None`: for ever.
        /// See [`WsConfig::write_timeout`](crate::ws::WsConfig::write_timeout).
        ///
        /// That of an event stream is its connection's, which no layer of a request sees: it
        /// is given to the extension crate's `on_connect`.
        fn write_timeout, try_write_timeout: LimitsError => outbound.write_timeout = Some
    );

    /// What happens to a subscription that lags too far, of the sockets that it is
    /// [forwarded](crate::ws::WebSocket::forward) to and of the streams that are made of
    /// it: in place of what its hub says, where
    /// [`Subscribe::overflow`](crate::hub::Subscribe::overflow) says nothing.
    ///
    /// What a handler sends by itself is never thrown away: its `send` waits.
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.outbound.overflow = Some(overflow);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named() {
        let limits = Limits::new;
        for (refused, expected) in [
            (
                limits().try_outbound_messages(0),
                "outbound_messages must not be zero",
            ),
            (
                limits().try_outbound_bytes(0),
                "outbound_bytes must not be zero",
            ),
            (
                limits().try_write_timeout(Duration::ZERO),
                "write_timeout must not be zero",
            ),
            (limits().try_slow_at(0), "slow_at must be from 1 to 100"),
            (limits().try_slow_at(101), "slow_at must be from 1 to 100"),
        ] {
            assert_eq!(refused.unwrap_err().to_string(), expected);
        }
        let taken = limits().try_slow_at(100).unwrap();
        let taken = taken.try_write_timeout(Duration::MAX).unwrap().outbound;
        assert_eq!(taken.slow_at, Some(Some(100)));
        assert_eq!(taken.write_timeout, Some(Some(crate::settings::LONGEST)));
    }

    #[test]
    fn the_inner_wins_by_each_setting() {
        let inner = Limits::new().outbound_bytes(1).slow_at(None).outbound;
        let outer = Limits::new()
            .outbound_bytes(2)
            .outbound_messages(3)
            .slow_at(50)
            .overflow(Overflow::Conflate)
            .outbound;
        let both = inner.or(outer);
        assert_eq!((both.bytes, both.messages), (Some(1), Some(3)));
        assert_eq!((both.slow_at, both.write_timeout), (Some(None), None));
        assert_eq!(both.overflow, Some(Overflow::Conflate));
    }

    #[test]
    fn of_the_layers_around_a_stream_the_first_that_says_it_wins() {
        let defaults = StreamDefaults::default();
        for limits in [
            Limits::new().outbound_bytes(1),
            Limits::new().overflow(Overflow::Block),
            Limits::new().overflow(Overflow::Conflate),
        ] {
            defaults.say(limits.outbound);
        }
        assert_eq!(defaults.overflow(), Some(Overflow::Block));
    }
}
