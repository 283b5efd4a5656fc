use super::config::ConfigError;

/// How messages are compressed, where the client offers permessage-deflate
/// (RFC 7692).
///
/// | setting | default |
/// | --- | --- |
/// | [`context_takeover`](Self::context_takeover) | no, in either direction |
/// | [`window_bits`](Self::window_bits) | 15 |
/// | [`threshold`](Self::threshold) | 128 bytes |
/// | [`level`](Self::level) | 6 |
///
/// The limits of messages are for what they inflate to, and are held while they
/// do; the limit of frames, where there is one, is for what is on the wire.
///
/// What goes to many, published in a [hub](crate::hub) or sent as a
/// [`Broadcast`](super::Broadcast), is compressed once for all of them.
/// A message may be left [uncompressed](super::WebSocket::uncompressed), and one
/// that mixes a secret with what an attacker may choose had better be: its size
/// tells.
///
/// ```
/// use towpath::ws::{Deflate, WsLayer};
/// let layer = WsLayer::new().deflate(Deflate::new().threshold(1024));
/// # let _ = layer;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Deflate {
    context_takeover: bool,
    window_bits: u8,
    threshold: usize,
    level: u32,
}

impl Deflate {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            context_takeover: false,
            window_bits: 15,
            threshold: 128,
            level: 6,
        }
    }

    /// Whether a message may refer to those before it, in both directions, unless
    /// the client asks for less. It makes small messages of a kind much smaller,
    /// and costs each connection that has received one 48 KB for good, and 250 to
    /// 380 KB from when it has sent one until 30 s after the last. Without it
    /// connections own no state between messages.
    ///
    /// A client may insist on its own context, without a word on the wire, and fail
    /// a connection whose answer denies it: npm's `ws` where it is told
    /// `clientNoContextTakeover: false`. Such a client needs this.
    pub const fn context_takeover(mut self, keep: bool) -> Self {
        self.context_takeover = keep;
        self
    }

    /// The base-2 logarithm of the largest window to compress with, 8 to 15: less
    /// where the client asks for less. A small one costs compression and saves the
    /// client's memory, and at most a third of ours.
    ///
    /// # Panics
    /// Outside of 8 to 15.
    pub const fn window_bits(mut self, bits: u8) -> Self {
        assert!(matches!(bits, 8..=15), "window_bits must be from 8 to 15");
        self.window_bits = bits;
        self
    }

    /// As [`window_bits`](Self::window_bits), for values from outside.
    ///
    /// # Errors
    /// Outside of 8 to 15.
    pub const fn try_window_bits(self, bits: u8) -> Result<Self, ConfigError> {
        match bits {
            8..=15 => Ok(self.window_bits(bits)),
            _ => Err(ConfigError::OutOfRange {
                name: "window_bits",
                from: 8,
                to: 15,
            }),
        }
    }

    /// Messages of fewer bytes are sent as they are.
    pub const fn threshold(mut self, bytes: usize) -> Self {
        self.threshold = bytes;
        self
    }

    /// From 1, the fastest, to 9, the smallest.
    ///
    /// # Panics
    /// Outside of 1 to 9.
    pub const fn level(mut self, level: u32) -> Self {
        assert!(matches!(level, 1..=9), "level must be from 1 to 9");
        self.level = level;
        self
    }

    /// As [`level`](Self::level), for values from outside.
    ///
    /// # Errors
    /// Outside of 1 to 9.
    pub const fn try_level(self, level: u32) -> Result<Self, ConfigError> {
        match level {
            1..=9 => Ok(self.level(level)),
            _ => Err(ConfigError::OutOfRange {
                name: "level",
                from: 1,
                to: 9,
            }),
        }
    }

    /// See [`context_takeover`](Self::context_takeover).
    #[must_use]
    pub const fn takes_context_over(&self) -> bool {
        self.context_takeover
    }

    /// See [`window_bits`](Self::window_bits).
    #[must_use]
    pub const fn window_limit(&self) -> u8 {
        self.window_bits
    }

    /// See [`threshold`](Self::threshold).
    #[must_use]
    pub const fn compressed_from(&self) -> usize {
        self.threshold
    }

    /// See [`level`](Self::level).
    #[must_use]
    pub const fn compression_level(&self) -> u32 {
        self.level
    }
}

impl Default for Deflate {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let deflate = Deflate::new();
        assert!(!deflate.takes_context_over());
        assert_eq!(deflate.window_limit(), 15);
        assert_eq!(deflate.compressed_from(), 128);
        assert_eq!(deflate.compression_level(), 6);
    }

    #[test]
    fn what_is_out_of_range_is_an_error_that_names_the_setting() {
        let deflate = Deflate::new();
        for (result, message) in [
            (
                deflate.try_window_bits(7),
                "window_bits must be from 8 to 15",
            ),
            (
                deflate.try_window_bits(16),
                "window_bits must be from 8 to 15",
            ),
            (deflate.try_level(0), "level must be from 1 to 9"),
            (deflate.try_level(10), "level must be from 1 to 9"),
        ] {
            assert_eq!(result.unwrap_err().to_string(), message);
        }
        assert_eq!(deflate.try_window_bits(8), Ok(deflate.window_bits(8)));
        assert_eq!(deflate.try_level(9), Ok(deflate.level(9)));
    }
}
