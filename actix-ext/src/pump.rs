//! The way between a driver and actix: a response body that only passes bytes on, and
//! the transport over it.
//!
//! The driver cannot live in the body: actix polls none whose peer does not read. It
//! runs in a local task beside it and takes the request's payload itself, which actix
//! feeds whether the body is blocked or not. So only what goes out is handed over here,
//! within one thread.
//!
//! Where the body is polled it polls the driver itself, once that was woken, and the
//! driver's task finds nothing left to do: actix polls the body right after it has read,
//! so that a batch goes the whole way while it is in the cache, and nobody is woken.
//!
//! With `h1_allow_half_closed(false)` actix closes a connection in the very pass in which
//! it reads the peer's FIN, and sends what is in its write buffer by then. In that pass
//! the body gives the driver as many turns as it needs, so that what the handler answers
//! to the last messages gets into that buffer.

mod inbound;
mod turns;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::Payload;
use bytes::{Buf, Bytes, BytesMut};
use tokio::time::{Sleep, sleep_until};
use towpath::ws::{Outbox, Received, Transport};

use self::inbound::Inbound;
use self::turns::Turns;
use crate::socket::Socket;

/// Bytes that wait for the body before the transport is full.
const QUEUE: usize = 64 << 10;
/// actix copies a chunk whole, however much of it the socket takes.
const CHUNK: usize = 16 << 10;
/// A chunk for a peer that reads slowly: that it reads shows only when a chunk is taken,
/// and one that reads 1 KB/s must be seen to within the write time-out.
const SLOW_CHUNK: usize = 4 << 10;
/// A peer that leaves the queue full for so long is slow.
const SLOW: Duration = Duration::from_secs(1);

/// What no peer has to read for its kernel to take it: with no more under way than that
/// none is slow, and the kernel's write time-out may stay.
const FEW: usize = 256;

/// A peer that has sent nothing for so long is taken to send no more: longer than the
/// gaps of one that is in the middle of it, shorter than clients wait for our FIN.
const QUIET: Duration = Duration::from_millis(250);

/// Joins a request's payload and the body of its 101.
pub(crate) fn pump(payload: Payload, socket: Option<Socket>) -> (Pump, PumpTransport) {
    let pipe = Rc::new(RefCell::new(Pipe::new(payload)));
    let transport = PumpTransport {
        rest: Bytes::new(),
        pipe: Rc::clone(&pipe),
        socket,
        sent: 0,
        quiet: None,
    };
    (Pump { pipe, turns: None }, transport)
}

/// What the two tasks share.
struct Pipe {
    inbound: Inbound,
    /// What goes out.
    queue: VecDeque<Bytes>,
    queued: usize,
    /// Since when the queue has been full.
    full_since: Option<Instant>,
    /// The body waits for bytes.
    body: Option<Waker>,
    /// The transport waits for room, or for the body's end.
    transport: Option<Waker>,
    /// The body ends behind the queue.
    finished: bool,
    /// The body has ended in order.
    ended: bool,
    /// The body was dropped: the connection is gone, or past its upgrade.
    gone: bool,
}

impl Pipe {
    fn new(payload: Payload) -> Self {
        Self {
            inbound: Inbound::new(payload),
            queue: VecDeque::new(),
            queued: 0,
            full_since: None,
            body: None,
            transport: None,
            finished: false,
            ended: false,
            gone: false,
        }
    }

    /// The body has something to do.
    fn has_news(&self) -> bool {
        self.finished || !self.queue.is_empty()
    }

    fn push(&mut self, out: &mut impl Buf) -> usize {
        let mut taken = 0;
        while self.queued < QUEUE && out.has_remaining() {
            let count = out.chunk().len().min(QUEUE - self.queued);
            self.queue.push_back(out.copy_to_bytes(count));
            self.queued += count;
            taken += count;
        }
        taken
    }

    fn pop(&mut self) -> Option<Bytes> {
        let slow = self.full_since.is_some_and(|since| since.elapsed() > SLOW);
        let limit = if slow { SLOW_CHUNK } else { CHUNK };
        let first = self.queue.front_mut()?;
        let chunk = first.split_to(first.len().min(limit));
        if first.is_empty() {
            self.queue.pop_front();
        }
        self.queued -= chunk.len();
        if self.queue.is_empty() {
            self.full_since = None;
            // An idle connection owns no buffer.
            self.queue = VecDeque::new();
        }
        Some(chunk)
    }

    fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.queued = 0;
    }

    fn is_reset(&self) -> bool {
        self.gone && !self.ended
    }
}

