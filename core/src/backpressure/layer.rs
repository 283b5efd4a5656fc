use std::{fmt, sync::Arc};

use http::request::Parts;
use tower_layer::Layer;

use super::{Admission, BackpressureService, Key, Limits};
use crate::Stats;

pub(super) type KeyOf = Arc<dyn Fn(&Parts) -> Option<Key> + Send + Sync>;

/// Admits so many live sockets and streams, in all and of each key, and refuses the next
/// before anything is spent on it: with 503 or 429 and a `Retry-After`.
///
/// It belongs around the routes that upgrade or stream, ours or others; each request
/// through it takes a place, and gives it back
///
/// - with its socket, where it was upgraded by a [`WsUpgrade`](crate::ws::WsUpgrade);
/// - with its response's body otherwise, however that ends. An ordinary response has
///   its place for no longer than it takes to be sent.
///
/// All clones of a layer count together, and so do all services made from them: one
/// value around three routes is one limit.
///
/// ```
/// use towpath::{backpressure::{BackpressureLayer, Limits}, ws::WsLayer};
///
/// #[derive(Clone)]
/// struct User(String); // whatever authentication puts into the extensions
///
/// let layer = BackpressureLayer::new(Limits::new().max_connections(10_000).max_per_key(5))
///     .by_key(|parts| parts.extensions.get::<User>().map(|user| user.0.clone()));
/// # let _ = layer;
/// ```
///
/// # What is bounded, and by what
///
/// | bound | default | why |
/// | --- | --- | --- |
/// | connections in all: [`Limits::max_connections`] | off | 10,000 a server is a start: what its memory and its open files allow |
/// | connections of a key: [`Limits::max_per_key`] | off | 5 a user: tabs and devices, not a loop that reconnects |
/// | bytes over all connections: [`Limits::buffer_budget`] | off | a quarter of the memory: what grows when readers are slow |
/// | messages that wait for a peer: [`Limits::outbound_messages`], [`WsConfig::outbound_messages`](crate::ws::WsConfig::outbound_messages) | 1,024 | more are seconds of a chat, and no burst |
/// | bytes that wait for a peer: [`Limits::outbound_bytes`], [`WsConfig::outbound_bytes`](crate::ws::WsConfig::outbound_bytes) | 1 MiB | a gigabyte for 1,000 stalled readers |
/// | when a peer counts as slow: [`Limits::slow_at`], [`WsConfig::slow_at`](crate::ws::WsConfig::slow_at) | 80 % of either | before `send` waits, behind every ordinary burst |
/// | heartbeat: [`WsConfig::heartbeat`](crate::ws::WsConfig::heartbeat) | 30 s | below the idle time-out of proxies, often 60 s |
/// | keep-alive of event streams: [`KeepAlive`](crate::sse::KeepAlive) | 15 s | the standard's advice; finds who has gone |
/// | closing handshake: [`WsConfig::close_timeout`](crate::ws::WsConfig::close_timeout) | 5 s | some round trips of a bad line |
/// | write time-out: [`Limits::write_timeout`], [`WsConfig::write_timeout`](crate::ws::WsConfig::write_timeout) | 30 s | a peer that takes no byte for so long is stuck |
/// | events that a subscription may lag behind: [`HubBuilder::queue`](crate::hub::HubBuilder::queue) | 1,024, or the history | as the messages that wait for a peer |
/// | what happens past that: [`Limits::overflow`], [`HubBuilder::overflow`](crate::hub::HubBuilder::overflow) | [`Overflow::Disconnect`](super::Overflow::Disconnect) | the client comes back and resumes: nothing is lost in silence |
/// | drain: [`Drain`](crate::Drain) | none until it is given; 30 s fits what stops processes | longer than the close time-out, shorter than their patience |
///
/// Where two settings are named, that of the [`Limits`] is a default for the sockets and
/// streams below the layer: what is said nearer to the connection wins. Nearest is
/// [`WsUpgrade::configure`](crate::ws::WsUpgrade::configure), or
/// [`Subscribe::overflow`](crate::hub::Subscribe::overflow); then come the socket's
/// [`WsLayer`](struct@crate::ws::WsLayer), wherever it stands; then the innermost
/// `BackpressureLayer` that says it; then the hub, and this table.
///
/// ```
/// use towpath::backpressure::{BackpressureLayer, Limits, Overflow};
///
/// // Prices: the newest of each, and nothing that is a megabyte old.
/// let layer = BackpressureLayer::new(
///     Limits::new().outbound_bytes(64 << 10).overflow(Overflow::Conflate),
/// );
/// # let _ = layer;
/// ```
///
/// # What the budget counts
///
/// Of a socket: what was accepted for it and its transport has not taken, and the message
/// that it is receiving. Of a streaming response, ours or not: its chunks, until hyper has
/// written them; what a body keeps to itself cannot be seen. An event stream that is cut
/// ends in order; another streaming body is counted and never cut, since its reader could
/// not tell that from its end. A body that is stuck in its transport is polled no more, so
/// that its bytes stay until the write time-out of the connection. Bodies of known length
/// are not counted.
///
/// An upgrade by other code than ours is not followed: its permit comes back with the
/// response.
#[derive(Clone)]
#[must_use]
pub struct BackpressureLayer {
    admission: Admission,
    key_of: Option<KeyOf>,
    stats: Option<Stats>,
}

impl BackpressureLayer {
    /// With nobody in it.
    pub fn new(limits: Limits) -> Self {
        Self::with_admission(Admission::new(limits))
    }

    /// One that counts together with all else that shares `admission`.
    pub const fn with_admission(admission: Admission) -> Self {
        Self {
            admission,
            key_of: None,
            stats: None,
        }
    }

    /// Whose connections are counted together. It sees what the layers around this one,
    /// as authentication, have put into the extensions; `None` counts for no key.
    pub fn by_key<F, K>(mut self, key: F) -> Self
    where
        F: Fn(&Parts) -> Option<K> + Send + Sync + 'static,
        K: Into<Key>,
    {
        self.key_of = Some(Arc::new(move |parts| key(parts).map(Into::into)));
        self
    }

    /// Where refusals are counted, in place of the process's counters.
    pub fn stats(mut self, stats: &Stats) -> Self {
        self.stats = Some(stats.clone());
        self
    }

    /// Who is in.
    #[must_use]
    pub const fn admission(&self) -> &Admission {
        &self.admission
    }
}

impl<S> Layer<S> for BackpressureLayer {
    type Service = BackpressureService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BackpressureService::new(
            inner,
            self.admission.clone(),
            self.key_of.clone(),
            self.stats.clone().unwrap_or_else(Stats::global),
        )
    }
}

impl fmt::Debug for BackpressureLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackpressureLayer")
            .field("admission", &self.admission)
            .finish_non_exhaustive()
    }
}
