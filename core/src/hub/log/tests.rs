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
