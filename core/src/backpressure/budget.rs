//! Bytes that are held for all connections together.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Waker,
};

/// How many bytes may be held, and who holds them; a clone is the same.
///
/// A connection counts itself once a turn, and only where that has changed: one that has
/// nothing in its buffers at the end of its turns, as nearly all have, never comes here.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    limit: usize,
    held: AtomicUsize,
    /// What of `held` belongs to those that were cut and have not let go yet.
    leaving: AtomicUsize,
    holders: Mutex<Holders>,
    /// One looks for those that are to go at a time.
    shedding: Mutex<()>,
}

#[derive(Debug, Default)]
struct Holders {
    next: u64,
    live: BTreeMap<u64, Weak<Holder>>,
}

/// A connection that holds bytes. Dropped, it holds none.
#[derive(Debug)]
pub(super) struct Holder {
    pool: Arc<Pool>,
    number: u64,
    /// Whether it may be cut.
    yields: bool,
    state: Mutex<Holding>,
}

#[derive(Debug, Default)]
struct Holding {
    bytes: usize,
    cut: bool,
    waker: Option<Waker>,
}

// Nothing in the locked parts can panic halfway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Pool {
            limit,
            held: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
            holders: Mutex::default(),
            shedding: Mutex::default(),
        }))
    }

    /// The bytes that are held now.
    pub(super) fn held(&self) -> usize {
        self.0.held.load(SeqCst)
    }

    /// Whether nobody else may come in.
    pub(super) fn is_used_up(&self) -> bool {
        self.held() >= self.0.limit
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// One that holds nothing yet, and that may be cut if it `yields`.
    pub(super) fn holder(&self, yields: bool) -> Arc<Holder> {
        let mut holders = lock(&self.0.holders);
        let number = holders.next;
        holders.next += 1;
        let holder = Arc::new(Holder {
            pool: Arc::clone(&self.0),
            number,
            yields,
            state: Mutex::default(),
        });
        holders.live.insert(number, Arc::downgrade(&holder));
        holder
    }
}

impl Pool {
    fn is_past(&self) -> bool {
        let held = self.held.load(SeqCst);
        held.saturating_sub(self.leaving.load(SeqCst)) > self.limit
    }

    /// Cuts those that hold the most, until what the others hold is within the limit; of
    /// two that hold as much, the one that has held longer.
    fn shed(&self) {
        let one_at_a_time = lock(&self.shedding);
        if !self.is_past() {
            return;
        }
        // The last reference to a holder may be one of these: dropped at the end, where
        // no lock is held.
        let holders: Vec<Arc<Holder>> = {
            let holders = lock(&self.holders);
            holders.live.values().filter_map(Weak::upgrade).collect()
        };
        let mut sizes: Vec<_> = holders
            .iter()
            .map(|holder| {
                let state = lock(&holder.state);
                let bytes = if state.cut { 0 } else { state.bytes };
                (bytes, Reverse(holder.number), holder)
            })
            .collect();
        sizes.sort_unstable_by_key(|&(bytes, number, _)| Reverse((bytes, number)));
        let mut left: usize = sizes.iter().map(|(bytes, ..)| bytes).sum();
        let mut wakers = Vec::new();
        for (bytes, _, holder) in sizes {
            if left <= self.limit || bytes == 0 {
                break;
            }
            if holder.yields {
                left -= bytes;
                wakers.extend(holder.cut());
            }
        }
        drop(one_at_a_time);
        for waker in wakers {
            waker.wake();
        }
    }
}

impl Holder {
    fn cut(&self) -> Option<Waker> {
        let mut state = lock(&self.state);
        if !state.cut {
            state.cut = true;
            self.pool.leaving.fetch_add(state.bytes, SeqCst);
        }
        state.waker.take()
    }

    /// Whether it is to end; else `waker` is woken when it is to.
    pub(super) fn is_cut(&self, waker: &Waker) -> bool {
        let mut state = lock(&self.state);
        let replaced = match &state.waker {
            Some(known) if known.will_wake(waker) => None,
            _ => state.waker.replace(waker.clone()),
        };
        let cut = state.cut;
        drop(state);
        drop(replaced);
        cut
    }

    /// It holds so many bytes now.
    pub(super) fn hold(&self, bytes: usize) {
        self.change(|_| bytes);
    }

    /// It holds so many more.
    pub(super) fn take(&self, bytes: usize) {
        self.change(|held| held + bytes);
    }

    /// It holds so many fewer.
    pub(super) fn give(&self, bytes: usize) {
        self.change(|held| held.saturating_sub(bytes));
    }

