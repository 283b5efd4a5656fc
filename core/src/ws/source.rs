use std::task::{Context, Poll};

use super::protocol::{CloseFrame, Outgoing};

/// What a driver takes messages from, beside its handler: a subscription that is
/// forwarded to a socket.
pub trait FrameSource: Send {
    /// What is sent next, in a frame of its own; `None` once there will be no more.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Forwarded>>;

    /// Ready when [`poll_frame`](Self::poll_frame) would close the socket, without
    /// taking anything: asked while the peer takes nothing, in place of it.
    fn poll_overflow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Pending
    }

    /// The drain has come: give what was published until now, then `None`.
    fn drain(&mut self) {}
}

/// What a [`FrameSource`] gives.
#[derive(Debug)]
pub enum Forwarded {
    /// Send this.
    Send(Outgoing),
    /// Close the socket; what is queued and not begun is discarded.
    Close(CloseFrame),
}
