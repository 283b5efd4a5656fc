//! What conflation knows of a log: which of its events a newer one of their key has
//! replaced.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    ops::{
        Bound::{Excluded, Included},
        RangeInclusive,
    },
};

/// Kept by a log while a reader of it conflates.
///
/// It also remembers, of events that are no longer kept, those that nothing has
/// replaced: a reader who has missed only others lacks nothing. So many of them as the
/// log may keep events, up to [`MOST`](Self::MOST); what is older than these counts as missed altogether. Keys are
/// known by a keyed hash, so that a long one costs no more than a short one.
#[derive(Debug)]
pub(super) struct Ledger {
    hashers: [RandomState; 2],
    /// The newest event of each key.
    newest: HashMap<Key, u64>,
    /// Of each event that is kept, in order.
    kept: VecDeque<Kept>,
    /// The number of the first of them.
    first: u64,
    /// Events that are no longer kept, and that nothing has replaced.
    lost: BTreeMap<u64, Option<Key>>,
    /// So many are remembered.
    most: usize,
    /// Of the events up to this nothing is known.
    forgotten: u64,
}

/// Two keyed hashes: that two keys have both in common does not happen.
type Key = [u64; 2];

#[derive(Clone, Copy, Debug)]
struct Kept {
    key: Option<Key>,
    /// The next event of the same key; 0 where there is none yet.
    replaced_by: u64,
}

impl Ledger {
    /// A log may be bounded by its bytes alone, and its number of events by nothing.
    const MOST: usize = 1 << 16;

    /// A ledger of a log that keeps events from `first` on, which are added next, and
    /// `history` of them.
    pub(super) fn new(first: u64, history: usize) -> Self {
        Self {
            hashers: std::array::from_fn(|_| RandomState::new()),
            newest: HashMap::new(),
            kept: VecDeque::new(),
            first,
            lost: BTreeMap::new(),
            most: history.min(Self::MOST),
            forgotten: first - 1,
        }
    }

    /// The log's next event.
    pub(super) fn add(&mut self, key: Option<&str>) {
        let number = self.first + self.kept.len() as u64;
        let key = key.map(|key| std::array::from_fn(|n| self.hashers[n].hash_one(key)));
        if let Some(key) = key
            && let Some(replaced) = self.newest.insert(key, number)
        {
            match self.index(replaced) {
                Some(index) => self.kept[index].replaced_by = number,
                None => drop(self.lost.remove(&replaced)),
            }
        }
        self.kept.push_back(Kept {
            key,
            replaced_by: 0,
        });
    }

    /// The log's oldest event is no longer kept.
    pub(super) fn expire(&mut self) {
        let Some(expired) = self.kept.pop_front() else {
            return;
        };
        if expired.replaced_by == 0 {
            self.lost.insert(self.first, expired.key);
        }
        self.first += 1;
        if self.lost.len() > self.most
            && let Some((number, key)) = self.lost.pop_first()
        {
            if let Some(key) = key {
                self.newest.remove(&key);
            }
            self.forgotten = number;
        }
    }

    /// How many of the events behind `cursor`, up to `last`, which are no longer kept,
    /// nothing has replaced.
    pub(super) fn lost(&self, cursor: u64, last: u64) -> u64 {
        let last = last.max(cursor);
        let known = self.forgotten.clamp(cursor, last);
        let remembered = self.lost.range((Excluded(known), Included(last))).count();
        known - cursor + remembered as u64
    }

    /// Those of `numbers`, all of them kept, that no event up to `until` replaces.
    pub(super) fn standing(
        &self,
        numbers: RangeInclusive<u64>,
        until: u64,
    ) -> impl DoubleEndedIterator<Item = u64> {
        numbers.filter(move |&number| {
            let kept = self.index(number).and_then(|index| self.kept.get(index));
            kept.is_some_and(|kept| kept.replaced_by == 0 || kept.replaced_by > until)
        })
    }

    fn index(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(ledger: &Ledger, numbers: RangeInclusive<u64>) -> Vec<u64> {
        let until = *numbers.end();
        ledger.standing(numbers, until).collect()
    }

    #[test]
    fn the_newest_of_each_key_stands_and_what_has_no_key() {
        let mut ledger = Ledger::new(1, 10);
        for key in ["a", "b", "a", "", "a"] {
            ledger.add((!key.is_empty()).then_some(key));
        }
        assert_eq!(standing(&ledger, 1..=5), [2, 4, 5]);
        assert_eq!(standing(&ledger, 1..=4), [2, 3, 4], "as of then");
        assert_eq!(standing(&ledger, 3..=3), [3]);
    }

    #[test]
    fn what_a_newer_event_replaced_is_not_lost() {
        let mut ledger = Ledger::new(1, 10);
        for key in ["a", "b", "a", "c"] {
            ledger.add(Some(key));
        }
        ledger.add(None);
        for _ in 0..5 {
            ledger.expire();
        }
        assert_eq!(ledger.lost(0, 5), 4, "all but the first a");
        assert_eq!(ledger.lost(3, 5), 2);
        ledger.add(Some("c"));
        assert_eq!(ledger.lost(0, 5), 3, "replaced since");
        assert_eq!(ledger.lost(5, 5), 0);
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_counts() {
        let mut ledger = Ledger::new(1, 3);
        for number in 0..1000 {
            ledger.add(Some(&number.to_string()));
            ledger.add(Some("same"));
            if number > 3 {
                ledger.expire();
                ledger.expire();
            }
        }
        assert_eq!(ledger.lost.len(), 3);
        assert_eq!(ledger.kept.len(), 8);
        assert!(ledger.newest.len() <= 3 + 8, "{}", ledger.newest.len());
        let expired = ledger.first - 1;
        assert_eq!(ledger.forgotten, expired - 7);
        assert_eq!(ledger.lost(expired - 6, expired), 3);
        assert_eq!(ledger.lost(0, expired), expired - 7 + 3);
        assert_eq!(ledger.lost(0, 5), 5);
    }
}
