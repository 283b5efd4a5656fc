//! Ending a process's sockets and streams without losing anything.

mod guard;
mod outcome;
mod slots;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use self::slots::Slots;
pub use self::{
    guard::{DrainGuard, Draining},
    outcome::DrainOutcome,
};
use crate::{settings::bounded, ws::CloseCode};

/// How many sockets and streams may be ended in each second of the spread, so
/// that their clients do not come back in one wave.
const PER_SECOND: u32 = 1_000;
/// So few are no wave: they end at the start.
const AT_ONCE: u32 = 4;
/// Between the deadline, by which this process is gone, and the first client
/// that comes back.
const RETRY_MARGIN: Duration = Duration::from_secs(2);
/// The width of the window in which clients come back, in milliseconds.
const RETRY_JITTER: u64 = 2_000;

/// One handle for the whole process: from [`start`](Self::start) on, new
/// sockets and streams are refused, and each live one ends at a moment of its
/// own within the deadline. Clones are the same drain.
///
/// The moments are spread over a second for each 1,000 that live, over half
/// the deadline at most.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::{process::ExitCode, time::Duration};
/// use towpath::Drain;
///
/// let drain = Drain::new(Duration::from_secs(5));
/// // axum: `axum::serve(listener, app).with_graceful_shutdown(drain.finished())`
/// let server = drain.finished();
/// drain.start(); // a task that awaits SIGTERM does this
/// assert!(drain.guard().is_err());
/// let code: ExitCode = drain.run(server).await.exit_code();
/// # assert_eq!(code, ExitCode::SUCCESS);
/// # });
/// ```
#[derive(Clone)]
pub struct Drain(Arc<Inner>);

struct Inner {
    /// How long the drain may take.
    allowed: Duration,
    /// Set under the state's lock; read without it by guards, which are polled
    /// with every turn of their connection.
    draining: AtomicBool,
    state: Mutex<State>,
    /// Told when the drain starts and when the last guard is gone.
    changed: Notify,
}

struct State {
    close_code: CloseCode,
    retry_margin: Duration,
    started: Option<Started>,
    slots: Slots,
    /// The deadline cut a handler, or a stream that was to finish.
    cut: bool,
}

/// What was fixed when the drain began.
#[derive(Clone, Copy)]
struct Started {
    at: Instant,
    deadline: Instant,
    spread: Duration,
    live: u32,
}

impl Started {
    fn new(at: Instant, allowed: Duration, live: u32) -> Self {
        let spread = (Duration::from_secs(1) * live / PER_SECOND).min(allowed / 2);
        Self {
            at,
            deadline: at + allowed,
            spread,
            live,
        }
    }

    /// When the guard that is the `rank`th of those alive at the start ends.
    fn moment(&self, rank: u32) -> Instant {
        if rank < AT_ONCE {
            return self.at;
        }
        self.at + self.spread.mul_f64(f64::from(rank) / f64::from(self.live))
    }
}

impl Drain {
    /// A drain that has `deadline`, counted from its start, to end what lives.
    #[must_use]
    pub fn new(deadline: Duration) -> Self {
        Self(Arc::new(Inner {
            allowed: bounded(deadline),
            draining: AtomicBool::new(false),
            state: Mutex::new(State {
                close_code: CloseCode::SERVICE_RESTART,
                retry_margin: RETRY_MARGIN,
                started: None,
                slots: Slots::default(),
                cut: false,
            }),
            changed: Notify::new(),
        }))
    }

    /// The code with which sockets are closed: 1012 (come back, another server
    /// will serve you) unless set, or 1001 for a process that leaves for good.
    #[must_use]
    pub fn close_code(self, code: CloseCode) -> Self {
        self.0.lock().close_code = code;
        self
    }

    /// How long after the deadline the first client may come back: 2 s unless
    /// set. Up to 2 s of jitter are added for each client.
    #[must_use]
    pub fn retry_margin(self, margin: Duration) -> Self {
        self.0.lock().retry_margin = margin;
        self
    }