fn quiet_at() -> tokio::time::Instant {
    tokio::time::Instant::now() + QUIET
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The body of the 101.
pub(crate) struct Pump {
    pipe: Rc<RefCell<Pipe>>,
    turns: Option<Rc<Turns>>,
}

impl Pump {
    /// Runs the driver, which has the transport, in a task of its own.
    pub(crate) fn run(&mut self, driver: impl Future<Output = ()> + 'static) {
        self.turns = Some(Turns::spawn(driver));
    }

    /// Lets the driver say what it has to say to what has just come; where the peer has
    /// said all, to the last of it.
    fn hear(&self) {
        let Some(turns) = &self.turns else { return };
        if self.pipe.borrow().has_news() {
            return;
        }
        // Whoever polls the body need not be woken by what is said now.
        let body = self.pipe.borrow_mut().body.take();
        turns.give_one();
        let has_news = || self.pipe.borrow().has_news();
        if !has_news() && self.pipe.borrow_mut().inbound.look_ahead() {
            turns.give_all(has_news);
        }
        self.pipe.borrow_mut().body = body;
    }
}

impl MessageBody for Pump {
    // An error would drop what actix has not flushed, and log it.
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        self.hear();
        let mut pipe = self.pipe.borrow_mut();
        let chunk = pipe.pop();
        if chunk.is_none() && !pipe.finished {
            if !pipe
                .body
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                pipe.body = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        pipe.ended |= chunk.is_none();
        let waker = pipe.transport.take();
        drop(pipe);
        wake(waker);
        Poll::Ready(chunk.map(Ok))
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        let mut pipe = self.pipe.borrow_mut();
        pipe.gone = true;
        pipe.clear();
        let waker = pipe.transport.take();
        drop(pipe);
        wake(waker);
    }
}

/// The way to the peer through the payload and the body of an upgraded request.
pub(crate) struct PumpTransport {
    /// Of a chunk that was larger than what was asked for.
    rest: Bytes,
    pipe: Rc<RefCell<Pipe>>,
    /// Until the connection was reset.
    socket: Option<Socket>,
    /// Bytes that were sent, as long as they are [`FEW`]: behind more than that the
    /// kernel's write time-out is lifted.
    sent: usize,
    /// Fires when the peer has been quiet, once that is asked.
    quiet: Option<Pin<Box<Sleep>>>,
}

impl PumpTransport {
    /// Tells the body that there is something for it.
    fn wake_body(&self) {
        let waker = self.pipe.borrow_mut().body.take();
        wake(waker);
    }

    /// Counts what was sent. A connection that is closed before it has said much keeps the
    /// kernel's time-out all its life, which spares it ten system calls.
    fn count(&mut self, taken: usize) {
        if self.has_said_much() {
            return;
        }
        self.sent += taken;
        if self.has_said_much()
            && let Some(socket) = &self.socket
        {
            // Where it cannot be lifted, the kernel's stricter time-out is the one.
            let _ = socket.lift_timeout();
        }
    }

    fn has_said_much(&self) -> bool {
        self.sent > FEW
    }

    /// Ready where the connection is gone or `done`; otherwise the body's next step
    /// wakes.
    fn poll_body(
        &self,
        cx: &Context<'_>,
        done: impl FnOnce(&Pipe) -> bool,
    ) -> Poll<io::Result<()>> {
        let mut pipe = self.pipe.borrow_mut();
        if pipe.is_reset() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if done(&pipe) {
            return Poll::Ready(Ok(()));
        }
        pipe.transport = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Transport for PumpTransport {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        _: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<Received>> {
        while self.rest.is_empty() {
            let mut pipe = self.pipe.borrow_mut();
            self.rest = match ready!(pipe.inbound.poll(cx))? {
                Some(chunk) => chunk,
                // Only behind a FIN the body lives on.
                None if pipe.is_reset() => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                None => return Poll::Ready(Ok(Received::End)),
            };
        }
        if let Some(quiet) = &mut self.quiet {
            quiet.as_mut().reset(quiet_at());
        }
        let chunk = self.rest.split_to(self.rest.len().min(max));
        if self.rest.is_empty() {
            // An empty slice would still hold the whole buffer.
            self.rest = Bytes::new();
        }
        Poll::Ready(Ok(Received::Chunk(chunk)))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<usize>> {
        let mut pipe = self.pipe.borrow_mut();
        if pipe.gone {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let taken = pipe.push(out);
        if taken == 0 {
            pipe.full_since.get_or_insert_with(Instant::now);
            pipe.transport = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(pipe);
        self.count(taken);
        self.wake_body();
        Poll::Ready(Ok(taken))
    }

    /// What the body has not taken yet is on its way as what a kernel holds: waiting
    /// for it would wake the driver once more for every batch.
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    // actix ends both directions at once.
    fn poll_quiet(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let quiet = self
            .quiet
            .get_or_insert_with(|| Box::pin(sleep_until(quiet_at())));
        quiet.as_mut().poll(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.borrow_mut().finished = true;
        self.wake_body();
        self.poll_body(cx, |pipe| pipe.ended)
    }

    fn abort(&mut self) {
        let mut pipe = self.pipe.borrow_mut();
        pipe.clear();
        pipe.finished = true;
        let gone = pipe.gone;
        drop(pipe);
        self.wake_body();
        // Without a body actix may have closed the socket already.
        if let Some(socket) = self.socket.take().filter(|_| !gone) {
            // Where it cannot be reached, the kernel's time-out was never lifted.
            let _ = socket.reset();
        }
    }

    fn unsent(&self) -> Option<usize> {
        Some(self.pipe.borrow().queued)
    }
}

impl Drop for PumpTransport {
    fn drop(&mut self) {
        self.pipe.borrow_mut().finished = true;
        self.wake_body();
        let lifted = self.has_said_much();
        if let Some(socket) = self.socket.take().filter(|_| lifted) {
            // What actix still has to flush is nobody's to watch from here on. It
            // fails where the connection is gone.
            let _ = socket.restore_timeout();
        }
    }
}

impl fmt::Debug for PumpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pipe = self.pipe.borrow();
        f.debug_struct("PumpTransport")
            .field("queued", &pipe.queued)
            .field("finished", &pipe.finished)
            .field("gone", &pipe.gone)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
