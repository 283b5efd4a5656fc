//! Messages that wait for `recv`.

use std::collections::VecDeque;

use super::protocol::Message;

/// A queue of messages that owns nothing while it was never filled; its memory is
/// handed on by moving a pointer, from the thread to the socket and back.
#[derive(Default)]
#[expect(clippy::box_collection, reason = "idle handlers pay for its room")]
pub(crate) struct Inbox(Option<Box<VecDeque<Message>>>);

impl Inbox {
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The queue, to be filled.
    pub(crate) fn queue(&mut self) -> &mut VecDeque<Message> {
        self.0.get_or_insert_default()
    }

    pub(crate) fn pop(&mut self) -> Option<Message> {
        self.0.as_mut()?.pop_front()
    }

    /// The next message, where another is left behind it.
    #[inline]
    pub(crate) fn pop_but_last(&mut self) -> Option<Message> {
        let queue = self.0.as_mut()?;
        if queue.len() > 1 {
            queue.pop_front()
        } else {
            None
        }
    }

    /// Moves all of `other` behind what is here.
    pub(crate) fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            std::mem::swap(self, other);
        } else if let Some(other) = &mut other.0 {
            self.queue().append(other);
        }
    }

    pub(crate) fn clear(&mut self) {
        if let Some(queue) = &mut self.0 {
            queue.clear();
        }
    }

    /// The memory of an empty queue, where there is some.
    pub(crate) fn take_memory(&mut self) -> Option<Self> {
        if self.0.is_some() && self.is_empty() {
            Some(Self(self.0.take()))
        } else {
            None
        }
    }

    /// Messages that there is memory for.
    pub(crate) fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.capacity())
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Inbox").field(&self.len()).finish()
    }
}
