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
