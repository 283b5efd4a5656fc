//! How a connection ends; the table of it is in `docs/driver.md`.

use std::{mem, sync::atomic::Ordering::Relaxed, task::Context, time::Duration};

use tokio::time::Instant;

use super::Engine;
use crate::ws::{
    error::Error,
    protocol::{CloseCode, CloseFrame, ProtocolError, Text},
    shared::weight_out,
    transport::Transport,
};

/// How long a handler may run on when its connection has ended.
const GRACE: Duration = Duration::from_secs(30);
/// What a close in a drain leaves of the deadline for the process to end in.
const DRAIN_MARGIN: Duration = Duration::from_millis(250);
/// How long before that a handler is cut that has not asked again, so that its
/// peer can shake hands on the close.
const CUT_MARGIN: Duration = Duration::from_millis(250);

/// Where a connection stands.
#[derive(Debug)]
pub(super) enum Phase {
    /// As ever.
    Open,
    /// The drain came: the handler answers what was received, and no more is read.
    Draining { until: Instant },
    /// What was accepted goes out, then the close frame; then the peer's is awaited.
    Closing(Box<Closing>),
    /// All is said: our direction is to end.
    ShutDown { until: Instant },
    /// It has ended; what still comes is read and thrown away, so that no reset
    /// destroys our close frame on its way.
    Lingering { until: Instant },
    /// The transport is gone, the handler runs on.
    Dead { until: Instant },
    /// The handler ran on for too long and is to be dropped.
    Abandoned,
}

#[derive(Debug)]
pub(super) struct Closing {
    wire: Wire,
    until: Instant,
    /// The peer's bytes can no longer be understood.
    breached: bool,
    /// The peer sends no more.
    read_all: bool,
    /// The handler, or a half elsewhere, has had its time.
    overdue: bool,
}

/// What comes behind the peer's close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// It was not looked for.
    Unknown,
    /// Nothing, as RFC 6455 §5.5.1 has it.
    Nothing,
    /// More, and who knows how much.
    More,
}

/// What goes out behind what was accepted.
#[derive(Debug)]
enum Wire {
    /// Our own close frame.
    Close(CloseFrame),
    /// The answer to the peer's.
    Answer(Option<CloseCode>),
    /// The close frame for a peer that broke the protocol.
    Breach(CloseFrame),
    /// None: the peer ended the connection without one.
    Nothing,
}

impl Phase {
    /// What comes in is of no use any more.
    pub(super) const fn discards(&self) -> bool {
        match self {
            Self::Open | Self::Draining { .. } => false,
            Self::Closing(closing) => closing.breached,
            Self::ShutDown { .. }
            | Self::Lingering { .. }
            | Self::Dead { .. }
            | Self::Abandoned => true,
        }
    }

    /// Nothing more is to be read.
    pub(super) const fn has_read_all(&self) -> bool {
        match self {
            Self::Draining { .. } => true,
            Self::Closing(closing) => closing.read_all,
            _ => false,
        }
    }

    pub(super) const fn read_all(&mut self) {
        if let Self::Closing(closing) = self {
            closing.read_all = true;
        }
    }

    pub(super) const fn until(&self) -> Option<Instant> {
        match self {
            Self::Open | Self::Abandoned => None,
            Self::Closing(closing) => Some(closing.until),
            Self::Draining { until }
            | Self::ShutDown { until }
            | Self::Lingering { until }
            | Self::Dead { until } => Some(*until),
        }
    }

    /// What is left of an end is to be done by `end`.
    pub(super) fn end_by(&mut self, end: Instant) {
        match self {
            Self::Closing(closing) => closing.until = end.min(closing.until),
            Self::ShutDown { until } | Self::Lingering { until } => *until = end.min(*until),
            Self::Open | Self::Draining { .. } | Self::Dead { .. } | Self::Abandoned => {}
        }
    }

    /// The handler still has a say.
    pub(super) const fn is_live(&self) -> bool {
        matches!(self, Self::Open | Self::Draining { .. })
    }
}

impl<T: Transport> Engine<T> {
    /// When a close that begins now has to be done.
    fn close_by(&self) -> Instant {
        let by = self.now + self.settings.close_limit();
        match self.drain_end() {
            Some(end) => by.min(end),
            None => by,
        }
    }

    /// When, in a drain, the last close has to be done: a little before the
    /// deadline, or halfway to it where that is near.
    pub(super) fn drain_end(&self) -> Option<Instant> {
        Some(self.before_deadline(DRAIN_MARGIN)?.max(self.now))
    }

