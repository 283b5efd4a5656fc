use std::{
    fmt,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, Waker, ready},
};

use futures_core::Stream;

use super::{
    EventId, Gap, Overflow, Reader,
    cursor::Start,
    log::{Batch, Read},
    losses::Losses,
    spans::Missed,
};
use crate::{Stats, encoded::Encoded, waker::WakerId, ws::Message};

/// A reader of one topic: a stream of its events, each exactly once and in
/// order, and of the gaps between them.
///
/// What was published before it was polled waits in the topic's log; nothing is
/// queued for it. When the stream has ended, [`ended_by`](Self::ended_by) says
/// why.
///
/// ```
/// use futures_util::StreamExt;
/// use towpath::hub::{Delivery, Hub};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = Hub::new();
/// let mut subscription = hub.subscribe("news").await?;
/// hub.publish("news", "hello").await?;
/// if let Some(Delivery::Event(event)) = subscription.next().await {
///     assert_eq!(event.message().as_text(), Some("hello"));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a subscription that is not read only lags behind"]
pub struct Subscription {
    reader: Reader,
    policy: Policy,
    /// The position of the last event that was given on, or told as lost.
    cursor: u64,
    /// The head when the subscription was made: what was published before does
    /// not count as lag.
    joined: u64,
    /// The last event to be delivered, once there is one.
    end: u64,
    /// What the lag has come to, until the cursor has passed this event. Under
    /// `DropNewest` it is the last one that still waits in front of the gap; under
    /// `Conflate` what is replaced by an event up to this one is left out.
    until: Option<u64>,
    /// What is to be told first.
    gap: Option<Gap>,
    batch: Batch,
    armed: Option<Armed>,
    ended: Option<Ended>,
    losses: Option<Box<Losses>>,
}

/// What the hub's settings say about subscriptions.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) queue: u64,
    pub(super) overflow: Overflow,
    /// The subscription itself said that.
    pub(super) is_said: bool,
    pub(super) stats: Stats,
}

/// Which waker the log has of ours, and the event at which it wakes: as long as that
/// is not there, it still has it.
#[derive(Debug)]
struct Armed {
    at: u64,
    waker: WakerId,
}

/// What a [`Subscription`] yields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// An event.
    Event(Published),
    /// Events are missing here.
    Gap(Gap),
}

/// An event of a topic. A clone shares its bytes.
#[derive(Clone)]
pub struct Published(Encoded);

impl Published {
    /// Its id: what [`after`](super::Subscribe::after) takes to go on behind it.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.0.id()
    }

    /// The message, without a copy.
    #[must_use]
    pub fn message(&self) -> Message {
        self.0.message()
    }

    /// What it was published with: see [`Publish::key`](super::Publish::key).
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.0.key()
    }

    pub(crate) const fn encoded(&self) -> &Encoded {
        &self.0
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published")
            .field("id", &self.id())
            .field("message", &self.message())
            .field("key", &self.key())
            .finish()
    }
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// It lagged behind by more than the hub's `queue`.
    Overflow,
    /// It was [drained](Subscription::drain), and everything was delivered.
    Drained,
    /// The hub is gone, and everything was delivered.
    Closed,
}

impl Subscription {
    pub(super) fn new(mut reader: Reader, start: &Start, policy: Policy, topic: &str) -> Self {
        if policy.overflow == Overflow::Conflate {
            reader.conflate();
        }
        let (cursor, joined, gap) = reader.begin(start);
        let losses = Losses::of(topic, policy.overflow);
        Self {
            reader,
            policy,
            cursor,
            joined,
            end: u64::MAX,
            until: None,
            gap,
            batch: Batch::default(),
            armed: None,
            ended: None,
            losses,
        }
    }

    /// Why the stream ended; `None` while it has not.
    #[must_use]
    pub const fn ended_by(&self) -> Option<Ended> {
        self.ended
    }

