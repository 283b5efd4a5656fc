mod batch;
mod reader;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

pub(super) use self::batch::Batch;
pub use self::reader::Reader;
use super::{
    EventId, Retention,
    ledger::Ledger,
    linger::{Pace, Pacer},
    spans::{Follows, Missed, Spans},
    waiters::{Due, Waiters},
};
use crate::encoded::{Draft, Encoded};

/// A topic's bounded log: the newest events, which its readers read by cursors
/// of their own.
///
/// Replay and live are the same reading: there is no seam at which an event could
/// be lost or doubled. A publisher is never blocked by a reader, since what is
/// past the retention goes whether it was read or not.
///
/// Its readers' cursors are positions, which [`Spans`] says more of.
pub(super) struct Log {
    retention: Retention,
    /// The newest event's position, so that a reader who has nothing to read finds
    /// that out without the lock. Written under it.
    head: AtomicU64,
    closed: AtomicBool,
    state: Mutex<State>,
    /// Called when the last reader has gone, without a lock held.
    on_idle: Box<dyn Fn() + Send + Sync>,
}

struct State {
    /// `None` is a break.
    entries: VecDeque<Option<Encoded>>,
    /// The oldest kept event's position: `head + 1` where none is.
    first: u64,
    spans: Spans,
    bytes: usize,
    waiters: Waiters,
    pacer: Pacer,
    /// While one of the readers conflates.
    ledger: Option<Box<Ledger>>,
    conflating: usize,
}

/// What [`Log::read`] came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Events were added to the batch.
    Events,
    /// What lies behind the cursor, up to this position, cannot be read.
    Lost {
        /// The cursor behind it.
        to: u64,
        /// So many events.
        missed: Missed,
    },
    /// The cursor is at the head.
    Nothing,
}

/// What the retention counts of an event.
fn kept_bytes(event: &Encoded) -> usize {
    event.payload_len() + event.key().map_or(0, str::len)
}

/// What [`Log::conflate`] came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conflated {
    /// The cursor in front of what is left.
    pub(super) cursor: u64,
    /// How many events up to there the reader misses: nothing has replaced them.
    pub(super) missed: Missed,
    /// How many events are left.
    pub(super) left: u64,
}

impl State {
    fn entry(&self, position: u64) -> Option<&Encoded> {
        let index = usize::try_from(position.checked_sub(self.first)?).ok()?;
        self.entries.get(index)?.as_ref()
    }

    /// Puts one more at the end. What is past the retention goes, to be dropped
    /// without the lock.
    fn push(&mut self, entry: Option<Encoded>, retention: Retention, expired: &mut Expired) {
        if let Some(ledger) = &mut self.ledger {
            ledger.add(entry.as_ref().and_then(Encoded::key));
        }
        self.bytes += entry.as_ref().map_or(0, kept_bytes);
        self.entries.push_back(entry);
        while self.entries.len() > 1
            && (self.bytes > retention.bytes
                || self.entries.len() > retention.events && self.events() > retention.events)
        {
            if let Some(entry) = self.entries.pop_front() {
                self.first += 1;
                if let Some(ledger) = &mut self.ledger {
                    ledger.expire();
                }
                if let Some(event) = entry {
                    self.bytes -= kept_bytes(&event);
                    expired.push(event);
                }
            }
        }
    }

    /// How many of the entries are events.
    fn events(&self) -> usize {
        self.entries.len() - self.spans.breaks_from(self.first)
    }
}

impl Log {
    /// A log without events, whose first one follows `seen`; `None` where the topic
    /// has never had any.
    pub(super) fn new(
        seen: Option<EventId>,
        retention: Retention,
        on_idle: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            retention,
            head: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            state: Mutex::new(State {
                entries: VecDeque::new(),
                first: 1,
                spans: Spans::new(seen),
                bytes: 0,
                waiters: Waiters::default(),
                pacer: Pacer::default(),
                ledger: None,
                conflating: 0,
            }),
            on_idle: Box::new(on_idle),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest event's position; 0 where there never was one.
    pub(super) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn readers(&self) -> usize {
        self.lock().waiters.readers()
    }

    /// Puts the topic's next event at the end, with a number of the log's own. Nobody
    /// is woken and nothing is dropped before [`Appended::finish`].
    pub(super) fn append(self: &Arc<Self>, draft: Draft) -> Appended<'_> {
        let state = self.lock();
        let head = self.head.load(Ordering::Relaxed);
        let id = state.spans.next(head).unwrap_or(EventId::UNNUMBERED);
        self.push(state, id, draft, Expired::default())
    }

