use std::{convert::identity, time::Duration};

#[cfg(feature = "deflate")]
use super::deflate::Deflate;
use super::origin::{AllowedOrigin, OriginPolicy};
use super::slow::{OnSlow, SlowPeer};
use crate::{
    Drain, Stats,
    backpressure::{Outbound, Overflow},
    settings::{bounded, nonzero, optional_percent, optional_time},
};

/// The settings of a socket.
///
/// | setting | default |
/// | --- | --- |
/// | [`max_message_size`](Self::max_message_size) | 1 MiB |
/// | [`max_frame_size`](Self::max_frame_size) | the message's limit |
/// | [`max_fragments`](Self::max_fragments) | 131,072 frames of one message |
/// | [`heartbeat`](Self::heartbeat) | 30 s |
/// | [`close_timeout`](Self::close_timeout) | 5 s |
/// | [`write_timeout`](Self::write_timeout) | 30 s |
/// | [`idle_timeout`](Self::idle_timeout) | none |
/// | [`inbound_bytes`](Self::inbound_bytes) | 64 KiB |
/// | [`outbound_bytes`](Self::outbound_bytes) | 1 MiB |
/// | [`outbound_messages`](Self::outbound_messages) | 1,024 |
/// | [`slow_at`](Self::slow_at) | 80 % of either |
/// | [`origins`](Self::origins) | the request's own host |
/// | [`stats`](Self::stats) | the process's |
/// | [`drain`](Self::drain) | none |
///
/// The outbound bounds, `slow_at` and `write_timeout` are also settings of a
/// [`BackpressureLayer`](crate::backpressure::BackpressureLayer), whose values count where
/// these are not set here.
///
/// A zero limit or time-out would refuse every message or cut every socket. The
/// plain methods are for constants and panic on it when the program starts; for
/// values that come from outside each has a `try_` form that says what is wrong.
///
/// ```
/// use std::time::Duration;
/// use towpath::ws::WsConfig;
///
/// let config = WsConfig::new().max_message_size(64 << 10).heartbeat(None);
/// assert_eq!(config.message_limit(), 64 << 10);
///
/// let error = WsConfig::new().try_close_timeout(Duration::ZERO).unwrap_err();
/// assert_eq!(error.to_string(), "close_timeout must not be zero");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct WsConfig {
    max_message_size: usize,
    max_frame_size: Option<usize>,
    max_fragments: u32,
    heartbeat: Option<Duration>,
    close_timeout: Duration,
    idle_timeout: Option<Duration>,
    inbound_bytes: usize,
    /// What is not said is as a layer around this one has it, or as the defaults.
    outbound: Outbound,
    on_slow: Option<OnSlow>,
    #[cfg(feature = "deflate")]
    deflate: Option<Deflate>,
    origins: OriginPolicy,
    stats: Option<Stats>,
    drain: Option<Drain>,
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A limit or a time-out of zero.
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
    /// Not an origin.
    #[error("{0:?} is not an origin: scheme://host[:port] is expected, without a path")]
    InvalidOrigin(String),
}