    /// What happens where it lags too far, unless it said so when it was made. Nothing is
    /// taken from it before.
    pub(super) fn overflow_unless_said(&mut self, overflow: Overflow) {
        if self.policy.is_said {
            return;
        }
        if overflow == Overflow::Conflate {
            self.reader.conflate();
        }
        self.policy.overflow = overflow;
        if let Some(losses) = &mut self.losses {
            losses.follows(overflow);
        }
    }

    /// Fixes the end: what has been published until now is still delivered, then
    /// the stream ends. Only the first call counts.
    pub fn drain(&mut self) {
        self.end = self.end.min(self.reader.log().head());
        // Who waits for the next event must find out that none will come.
        if self.armed.take().is_some() {
            self.reader.wake();
        }
    }

    /// Ready when the subscription has ended or is about to, by its lag, without
    /// taking anything: for one who cannot take for the time being, but is to
    /// find out.
    pub(crate) fn poll_overflow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.ended.is_some() || self.is_cut_off() {
                return Poll::Ready(());
            }
            // What is not given on is not kept in memory: the log has it, or it is lost.
            self.batch.clear();
            if self.policy.overflow != Overflow::Disconnect || self.end != u64::MAX {
                return Poll::Pending;
            }
            let limit = self.cursor.max(self.joined) + self.policy.queue;
            if self.reader.log().is_closed() || self.arm(limit + 1, cx) {
                return Poll::Pending;
            }
        }
    }

    /// As the stream's, outside tokio's budget.
    pub(crate) fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        if self.still_waits(cx) {
            return Poll::Pending;
        }
        loop {
            if let Some(delivery) = self.take(cx.waker()) {
                return Poll::Ready(Some(delivery));
            }
            if self.ended.is_some() {
                return Poll::Ready(None);
            }
            if self.arm(self.cursor + 1, cx) {
                return Poll::Pending;
            }
        }
    }

    /// It has read all there is, is told when more comes, and nothing else is to be told:
    /// what most polls find, since whoever has taken an event asks for the next.
    fn still_waits(&self, cx: &Context<'_>) -> bool {
        let Some(armed) = &self.armed else {
            return false;
        };
        let log = self.reader.log();
        armed.at == self.cursor + 1
            && log.head() == self.cursor
            && self.gap.is_none()
            && self.until.is_none()
            && self.ended.is_none()
            && armed.waker == WakerId::of(cx.waker())
            && !log.is_closed()
    }

    /// What is there now; where nothing more is, `waker` may have been registered.
    fn take(&mut self, waker: &Waker) -> Option<Delivery> {
        if self.ended.is_some() {
            return None;
        }
        let keeps_up = self.lag(self.newest()) <= self.policy.queue;
        // Nearly always there is nothing to tell and no policy to apply.
        if !keeps_up || self.gap.is_some() || self.until.is_some() {
            if self.is_cut_off() {
                self.count_lost(self.newest() - self.cursor);
                self.end_by(Ended::Overflow);
                return None;
            }
            if let Some(gap) = self.gap.take().or_else(|| self.overflow()) {
                return Some(self.tell(gap));
            }
            if self.until.is_some_and(|until| self.cursor >= until) {
                // Under `Conflate`: what was replaced, once all of it is passed.
                self.tell_losses();
            }
        }
        loop {
            if let Some(event) = self.batch.pop() {
                return Some(self.give(event));
            }
            // Asked first: what was published before the hub went is delivered.
            let is_closed = self.reader.log().is_closed();
            let lost = match (self.policy.overflow, self.until) {
                (Overflow::Conflate, Some(until)) if self.cursor < until => self.conflate(until),
                _ => match self.read(waker) {
                    Read::Events => None,
                    Read::Lost { to, missed } => self.fall_off(to, missed),
                    Read::Nothing => {
                        if self.cursor >= self.end {
                            self.end_by(Ended::Drained);
                        } else if is_closed {
                            self.end_by(Ended::Closed);
                        }
                        return None;
                    }
                },
            };
            if let Some(gap) = lost {
                return Some(self.tell(gap));
            }
        }
    }

    /// Applies the policy where the lag is too much. It says nothing about what a reader
    /// who takes nothing will get: the lag at the next take decides, and until then it
    /// only grows.
    fn overflow(&mut self) -> Option<Gap> {
        let queue = self.policy.queue;
        let newest = self.newest();
        let lags = self.lag(newest) > queue;
        match self.policy.overflow {
            Overflow::Disconnect | Overflow::Block => None,
            Overflow::DropOldest if lags => {
                let to = self.oldest_of_queue(newest);
                self.batch.clear();
                self.lose_all(to)
            }
            Overflow::DropNewest => {
                if lags && self.until.is_none() {
                    self.until = Some(self.cursor.max(self.joined) + queue);
                }
                if self.until.is_none_or(|until| self.cursor < until) {
                    return None;
                }
                self.until = None;
                self.lose_all(newest)
            }
            Overflow::Conflate if lags && self.until != Some(newest) => {
                // One that never catches up is told of now and then all the same.
                self.tell_losses();
                self.until = Some(newest);
                self.batch.clear();
                self.conflate(newest)
            }
            Overflow::DropOldest | Overflow::Conflate => None,
        }
    }

    /// Where the queue begins whose oldest events go.
    fn oldest_of_queue(&self, newest: u64) -> u64 {
        let kept = self.reader.log().before_oldest().min(newest);
        kept.max(newest.saturating_sub(self.policy.queue))
    }

    /// Fills the empty batch, in log order.
    fn read(&mut self, waker: &Waker) -> Read {
        if self.end == u64::MAX && self.until.is_none() {
            let (read, next) = self
                .reader
                .read_and_wait(self.cursor, waker, &mut self.batch);
            if let Some(at) = next {
                let waker = WakerId::of(waker);
                self.armed = Some(Armed { at, waker });
            }
            return read;
        }
        let end = match (self.policy.overflow, self.until) {
            (Overflow::DropNewest, Some(until)) => until.min(self.end),
            _ => self.end,
        };
        let log = self.reader.log();
        log.read(self.cursor, end, &mut self.batch)
    }

    /// Leaves out what is replaced by an event up to `until`, and fills the empty batch
    /// with what is left.
    fn conflate(&mut self, until: u64) -> Option<Gap> {
        let (queue, to_head) = (self.policy.queue, self.reads_to_head());
        let log = self.reader.log();
        let left = log.conflate(self.cursor, until, queue, to_head, &mut self.batch);
        self.lose(left.cursor, left.missed)
    }

    /// What lies behind the cursor, up to `to`, cannot be read.
    fn fall_off(&mut self, to: u64, missed: Missed) -> Option<Gap> {
        match (self.policy.overflow, self.until) {
            (Overflow::DropNewest, Some(until)) if to >= until => {
                // Nothing is left of what waited: it is one gap with what came later.
                self.until = None;
                let newest = self.newest();
                self.lose_all(newest)
            }
            (Overflow::Conflate, _) => {
                let (cursor, to_head) = (self.cursor, self.reads_to_head());
                let log = self.reader.log();
                let gone = log.conflate(cursor, to, u64::MAX, to_head, &mut self.batch);
                self.lose(gone.cursor, gone.missed)
            }
            _ => self.lose(to, missed),
        }
    }

    /// The cursor moves on to `to`, past events of which `missed` are missing.
    fn lose(&mut self, to: u64, missed: Missed) -> Option<Gap> {
        let passed = to - self.cursor;
        self.count_lost(passed.max(missed.unwrap_or(0)));
        self.cursor = to;
        match missed {
            Some(0) => None,
            Some(missed) => Some(Gap::Lagged { missed }),
            None => Some(Gap::Unknown),
        }
    }

    /// The cursor moves on to `to`, and nothing up to there is given on.
    fn lose_all(&mut self, to: u64) -> Option<Gap> {
        let missed = self.reader.log().missed(self.cursor, to);
        self.lose(to, missed)
    }

    fn give(&mut self, event: Encoded) -> Delivery {
        let number = event.position();
        // In between stands what was replaced.
        self.count_lost(number - self.cursor - 1);
        self.cursor = number;
        Delivery::Event(Published(event))
    }

    fn count_lost(&mut self, events: u64) {
        if events > 0 {
            let counters = self.policy.stats.counters();
            counters.lagged.fetch_add(events, Relaxed);
            if let Some(losses) = &mut self.losses {
                losses.count(events);
            }
        }
    }

    /// Tells the connection's span what was lost since it was last told.
    fn tell_losses(&mut self) {
        if let Some(losses) = &mut self.losses {
            losses.tell();
        }
    }

    fn tell(&mut self, gap: Gap) -> Delivery {
        self.policy.stats.counters().gaps.fetch_add(1, Relaxed);
        self.tell_losses();
        Delivery::Gap(gap)
    }

    fn end_by(&mut self, why: Ended) {
        self.tell_losses();
        self.ended = Some(why);
        self.gap = None;
        self.batch = Batch::default();
    }

    /// The newest event that is to be delivered.
    fn newest(&self) -> u64 {
        self.reader.log().head().min(self.end)
    }

    /// Everything up to the newest event will be delivered: a drain has not left out
    /// what came after it.
    fn reads_to_head(&self) -> bool {
        self.reader.log().head() <= self.end
    }

    /// By how many events it is behind, of those published since it was made.
    fn lag(&self, newest: u64) -> u64 {
        newest.saturating_sub(self.cursor.max(self.joined))
    }

    fn is_cut_off(&self) -> bool {
        let is_late = || self.lag(self.newest()) > self.policy.queue;
        self.policy.overflow == Overflow::Disconnect && is_late()
    }

    /// How many events the policy has taken from it, of those behind the cursor.
    fn taken_away(&self) -> u64 {
        let newest = self.newest();
        if let (Overflow::DropNewest, Some(until)) = (self.policy.overflow, self.until) {
            return newest - until;
        }
        let behind = newest.saturating_sub(self.cursor);
        if self.lag(newest) <= self.policy.queue {
            return 0;
        }
        match self.policy.overflow {
            Overflow::Block => 0,
            Overflow::Disconnect => behind,
            Overflow::DropOldest => self.oldest_of_queue(newest) - self.cursor,
            Overflow::DropNewest => self.lag(newest) - self.policy.queue,
            Overflow::Conflate => {
                let log = self.reader.log();
                let queue = self.policy.queue;
                let left = log.conflate(self.cursor, newest, queue, true, &mut Batch::default());
                behind - left.left
            }
        }
    }

    /// Has `cx` woken at event `at`; not where that is already there, or where
    /// the log was closed.
    fn arm(&mut self, at: u64, cx: &Context<'_>) -> bool {
        let log = self.reader.log();
        if let Some(armed) = &self.armed
            && armed.at == at
            && log.head() < at
            && !log.is_closed()
            && armed.waker == WakerId::of(cx.waker())
        {
            return true;
        }
        self.armed = None;
        let waits = self.reader.wait(at, cx.waker());
        if waits {
            let waker = WakerId::of(cx.waker());
            self.armed = Some(Armed { at, waker });
        }
        waits
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // A reader who was cut off, or left, while it lagged did not get these.
        if self.ended.is_none() {
            self.count_lost(self.taken_away());
            self.tell_losses();
        }
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        // A topic that is published to without a pause must not starve the task.
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        let delivery = ready!(self.poll_delivery(cx));
        budget.made_progress();
        Poll::Ready(delivery)
    }
}