    fn before_deadline(&self, margin: Duration) -> Option<Instant> {
        let deadline = self.guard.as_ref()?.deadline()?;
        let left = deadline.saturating_duration_since(self.now);
        Some(
            deadline
                .checked_sub(margin.min(left / 2))
                .unwrap_or(deadline),
        )
    }

    /// The peer takes what stands in front of our close frame: it has the whole
    /// close time-out again, unless a drain ends. Not while the close frame is
    /// held back: what is said meanwhile could go on for ever.
    pub(super) fn prolong_close(&mut self) {
        if !self.may_say_close {
            return;
        }
        let by = self.close_by();
        if let Phase::Closing(closing) = &mut self.phase {
            closing.until = by;
        }
    }

    /// Nobody has asked again in time: the close frame goes out all the same.
    pub(super) fn overdue(&mut self) {
        let by = self.close_by();
        if let Phase::Closing(closing) = &mut self.phase {
            closing.overdue = true;
            closing.until = by;
        }
    }

    fn begin_closing(&mut self, wire: Wire) {
        // A handler that computed has not used up the peer's time.
        self.now = Instant::now();
        self.phase = Phase::Closing(Box::new(Closing {
            wire,
            until: self.close_by(),
            breached: false,
            read_all: false,
            overdue: false,
        }));
    }

    /// A handle asked to close, or the last one was dropped.
    pub(super) fn close(&mut self, frame: CloseFrame) {
        if self.phase.is_live() {
            self.begin_closing(Wire::Close(frame));
        }
    }

    /// The drain ends the socket: behind its last message, if it has one.
    pub(super) fn close_drained(&mut self) {
        let Some(guard) = &self.guard else { return };
        let frame = CloseFrame::new(guard.close_code(), "draining");
        if self.phase.is_live() {
            self.ends("drain", Some(frame.code));
        }
        if let Some(message) = self.shared.take_last_message() {
            self.queue_weight += weight_out(&message);
            self.queue.push_back(*message);
        }
        self.close(frame);
    }

    /// The last handle was dropped: 1000, except in a drain, whose code wins.
    pub(super) fn orphaned(&mut self) {
        if matches!(self.phase, Phase::Open) {
            self.ends("handler returned", Some(CloseCode::NORMAL));
            self.close(CloseFrame::new(CloseCode::NORMAL, Text::default()));
        }
    }

    /// The handler failed: nothing it has not received reaches it any more.
    pub(super) fn fail(&mut self, code: CloseCode, cause: &'static str) {
        if !self.phase.is_live() {
            return;
        }
        self.ends(cause, Some(code));
        let frame = CloseFrame::new(code, Text::default());
        self.end_handles(&Error::closed(Some(&frame)));
        let mut state = self.shared.lock();
        let unread = self.shared.discard_inbox(&mut state);
        drop(state);
        drop(unread);
        self.begin_closing(Wire::Close(frame));
    }

    /// Closed for overload or idleness: what is queued and not begun is discarded.
    pub(super) fn cut(&mut self, frame: CloseFrame, cause: &'static str) {
        if !self.phase.is_live() {
            return;
        }
        self.ends(cause, Some(frame.code));
        self.discard_queue(&Error::closed(Some(&frame)));
        self.begin_closing(Wire::Close(frame));
    }

    fn discard_queue(&mut self, end: &Error) {
        self.end_handles(end);
        // Also what a half in another task has said since.
        let mut state = self.shared.lock();
        state.queue_weight = 0;
        let said_since = mem::take(&mut state.queue);
        drop(state);
        drop(said_since);
        self.queue.clear();
        self.queue_weight = 0;
    }

    /// What the peer was let in with has expired: what was accepted by now goes out,
    /// what comes from now on is not given.
    pub(super) fn expire(&mut self) {
        let frame = CloseFrame::new(CloseCode::UNAUTHORIZED, "credential expired");
        self.ends("credential expired", Some(frame.code));
        self.end_handles(&Error::closed(Some(&frame)));
        self.begin_closing(Wire::Close(frame));
    }

    /// Whether others need the room that this socket takes.
    pub(super) fn watch_budget(&mut self, cx: &Context<'_>) {
        let account = self.account.as_mut();
        if account.is_some_and(|account| account.take_cut(cx.waker())) {
            self.stats.counters().shed.fetch_add(1, Relaxed);
            self.shed();
        }
    }