    /// Puts an event at the end that a broker has numbered, behind a break where others
    /// are missing in between. `None` where it is there already, or of an epoch that
    /// has passed.
    pub(super) fn follow(self: &Arc<Self>, id: EventId, draft: Draft) -> Option<Appended<'_>> {
        let mut state = self.lock();
        let mut expired = Expired::default();
        let head = self.head.load(Ordering::Relaxed);
        match state.spans.follows(id, head) {
            Follows::Not => return None,
            Follows::Directly if state.spans.next(head).is_none() => {
                state.spans.begin(id, head + 1, None);
            }
            Follows::Directly => {}
            Follows::BehindGap(missed) => {
                self.push_break(&mut state, id, missed, &mut expired);
            }
        }
        Some(self.push(state, id, draft, expired))
    }

    /// The topic's newest event is `id`, and what is not here up to it cannot be had
    /// any more: a break, if that is anything.
    pub(super) fn skip(self: &Arc<Self>, id: EventId) -> Option<Appended<'_>> {
        let mut state = self.lock();
        let mut expired = Expired::default();
        let head = self.head.load(Ordering::Relaxed);
        let next = EventId::new(id.epoch(), id.sequence().wrapping_add(1));
        let Follows::BehindGap(missed) = state.spans.follows(next, head) else {
            return None;
        };
        self.push_break(&mut state, next, missed, &mut expired);
        let head = self.head.load(Ordering::Relaxed);
        Some(Appended {
            log: self,
            id,
            due: state.waiters.take_due(head),
            flush_at: None,
            expired,
        })
    }

    fn push_break(&self, state: &mut State, next: EventId, missed: Missed, expired: &mut Expired) {
        let position = self.head.load(Ordering::Relaxed) + 1;
        state.spans.begin(next, position + 1, Some(missed));
        state.push(None, self.retention, expired);
        self.head.store(position, Ordering::Release);
    }

    fn push<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
        id: EventId,
        draft: Draft,
        mut expired: Expired,
    ) -> Appended<'a> {
        let head = self.head.load(Ordering::Relaxed) + 1;
        let event = draft.number(id, head);
        let pace = state.pacer.publish(event.payload_len());
        state.push(Some(event), self.retention, &mut expired);
        self.head.store(head, Ordering::Release);
        Appended {
            log: self,
            id,
            due: match pace {
                Pace::Wake => state.waiters.take_due(head),
                Pace::Hold | Pace::HoldUntil(_) => state.waiters.take_far(head),
            },
            flush_at: match pace {
                Pace::HoldUntil(at) => Some(at),
                Pace::Wake | Pace::Hold => None,
            },
            expired,
        }
    }

    /// The id of the newest event up to the log's end, there or missing; `None` where
    /// the topic has never had any.
    pub(super) fn newest(&self) -> Option<EventId> {
        let state = self.lock();
        let next = state.spans.next(self.head.load(Ordering::Relaxed))?;
        Some(EventId::new(next.epoch(), next.sequence().wrapping_sub(1)))
    }

    /// Whether the event is here, or was.
    pub(super) fn knows(&self, id: EventId) -> bool {
        let state = self.lock();
        let head = self.head.load(Ordering::Relaxed);
        state.spans.locate(id, head).is_some()
    }

    /// Adds events behind `cursor`, and not past `end`, to an empty batch.
    pub(super) fn read(&self, cursor: u64, end: u64, batch: &mut Batch) -> Read {
        let end = end.min(self.head());
        if cursor >= end {
            return Read::Nothing;
        }
        self.read_locked(&self.lock(), cursor, end, batch)
    }

    /// As [`read`](Self::read), up to the head; a reader who has got there is woken at
    /// the next event, as by [`wait`](Self::wait), whose number is returned: one lock
    /// does for both.
    fn read_and_wait(
        &self,
        place: usize,
        cursor: u64,
        waker: &Waker,
        batch: &mut Batch,
    ) -> (Read, Option<u64>) {
        let seen = self.head();
        if cursor >= seen {
            return (Read::Nothing, None);
        }
        let waker = (seen - cursor <= Batch::SIZE as u64).then(|| waker.clone());
        let mut state = self.lock();
        let head = self.head.load(Ordering::Relaxed);
        let read = self.read_locked(&state, cursor, head, batch);
        let reached = cursor + batch.len() as u64 == head && !self.closed.load(Ordering::Relaxed);
        let (next, _dropped_unlocked) = match waker {
            Some(waker) if reached => {
                let replaced = state.waiters.arm(place, head + 1, head, waker);
                (Some(head + 1), replaced)
            }
            unused => (None, unused),
        };
        drop(state);
        (read, next)
    }

    fn read_locked(&self, state: &State, cursor: u64, end: u64, batch: &mut Batch) -> Read {
        let before_oldest = (state.first - 1).min(end);
        if cursor < before_oldest {
            return Read::Lost {
                to: before_oldest,
                missed: state.spans.missed(cursor, before_oldest),
            };
        }
        batch.fill((cursor + 1..=end).map_while(|position| state.entry(position)));
        if batch.is_empty() {
            let to = cursor + 1;
            let missed = state.spans.missed(cursor, to);
            return Read::Lost { to, missed };
        }
        Read::Events
    }

    /// How many events a reader misses who goes from `cursor` on to `to` at once.
    pub(super) fn missed(&self, cursor: u64, to: u64) -> Missed {
        self.lock().spans.missed(cursor, to)
    }

    /// The position in front of the oldest event that is kept.
    pub(super) fn before_oldest(&self) -> u64 {
        self.lock().first - 1
    }

    /// What conflation leaves of the events behind `cursor` up to `until`: those that
    /// nothing up to there has replaced, and the newest `most` of them. Adds the first
    /// of these to an empty batch.
    ///
    /// What is no longer kept counts as replaced if anything up to the head has: by
    /// what the reader gets then, if it gets all up to the head, which `to_head` says.
    ///
    /// It goes up to the next break only: what comes behind it is another reading.
    pub(super) fn conflate(
        &self,
        cursor: u64,
        until: u64,
        most: u64,
        to_head: bool,
        batch: &mut Batch,
    ) -> Conflated {
        let state = self.lock();
        let from = cursor.max((state.first - 1).min(until));
        let mut conflated = Conflated {
            cursor: from,
            missed: state.spans.missed(cursor, from),
            left: 0,
        };
        let until = match state.spans.break_behind(from) {
            Some((at, missed)) if at == from + 1 && at <= until => {
                conflated.cursor = at;
                conflated.missed = conflated.missed.zip(missed).map(|(a, b)| a + b);
                return conflated;
            }
            Some((at, _)) => until.min(at - 1),
            None => until,
        };
        let Some(ledger) = &state.ledger else {
            conflated.left = until - from;
            return conflated;
        };
        if to_head && conflated.missed == Some(from - cursor) {
            conflated.missed = Some(ledger.lost(cursor, from));
        }
        for number in ledger.standing(from + 1..=until, until).rev() {
            if conflated.left < most {
                conflated.left += 1;
            } else {
                let excess = ledger.standing(from + 1..=number, until).count() as u64;
                conflated.missed = conflated.missed.map(|missed| missed + excess);
                conflated.cursor = number;
                break;
            }
        }
        let left = ledger.standing(conflated.cursor + 1..=until, until);
        batch.fill(left.filter_map(|number| state.entry(number)));
        conflated
    }

    /// Has the reader of `place` woken at event `at`. Returns whether it will be:
    /// not where that event is already there, or where none will come.
    pub(super) fn wait(&self, place: usize, at: u64, waker: &Waker) -> bool {
        let waker = waker.clone();
        let replaced;
        {
            let mut state = self.lock();
            let head = self.head.load(Ordering::Relaxed);
            if at <= head || self.closed.load(Ordering::Relaxed) {
                return false;
            }
            replaced = state.waiters.arm(place, at, head, waker);
        }
        drop(replaced);
        true
    }

    /// Wakes those whom [`append`](Self::append) has left waiting.
    fn flush(&self) {
        let due = {
            let mut state = self.lock();
            if !state.pacer.fire() {
                return;
            }
            let head = self.head.load(Ordering::Relaxed);
            state.waiters.take_left(head)
        };
        self.wake(due);
    }

    fn wake(&self, due: Due) {
        let mut room = due.wake();
        if !room.is_empty() {
            self.lock().waiters.recycle(&mut room);
        }
    }

    /// Nothing will be appended any more: readers end when they have read what
    /// there is.
    pub(super) fn close(&self) {
        let due = {
            let mut state = self.lock();
            self.closed.store(true, Ordering::Release);
            state.waiters.take_due(u64::MAX)
        };
        let _room = due.wake();
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

/// An event that stands in the log.
#[derive(Debug)]
#[must_use]
pub(super) struct Appended<'a> {
    log: &'a Arc<Log>,
    id: EventId,
    due: Due,
    /// When those are to be woken who were not.
    flush_at: Option<Instant>,
    expired: Expired,
}

impl Appended<'_> {
    /// Wakes the readers and drops what is no longer kept: to be called when no
    /// lock is held.
    pub(super) fn finish(self) -> EventId {
        drop(self.expired);
        self.log.wake(self.due);
        if let Some(at) = self.flush_at {
            let flush = Flush(Arc::clone(self.log));
            // Without a runtime it is dropped here, and wakes at once.
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(flush.at(at));
            }
        }
        self.id
    }
}

/// Wakes those who were left waiting, when it is dropped: also by a runtime that ends.
#[derive(Debug)]
struct Flush(Arc<Log>);

impl Flush {
    async fn at(self, time: Instant) {
        sleep_until(time).await;
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// What went past the retention: nearly always one event, for which nothing is
/// allocated.
#[derive(Debug, Default)]
struct Expired {
    one: Option<Encoded>,
    more: Vec<Encoded>,
}

impl Expired {
    fn push(&mut self, event: Encoded) {
        if self.one.is_none() {
            self.one = Some(event);
        } else {
            self.more.push(event);
        }
    }
}
