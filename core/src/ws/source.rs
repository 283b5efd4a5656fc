use std::task::{Context, Poll};

use super::protocol::{Broadcast, CloseFrame, Connection, Outbox, Outgoing};
use crate::backpressure::Overflow;

/// What a driver takes messages from, beside its handler: a subscription that is
/// forwarded to a socket.
pub trait FrameSource: Send {
    /// Gives `sink` what there is to send, in order, until that is full; ready once
    /// there will be no more, or with what the socket is to be closed with: then what
    /// is queued and not begun is discarded.
    ///
    /// While the peer takes nothing the sink is full from the start: what is pending
    /// then wakes only for a reason to close the socket.
    fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut FrameSink<'_>,
    ) -> Poll<Option<CloseFrame>>;

    /// What happens where it falls too far behind, unless it says so itself: told once,
    /// before it is asked for anything, where a layer around the socket says so.
    fn overflow(&mut self, policy: Overflow) {
        let _ = policy;
    }

    /// The drain has come: give what was published until now, then no more.
    fn drain(&mut self) {}
}

/// Where a [`FrameSource`] puts what is sent: at the end of what waits for the
/// transport, so that all of it goes out in one write.
#[derive(Debug)]
pub struct FrameSink<'a> {
    connection: &'a mut Connection,
    out: &'a mut Outbox,
    /// It is full with so many bytes …
    bound: usize,
    /// … or messages.
    most: usize,
    sent: u64,
}

impl<'a> FrameSink<'a> {
    pub(super) const fn new(
        connection: &'a mut Connection,
        out: &'a mut Outbox,
        bound: usize,
        most: usize,
    ) -> Self {
        Self {
            connection,
            out,
            bound,
            most,
            sent: 0,
        }
    }

    /// Whether enough waits: what is put in all the same is sent.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.out.len() >= self.bound || self.out.messages() as u64 + self.sent >= self.most as u64
    }

    /// Sends a message in a frame of its own.
    pub fn send(&mut self, message: impl Into<Outgoing>) {
        self.connection.send(message, self.out);
        self.sent += 1;
    }

    /// As [`send`](Self::send), without a clone.
    pub fn broadcast(&mut self, broadcast: &Broadcast) {
        self.connection.broadcast(broadcast, self.out);
        self.sent += 1;
    }

    /// How many messages were put in.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }
}
