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

use super::{
    EventId, Retention,
    cursor::{Extent, Gap, Start},
    ledger::Ledger,
    linger::{Linger, Pace, Pacer},
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

/// A reader's place at a log; dropping it gives the place and its waker back.
///
/// A [`Broker`](super::Broker) has it made by the topic's [`TopicLog`](super::TopicLog).
#[derive(Debug)]
pub struct Reader {
    log: Arc<Log>,
    place: usize,
    conflates: bool,
}

impl Reader {
    pub(super) fn new(log: Arc<Log>) -> Self {
        let place = log.lock().waiters.attach();
        Self {
            log,
            place,
            conflates: false,
        }
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// As [`Log::wait`].
    pub(super) fn wait(&self, at: u64, waker: &Waker) -> bool {
        self.log.wait(self.place, at, waker)
    }

    /// As [`Log::read_and_wait`].
    pub(super) fn read_and_wait(
        &self,
        cursor: u64,
        waker: &Waker,
        batch: &mut Batch,
    ) -> (Read, Option<u64>) {
        self.log.read_and_wait(self.place, cursor, waker, batch)
    }

    /// Has events wait for others, for all who read the log.
    pub(super) fn linger(&self, linger: Linger) {
        self.log.lock().pacer.set(linger);
    }

    /// Wakes who waits here, as if its event were there.
    pub(super) fn wake(&self) {
        let waker = self.log.lock().waiters.disarm(self.place);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Has the log know what replaces what. To be called before [`begin`](Self::begin),
    /// so that it knows it of all that the reader may miss.
    pub(super) fn conflate(&mut self) {
        if std::mem::replace(&mut self.conflates, true) {
            return;
        }
        let mut state = self.log.lock();
        state.conflating += 1;
        if state.ledger.is_none() {
            let mut ledger = Ledger::new(state.first, self.log.retention.events);
            for entry in &state.entries {
                ledger.add(entry.as_ref().and_then(Encoded::key));
            }
            state.ledger = Some(Box::new(ledger));
        }
    }

    /// Where to begin: the cursor, the head of the same moment, and the gap to
    /// be told first.
    pub(super) fn begin(&self, start: &Start) -> (u64, u64, Option<Gap>) {
        let state = self.log.lock();
        let head = self.log.head.load(Ordering::Relaxed);
        let extent = Extent {
            spans: &state.spans,
            first: state.first,
            head,
        };
        let (cursor, gap) = start.resolve(extent);
        (cursor, head, gap)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let (waker, ledger, idle) = {
            let mut state = self.log.lock();
            let waker = state.waiters.detach(self.place);
            state.conflating -= usize::from(self.conflates);
            let ledger = match state.conflating {
                0 => state.ledger.take(),
                _ => None,
            };
            (waker, ledger, state.waiters.readers() == 0)
        };
        drop((waker, ledger));
        if idle {
            (self.log.on_idle)();
        }
    }
}

/// Events that a reader has taken from the log at once and not yet given on.
#[derive(Debug, Default)]
pub(super) struct Batch {
    events: [Option<Encoded>; Self::SIZE],
    next: usize,
}

impl Batch {
    /// Enough that the lock does not show, small enough to lie in the reader.
    const SIZE: usize = 8;
    /// Once the events have so many bytes no more are taken: a reader who then stalls
    /// keeps them in memory, past the retention.
    const BYTES: usize = 16 * 1024;

    fn fill<'a>(&mut self, events: impl Iterator<Item = &'a Encoded>) {
        self.next = 0;
        let mut bytes = 0;
        for (slot, event) in self.events.iter_mut().zip(events) {
            *slot = Some(event.clone());
            bytes += event.payload_len();
            if bytes >= Self::BYTES {
                break;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are left.
    fn len(&self) -> usize {
        let left = self.events.get(self.next..).unwrap_or_default();
        left.iter().take_while(|event| event.is_some()).count()
    }

    pub(super) fn clear(&mut self) {
        if self.events.iter().any(Option::is_some) {
            *self = Self::default();
        }
    }

    pub(super) fn pop(&mut self) -> Option<Encoded> {
        let event = self.events.get_mut(self.next)?.take()?;
        self.next += 1;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::task::{ArcWake, waker};

    use super::*;
    use crate::hub::Publish;

    const RETENTION: Retention = Retention {
        events: 4,
        bytes: 100,
    };

    fn log() -> Arc<Log> {
        Arc::new(Log::new(Some(EventId::new(7, 0)), RETENTION, || ()))
    }

    fn append(log: &Arc<Log>, payload: &str) -> EventId {
        log.append(Draft::new(&Publish::from(payload))).finish()
    }

    #[test]
    fn a_key_counts_as_what_is_kept() {
        let log = log();
        for _ in 0..4 {
            let publish = Publish::from("x").key("k".repeat(49));
            log.append(Draft::new(&publish)).finish();
        }
        let state = log.lock();
        assert_eq!((state.bytes, state.entries.len()), (100, 2));
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl ArcWake for Count {
        fn wake_by_ref(arc_self: &Arc<Self>) {
            arc_self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn retention_counts_events_and_bytes() {
        let log = log();
        for n in 1..=6 {
            assert_eq!(append(&log, "x"), EventId::new(7, n));
        }
        assert_eq!(log.lock().first, 3);
        append(&log, &"x".repeat(98));
        assert_eq!(log.lock().first, 5, "98 bytes leave room for two more");
        append(&log, &"x".repeat(1000));
        assert_eq!(log.lock().first, 8, "the newest is always kept");
        append(&log, "y");
        assert_eq!(log.lock().first, 9);
        assert_eq!(log.lock().bytes, 1);
    }

    #[test]
    fn what_nobody_reads_is_bounded() {
        let log = log();
        for _ in 0..10_000 {
            append(&log, "x");
        }
        let state = log.lock();
        assert_eq!(state.entries.len(), RETENTION.events);
        assert!(state.entries.capacity() <= 2 * RETENTION.events);
    }

    #[test]
    fn reading_goes_past_neither_end_nor_retention() {
        let log = log();
        for _ in 0..6 {
            append(&log, "x");
        }
        let mut batch = Batch::default();
        assert_eq!(log.read(6, u64::MAX, &mut batch), Read::Nothing);
        assert_eq!(
            log.read(0, u64::MAX, &mut batch),
            Read::Lost {
                to: 2,
                missed: Some(2)
            }
        );
        assert_eq!(
            log.read(0, 1, &mut batch),
            Read::Lost {
                to: 1,
                missed: Some(1)
            }
        );
        assert_eq!(log.read(3, 3, &mut batch), Read::Nothing);
        assert_eq!(log.read(2, 4, &mut batch), Read::Events);
        let read = std::iter::from_fn(|| batch.pop()).map(|event| event.id().sequence());
        assert_eq!(read.collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn an_event_that_is_already_there_arms_nothing() {
        let log = log();
        let reader = Reader::new(Arc::clone(&log));
        let count = Arc::new(Count::default());
        append(&log, "x");
        assert!(!reader.wait(1, &waker(Arc::clone(&count))));
        assert!(reader.wait(2, &waker(Arc::clone(&count))));
        append(&log, "x");
        append(&log, "x");
        assert_eq!(count.get(), 1, "once armed, once woken");
    }

    #[test]
    fn a_far_event_wakes_only_when_it_is_there() {
        let log = log();
        let readers: Vec<_> = (0..3).map(|_| Reader::new(Arc::clone(&log))).collect();
        let counts: Vec<_> = (0..3).map(|_| Arc::new(Count::default())).collect();
        for (at, (reader, count)) in (2..).zip(readers.iter().zip(&counts)) {
            assert!(reader.wait(at, &waker(Arc::clone(count))));
        }
        for expected in [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]] {
            append(&log, "x");
            assert_eq!(counts.iter().map(|c| c.get()).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn dropping_a_reader_takes_its_waker_and_no_other() {
        let log = log();
        let mut readers: Vec<_> = (0..4)
            .map(|_| Some(Reader::new(Arc::clone(&log))))
            .collect();
        let counts: Vec<_> = (0..4).map(|_| Arc::new(Count::default())).collect();
        for (n, (reader, count)) in readers.iter().zip(&counts).enumerate() {
            let at = if n < 2 { 1 } else { 2 };
            assert!(reader.as_ref().unwrap().wait(at, &waker(Arc::clone(count))));
        }
        readers[0] = None;
        readers[2] = None;
        assert_eq!(Arc::strong_count(&counts[0]), 1, "the waker is gone");
        assert_eq!(Arc::strong_count(&counts[2]), 1, "the waker is gone");
        append(&log, "x");
        append(&log, "x");
        assert_eq!(
            counts.iter().map(|c| c.get()).collect::<Vec<_>>(),
            [0, 1, 0, 1]
        );
        readers.clear();
        assert_eq!(log.readers(), 0);
    }

    #[test]
    fn a_waker_is_replaced_not_added() {
        let log = log();
        let reader = Reader::new(Arc::clone(&log));
        let (old, new) = (Arc::new(Count::default()), Arc::new(Count::default()));
        assert!(reader.wait(1, &waker(Arc::clone(&old))));
        assert!(reader.wait(1, &waker(Arc::clone(&new))));
        assert_eq!(Arc::strong_count(&old), 1);
        append(&log, "x");
        assert_eq!((old.get(), new.get()), (0, 1));
    }

    /// A waker that drops a reader and takes the lock: what is called under the
    /// log's lock would hang here.
    struct DropsReader(Mutex<Option<Reader>>);

    impl ArcWake for DropsReader {
        fn wake_by_ref(arc_self: &Arc<Self>) {
            drop(arc_self.0.lock().unwrap().take());
        }
    }

    impl Drop for DropsReader {
        fn drop(&mut self) {
            drop(self.0.lock().unwrap().take());
        }
    }

    #[test]
    fn wakers_are_woken_and_dropped_without_the_lock() {
        let log = log();
        let other = || {
            let reader = Reader::new(Arc::clone(&log));
            waker(Arc::new(DropsReader(Mutex::new(Some(reader)))))
        };
        let reader = Reader::new(Arc::clone(&log));
        assert!(reader.wait(1, &other()));
        assert!(reader.wait(1, &other()), "replaced and dropped");
        append(&log, "x");
        assert!(reader.wait(2, &other()));
        drop(reader);
        assert_eq!(log.readers(), 0);
    }

    #[test]
    fn closing_wakes_everyone() {
        let log = log();
        let readers = [Reader::new(Arc::clone(&log)), Reader::new(Arc::clone(&log))];
        let count = Arc::new(Count::default());
        assert!(readers[0].wait(1, &waker(Arc::clone(&count))));
        assert!(readers[1].wait(9, &waker(Arc::clone(&count))));
        log.close();
        assert_eq!(count.get(), 2);
        assert!(!readers[0].wait(1, &waker(Arc::clone(&count))));
    }
}
