//! What was said becomes bytes.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use super::{
    CONTEXT_KEPT, Engine, WRITE_AHEAD,
    ending::{Behind, Phase},
    scratch::Scratch,
};
use crate::ws::{
    error::Error,
    lent::{self, Displaced},
    protocol::Outbox,
    shared::{State, Told, weight_out},
    slow::{Crossing, OnSlow, SlowPeer, crossing},
    source::FrameSink,
    transport::Transport,
};

/// How a write ended.
enum Wrote {
    All,
    Blocked,
    Broken,
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "as many as fit into memory"
)]
const fn count(out: &mut Outbox, messages: u64) {
    out.count_messages(messages as usize);
}

impl<T: Transport> Engine<T> {
    /// The driver begins a turn: whoever tells it something need not wake it. Returns
    /// what it was told by now, and whether `waker` is the one that parked last.
    pub(super) fn wake_up(&mut self, waker: &Waker, scratch: &mut Scratch) -> (Told, bool) {
        self.now = Instant::now();
        let mut state = self.shared.lock();
        state.stay_awake();
        if state.queue.capacity() == 0 {
            mem::swap(&mut state.queue, &mut scratch.queue);
        }
        (self.shared.look(&mut state), state.is_known(waker))
    }

    /// What there is to do in this round: by now, or `first`, at the turn's beginning,
    /// where nothing has happened since.
    pub(super) fn look(&self, happened: bool, first: Option<Told>) -> Told {
        match first {
            Some(told) if !happened && matches!(self.phase, Phase::Open) => told,
            first => {
                let mut told = self.shared.look(&mut self.shared.lock());
                told.woken |= first.is_some_and(|first| first.woken);
                told
            }
        }
    }

    /// Takes what the handles have said since.
    pub(super) fn take_told(&mut self, scratch: &mut Scratch) {
        let mut state = self.shared.lock();
        state.changed = false;
        if self.queue.is_empty() {
            mem::swap(&mut self.queue, &mut state.queue);
        } else {
            self.queue.append(&mut state.queue);
        }
        self.queue_weight += mem::take(&mut state.queue_weight);
        // It counts against the bound from now on, also in this turn's next round.
        let (unsent, messages) = self.unsent();
        self.shared.count_unsent(&mut state, unsent, messages);
        let close = state.close.take();
        let orphaned = state.handles == 0;
        let attached = mem::take(&mut state.attached);
        drop(state);
        if self.phase.is_live() {
            for mut source in attached.into_iter().flat_map(|attached| *attached) {
                if let Some(policy) = self.settings.overflow() {
                    source.overflow(policy);
                }
                if matches!(self.phase, Phase::Draining { .. }) {
                    source.drain();
                }
                self.sources.push(source);
            }
        }
        match close {
            Some(frame) => {
                if self.phase.is_live() {
                    self.ends("handler closed", Some(frame.code));
                }
                self.close(*frame);
            }
            None if orphaned => self.orphaned(),
            None => {}
        }
        if self.queue.is_empty() && self.queue.capacity() > 0 {
            scratch.queue = mem::take(&mut self.queue);
        }
    }

    /// Lends the handler the outbox, while what it says would go there anyway: the
    /// plain frames of an open socket, with nothing queued in front of them.
    pub(super) fn lend(&mut self, scratch: &mut Scratch) -> Option<Displaced> {
        if !matches!(self.phase, Phase::Open)
            || !self.queue.is_empty()
            || !self.connection.sends_plain()
        {
            return None;
        }
        let out = Self::take_out(&mut self.out, scratch);
        let bound = self.shared.outbound_bound();
        let limit = WRITE_AHEAD.min(bound.bytes);
        let most = bound.messages.saturating_sub(out.messages());
        match lent::lend(&self.shared, out, limit, most) {
            Ok(displaced) => Some(displaced),
            Err(out) => {
                Self::keep_out(&mut self.out, out, scratch);
                None
            }
        }
    }

    /// Takes back what [`Self::lend`] lent.
    pub(super) fn take_back(&mut self, displaced: Option<Displaced>, scratch: &mut Scratch) {
        let Some(mut lent) = displaced.and_then(lent::take_back) else {
            return;
        };
        count(&mut lent.out, lent.sent);
        Self::keep_out(&mut self.out, lent.out, scratch);
        if lent.sent > 0 {
            self.data_waits = true;
            let counters = self.stats.counters();
            counters.messages_out.fetch_add(lent.sent, Relaxed);
            if let Some(trace) = &mut self.trace {
                trace.messages_out += lent.sent;
            }
        }
    }

