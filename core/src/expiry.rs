//! When what a connection was let in with expires.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::settings::bounded;

/// Until when a connection may live: the expiry of the credential it was let in with.
///
/// Whoever authenticated puts one into the request's extensions, where `WsUpgrade`
/// finds it, or gives it to the socket or the stream itself (`expires_at`). At that time
/// a socket is closed with 3000, "credential expired", and a stream ends: what was
/// accepted for the peer before goes out first, what the peer sends later is not given
/// to the handler.
///
/// It is a handle, and a clone is the same: kept with a session it prolongs, or ends, all
/// the sockets and streams that were opened with it. A socket has it as
/// [`expiry`](crate::ws::WebSocket::expiry), so that a client may send its new token in
/// band.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::time::{Duration, SystemTime};
/// use towpath::{ExpiresAt, Expiry};
///
/// let claims_exp = 4_102_444_800; // a JWT's `exp`
/// let session = Expiry::new(ExpiresAt::unix(claims_exp));
/// let hour = Expiry::from(Duration::from_secs(3600));
///
/// // POST /refresh, with a new token:
/// hour.refresh(SystemTime::now() + Duration::from_secs(7200));
/// assert!(hour.remaining() > Duration::from_secs(7000));
/// // POST /logout:
/// session.expire();
/// assert!(session.remaining().is_zero());
/// # });
/// ```
#[derive(Clone)]
pub struct Expiry(Arc<Mutex<State>>);

struct State {
    at: Instant,
    /// Connections that live by it, to be woken where it comes earlier.
    waiting: HashMap<u64, Waker>,
    next: u64,
    /// How often all of them were woken.
    round: u64,
}

/// A moment at which something expires: a time of either clock, or so long from now.
///
/// A time of the system's clock is turned into one of the steady clock when this is made,
/// so that a clock that is set later changes nothing. What lies in the past is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExpiresAt(Instant);

impl ExpiresAt {
    /// So many seconds after 1970-01-01T00:00:00Z, as a JWT's `exp` has it
    /// (RFC 7519 §4.1.4).
    #[must_use]
    pub fn unix(seconds: u64) -> Self {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Duration::from_secs(seconds).saturating_sub(now).into()
    }

    /// The moment, on tokio's clock.
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.0
    }
}

impl From<Duration> for ExpiresAt {
    /// So long from now.
    fn from(time: Duration) -> Self {
        Self(Instant::now() + bounded(time))
    }
}

impl From<SystemTime> for ExpiresAt {
    fn from(time: SystemTime) -> Self {
        time.duration_since(SystemTime::now())
            .unwrap_or_default()
            .into()
    }
}

impl From<Instant> for ExpiresAt {
    fn from(time: Instant) -> Self {
        time.saturating_duration_since(Instant::now()).into()
    }
}

impl From<std::time::Instant> for ExpiresAt {
    fn from(time: std::time::Instant) -> Self {
        Instant::from_std(time).into()
    }
}

impl Expiry {
    /// Ends what lives by it at that moment, unless it is refreshed before.
    #[must_use]
    pub fn new(at: impl Into<ExpiresAt>) -> Self {
        Self(Arc::new(Mutex::new(State {
            at: at.into().0,
            waiting: HashMap::new(),
            next: 0,
            round: 0,
        })))
    }

    /// Moves it: later, for a credential that was renewed, or earlier. What was ended
    /// already does not come back.
    pub fn refresh(&self, at: impl Into<ExpiresAt>) {
        let at = at.into().0;
        let mut state = self.lock();
        // Later than they wait for is found when they look.
        let is_earlier = at < state.at;
        state.at = at;
        if !is_earlier {
            return;
        }
        state.round += 1;
        let woken = mem::take(&mut state.waiting);
        drop(state);
        for waker in woken.into_values() {
            waker.wake();
        }
    }

    /// Ends what lives by it now: a credential that was revoked.
    pub fn expire(&self) {
        self.refresh(Duration::ZERO);
    }

    /// When that is.
    #[must_use]
    pub fn expires_at(&self) -> ExpiresAt {
        ExpiresAt(self.lock().at)
    }

    /// How long from now; zero once it has passed.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let at = self.lock().at;
        at.saturating_duration_since(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Into<ExpiresAt>> From<T> for Expiry {
    fn from(at: T) -> Self {
        Self::new(at)
    }
}

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expiry")
            .field("remaining", &self.remaining())
            .finish()
    }
}

/// A connection's eye on its expiry.
#[derive(Debug)]
pub(crate) struct Watch {
    expiry: Expiry,
    registered: Option<Registered>,
    at: Instant,
}

/// What is among those that wait, unless all were woken since.
#[derive(Debug)]
struct Registered {
    id: u64,
    round: u64,
    waker: Waker,
}

impl Watch {
    pub(crate) fn new(expiry: Expiry) -> Self {
        let at = expiry.lock().at;
        Self {
            expiry,
            registered: None,
            at,
        }
    }

    /// When it expires, as things stand; `cx` is woken where that comes earlier.
    pub(crate) fn look(&mut self, cx: &Context<'_>) -> Instant {
        let known = self.registered.as_ref();
        let known = known.filter(|known| known.waker.will_wake(cx.waker()));
        let round = known.map(|known| known.round);
        let state = self.expiry.lock();
        self.at = state.at;
        if round == Some(state.round) {
            return self.at;
        }
        drop(state);
        self.register(cx)
    }

    fn register(&mut self, cx: &Context<'_>) -> Instant {
        // Wakers are foreign code: cloned and dropped without the lock.
        let [ours, theirs] = [cx.waker().clone(), cx.waker().clone()];
        let mut state = self.expiry.lock();
        self.at = state.at;
        let id = self.registered.as_ref().map(|known| known.id);
        let id = id.unwrap_or_else(|| {
            state.next += 1;
            state.next
        });
        let replaced = state.waiting.insert(id, theirs);
        let round = state.round;
        drop(state);
        drop(replaced);
        self.registered = Some(Registered {
            id,
            round,
            waker: ours,
        });
        self.at
    }

    /// As it was when it was last looked at.
    pub(crate) const fn at(&self) -> Instant {
        self.at
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(known) = self.registered.take() {
            let mut state = self.expiry.lock();
            let waker = state.waiting.remove(&known.id);
            drop(state);
            drop(waker);
        }
    }
}