    fn change(&self, change: impl FnOnce(usize) -> usize) {
        let pool = &self.pool;
        let mut state = lock(&self.state);
        let (before, cut) = (state.bytes, state.cut);
        let after = change(before);
        state.bytes = after;
        // In this order nobody sees less than is held by those that stay.
        if after > before {
            pool.held.fetch_add(after - before, SeqCst);
            if cut {
                pool.leaving.fetch_add(after - before, SeqCst);
            }
        } else {
            if cut {
                pool.leaving.fetch_sub(before - after, SeqCst);
            }
            pool.held.fetch_sub(before - after, SeqCst);
        }
        drop(state);
        if after > before && pool.is_past() {
            pool.shed();
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.hold(0);
        lock(&self.pool.holders).live.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;

    fn cut(holder: &Holder) -> bool {
        holder.is_cut(Waker::noop())
    }

    fn is_empty(budget: &Budget) -> bool {
        let pool = &budget.0;
        budget.held() == 0 && pool.leaving.load(SeqCst) == 0 && lock(&pool.holders).live.is_empty()
    }

    #[test]
    fn those_that_hold_the_most_go_until_it_is_enough() {
        let budget = Budget::new(100);
        let holders = [10, 40, 20, 30].map(|bytes| {
            let holder = budget.holder(true);
            holder.hold(bytes);
            holder
        });
        assert!(budget.is_used_up() && !holders.iter().any(|holder| cut(holder)));
        holders[0].hold(11);
        assert_eq!(
            holders.each_ref().map(|holder| cut(holder)),
            [false, true, false, false]
        );
        // What it has not let go of yet costs nobody else their connection.
        holders[1].hold(45);
        holders[2].hold(59);
        assert_eq!(
            holders.each_ref().map(|holder| cut(holder)),
            [false, true, false, false]
        );
        // But nobody comes in.
        assert!(budget.is_used_up());
        holders[3].hold(31);
        assert_eq!(
            holders.each_ref().map(|holder| cut(holder)),
            [false, true, true, false]
        );
        drop(holders);
        assert!(is_empty(&budget));
    }

    #[test]
    fn of_equals_the_one_that_has_held_longer_goes() {
        let budget = Budget::new(10);
        let holders = [(); 3].map(|()| budget.holder(true));
        for holder in &holders {
            holder.hold(5);
        }
        assert_eq!(
            holders.each_ref().map(|holder| cut(holder)),
            [true, false, false]
        );
    }

    #[test]
    fn who_does_not_yield_is_counted_and_not_cut() {
        let budget = Budget::new(10);
        let (stays, goes) = (budget.holder(false), budget.holder(true));
        stays.hold(9);
        goes.take(1);
        goes.take(1);
        assert_eq!((cut(&stays), cut(&goes)), (false, true));
        goes.give(2);
        assert_eq!(budget.held(), 9);
        drop((stays, goes));
        assert!(is_empty(&budget));
    }

    #[test]
    fn who_is_cut_is_woken() {
        struct Flag(AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, SeqCst);
            }
        }
        let budget = Budget::new(10);
        let holder = budget.holder(true);
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        assert!(!holder.is_cut(&Arc::clone(&flag).into()));
        holder.hold(11);
        assert!(flag.0.load(SeqCst));
    }

    #[test]
    fn threads_leave_nothing_behind() {
        let budget = Budget::new(5_000);
        std::thread::scope(|scope| {
            for seed in 0..4_usize {
                let budget = &budget;
                scope.spawn(move || {
                    for round in 0..500 {
                        let holders = [(); 8].map(|()| budget.holder(true));
                        for (index, holder) in holders.iter().enumerate() {
                            holder.hold((seed + 1) * (round % 100) * index);
                            holder.take(7);
                            if cut(holder) {
                                holder.hold(0);
                            }
                        }
                    }
                });
            }
        });
        assert!(is_empty(&budget));
    }

    proptest! {
        #[test]
        fn what_those_hold_that_stay_is_within_the_limit(
            steps in proptest::collection::vec((0_usize..6, 0_usize..50), 1..60),
        ) {
            let budget = Budget::new(60);
            let holders = [(); 6].map(|()| budget.holder(true));
            let mut model = [(0, false); 6];
            for (index, bytes) in steps {
                model[index].0 = bytes;
                let sum = |model: &[(usize, bool)]| -> usize {
                    model.iter().filter(|(_, cut)| !cut).map(|(bytes, _)| bytes).sum()
                };
                while sum(&model) > 60 {
                    // The first of the largest.
                    let live = model.iter_mut().rev().filter(|(_, cut)| !cut);
                    live.max_by_key(|(bytes, _)| *bytes).expect("one is live").1 = true;
                }
                holders[index].hold(bytes);
                let seen: Vec<_> = holders.iter().map(|holder| cut(holder)).collect();
                let expected: Vec<_> = model.iter().map(|(_, cut)| *cut).collect();
                prop_assert_eq!(seen, expected);
                prop_assert_eq!(budget.held(), model.iter().map(|(bytes, _)| bytes).sum::<usize>());
            }
        }
    }
}
