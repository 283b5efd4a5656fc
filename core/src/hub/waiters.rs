use std::task::Waker;

/// The wakers of a log's readers, each with a place of its own.
///
/// Nothing here wakes or drops a waker: it is called under the log's lock, and
/// hands them out for when that is released.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    places: Vec<Place>,
    free: Option<usize>,
    readers: usize,
    /// Those who wait for the next event.
    near: Vec<Waiting>,
    /// Those who wait for an event further ahead.
    far: Vec<Waiting>,
    /// The nearest event that one of `far` waits for.
    nearest: u64,
    /// Room for the next `near`, so that waking allocates nothing.
    spare: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    place: usize,
    at: u64,
    waker: Waker,
}

/// What a place is now; where it waits, the index there.
#[derive(Clone, Copy, Debug)]
enum Place {
    Free { next: Option<usize> },
    Idle,
    Near(usize),
    Far(usize),
}

/// Wakers whose event is there; to be woken when no lock is held.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Due(Vec<Waiting>);

impl Due {
    /// Wakes them all and leaves the room they took.
    pub(super) fn wake(mut self) -> Spare {
        for waiting in self.0.drain(..) {
            waiting.waker.wake();
        }
        Spare(self.0)
    }
}

/// Room to be given back by [`Waiters::recycle`].
#[derive(Debug)]
pub(super) struct Spare(Vec<Waiting>);

impl Spare {
    pub(super) fn is_empty(&self) -> bool {
        self.0.capacity() == 0
    }
}

impl Waiters {
    pub(super) const fn readers(&self) -> usize {
        self.readers
    }

    /// A place for one more reader.
    pub(super) fn attach(&mut self) -> usize {
        self.readers += 1;
        let Some(place) = self.free else {
            self.places.push(Place::Idle);
            return self.places.len() - 1;
        };
        if let Place::Free { next } = self.places[place] {
            self.free = next;
        }
        self.places[place] = Place::Idle;
        place
    }

    /// Gives a place back, and its waker, to be dropped.
    pub(super) fn detach(&mut self, place: usize) -> Option<Waker> {
        let waker = self.disarm(place);
        self.places[place] = Place::Free { next: self.free };
        self.free = Some(place);
        self.readers -= 1;
        if self.readers == 0 {
            // A topic that nobody reads costs nothing for those who did.
            *self = Self::default();
        }
        waker
    }

    /// Has the reader woken at event `at`; `head` is the newest, and before it.
    /// The waker that it had armed comes back, to be dropped.
    pub(super) fn arm(&mut self, place: usize, at: u64, head: u64, waker: Waker) -> Option<Waker> {
        let old = self.disarm(place);
        let waiting = Waiting { place, at, waker };
        if at == head + 1 {
            self.places[place] = Place::Near(self.near.len());
            self.near.push(waiting);
        } else {
            self.nearest = if self.far.is_empty() {
                at
            } else {
                self.nearest.min(at)
            };
            self.places[place] = Place::Far(self.far.len());
            self.far.push(waiting);
        }
        old
    }

    /// Takes the waker of a place, where it waits.
    pub(super) fn disarm(&mut self, place: usize) -> Option<Waker> {
        let removed = match self.places[place] {
            Place::Near(index) => {
                let removed = self.near.swap_remove(index);
                if let Some(moved) = self.near.get(index) {
                    self.places[moved.place] = Place::Near(index);
                }
                removed
            }
            Place::Far(index) => {
                let removed = self.far.swap_remove(index);
                if let Some(moved) = self.far.get(index) {
                    self.places[moved.place] = Place::Far(index);
                }
                removed
            }
            Place::Idle | Place::Free { .. } => return None,
        };
        self.places[place] = Place::Idle;
        Some(removed.waker)
    }

    /// Takes those who wait for `head`, which is there now, or for less.
    pub(super) fn take_due(&mut self, head: u64) -> Due {
        if self.near.is_empty() {
            return self.take_far(head);
        }
        let near = std::mem::replace(&mut self.near, std::mem::take(&mut self.spare));
        for waiting in &near {
            self.places[waiting.place] = Place::Idle;
        }
        self.add_far(head, near)
    }

    /// As [`take_due`](Self::take_due), without those who only wait for the next event.
    pub(super) fn take_far(&mut self, head: u64) -> Due {
        self.add_far(head, Vec::new())
    }

    /// As [`take_due`](Self::take_due), where nothing was appended just now: who has read
    /// what there is waits for what comes.
    pub(super) fn take_left(&mut self, head: u64) -> Due {
        let mut due = std::mem::take(&mut self.spare);
        let mut index = 0;
        while index < self.near.len() {
            if self.near[index].at > head {
                index += 1;
                continue;
            }
            let waiting = self.near.swap_remove(index);
            self.places[waiting.place] = Place::Idle;
            if let Some(moved) = self.near.get(index) {
                self.places[moved.place] = Place::Near(index);
            }
            due.push(waiting);
        }
        self.add_far(head, due)
    }

    fn add_far(&mut self, head: u64, mut due: Vec<Waiting>) -> Due {
        if !self.far.is_empty() && head >= self.nearest {
            let mut index = 0;
            while index < self.far.len() {
                if self.far[index].at > head {
                    index += 1;
                    continue;
                }
                let waiting = self.far.swap_remove(index);
                self.places[waiting.place] = Place::Idle;
                if let Some(moved) = self.far.get(index) {
                    self.places[moved.place] = Place::Far(index);
                }
                due.push(waiting);
            }
            self.nearest = self.far.iter().map(|far| far.at).min().unwrap_or(0);
        }
        Due(due)
    }

    /// Keeps the room that the last wake took, if it is the larger.
    pub(super) fn recycle(&mut self, spare: &mut Spare) {
        if self.readers > 0 && self.spare.capacity() < spare.0.capacity() {
            std::mem::swap(&mut self.spare, &mut spare.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back_with_the_last_reader() {
        let mut waiters = Waiters::default();
        let places: Vec<_> = (0..100).map(|_| waiters.attach()).collect();
        for &place in &places {
            assert!(waiters.arm(place, 1, 0, Waker::noop().clone()).is_none());
        }
        waiters.recycle(&mut waiters_woken(100));
        for place in places {
            assert!(waiters.detach(place).is_some());
        }
        let room = [
            waiters.places.capacity(),
            waiters.near.capacity(),
            waiters.far.capacity(),
            waiters.spare.capacity(),
        ];
        assert_eq!(room, [0; 4]);
    }

    fn waiters_woken(readers: usize) -> Spare {
        let mut waiters = Waiters::default();
        for _ in 0..readers {
            let place = waiters.attach();
            waiters.arm(place, 1, 0, Waker::noop().clone());
        }
        waiters.take_due(1).wake()
    }
}
