use std::{
    sync::{Arc, atomic::Ordering},
    task::Waker,
};

use super::{Batch, Log, Read};
use crate::{
    encoded::Encoded,
    hub::{
        cursor::{Extent, Gap, Start},
        ledger::Ledger,
        linger::Linger,
    },
};

/// A reader's place at a log; dropping it gives the place and its waker back.
///
/// A [`Broker`](crate::hub::Broker) has it made by the topic's [`TopicLog`](crate::hub::TopicLog).
#[derive(Debug)]
pub struct Reader {
    log: Arc<Log>,
    place: usize,
    conflates: bool,
}

impl Reader {
    pub(in crate::hub) fn new(log: Arc<Log>) -> Self {
        let place = log.lock().waiters.attach();
        Self {
            log,
            place,
            conflates: false,
        }
    }

    pub(in crate::hub) fn log(&self) -> &Log {
        &self.log
    }

    /// As [`Log::wait`].
    pub(in crate::hub) fn wait(&self, at: u64, waker: &Waker) -> bool {
        self.log.wait(self.place, at, waker)
    }

    /// As [`Log::read_and_wait`].
    pub(in crate::hub) fn read_and_wait(
        &self,
        cursor: u64,
        waker: &Waker,
        batch: &mut Batch,
    ) -> (Read, Option<u64>) {
        self.log.read_and_wait(self.place, cursor, waker, batch)
    }

    /// Has events wait for others, for all who read the log.
    pub(in crate::hub) fn linger(&self, linger: Linger) {
        self.log.lock().pacer.set(linger);
    }

    /// Wakes who waits here, as if its event were there.
    pub(in crate::hub) fn wake(&self) {
        let waker = self.log.lock().waiters.disarm(self.place);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Has the log know what replaces what. To be called before [`begin`](Self::begin),
    /// so that it knows it of all that the reader may miss.
    pub(in crate::hub) fn conflate(&mut self) {
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
    pub(in crate::hub) fn begin(&self, start: &Start) -> (u64, u64, Option<Gap>) {
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