impl WsConfig {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            max_message_size: 1 << 20,
            max_frame_size: None,
            max_fragments: 131_072,
            heartbeat: Some(Duration::from_secs(30)),
            close_timeout: Duration::from_secs(5),
            idle_timeout: None,
            inbound_bytes: 64 << 10,
            outbound: Outbound::new(),
            on_slow: None,
            #[cfg(feature = "deflate")]
            deflate: None,
            origins: OriginPolicy::SameHost,
            stats: None,
            drain: None,
        }
    }

    nonzero!(
        /// The largest message that is taken, in bytes; one of exactly so many still
        /// passes. Past it the socket is closed with 1009.
        fn max_message_size, try_max_message_size: usize, 0, ConfigError => max_message_size = identity
    );
    nonzero!(
        /// The largest frame that is taken, in bytes. Past it the socket is closed
        /// with 1009, as soon as the frame's header is read. Without this setting
        /// the message's limit is the frame's too.
        fn max_frame_size, try_max_frame_size: usize, 0, ConfigError => max_frame_size = Some
    );
    nonzero!(
        /// The most frames of one message. Past it the socket is closed with 1008.
        fn max_fragments, try_max_fragments: u32, 0, ConfigError => max_fragments = identity
    );
    nonzero!(
        /// How long a peer may take to answer our close frame, and to take what was
        /// queued in front of it; past it the connection is reset.
        fn close_timeout, try_close_timeout: Duration, Duration::ZERO, ConfigError => close_timeout = bounded
    );
    nonzero!(
        /// How many bytes of received messages wait for the handler before reading
        /// stops.
        fn inbound_bytes, try_inbound_bytes: usize, 0, ConfigError => inbound_bytes = identity
    );
    nonzero!(
        /// How many bytes wait for the peer before `send` does. A message is taken
        /// whenever fewer wait, however large it is, so that this and one message
        /// are the most that is held.
        fn outbound_bytes, try_outbound_bytes: usize, 0, ConfigError => outbound.bytes = Some
    );
    nonzero!(
        /// How many messages wait for the peer before `send` does, whatever they hold:
        /// those that were accepted and of which the transport has not taken all. The
        /// subscriptions that are [forwarded](super::WebSocket::forward) fill half of it
        /// at the most.
        fn outbound_messages, try_outbound_messages: usize, 0, ConfigError => outbound.messages = Some
    );

    optional_percent!(
        /// A peer is slow when so many percent of [`outbound_bytes`](Self::outbound_bytes) or
        /// of [`outbound_messages`](Self::outbound_messages) wait for it: it is counted in
        /// [`Snapshot::slow_total`](crate::Snapshot::slow_total), and [`on_slow`](Self::on_slow)
        /// is called; once, until it has taken so much that less than half of that waits.
        /// `None`: nobody is.
        fn slow_at, try_slow_at: ConfigError => outbound.slow_at
    );

    /// Called when a peer has become slow: see [`slow_at`](Self::slow_at). It is called by
    /// the connection's own task, between two steps of it, so it must not block. A panic
    /// in it is counted, and changes nothing.
    ///
    /// ```
    /// use towpath::ws::WsConfig;
    ///
    /// // For one socket: `upgrade.configure(|config| config.on_slow(…))`.
    /// let config = WsConfig::new().on_slow(|slow| {
    ///     eprintln!("{} messages wait", slow.buffered_messages);
    /// });
    /// # let _ = config;
    /// ```
    pub fn on_slow(mut self, tell: impl Fn(&SlowPeer) + Send + Sync + 'static) -> Self {
        self.on_slow = Some(OnSlow(std::sync::Arc::new(tell)));
        self
    }

    optional_time!(
        /// A ping goes out after so long without traffic in one of the two directions; a
        /// peer from which no byte came for twice as long is gone. `None`: no pings, and
        /// a peer that vanished is found only by a write that fails.
        fn heartbeat, try_heartbeat: ConfigError => heartbeat = identity
    );

    optional_time!(
        /// How long a peer may take no byte of what waits for it; past it the connection
        /// is reset. `None`: for ever.
        fn write_timeout, try_write_timeout: ConfigError => outbound.write_timeout = Some
    );

    optional_time!(
        /// How long a socket may be without a data message in either direction; past it it
        /// is closed with 1001, "idle". `None`, the default: for ever.
        ///
        /// Pings and pongs do not count: [`heartbeat`](Self::heartbeat) finds a peer that
        /// has gone, this one that has nothing to say. A message that is arriving or on its
        /// way out is not idleness, nor is time in which reading stands still because the
        /// handler is behind.
        fn idle_timeout, try_idle_timeout: ConfigError => idle_timeout = identity
    );

    /// Compresses messages where the client offers to (RFC 7692); `None`, the
    /// default, never does.
    #[cfg(feature = "deflate")]
    #[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
    pub fn deflate(mut self, deflate: impl Into<Option<Deflate>>) -> Self {
        self.deflate = deflate.into();
        self
    }

    /// Which origins may open a socket.
    pub fn origins(mut self, policy: OriginPolicy) -> Self {
        self.origins = policy;
        self
    }

    /// Allows one origin, `scheme://host[:port]` or `scheme://*.host[:port]`, besides
    /// those that were allowed so before; the request's own host is no longer allowed
    /// by itself. See [`AllowedOrigin`].
    ///
    /// # Panics
    /// Where `origin` is not one.
    pub fn allow_origin(self, origin: &str) -> Self {
        let parsed = AllowedOrigin::parse(origin);
        assert!(parsed.is_some(), "{origin:?} is not an origin");
        self.allow(parsed)
    }

    /// As [`allow_origin`](Self::allow_origin), for values from outside.
    ///
    /// # Errors
    /// Where `origin` is not one.
    pub fn try_allow_origin(self, origin: &str) -> Result<Self, ConfigError> {
        let origin = origin.parse()?;
        Ok(self.allow([origin]))
    }

    fn allow(mut self, added: impl IntoIterator<Item = AllowedOrigin>) -> Self {
        if let OriginPolicy::Allow(allowed) = &mut self.origins {
            allowed.extend(added);
        } else {
            self.origins = OriginPolicy::Allow(added.into_iter().collect());
        }
        self
    }

    /// Where sockets and refusals are counted, in place of the process's counters.
    pub fn stats(mut self, stats: Stats) -> Self {
        self.stats = Some(stats);
        self
    }

    /// The drain that ends the sockets, and from whose start on upgrades are refused
    /// with 503.
    pub fn drain(mut self, drain: Drain) -> Self {
        self.drain = Some(drain);
        self
    }

    /// The largest message, in bytes.
    #[must_use]
    pub const fn message_limit(&self) -> usize {
        self.max_message_size
    }

    /// The largest frame, in bytes.
    #[must_use]
    pub const fn frame_limit(&self) -> usize {
        match self.max_frame_size {
            Some(limit) => limit,
            None => self.max_message_size,
        }
    }

    /// The most frames of one message.
    #[must_use]
    pub const fn fragment_limit(&self) -> u32 {
        self.max_fragments
    }

    /// See [`heartbeat`](Self::heartbeat).
    #[must_use]
    pub const fn heartbeat_interval(&self) -> Option<Duration> {
        self.heartbeat
    }

    /// See [`close_timeout`](Self::close_timeout).
    #[must_use]
    pub const fn close_limit(&self) -> Duration {
        self.close_timeout
    }

    /// See [`write_timeout`](Self::write_timeout).
    #[must_use]
    pub const fn write_limit(&self) -> Option<Duration> {
        match self.outbound.write_timeout {
            Some(limit) => limit,
            None => Some(Duration::from_secs(30)),
        }
    }

    /// See [`idle_timeout`](Self::idle_timeout).
    #[must_use]
    pub const fn idle_limit(&self) -> Option<Duration> {
        self.idle_timeout
    }

    /// See [`inbound_bytes`](Self::inbound_bytes).
    #[must_use]
    pub const fn inbound_bound(&self) -> usize {
        self.inbound_bytes
    }

    /// See [`outbound_bytes`](Self::outbound_bytes).
    #[must_use]
    pub const fn outbound_bound(&self) -> usize {
        match self.outbound.bytes {
            Some(bytes) => bytes,
            None => 1 << 20,
        }
    }

    /// See [`outbound_messages`](Self::outbound_messages).
    #[must_use]
    pub const fn outbound_message_bound(&self) -> usize {
        match self.outbound.messages {
            Some(messages) => messages,
            None => 1024,
        }
    }

    /// See [`slow_at`](Self::slow_at).
    #[must_use]
    pub const fn slow_percent(&self) -> Option<u8> {
        match self.outbound.slow_at {
            Some(percent) => percent,
            None => Some(80),
        }
    }

    /// What happens to a forwarded subscription that does not say so itself.
    pub(super) const fn overflow(&self) -> Option<Overflow> {
        self.outbound.overflow
    }

    /// What it does not say is as a layer around it has it.
    pub(super) fn under(mut self, layer: Outbound) -> Self {
        self.outbound = self.outbound.or(layer);
        self
    }

    pub(crate) const fn slow_listener(&self) -> Option<&OnSlow> {
        self.on_slow.as_ref()
    }

    /// See [`deflate`](Self::deflate).
    #[cfg(feature = "deflate")]
    #[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
    #[must_use]
    pub const fn deflate_settings(&self) -> Option<&Deflate> {
        self.deflate.as_ref()
    }

    /// See [`origins`](Self::origins).
    #[must_use]
    pub const fn origin_policy(&self) -> &OriginPolicy {
        &self.origins
    }

    /// See [`drain`](Self::drain).
    #[must_use]
    pub const fn drain_handle(&self) -> Option<&Drain> {
        self.drain.as_ref()
    }

    /// What counts: those given, or the process's.
    #[must_use]
    pub fn counters(&self) -> Stats {
        self.stats.clone().unwrap_or_else(Stats::global)
    }
}