    /// Begins the drain; does nothing when it has begun already.
    pub fn start(&self) {
        let mut state = self.0.lock();
        if state.started.is_some() {
            return;
        }
        let wakers = state.slots.rank();
        let live = state.slots.live();
        state.started = Some(Started::new(Instant::now(), self.0.allowed, live));
        self.0.draining.store(true, Ordering::Release);
        drop(state);
        for waker in wakers {
            waker.wake();
        }
        self.0.changed.notify_waiters();
    }

    /// Whether the drain has begun: what a health check answers with 503.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.is_draining()
    }

    /// Completes once the drain has begun.
    pub fn started(&self) -> impl Future<Output = ()> + Send + 'static {
        Arc::clone(&self.0).until(Inner::is_draining)
    }

    /// Completes once the drain has begun and no socket or stream lives any
    /// more: what a server's graceful shutdown awaits.
    pub fn finished(&self) -> impl Future<Output = ()> + Send + 'static {
        Arc::clone(&self.0).until(|inner| inner.is_draining() && inner.lock().slots.live() == 0)
    }

    /// How many sockets and streams live.
    #[must_use]
    pub fn live(&self) -> usize {
        self.0.lock().slots.live() as usize
    }

    /// When the drain is over, once it has begun.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.0.lock().started?.deadline)
    }

    /// The life of a connection, which counts until the guard is dropped.
    ///
    /// # Errors
    /// [`Draining`] once the drain has begun.
    pub fn guard(&self) -> Result<DrainGuard, Draining> {
        let mut state = self.0.lock();
        if state.started.is_some() {
            drop(state);
            return Err(Draining::new(self.retry()));
        }
        let slot = state.slots.insert();
        drop(state);
        Ok(DrainGuard::new(Arc::clone(&self.0), slot))
    }

    /// When a client that is sent away now should come back: the time to the
    /// deadline, the margin, and a jitter that differs from call to call.
    #[must_use]
    pub fn retry(&self) -> Duration {
        self.0.retry()
    }

    /// Runs a server until it has ended or, whichever is first, the drain's
    /// deadline has passed: a stream whose peer takes nothing cannot be ended
    /// from inside. When the server ends earlier in a drain than the last
    /// socket, that is awaited too.
    ///
    /// The outcome is not clean when the deadline cut a handler or a stream
    /// that was to finish, or passed while a socket or stream lived.
    pub async fn run<F: Future>(&self, server: F) -> DrainOutcome<F::Output> {
        let mut server = pin!(server);
        let mut over = pin!(async {
            self.started().await;
            if let Some(deadline) = self.deadline() {
                tokio::time::sleep_until(deadline).await;
            }
        });
        // The server is polled first: what ends at the deadline has ended.
        let output = std::future::poll_fn(|cx| {
            if let std::task::Poll::Ready(output) = server.as_mut().poll(cx) {
                return std::task::Poll::Ready(Some(output));
            }
            over.as_mut().poll(cx).map(|()| None)
        })
        .await;
        if let Some(deadline) = self.deadline() {
            // Its failure is what `is_clean` finds: somebody lives.
            let _ = timeout_at(deadline, self.finished()).await;
        }
        DrainOutcome::new(output, self.0.is_clean())
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn is_clean(&self) -> bool {
        let state = self.lock();
        state.started.is_none() || (!state.cut && state.slots.live() == 0)
    }

    async fn until(self: Arc<Self>, condition: impl Fn(&Self) -> bool) {
        loop {
            // Made before the condition is looked at: it receives what is told
            // from now on.
            let changed = self.changed.notified();
            if condition(&self) {
                return;
            }
            changed.await;
        }
    }

    fn retry(&self) -> Duration {
        let jitter = Duration::from_millis(fastrand::u64(0..=RETRY_JITTER));
        let state = self.lock();
        let left = state.started.map_or(self.allowed, |started| {
            started.deadline.saturating_duration_since(Instant::now())
        });
        left.saturating_add(state.retry_margin)
            .saturating_add(jitter)
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("draining", &self.is_draining())
            .field("live", &self.live())
            .finish_non_exhaustive()
    }
}
