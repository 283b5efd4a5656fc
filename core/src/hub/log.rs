use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};

use super::{
    EventId, Retention,
    cursor::{Extent, Gap, Start},
    ledger::Ledger,
    waiters::{Due, Waiters},
};
use crate::encoded::{Draft, Encoded};

/// A topic's bounded log: the newest events, which its readers read by cursors
/// of their own.
///
/// Replay and live are the same reading: there is no seam at which an event could
/// be lost or doubled. A publisher is never blocked by a reader, since what is
/// past the retention goes whether it was read or not.
pub(super) struct Log {
    epoch: u64,
    retention: Retention,
    /// The newest event's number, so that a reader who has nothing to read finds
    /// that out without the lock. Written under it.
    head: AtomicU64,
    closed: AtomicBool,
    state: Mutex<State>,
    /// Called when the last reader has gone, without a lock held.
    on_idle: Box<dyn Fn() + Send + Sync>,
}

struct State {
    entries: VecDeque<Encoded>,
    /// The oldest kept event's number: `head + 1` where none is.
    first: u64,
    bytes: usize,
    waiters: Waiters,
    /// While one of the readers conflates.
    ledger: Option<Box<Ledger>>,
    conflating: usize,
}

/// What [`Log::read`] came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Events were added to the batch.
    Events,
    /// So many events behind the cursor are no longer kept.
    Lost(u64),
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
    pub(super) missed: u64,
    /// How many events are left.
    pub(super) left: u64,
}

impl State {
    fn entry(&self, number: u64) -> Option<&Encoded> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get(index)
    }
}

impl Log {
    pub(super) fn new(
        epoch: u64,
        retention: Retention,
        on_idle: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            epoch,
            retention,
            head: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            state: Mutex::new(State {
                entries: VecDeque::new(),
                first: 1,
                bytes: 0,
                waiters: Waiters::default(),
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

    /// The newest event's number; 0 where there never was one.
    pub(super) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn readers(&self) -> usize {
        self.lock().waiters.readers()
    }

    /// Puts an event at the end. Nobody is woken and nothing is dropped before
    /// [`Appended::finish`].
    pub(super) fn append(&self, draft: Draft) -> Appended<'_> {
        let mut state = self.lock();
        let head = self.head.load(Ordering::Relaxed) + 1;
        let id = EventId::new(self.epoch, head);
        let event = draft.number(id);
        state.bytes += kept_bytes(&event);
        if let Some(ledger) = &mut state.ledger {
            ledger.add(event.key());
        }
        state.entries.push_back(event);
        let mut expired = Expired::default();
        while state.entries.len() > 1
            && (state.entries.len() > self.retention.events || state.bytes > self.retention.bytes)
        {
            if let Some(event) = state.entries.pop_front() {
                state.bytes -= kept_bytes(&event);
                state.first += 1;
                if let Some(ledger) = &mut state.ledger {
                    ledger.expire();
                }
                expired.push(event);
            }
        }
        self.head.store(head, Ordering::Release);
        Appended {
            log: self,
            id,
            due: state.waiters.take_due(head),
            expired,
        }
    }

    /// Adds events behind `cursor`, and not past `end`, to an empty batch.
    pub(super) fn read(&self, cursor: u64, end: u64, batch: &mut Batch) -> Read {
        let end = end.min(self.head());
        if cursor >= end {
            return Read::Nothing;
        }
        let state = self.lock();
        let before_oldest = (state.first - 1).min(end);
        if cursor < before_oldest {
            return Read::Lost(before_oldest - cursor);
        }
        batch.fill((cursor + 1..=end).filter_map(|number| state.entry(number)));
        Read::Events
    }

    /// The number of the event in front of the oldest that is kept.
    pub(super) fn before_oldest(&self) -> u64 {
        self.lock().first - 1
    }

    /// What conflation leaves of the events behind `cursor` up to `until`: those that
    /// nothing up to there has replaced, and the newest `most` of them. Adds the first
    /// of these to an empty batch.
    ///
    /// What is no longer kept counts as replaced if anything up to the head has: by
    /// what the reader gets then, if it gets all up to the head, which `to_head` says.
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
            missed: from - cursor,
            left: 0,
        };
        let Some(ledger) = &state.ledger else {
            conflated.left = until - from;
            return conflated;
        };
        if to_head {
            conflated.missed = ledger.lost(cursor, from);
        }
        for number in ledger.standing(from + 1..=until, until).rev() {
            if conflated.left < most {
                conflated.left += 1;
            } else {
                conflated.missed += ledger.standing(from + 1..=number, until).count() as u64;
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
            .field("epoch", &self.epoch)
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

/// An event that stands in the log.
#[derive(Debug)]
#[must_use]
pub(super) struct Appended<'a> {
    log: &'a Log,
    id: EventId,
    due: Due,
    expired: Expired,
}

impl Appended<'_> {
    /// Wakes the readers and drops what is no longer kept: to be called when no
    /// lock is held.
    pub(super) fn finish(self) -> EventId {
        drop(self.expired);
        let mut room = self.due.wake();
        if !room.is_empty() {
            self.log.lock().waiters.recycle(&mut room);
        }
        self.id
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
/// A [`Broker`](super::Broker) makes it when it opens a topic.
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
            for event in &state.entries {
                ledger.add(event.key());
            }
            state.ledger = Some(Box::new(ledger));
        }
    }

    /// Where to begin: the cursor, the head of the same moment, and the gap to
    /// be told first.
    pub(super) fn begin(&self, start: &Start) -> (u64, u64, Option<Gap>) {
        let extent = {
            let state = self.log.lock();
            Extent {
                epoch: self.log.epoch,
                first: state.first,
                head: self.log.head.load(Ordering::Relaxed),
            }
        };
        let (cursor, gap) = start.resolve(extent);
        (cursor, extent.head, gap)
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
        Arc::new(Log::new(7, RETENTION, || ()))
    }

    fn append(log: &Log, payload: &str) -> EventId {
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
        assert_eq!(log.read(0, u64::MAX, &mut batch), Read::Lost(2));
        assert_eq!(log.read(0, 1, &mut batch), Read::Lost(1));
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
