//! Who waits for something that few sockets ever wait for.

use std::{mem, task::Waker};

/// Wakers, one for each handle that waits; without any a single word, since every idle
/// socket has it.
#[derive(Default)]
#[expect(clippy::box_collection, reason = "idle sockets pay for its room")]
pub(crate) struct Waiters(Option<Box<Vec<(u32, Waker)>>>);

impl Waiters {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Registers `waker` for handle `id`, and returns the one it replaces.
    pub(crate) fn wait(&mut self, id: u32, waker: &Waker) -> Option<Waker> {
        let waiting = self.0.get_or_insert_default();
        match waiting.iter_mut().find(|(of, _)| *of == id) {
            Some((_, known)) if known.will_wake(waker) => None,
            Some((_, known)) => Some(mem::replace(known, waker.clone())),
            None => {
                waiting.push((id, waker.clone()));
                None
            }
        }
    }

    /// The waker of handle `id`, which waits no more.
    pub(crate) fn forget(&mut self, id: u32) -> Option<Waker> {
        let waiting = self.0.as_mut()?;
        let index = waiting.iter().position(|(of, _)| *of == id)?;
        let waker = waiting.swap_remove(index).1;
        if waiting.is_empty() {
            self.0 = None;
        }
        Some(waker)
    }

    /// All of them, to be woken, or dropped, without a lock.
    pub(crate) fn into_wakers(self) -> impl Iterator<Item = Waker> {
        let waiting = self.0.map(|waiting| *waiting);
        waiting.into_iter().flatten().map(|(_, waker)| waker)
    }
}
