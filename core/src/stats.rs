//! Shared counters.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Cheap shared counters that layers, hub and drain are given; a clone counts
/// into the same ones.
///
/// ```
/// use towpath::Stats;
/// let stats = Stats::new();
/// assert_eq!(stats.snapshot().websockets, 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Stats(Arc<Counters>);

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) websockets: AtomicU64,
    pub(crate) sse_streams: AtomicU64,
    pub(crate) upgrades: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) messages_in: AtomicU64,
    pub(crate) messages_out: AtomicU64,
    pub(crate) lagged: AtomicU64,
    pub(crate) gaps: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) handlers_dropped: AtomicU64,
    pub(crate) gone: AtomicU64,
    pub(crate) buffered_bytes: AtomicU64,
    pub(crate) slow: AtomicU64,
    pub(crate) shed: AtomicU64,
}

/// The counters at one moment.
///
/// With the feature `json` it serialises as an object of these fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// WebSockets that live now, each until its handler has ended, too.
    pub websockets: u64,
    /// Event streams that live now.
    pub sse_streams: u64,
    /// Upgrades that were answered with 101, or 200 over HTTP/2.
    pub upgrades_total: u64,
    /// Upgrades and streams that were answered with 400, 403, 426, 429 or 503.
    pub rejected_total: u64,
    /// Data messages received over WebSockets.
    pub messages_in_total: u64,
    /// Data messages sent over WebSockets, and events sent over event streams.
    pub messages_out_total: u64,
    /// Events that a subscriber did not get, whatever the policy; one that a newer event
    /// of its key replaced, too.
    pub lagged_total: u64,
    /// Gaps that were told or, to a bare socket, due.
    pub gaps_total: u64,
    /// Handlers that panicked.
    pub panics_total: u64,
    /// Handlers that were dropped because they ran on after their grace time.
    pub handlers_dropped_total: u64,
    /// WebSockets that ended without a close frame of either side, as 1006 has it
    /// (RFC 6455 §7.4.1).
    pub gone_total: u64,
    /// Bytes accepted for a connection and not yet taken by its transport, and of messages
    /// that are being received.
    pub buffered_bytes: u64,
    /// Times that a socket's peer became slow: see
    /// [`WsConfig::slow_at`](crate::ws::WsConfig::slow_at).
    pub slow_total: u64,
    /// Sockets and event streams that were cut for a
    /// [`buffer_budget`](crate::backpressure::Limits::buffer_budget).
    pub shed_total: u64,
}

impl Stats {
    /// Counters of their own, all zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The process's counters: what counts where none were given.
    #[must_use]
    pub fn global() -> Self {
        static GLOBAL: OnceLock<Stats> = OnceLock::new();
        GLOBAL.get_or_init(Self::new).clone()
    }

    /// Where the process's client sockets count, unless they are given others: so that
    /// [`global`](Self::global) tells of its servers only.
    #[cfg(feature = "client")]
    #[cfg_attr(docsrs, doc(cfg(feature = "client")))]
    #[must_use]
    pub fn clients() -> Self {
        static CLIENTS: OnceLock<Stats> = OnceLock::new();
        CLIENTS.get_or_init(Self::new).clone()
    }

    /// The counters now. Each is exact; together they are not one moment's.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let c = &self.0;
        Snapshot {
            websockets: c.websockets.load(Relaxed),
            sse_streams: c.sse_streams.load(Relaxed),
            upgrades_total: c.upgrades.load(Relaxed),
            rejected_total: c.rejected.load(Relaxed),
            messages_in_total: c.messages_in.load(Relaxed),
            messages_out_total: c.messages_out.load(Relaxed),
            lagged_total: c.lagged.load(Relaxed),
            gaps_total: c.gaps.load(Relaxed),
            panics_total: c.panics.load(Relaxed),
            handlers_dropped_total: c.handlers_dropped.load(Relaxed),
            gone_total: c.gone.load(Relaxed),
            buffered_bytes: c.buffered_bytes.load(Relaxed),
            slow_total: c.slow.load(Relaxed),
            shed_total: c.shed.load(Relaxed),
        }
    }

    /// Counts an upgrade or a stream that was refused; for those who write a
    /// framework's extension crate.
    pub fn count_rejected(&self) {
        self.0.rejected.fetch_add(1, Relaxed);
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0
    }
}
