#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};
use tracing::Span;

use super::{Event, KeepAlive, OnDrain, Remainder, Source, encode, gather::Gather, span::Trace};
use crate::{DrainGuard, Expiry, Stats, expiry, waker::WakerId};

/// So many events are taken in one poll, however small.
const EVENTS_A_POLL: u32 = 1024;
/// So long before a drain's deadline a stream is ended that has not ended by
/// itself: what ends it has to reach its reader.
const CLOSING_TIME: Duration = Duration::from_millis(250);

pin_project! {
    /// The body of an event stream, made by [`Sse::into_body`](super::Sse::into_body).
    ///
    /// Its first bytes are there at the first poll, so that the reader sees the
    /// stream open. Events that are ready together go out in one chunk, of at
    /// most 16 KiB; a larger event is split, without a copy. A panic of the
    /// source is counted and ends the stream; the body itself never fails.
    ///
    /// It has to be polled within a tokio runtime.
    pub struct SseBody<S> {
        // Dropped before the guard and the counter: both outlive it.
        #[pin]
        source: Option<S>,
        // One timer for all: the next comment, the expiry, the moment in a drain,
        // the deadline. Armed at first use, and moved back only when it fires.
        #[pin]
        timer: Option<Sleep>,
        // Whom the timer wakes.
        timer_wakes: Option<WakerId>,
        ready: Gather,
        closing: Bytes,
        phase: Phase,
        keep_alive: KeepAlive,
        last_sent: Instant,
        on_drain: OnDrain,
        guard: Option<DrainGuard>,
        expiry: Option<Box<expiry::Watch>>,
        live: Option<Live>,
        // Ends last.
        trace: Option<Box<Trace>>,
    }

    impl<S> PinnedDrop for SseBody<S> {
        fn drop(this: Pin<&mut Self>) {
            let span = this.span();
            let _entered = span.map(Span::entered);
            this.drop_source();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// As ever: no drain, or not yet this stream's moment.
    Open,
    /// The moment has come, and it is to end: by itself, or at `end`.
    Ending { remainder: Remainder, end: Instant },
    /// A drain has begun, and it is to finish.
    Finishing { deadline: Instant },
    /// Nothing comes any more.
    Over,
}

/// What a stream begins with.
pub(super) struct Opening {
    pub(super) text: Bytes,
    pub(super) keep_alive: KeepAlive,
    pub(super) guard: Option<DrainGuard>,
    pub(super) on_drain: OnDrain,
    pub(super) expiry: Option<Expiry>,
    pub(super) span: Span,
    pub(super) stats: Stats,
}

/// Counts a stream as live until it is dropped.
struct Live(Stats);

impl Live {
    fn new(stats: Stats) -> Self {
        stats.counters().sse_streams.fetch_add(1, Relaxed);
        Self(stats)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.counters().sse_streams.fetch_sub(1, Relaxed);
    }
}

impl<S> SseBody<S> {
    pub(super) fn new(source: S, opening: Opening) -> Self {
        let mut ready = Gather::default();
        ready.push(opening.text);
        Self {
            source: Some(source),
            timer: None,
            timer_wakes: None,
            ready,
            closing: Bytes::new(),
            phase: Phase::Open,
            keep_alive: opening.keep_alive,
            last_sent: Instant::now(),
            on_drain: opening.on_drain,
            guard: opening.guard,
            expiry: opening
                .expiry
                .map(|expiry| Box::new(expiry::Watch::new(expiry))),
            live: Some(Live::new(opening.stats)),
            trace: Trace::open(opening.span),
        }
    }

    /// Tells when to come back, and ends.
    pub(super) fn retry_only(time: Duration) -> Self {
        let mut ready = Gather::default();
        ready.push(encode::retry_block(time));
        Self {
            source: None,
            timer: None,
            timer_wakes: None,
            ready,
            closing: Bytes::new(),
            phase: Phase::Over,
            keep_alive: KeepAlive::off(),
            last_sent: Instant::now(),
            on_drain: OnDrain::End,
            guard: None,
            expiry: None,
            live: None,
            trace: None,
        }
    }

    fn span(&self) -> Option<Span> {
        Some(self.trace.as_ref()?.span().clone())
    }

    fn drop_source(self: Pin<&mut Self>) {
        let mut this = self.project();
        if catch_unwind(AssertUnwindSafe(|| this.source.set(None))).is_err() {
            count_panic(this.live.as_ref());
        }
    }

    /// Ends where what its reader was let in with has expired; gives the time at which
    /// to look again.
    fn poll_expiry(mut self: Pin<&mut Self>, cx: &Context<'_>) -> Option<Instant> {
        let at = self.as_mut().project().expiry.as_mut()?.look(cx);
        if Instant::now() < at {
            return Some(at);
        }
        self.end("credential expired");
        None
    }

    /// Takes nothing more from the source. A stream that ends in a drain,
    /// however it ends, tells its reader when to come back: the normal time
    /// would lead it to a process that refuses it.
    fn end(mut self: Pin<&mut Self>, cause: &'static str) {
        if let Some(trace) = self.as_mut().project().trace {
            trace.ends(cause);
        }
        self.as_mut().drop_source();
        let this = self.project();
        *this.phase = Phase::Over;
        if let Some(guard) = this.guard
            && guard.deadline().is_some()
        {
            *this.closing = encode::retry_block(guard.retry());
        }
    }
}

impl<S: Source> SseBody<S> {
    /// Follows the drain; gives the time at which to look again.
    fn poll_drain(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Instant> {
        if let Phase::Open = self.phase {
            let this = self.as_mut().project();
            let guard = this.guard.as_mut()?;
            let Poll::Ready(moment) = guard.poll_moment(cx) else {
                return None;
            };
            let deadline = guard.deadline()?;
            match this.on_drain {
                OnDrain::Finish => *this.phase = Phase::Finishing { deadline },
                OnDrain::End if Instant::now() < moment => return Some(moment),
                OnDrain::End => self.as_mut().drain_source(deadline),
            }
        }
        match self.phase {
            Phase::Finishing { deadline: end } | Phase::Ending { end, .. } => {
                if Instant::now() < end {
                    return Some(end);
                }
            }
            Phase::Open | Phase::Over => return None,
        }
        if let Phase::Finishing { .. } = self.phase
            && let Some(guard) = self.as_mut().project().guard
        {
            guard.cut();
        }
        self.end("drain");
        None
    }

    fn drain_source(self: Pin<&mut Self>, deadline: Instant) {
        let this = self.project();
        let Some(source) = this.source.as_pin_mut() else {
            return;
        };
        let drained = catch_unwind(AssertUnwindSafe(|| source.drain()));
        if drained.is_err() {
            count_panic(this.live.as_ref());
        }
        // After a panic nothing more is expected of it than of any stream.
        let remainder = drained.unwrap_or(Remainder::Ready);
        let left = deadline.saturating_duration_since(Instant::now());
        let unused = match remainder {
            // One that is always ready would never end by itself.
            Remainder::Ready => left / 2,
            Remainder::UntilEnd => left.min(CLOSING_TIME),
        };
        *this.phase = Phase::Ending {
            remainder,
            end: deadline - unused,
        };
    }

    /// Takes what the source has ready, up to a chunk.
    fn fill(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let mut sent = 0;
        let mut taken = 0;
        while !self.ready.is_full() {
            if taken == EVENTS_A_POLL {
                cx.waker().wake_by_ref();
                break;
            }
            match self.as_mut().poll_source(cx) {
                Poll::Ready(Some(event)) => {
                    taken += 1;
                    let dispatched = event.is_dispatched();
                    match event.encode() {
                        Ok(text) => {
                            sent += u64::from(dispatched);
                            self.as_mut().project().ready.push(text);
                        }
                        Err(error) => {
                            tracing::debug!(error = &error as &dyn Error, "event stream failed");
                            self.as_mut().end("failed");
                            break;
                        }
                    }
                }
                Poll::Ready(None) => {
                    let cause = match self.phase {
                        Phase::Ending { .. } => "drain",
                        _ => "source ended",
                    };
                    self.as_mut().end(cause);
                    break;
                }
                Poll::Pending => break,
            }
        }
        if let Some(live) = &self.live
            && sent > 0
        {
            live.0.counters().messages_out.fetch_add(sent, Relaxed);
            if let Some(trace) = self.as_mut().project().trace {
                trace.events += sent;
            }
        }
    }

    fn poll_source(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let this = self.project();
        let Some(mut source) = this.source.as_pin_mut() else {
            return Poll::Ready(None);
        };
        let polled = catch_unwind(AssertUnwindSafe(|| match this.phase {
            // A `Pending` that only means a spent budget would lose events.
            Phase::Ending {
                remainder: Remainder::Ready,
                ..
            } => {
                let next = unconstrained(poll_fn(|cx| source.as_mut().poll_event(cx)));
                let next = pin!(next).poll(cx);
                if next.is_pending() {
                    Poll::Ready(None)
                } else {
                    next
                }
            }
            _ => source.poll_event(cx),
        }));
        polled.unwrap_or_else(|_| {
            count_panic(this.live.as_ref());
            if let Some(trace) = this.trace {
                trace.ends("panicked");
            }
            Poll::Ready(None)
        })
    }

    /// Ready when there is a comment to send, or when `end` has come.
    fn poll_timer(self: Pin<&mut Self>, cx: &mut Context<'_>, end: Option<Instant>) -> Poll<()> {
        let this = self.project();
        let comment = this
            .keep_alive
            .period()
            .and_then(|period| this.last_sent.checked_add(period));
        let Some(due) = [comment, end].into_iter().flatten().min() else {
            return Poll::Pending;
        };
        // Left alone while it is armed in time for whoever polls: an event is no reason
        // to register a waker again.
        let wakes = WakerId::of(cx.waker());
        if *this.timer_wakes == Some(wakes)
            && let Some(timer) = this.timer.as_ref().as_pin_ref()
            && timer.deadline() <= due
            && !timer.is_elapsed()
        {
            return Poll::Pending;
        }
        *this.timer_wakes = Some(wakes);
        ready!(poll_until(this.timer, due, cx));
        if comment == Some(due) {
            this.ready.push(this.keep_alive.comment());
        }
        Poll::Ready(())
    }
}

impl<S: Source> Body for SseBody<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let span = self.span();
        let _entered = span.map(Span::entered);
        loop {
            let drain = self.as_mut().poll_drain(cx);
            let expiry = self.as_mut().poll_expiry(cx);
            if !matches!(self.phase, Phase::Over) {
                self.as_mut().fill(cx);
            }
            let this = self.as_mut().project();
            if !this.closing.is_empty() && !this.ready.is_full() {
                this.ready.push(std::mem::take(this.closing));
            }
            if let Some(chunk) = this.ready.take() {
                *this.last_sent = Instant::now();
                if let Some(trace) = this.trace {
                    trace.bytes += chunk.len() as u64;
                }
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if let Phase::Over = this.phase {
                return Poll::Ready(None);
            }
            let end = drain.into_iter().chain(expiry).min();
            ready!(self.as_mut().poll_timer(cx, end));
        }
    }
    // `is_end_stream` stays false: who knows the end with the last chunk does not ask for
    // what comes after it, and layers that tell the end of a body (`on_eos`) never see it.
}

/// Ready at `due`. A timer that is armed for an earlier time is left to fire:
/// moving it with every event would cost more than one idle firing.
fn poll_until(mut timer: Pin<&mut Option<Sleep>>, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        match timer.as_mut().as_pin_mut() {
            None => timer.set(Some(sleep_until(due))),
            Some(mut sleep) => {
                if sleep.deadline() > due {
                    sleep.as_mut().reset(due);
                }
                // With a spent budget it would not register the waker.
                ready!(pin!(unconstrained(sleep.as_mut())).poll(cx));
                if sleep.deadline() >= due {
                    return Poll::Ready(());
                }
                sleep.reset(due);
            }
        }
    }
}

fn count_panic(live: Option<&Live>) {
    if let Some(live) = live {
        live.0.counters().panics.fetch_add(1, Relaxed);
    }
}

impl<S> fmt::Debug for SseBody<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseBody")
            .field("phase", &self.phase)
            .field("keep_alive", &self.keep_alive)
            .field("on_drain", &self.on_drain)
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}