impl Default for WsConfig {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let config = WsConfig::new();
        assert_eq!(config.message_limit(), 1_048_576);
        assert_eq!(config.frame_limit(), 1_048_576);
        assert_eq!(config.fragment_limit(), 131_072);
        assert_eq!(config.heartbeat_interval(), Some(Duration::from_secs(30)));
        assert_eq!(config.close_limit(), Duration::from_secs(5));
        assert_eq!(config.write_limit(), Some(Duration::from_secs(30)));
        assert_eq!(config.idle_limit(), None);
        assert_eq!(config.inbound_bound(), 65_536);
        assert_eq!(config.outbound_bound(), 1_048_576);
        assert_eq!(config.outbound_message_bound(), 1_024);
        assert_eq!(config.slow_percent(), Some(80));
        assert_eq!(config.origin_policy(), &OriginPolicy::SameHost);
    }

    #[test]
    fn the_frame_limit_follows_the_message_limit_until_it_is_set() {
        let config = WsConfig::new().max_message_size(10);
        assert_eq!(config.frame_limit(), 10);
        let config = config.max_frame_size(5).max_message_size(20);
        assert_eq!((config.message_limit(), config.frame_limit()), (20, 5));
    }

    #[test]
    fn zero_is_an_error_that_names_the_setting() {
        let zero = Duration::ZERO;
        for (name, result) in [
            ("max_message_size", WsConfig::new().try_max_message_size(0)),
            ("max_frame_size", WsConfig::new().try_max_frame_size(0)),
            ("max_fragments", WsConfig::new().try_max_fragments(0)),
            ("heartbeat", WsConfig::new().try_heartbeat(zero)),
            ("close_timeout", WsConfig::new().try_close_timeout(zero)),
            ("write_timeout", WsConfig::new().try_write_timeout(zero)),
            ("idle_timeout", WsConfig::new().try_idle_timeout(zero)),
            ("inbound_bytes", WsConfig::new().try_inbound_bytes(0)),
            ("outbound_bytes", WsConfig::new().try_outbound_bytes(0)),
            (
                "outbound_messages",
                WsConfig::new().try_outbound_messages(0),
            ),
        ] {
            assert_eq!(result.unwrap_err(), ConfigError::Zero(name));
        }
        for percent in [0, 101, 255] {
            let error = WsConfig::new().try_slow_at(percent).unwrap_err();
            assert_eq!(error.to_string(), "slow_at must be from 1 to 100");
        }
        assert_eq!(
            WsConfig::new().try_slow_at(None).unwrap().slow_percent(),
            None
        );
        let config = WsConfig::new().try_heartbeat(None).unwrap();
        assert_eq!(config.heartbeat_interval(), None);
    }

    #[test]
    fn what_no_clock_can_hold_is_for_ever() {
        let config = WsConfig::new()
            .heartbeat(Duration::MAX)
            .close_timeout(Duration::MAX)
            .write_timeout(Duration::MAX)
            .idle_timeout(Duration::MAX);
        let times = [
            config.heartbeat_interval(),
            Some(config.close_limit()),
            config.write_limit(),
            config.idle_limit(),
        ];
        assert_eq!(times, [Some(crate::settings::LONGEST); 4]);
    }

    #[test]
    #[should_panic(expected = "max_fragments must not be zero")]
    fn a_constant_of_zero_panics_with_the_setting() {
        let _ = WsConfig::new().max_fragments(0);
    }

    #[test]
    #[should_panic(expected = "\"chat.example\" is not an origin")]
    fn a_constant_that_is_no_origin_panics_with_it() {
        let _ = WsConfig::new().allow_origin("chat.example");
    }

    #[test]
    fn allowed_origins_add_up() {
        let config = WsConfig::new()
            .try_allow_origin("https://a.example")
            .and_then(|config| config.try_allow_origin("https://b.example"))
            .unwrap();
        let policy = config.origin_policy();
        assert!(policy.allows("https://a.example", "own"));
        assert!(policy.allows("https://b.example", "own"));
        assert!(!policy.allows("https://own", "own"));
        assert!(config.try_allow_origin("null").is_err());
    }
}
