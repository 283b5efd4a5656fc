//! The wakers of all that lives, in one slab: an idle guard costs a slot, and
//! no timer or task.

use std::task::Waker;

/// A slot for each guard; the vacant ones are a list through the slab.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    vacant: Option<u32>,
    live: u32,
}

enum Slot {
    Vacant {
        next: Option<u32>,
    },
    Idle,
    Waiting(Waker),
    /// The drain has begun: its place among those that lived then.
    Ranked(u32),
}

impl Slots {
    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// Takes a slot.
    pub(super) fn insert(&mut self) -> u32 {
        self.live += 1;
        if let Some(index) = self.vacant
            && let Some(slot) = self.slots.get_mut(index as usize)
            && let Slot::Vacant { next } = *slot
        {
            self.vacant = next;
            *slot = Slot::Idle;
            return index;
        }
        // A slot is a live connection: memory ends long before the numbers do.
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot::Idle);
        index
    }

    /// Gives a slot back. The waker is the caller's to drop, without the lock.
    pub(super) fn remove(&mut self, index: u32) -> Option<Waker> {
        self.live -= 1;
        let vacant = Slot::Vacant {
            next: self.vacant.replace(index),
        };
        waker(std::mem::replace(&mut self.slots[index as usize], vacant))
    }

    /// Stores a waker, and gives back the one it replaces.
    pub(super) fn wait(&mut self, index: u32, fresh: Waker) -> Option<Waker> {
        waker(std::mem::replace(
            &mut self.slots[index as usize],
            Slot::Waiting(fresh),
        ))
    }

    /// Numbers all that lives from 0, and takes out the wakers. Slots are full
    /// of holes after a rush, so a slot's index would be no even spread.
    pub(super) fn rank(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::with_capacity(self.live as usize);
        let live = self
            .slots
            .iter_mut()
            .filter(|slot| !matches!(slot, Slot::Vacant { .. }));
        for (rank, slot) in (0..).zip(live) {
            wakers.extend(waker(std::mem::replace(slot, Slot::Ranked(rank))));
        }
        wakers
    }

    pub(super) fn rank_of(&self, index: u32) -> u32 {
        match self.slots[index as usize] {
            Slot::Ranked(rank) => rank,
            Slot::Vacant { .. } | Slot::Idle | Slot::Waiting(_) => 0,
        }
    }
}

fn waker(slot: Slot) -> Option<Waker> {
    match slot {
        Slot::Waiting(waker) => Some(waker),
        Slot::Vacant { .. } | Slot::Idle | Slot::Ranked(_) => None,
    }
}