    /// Closed for others: what is not begun is discarded, also of what is encoded, and
    /// what is being received.
    fn shed(&mut self) {
        let frame = CloseFrame::new(CloseCode::TRY_AGAIN_LATER, "over budget");
        if self.phase.is_live() {
            self.cut(frame, "over budget");
        } else if self.connection.close_sent() || self.is_dead() {
            // It was on its way out, and its peer has taken nothing since.
            return self.abort(&Error::PeerGone);
        } else {
            self.close_instead(frame);
        }
        self.connection.forget();
        if let Phase::Closing(closing) = &mut self.phase {
            // What is still read is thrown away; the peer's close frame too.
            closing.breached = true;
            closing.overdue = true;
        }
        self.out.take_if(|out| {
            out.discard_unbegun();
            out.is_empty()
        });
    }

    /// What it was to say at its end is no longer true, since what stood in front is
    /// discarded. Where it was to say nothing it says nothing.
    fn close_instead(&mut self, frame: CloseFrame) {
        let end = Error::closed(Some(&frame));
        self.discard_queue(&end);
        let Phase::Closing(closing) = &mut self.phase else {
            return;
        };
        if matches!(closing.wire, Wire::Nothing) {
            return;
        }
        let replaced = self.shared.lock().send_end.replace(end.into());
        drop(replaced);
        if let Some(trace) = &mut self.trace {
            trace.ends_instead("over budget", frame.code);
        }
        closing.wire = Wire::Close(frame);
    }

    /// Ends both directions for the handles.
    fn end_handles(&self, end: &Error) {
        let mut state = self.shared.lock();
        state
            .receive_end
            .get_or_insert_with(|| Err(end.clone().into()));
        state.send_end.get_or_insert_with(|| end.clone().into());
        let waiting = self.shared.take_waiting(&mut state);
        let receiving = state.take_receiving();
        drop(state);
        for waker in receiving.into_iter().chain(waiting.into_wakers()) {
            waker.wake();
        }
    }

    pub(super) fn peer_closed(&mut self, frame: Option<CloseFrame>) {
        if self.phase.is_live() {
            let code = frame.map(|frame| frame.code);
            self.ends("peer closed", code);
            self.begin_closing(Wire::Answer(code));
        }
    }

    pub(super) fn breached(&mut self, breach: ProtocolError) {
        if self.phase.is_live() {
            let reason = breach.to_string();
            self.ends("protocol error", Some(breach.close_code()));
            self.begin_closing(Wire::Breach(CloseFrame::new(breach.close_code(), reason)));
        }
        if let Phase::Closing(closing) = &mut self.phase {
            closing.breached = true;
        }
    }

    /// The peer ended its direction without a close frame. Ours may still be
    /// read, so what the handler says to what it received goes out.
    pub(super) fn peer_gone(&mut self) {
        let mut state = self.shared.lock();
        state
            .receive_end
            .get_or_insert_with(|| Err(Error::PeerGone.into()));
        let receiving = state.take_receiving();
        drop(state);
        self.wake_receiver(receiving);
        if self.phase.is_live() {
            self.begin_closing(Wire::Nothing);
        }
        self.phase.read_all();
    }

    /// The drain's moment has come, and what was there has been read.
    pub(super) fn begin_drain(&mut self) {
        self.moment = None;
        let Some(until) = self.before_deadline(DRAIN_MARGIN + CUT_MARGIN) else {
            return;
        };
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        self.phase = Phase::Draining { until };
        for source in &mut self.sources {
            source.drain();
        }
        let mut state = self.shared.lock();
        state.receive_end.get_or_insert(Ok(()));
        let receiving = state.take_receiving();
        drop(state);
        if let Some(waker) = receiving {
            waker.wake();
        }
    }

    /// Goes on from one phase to the next, where what it waits for is there.
    /// `handler` tells whether the handler lives.
    pub(super) fn end_when_due(&mut self, handler: bool) {
        if let Phase::Draining { .. } = self.phase
            && self.sources.is_empty()
        {
            let state = self.shared.lock();
            // It asked again behind the last message: it has answered them all.
            let answered = state.end_seen || !state.receiver_lives;
            drop(state);
            if answered {
                self.close_drained();
            }
        }
        let Phase::Closing(closing) = &self.phase else {
            return;
        };
        if self.connection.close_sent() {
            return;
        }
        let state = self.shared.lock();
        let yielded = match closing.wire {
            _ if closing.overdue => true,
            Wire::Close(_) => true,
            // A client's socket is nearly always in another task than its driver.
            Wire::Breach(_) if !handler && !self.connection.is_client() => true,
            // The handler has had its turn, and said what it says to what it
            // received; halves in other tasks are waited for.
            _ if handler && !self.receives_elsewhere => !state.handler_woken,
            _ => state.end_seen || !state.receiver_lives,
        };
        drop(state);
        self.may_say_close = yielded;
    }

