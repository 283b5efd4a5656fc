use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::Inner;
use crate::ws::CloseCode;

/// A new socket or stream was refused, because the process drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("draining: come back in {} s", self.retry_after())]
pub struct Draining {
    retry: Duration,
}

impl Draining {
    pub(super) fn new(retry: Duration) -> Self {
        Self { retry }
    }

    /// When to come back; differs from client to client.
    #[must_use]
    pub fn retry(&self) -> Duration {
        self.retry
    }

    /// The status of the response that refuses it: 503.
    #[must_use]
    pub fn status(&self) -> u16 {
        503
    }

    /// [`retry`](Self::retry) in whole seconds, at least one: the value of `Retry-After`
    /// beside a 503 (RFC 9110 §10.2.3).
    #[must_use]
    pub fn retry_after(&self) -> u64 {
        let seconds = self.retry.as_secs() + u64::from(self.retry.subsec_nanos() > 0);
        seconds.max(1)
    }
}

/// A connection's life, as its [`Drain`](super::Drain) counts it: dropped, it
/// is gone.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::{future::poll_fn, time::Duration};
/// use towpath::Drain;
///
/// let drain = Drain::new(Duration::from_secs(5));
/// let mut guard = drain.guard()?;
/// drain.start();
/// let moment = poll_fn(|cx| guard.poll_moment(cx)).await;
/// tokio::time::sleep_until(moment).await;
/// drop(guard); // the connection has said goodbye
/// drain.finished().await;
/// # Ok::<(), towpath::Draining>(())
/// # }).unwrap();
/// ```
pub struct DrainGuard {
    drain: Arc<Inner>,
    pub(super) slot: u32,
    known: Known,
}

/// What the guard knows without asking the drain, whose lock all share: a
/// connection polls its guard with every turn.
enum Known {
    Nothing,
    /// This waker is in the slot.
    Registered(Waker),
    Moment(Instant),
}

impl DrainGuard {
    pub(super) fn new(drain: Arc<Inner>, slot: u32) -> Self {
        Self {
            drain,
            slot,
            known: Known::Nothing,
        }
    }

    /// When this connection is to end: ready once the drain has begun. The
    /// moment may lie in the past, but never before the start.
    pub fn poll_moment(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        match &self.known {
            Known::Moment(moment) => return Poll::Ready(*moment),
            Known::Registered(waker) if waker.will_wake(cx.waker()) => {
                if !self.drain.is_draining() {
                    return Poll::Pending;
                }
            }
            Known::Nothing | Known::Registered(_) => {}
        }
        // Wakers are foreign code: cloned and dropped without the lock.
        let waker = cx.waker().clone();
        let known = waker.clone();
        let mut state = self.drain.lock();
        if let Some(started) = state.started {
            let moment = started.moment(state.slots.rank_of(self.slot));
            drop(state);
            self.known = Known::Moment(moment);
            return Poll::Ready(moment);
        }
        let replaced = state.slots.wait(self.slot, waker);
        drop(state);
        drop(replaced);
        self.known = Known::Registered(known);
        Poll::Pending
    }

    /// When the drain is over, once it has begun.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if !self.drain.is_draining() {
            return None;
        }
        Some(self.drain.lock().started?.deadline)
    }

    /// The code with which a socket is to close at its moment.
    #[must_use]
    pub fn close_code(&self) -> CloseCode {
        self.drain.lock().close_code
    }

    /// When this connection's client should come back: the time to the
    /// deadline, the drain's margin, and a jitter that differs from call to
    /// call.
    #[must_use]
    pub fn retry(&self) -> Duration {
        self.drain.retry()
    }

    /// Tells that the deadline cut this connection's handler, or its stream
    /// that was to finish: the drain's outcome is not clean.
    pub fn cut(&mut self) {
        self.drain.lock().cut = true;
    }
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        let mut state = self.drain.lock();
        let waker = state.slots.remove(self.slot);
        let last = state.started.is_some() && state.slots.live() == 0;
        drop(state);
        drop(waker);
        if last {
            self.drain.changed.notify_waiters();
        }
    }
}

impl fmt::Debug for DrainGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainGuard")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}
