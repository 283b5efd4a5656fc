//! What a layer says of each connection below it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{Limits, LimitsError, Overflow};

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
    pub(super) const fn new() -> Self {
        Self {
            messages: None,
            bytes: None,
            slow_at: None,
            write_timeout: None,
            overflow: None,
        }
    }

    /// What it does not say is as the layer around it has it.
    pub(super) fn or(self, outer: Self) -> Self {
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
    /// How many messages wait for a peer before `send` does: see
    /// [`WsConfig::outbound_messages`](crate::ws::WsConfig::outbound_messages).
    ///
    /// # Panics
    /// On zero.
    pub const fn outbound_messages(mut self, messages: usize) -> Self {
        assert!(messages > 0, "outbound_messages must not be zero");
        self.outbound.messages = Some(messages);
        self
    }

    /// As [`outbound_messages`](Self::outbound_messages), for values from outside.
    ///
    /// # Errors
    /// On zero.
    pub const fn try_outbound_messages(self, messages: usize) -> Result<Self, LimitsError> {
        match messages {
            0 => Err(LimitsError::Zero("outbound_messages")),
            messages => Ok(self.outbound_messages(messages)),
        }
    }

    /// How many bytes wait for a peer before `send` does: see
    /// [`WsConfig::outbound_bytes`](crate::ws::WsConfig::outbound_bytes).
    ///
    /// # Panics
    /// On zero.
    pub const fn outbound_bytes(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "outbound_bytes must not be zero");
        self.outbound.bytes = Some(bytes);
        self
    }

    /// As [`outbound_bytes`](Self::outbound_bytes), for values from outside.
    ///
    /// # Errors
    /// On zero.
    pub const fn try_outbound_bytes(self, bytes: usize) -> Result<Self, LimitsError> {
        match bytes {
            0 => Err(LimitsError::Zero("outbound_bytes")),
            bytes => Ok(self.outbound_bytes(bytes)),
        }
    }

    /// When a peer counts as slow, in percent of either bound; `None`: never. See
    /// [`WsConfig::slow_at`](crate::ws::WsConfig::slow_at).
    ///
    /// # Panics
    /// On zero, and on more than 100.
    pub fn slow_at(mut self, percent: impl Into<Option<u8>>) -> Self {
        let percent = percent.into();
        assert!(
            percent.is_none_or(|percent| (1..=100).contains(&percent)),
            "slow_at must be from 1 to 100"
        );
        self.outbound.slow_at = Some(percent);
        self
    }

    /// As [`slow_at`](Self::slow_at), for values from outside.
    ///
    /// # Errors
    /// On zero, and on more than 100.
    pub fn try_slow_at(self, percent: impl Into<Option<u8>>) -> Result<Self, LimitsError> {
        match percent.into() {
            Some(0 | 101..) => Err(LimitsError::OutOfRange {
                name: "slow_at",
                from: 1,
                to: 100,
            }),
            percent => Ok(self.slow_at(percent)),
        }
    }

    /// How long a socket's peer may take no byte of what waits for it; `None`: for ever.
    /// See [`WsConfig::write_timeout`](crate::ws::WsConfig::write_timeout).
    ///
    /// That of an event stream is its connection's, which no layer of a request sees: it
    /// is given to the extension crate's `on_connect`.
    ///
    /// # Panics
    /// On zero.
    pub fn write_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = timeout.into();
        assert!(
            timeout != Some(Duration::ZERO),
            "write_timeout must not be zero"
        );
        self.outbound.write_timeout = Some(timeout);
        self
    }

    /// As [`write_timeout`](Self::write_timeout), for values from outside.
    ///
    /// # Errors
    /// On zero.
    pub fn try_write_timeout(
        self,
        timeout: impl Into<Option<Duration>>,
    ) -> Result<Self, LimitsError> {
        match timeout.into() {
            Some(Duration::ZERO) => Err(LimitsError::Zero("write_timeout")),
            timeout => Ok(self.write_timeout(timeout)),
        }
    }

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
