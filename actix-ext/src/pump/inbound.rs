//! What comes in: the request's payload, and what the body has looked ahead of it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_core::Stream;

/// As much is looked at ahead of the driver, and no more: the payload's own bound.
const AHEAD: usize = 32 << 10;

/// The way in, which the driver reads and the body looks into.
pub(super) struct Inbound {
    payload: Payload,
    /// Taken from the payload, not yet read.
    chunks: VecDeque<Bytes>,
    waiting: usize,
    end: Option<End>,
    /// The driver's, as it last asked.
    reader: Waker,
}

/// How the payload ended.
enum End {
    /// actix gives a FIN, an RST and its own end the same error.
    Ended,
    Failed(io::Error),
}

impl Inbound {
    pub(super) fn new(payload: Payload) -> Self {
        Self {
            payload,
            chunks: VecDeque::new(),
            waiting: 0,
            end: None,
            reader: Waker::noop().clone(),
        }
    }

    /// The next bytes; `None` at the end.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.reader.clone_from(cx.waker());
        if self.chunks.is_empty() {
            ready!(self.take());
        }
        if let Some(chunk) = self.chunks.pop_front() {
            self.waiting -= chunk.len();
            if self.chunks.is_empty() {
                // An idle connection owns no buffer.
                self.chunks = VecDeque::new();
            }
            return Poll::Ready(Ok(Some(chunk)));
        }
        Poll::Ready(match self.end.replace(End::Ended) {
            Some(End::Failed(error)) => Err(error),
            Some(End::Ended) | None => Ok(None),
        })
    }

    /// Whether the peer is known to send no more than what waits here.
    pub(super) fn look_ahead(&mut self) -> bool {
        while self.end.is_none() && self.waiting < AHEAD && self.take().is_ready() {}
        self.end.is_some()
    }

    /// Takes the next chunk, or the end.
    fn take(&mut self) -> Poll<()> {
        if self.end.is_some() {
            return Poll::Ready(());
        }
        let mut cx = Context::from_waker(&self.reader);
        match ready!(Pin::new(&mut self.payload).poll_next(&mut cx)) {
            Some(Ok(chunk)) => {
                self.waiting += chunk.len();
                self.chunks.push_back(chunk);
            }
            Some(Err(PayloadError::Io(error))) => self.end = Some(End::Failed(error)),
            Some(Err(_)) | None => self.end = Some(End::Ended),
        }
        Poll::Ready(())
    }
}