    /// Writes what there is, and returns how many bytes the transport took.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> usize {
        if self.transport.is_none() {
            return 0;
        }
        let mut out = Self::take_out(&mut self.out, scratch);
        let mut written = 0;
        let mut more = true;
        let wrote = loop {
            more = self.fill(cx, &mut out, more);
            if out.is_empty() {
                break Wrote::All;
            }
            match self.write_once(cx, &mut out) {
                Ok(count) => {
                    written += count;
                    self.prolong_close();
                    if written > super::MAX_BYTES {
                        // The rest after others had their turn.
                        cx.waker().wake_by_ref();
                        break Wrote::Blocked;
                    }
                }
                Err(wrote) => break wrote,
            }
        };
        Self::keep_out(&mut self.out, out, scratch);
        match wrote {
            Wrote::All => {
                if self.flush(cx) {
                    self.data_waits = false;
                    self.blocked = None;
                    self.after_all_is_written(cx);
                }
            }
            Wrote::Blocked => {}
            Wrote::Broken => self.broken(),
        }
        written
    }

    fn write_once(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Result<usize, Wrote> {
        let Some(transport) = &mut self.transport else {
            return Err(Wrote::Broken);
        };
        match transport.poll_send(cx, out) {
            Poll::Ready(Ok(count)) => {
                self.blocked = None;
                self.unflushed = true;
                if let Some(trace) = &mut self.trace {
                    trace.bytes_out += count as u64;
                }
                self.data_moved |= self.data_waits;
                if let Some(heartbeat) = &mut self.heartbeat {
                    heartbeat.sent(self.now);
                }
                Ok(count)
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "WebSocket write failed");
                Err(Wrote::Broken)
            }
            Poll::Pending => {
                let unsent = transport.unsent();
                self.blocked
                    .get_or_insert_with(|| Box::new((Instant::now(), unsent)));
                Err(Wrote::Blocked)
            }
        }
    }

    /// Has the transport hand on what it took; false where that is not done. TLS
    /// holds back what its socket had no room for.
    fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(transport) = &mut self.transport else {
            return false;
        };
        if !self.unflushed {
            return true;
        }
        match transport.poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                true
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "WebSocket flush failed");
                self.broken();
                false
            }
            Poll::Pending => {
                let unsent = transport.unsent();
                self.blocked
                    .get_or_insert_with(|| Box::new((Instant::now(), unsent)));
                false
            }
        }
    }

    /// Encodes ahead of the transport: what the handler said first, then what
    /// the sources have, then the close frame. Returns whether the sources may have
    /// `more`, where they may have had: else they will wake us.
    fn fill(&mut self, cx: &mut Context<'_>, out: &mut Outbox, mut more: bool) -> bool {
        let mut sent = 0;
        while out.len() < WRITE_AHEAD {
            let Some(message) = self.queue.pop_front() else {
                break;
            };
            self.queue_weight -= weight_out(&message);
            self.connection.send(message, out);
            sent += 1;
        }
        count(out, sent);
        if more {
            sent += self.poll_sources(cx, out);
            more = out.len() >= WRITE_AHEAD || out.messages() >= self.forwarded_bound();
        }
        if self.queue.is_empty() {
            self.say_close(out);
        }
        if out.is_empty() {
            self.connection.answer_ping(out);
        }
        if sent > 0 {
            self.data_waits = true;
            if self.connection.keeps_context() {
                **self.rest_at.get_or_insert_with(|| Box::new(self.now)) = self.now + CONTEXT_KEPT;
            }
            self.stats.counters().messages_out.fetch_add(sent, Relaxed);
            if let Some(trace) = &mut self.trace {
                trace.messages_out += sent;
            }
        }
        more
    }

    fn poll_sources(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> u64 {
        let mut sent = 0;
        let mut index = 0;
        let most = self.forwarded_bound();
        while self.phase.is_live() && index < self.sources.len() {
            // Full while something of the handler's waits in front of it.
            let bound = if self.queue.is_empty() {
                WRITE_AHEAD
            } else {
                0
            };
            let mut sink = FrameSink::new(&mut self.connection, out, bound, most);
            let polled = self.sources[index].poll_frames(cx, &mut sink);
            let put = sink.sent();
            count(out, put);
            sent += put;
            match polled {
                Poll::Ready(Some(frame)) => {
                    self.cut(frame, "too slow");
                    // The close frame goes out in the next round.
                    self.shared.lock().changed = true;
                }
                Poll::Ready(None) => {
                    self.sources.remove(index);
                    // In a drain the last source may have been waited for.
                    self.shared.lock().changed = true;
                }
                Poll::Pending => index += 1,
            }
        }
        sent
    }

    /// How many messages of the sources may wait: half of the bound, since the handler
    /// would never find room in it otherwise.
    fn forwarded_bound(&self) -> usize {
        (self.shared.outbound_bound().messages / 2).max(1)
    }

    fn after_all_is_written(&mut self, cx: &mut Context<'_>) {
        if self.has_said_all() && self.queue.is_empty() {
            self.shut_down();
        }
        let Phase::ShutDown { until } = self.phase else {
            return;
        };
        if self.leaves_the_end_to_the_server() {
            return;
        }
        let Some(transport) = &mut self.transport else {
            return;
        };
        let expects_more = match self.behind_close {
            _ if self.peer_ended => false,
            Behind::Unknown if self.connection.close_received() => {
                // The next round looks.
                self.shared.lock().changed = true;
                return;
            }
            Behind::Unknown | Behind::More => true,
            Behind::Nothing => false,
        };
        if expects_more && transport.poll_quiet(cx).is_pending() {
            return;
        }
        match transport.poll_shutdown(cx) {
            Poll::Ready(Ok(())) if self.peer_ended => self.die(&Error::PeerGone),
            Poll::Ready(Ok(())) => {
                self.phase = Phase::Lingering { until };
                // The read's waker is registered by the next round.
                self.shared.lock().changed = true;
            }
            Poll::Ready(Err(_)) => self.broken(),
            Poll::Pending => {}
        }
    }

    /// Tells the handles what is left of what they sent, and those who wait
    /// that there is room; false where nobody waited and nothing was told in the
    /// meantime.
    pub(super) fn settle(&mut self, waker: &Waker) -> bool {
        self.settle_then(waker, |_, _| None)
    }

    /// Goes to sleep, unless something was told in the meantime.
    pub(super) fn park(&mut self, waker: &Waker, handler: bool, scratch: &mut Scratch) -> bool {
        !self.settle_then(waker, |state, quiet| {
            // An idle connection owns no queue.
            if state.queue.is_empty() && state.queue.capacity() > 0 {
                scratch.queue = mem::take(&mut state.queue);
            }
            if let Some(memory) = state.inbox.take_memory() {
                scratch.batch = memory;
            }
            let sleeps = quiet && !(handler && state.handler_woken);
            sleeps.then(|| state.park(waker))
        })
    }

    /// Settles, and asks `sleep` under the same lock, which gives a waker to be
    /// dropped; true where there is something to do.
    fn settle_then(
        &mut self,
        waker: &Waker,
        sleep: impl FnOnce(&mut State, bool) -> Option<Option<Waker>>,
    ) -> bool {
        let (unsent, messages) = self.unsent();
        let mut state = self.shared.lock();
        self.shared.count_unsent(&mut state, unsent, messages);
        let buffered = unsent + state.queue_weight;
        let messages = messages + state.queue.len();
        let waiting = self.shared.take_waiting(&mut state);
        // What the handler took in this turn may have made room for reading: nobody is
        // woken for that, since nothing is registered while the inbox is full.
        let resumes = self.awaits_room() && !self.shared.is_full(&mut state);
        let quiet = waiting.is_empty() && !state.changed && !resumes;
        let slept = sleep(&mut state, quiet);
        drop(state);
        self.count_buffered(buffered + self.assembled(), waker);
        if buffered > 0 || self.slow {
            self.watch_slowness(messages, buffered);
        }
        for waker in waiting.into_wakers() {
            waker.wake();
        }
        slept.is_none()
    }

    /// What was taken from the handles, and the transport has not: bytes and messages.
    fn unsent(&self) -> (usize, usize) {
        let out = self.out.as_deref();
        let (bytes, messages) = out.map_or((0, 0), |out| (out.len(), out.messages()));
        (self.queue_weight + bytes, self.queue.len() + messages)
    }

    /// Tells that the peer has become slow, once until it is no longer.
    fn watch_slowness(&mut self, messages: usize, bytes: usize) {
        let Some(percent) = self.settings.slow_percent() else {
            return;
        };
        let bound = self.shared.outbound_bound();
        match crossing(percent, &[(messages, bound.messages), (bytes, bound.bytes)]) {
            Some(Crossing::Up) if !self.slow && self.phase.is_live() => {}
            Some(Crossing::Down) => return self.slow = false,
            _ => return,
        }
        self.slow = true;
        self.stats.counters().slow.fetch_add(1, Relaxed);
        let peer = SlowPeer {
            buffered_bytes: bytes,
            buffered_messages: messages,
        };
        if let Some(trace) = &self.trace {
            trace.slow(&peer);
        }
        if let Some(OnSlow(tell)) = self.settings.slow_listener()
            && catch_unwind(AssertUnwindSafe(|| tell(&peer))).is_err()
        {
            self.stats.counters().panics.fetch_add(1, Relaxed);
        }
    }

    /// What came of the message that is in the making.
    fn assembled(&self) -> usize {
        usize::try_from(self.connection.assembled()).unwrap_or(usize::MAX)
    }

    fn count_buffered(&mut self, buffered: usize, waker: &Waker) {
        if buffered == self.buffered {
            return;
        }
        if let Some(account) = &mut self.account {
            account.hold(buffered, waker);
        }
        let gauge = &self.stats.counters().buffered_bytes;
        if buffered > self.buffered {
            gauge.fetch_add((buffered - self.buffered) as u64, Relaxed);
        } else {
            gauge.fetch_sub((self.buffered - buffered) as u64, Relaxed);
        }
        self.buffered = buffered;
    }
}
