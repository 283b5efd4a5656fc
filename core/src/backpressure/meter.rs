use std::{fmt, sync::Arc, sync::atomic::Ordering::Relaxed, task::Waker};

use bytes::Bytes;

use super::budget::{Budget, Holder};
use crate::Stats;

/// Counts what a response's body has given to its transport against the budget of a layer:
/// until it is gone, though the meter may be dropped before.
///
/// For those who write the middleware of another framework.
pub struct Meter(Arc<Holding>);

struct Holding {
    holder: Arc<Holder>,
    stats: Stats,
}

/// So many bytes, which count until this is dropped: see [`Meter::charge`].
pub struct Charge {
    bytes: usize,
    holding: Arc<Holding>,
}

struct Lent {
    bytes: Bytes,
    _charge: Charge,
}

impl Meter {
    /// For a body that is cut only where it `yields`.
    pub(super) fn new(budget: &Budget, yields: bool, stats: Stats) -> Self {
        let holder = budget.holder(yields);
        Self(Arc::new(Holding { holder, stats }))
    }

    /// Counts `bytes` until the last copy of what is returned is dropped: until a
    /// transport that keeps them has written them.
    #[must_use]
    pub fn lend(&self, bytes: Bytes) -> Bytes {
        if bytes.is_empty() {
            return bytes;
        }
        let _charge = self.charge(bytes.len());
        Bytes::from_owner(Lent { bytes, _charge })
    }

    /// Counts so many bytes, for a transport that copies what it is given.
    #[must_use = "dropped at once it counts nothing"]
    pub fn charge(&self, bytes: usize) -> Charge {
        let holding = Arc::clone(&self.0);
        let gauge = &holding.stats.counters().buffered_bytes;
        gauge.fetch_add(bytes as u64, Relaxed);
        holding.holder.take(bytes);
        Charge { bytes, holding }
    }

    /// Whether it is to end, since others need the room; else `waker` is woken then.
    #[must_use]
    pub fn is_cut(&self, waker: &Waker) -> bool {
        self.0.holder.is_cut(waker)
    }

    /// Counts that it was.
    pub fn count_cut(&self) {
        self.0.stats.counters().shed.fetch_add(1, Relaxed);
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let gauge = &self.holding.stats.counters().buffered_bytes;
        gauge.fetch_sub(self.bytes as u64, Relaxed);
        self.holding.holder.give(self.bytes);
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Charge").field(&self.bytes).finish()
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meter")
    }
}

/// The same for a socket, which counts itself at the end of a turn.
#[derive(Debug)]
pub(crate) struct Account {
    budgets: Box<[Budget]>,
    /// Only while it holds something: one that does not is in nobody's list.
    holders: Box<[Arc<Holder>]>,
    /// It knows that it is to go.
    told: bool,
}

impl Account {
    /// `None` where there is no budget.
    pub(super) fn new(budgets: impl Iterator<Item = Budget>) -> Option<Box<Self>> {
        let mut once: Vec<Budget> = Vec::new();
        for budget in budgets {
            if !once.iter().any(|known| known.is(&budget)) {
                once.push(budget);
            }
        }
        (!once.is_empty()).then(|| {
            Box::new(Self {
                budgets: once.into(),
                holders: Box::default(),
                told: false,
            })
        })
    }

    /// It holds so many bytes, and is woken through `waker` when it is to go.
    pub(crate) fn hold(&mut self, bytes: usize, waker: &Waker) {
        if bytes == 0 {
            self.holders = Box::default();
            return;
        }
        if self.holders.is_empty() {
            self.holders = self
                .budgets
                .iter()
                .map(|budget| budget.holder(true))
                .collect();
        }
        for holder in &self.holders {
            // It keeps the waker; whoever is cut already is told by its next turn.
            let _ = holder.is_cut(waker);
            holder.hold(bytes);
        }
    }

    /// Whether it is to go; told once.
    pub(crate) fn take_cut(&mut self, waker: &Waker) -> bool {
        let cut = |cut, holder: &Arc<Holder>| cut | holder.is_cut(waker);
        let cut = !self.told && self.holders.iter().fold(false, cut);
        self.told |= cut;
        cut
    }
}