    /// Pushes the close frame, once everything in front of it is encoded.
    pub(super) fn say_close(&mut self, out: &mut crate::ws::protocol::Outbox) {
        let Phase::Closing(closing) = &mut self.phase else {
            return;
        };
        if !self.may_say_close || self.connection.close_sent() {
            return;
        }
        let end = match &closing.wire {
            Wire::Close(frame) | Wire::Breach(frame) => {
                self.connection.close(Some(frame), out);
                Error::closed(Some(frame))
            }
            Wire::Answer(code) => {
                self.connection.answer_close(*code, out);
                let peer = self.shared.lock().peer_close.clone();
                Error::closed(peer.as_deref())
            }
            Wire::Nothing => Error::PeerGone,
        };
        let mut state = self.shared.lock();
        state.send_end.get_or_insert_with(|| end.into());
        let waiting = self.shared.take_waiting(&mut state);
        drop(state);
        for waker in waiting.into_wakers() {
            waker.wake();
        }
    }

    /// Whether everything was said: the close frame and what stood in front.
    pub(super) const fn has_said_all(&self) -> bool {
        let Phase::Closing(closing) = &self.phase else {
            return false;
        };
        if !self.may_say_close {
            return false;
        }
        match closing.wire {
            Wire::Nothing => true,
            Wire::Close(_) | Wire::Answer(_) | Wire::Breach(_) => {
                self.connection.close_sent()
                    && (self.connection.close_received() || closing.breached || closing.read_all)
            }
        }
    }

    /// Behind both close frames it is the server that ends the connection, so that no
    /// port of a client's is kept in `TIME_WAIT` (RFC 6455 §7.1.1).
    pub(super) const fn leaves_the_end_to_the_server(&self) -> bool {
        self.connection.is_client()
            && self.connection.close_sent()
            && self.connection.close_received()
            && !self.peer_ended
    }

    /// Our direction is to end: for the handles the socket is closed.
    pub(super) fn shut_down(&mut self) {
        let read_all = self.phase.has_read_all();
        let until = self.phase.until().unwrap_or(self.now);
        self.phase = Phase::ShutDown { until };
        self.peer_ended = read_all;
        self.finish(&Error::closed(None));
    }

    /// The connection broke.
    pub(super) fn broken(&mut self) {
        self.die(&Error::PeerGone);
    }

    /// Ends the connection with a reset.
    pub(super) fn abort(&mut self, error: &Error) {
        if let Some(transport) = &mut self.transport {
            transport.abort();
        }
        self.die(error);
    }

    /// The transport is gone: the handles learn it, the handler runs on.
    pub(super) fn die(&mut self, error: &Error) {
        let cause = match error {
            Error::WriteTimeout => "write time-out",
            _ => "peer gone",
        };
        self.die_of(error, cause);
    }

    /// As [`Self::die`]; `cause` is for the span of one that had no reason yet.
    pub(super) fn die_of(&mut self, error: &Error, cause: &'static str) {
        if self.transport.is_none() {
            return;
        }
        if !self.connection.close_sent() && !self.connection.close_received() {
            // RFC 6455 §7.4.1: 1006, which is never sent.
            self.stats.counters().gone.fetch_add(1, Relaxed);
        }
        self.finish(error);
        self.out = None;
        self.read_ahead = None;
        // The handler may run on for a while, without half a message of the peer's.
        self.connection.forget();
        self.sources.clear();
        // Behind what the subscriptions say of what they lost.
        if let Some(trace) = &self.trace {
            trace.closed(cause);
        }
        self.transport = None;
        self.blocked = None;
        self.heartbeat = None;
        self.idle = None;
        self.expiry = None;
        self.account = None;
        self.phase = Phase::Dead {
            until: self.now + GRACE,
        };
        let counters = self.stats.counters();
        counters
            .buffered_bytes
            .fetch_sub(mem::take(&mut self.buffered) as u64, Relaxed);
    }

    fn finish(&mut self, end: &Error) {
        let mut state = self.shared.lock();
        let (wakers, unsent) = state.finish(end);
        let attached = mem::take(&mut state.attached);
        drop(state);
        drop((unsent, attached));
        self.queue.clear();
        self.queue_weight = 0;
        for waker in wakers {
            waker.wake();
        }
    }
}
