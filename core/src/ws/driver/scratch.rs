//! What a turn needs and an idle connection does not own: lent by the thread.

use std::{cell::Cell, collections::VecDeque};

use bytes::BytesMut;

use crate::ws::{
    inbox::Inbox,
    protocol::{Outbox, Outgoing, Spares},
};

/// One read takes at most so much. More ruined messages of 16 KiB and won
/// nothing for larger ones, which are read into their own buffer anyway.
pub(crate) const READ_SIZE: usize = 64 * 1024;

/// A queue that has grown past this is not kept for the next turn.
const KEPT_MESSAGES: usize = 4096;
/// Nor is an outbox past this.
const KEPT_OUTBOX: usize = 256 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) read: BytesMut,
    /// Messages on their way to the inbox.
    pub(crate) batch: Inbox,
    /// An empty queue that lends its memory.
    pub(crate) queue: VecDeque<Outgoing>,
    pub(crate) out: Option<Box<Outbox>>,
    /// The buffers of large messages that have gone out.
    pub(crate) spares: Spares,
}

impl Scratch {
    /// The thread's own, or a new one where a driver is polled inside another's
    /// handler.
    pub(crate) fn take() -> Box<Self> {
        SCRATCH
            .try_with(Cell::take)
            .ok()
            .flatten()
            .unwrap_or_default()
    }

    pub(crate) fn give_back(mut self: Box<Self>) {
        self.read.clear();
        if self.batch.capacity() > KEPT_MESSAGES {
            self.batch = Inbox::default();
        }
        if self.queue.capacity() > KEPT_MESSAGES {
            self.queue = VecDeque::new();
        }
        self.spares.rest();
        self.out.take_if(|out| out.capacity() > KEPT_OUTBOX);
        // At the thread's end there is nothing to give it back to.
        let _ = SCRATCH.try_with(|scratch| scratch.set(Some(self)));
    }

    /// The read buffer, empty and with room: the last one again, where no message has
    /// a share in it any more.
    pub(crate) fn read_buffer(&mut self) -> &mut BytesMut {
        self.read.clear();
        self.read.reserve(READ_SIZE);
        &mut self.read
    }
}
