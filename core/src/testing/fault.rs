use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// As much as is read at once.
const READ_SIZE: usize = 8 * 1024;

/// What goes wrong with a connection: nothing, until a method says so.
///
/// It is a handle on the streams that it [wraps](Self::wrap); clones are the
/// same fault. A fault may be set before a connection begins or at any moment
/// of its life, and several at once.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::io::ErrorKind;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use towpath::testing::Fault;
///
/// let fault = Fault::new();
/// let (mut peer, io) = tokio::io::duplex(64);
/// let mut io = fault.wrap(io);
/// fault.reset_after(4);
/// peer.write_all(b"hello").await?;
/// assert_eq!(io.read_u32().await?, u32::from_be_bytes(*b"hell"));
/// assert_eq!(io.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Fault(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rules: Rules,
    // Of the last polls, whatever they waited for: a new rule may change it.
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rules {
    split: bool,
    stopped: bool,
    half_open: bool,
    delay: Option<Duration>,
    /// So many bytes arrive before the reset.
    reset_in: Option<usize>,
}

impl Fault {
    /// A connection without a fault.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every read and every write is one byte.
    pub fn split(&self) {
        self.set(|rules| rules.split = true);
    }

    /// The peer reads no more, and its buffers are full: no write succeeds until
    /// [`read_on`](Self::read_on).
    pub fn stop_reading(&self) {
        self.set(|rules| rules.stopped = true);
    }

    /// The peer reads again.
    pub fn read_on(&self) {
        self.set(|rules| rules.stopped = false);
    }

    /// The peer has vanished, without a FIN: nothing arrives any more, and what
    /// is written is lost.
    pub fn half_open(&self) {
        self.set(|rules| rules.half_open = true);
    }

    /// The connection is reset now.
    pub fn reset(&self) {
        self.reset_after(0);
    }

    /// The connection is reset when so many more bytes have arrived.
    pub fn reset_after(&self, bytes: usize) {
        self.set(|rules| rules.reset_in = Some(bytes));
    }

    /// What arrives and what is written takes so long; a write begins only when
    /// the one before it is done.
    pub fn delay(&self, delay: Duration) {
        self.set(|rules| rules.delay = Some(delay));
    }

    /// A stream that has this fault. It is the end under test that is wrapped:
    /// the faults are its peer's and the network's.
    pub fn wrap<I>(&self, io: I) -> FaultyIo<I> {
        FaultyIo {
            io,
            fault: self.clone(),
            arrived: BytesMut::new(),
            ended: false,
            reading: None,
            writing: None,
        }
    }

    fn set(&self, change: impl FnOnce(&mut Rules)) {
        let mut state = self.lock();
        change(&mut state.rules);
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self, cx: &Context<'_>) -> Rules {
        let mut state = self.lock();
        state.reader = Some(cx.waker().clone());
        state.rules
    }

    fn writer(&self, cx: &Context<'_>) -> Rules {
        let mut state = self.lock();
        state.writer = Some(cx.waker().clone());
        state.rules
    }

    fn count_arrived(&self, bytes: usize) {
        let mut state = self.lock();
        let Some(left) = &mut state.rules.reset_in else {
            return;
        };
        *left = left.saturating_sub(bytes);
        if *left == 0
            && let Some(writer) = state.writer.take()
        {
            drop(state);
            writer.wake();
        }
    }
}

impl Rules {
    fn check_reset(&self) -> io::Result<()> {
        match self.reset_in {
            Some(0) => Err(io::ErrorKind::ConnectionReset.into()),
            _ => Ok(()),
        }
    }

    fn at_most(&self, len: usize) -> usize {
        let split = if self.split { 1 } else { usize::MAX };
        len.min(split).min(self.reset_in.unwrap_or(usize::MAX))
    }
}

/// A stream with a [`Fault`]; see [`Fault::wrap`].
#[derive(Debug)]
pub struct FaultyIo<I> {
    io: I,
    fault: Fault,
    /// Read from below and not yet given out.
    arrived: BytesMut,
    /// Nothing comes behind that.
    ended: bool,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl<I: AsyncRead + Unpin> FaultyIo<I> {
    /// Waits for bytes from below, or for their end.
    fn poll_arrived(&mut self, cx: &mut Context<'_>, rules: Rules) -> Poll<io::Result<()>> {
        if self.arrived.is_empty() && !self.ended {
            let mut bytes = [0; READ_SIZE];
            let mut bytes = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut bytes))?;
            self.ended = bytes.filled().is_empty();
            self.arrived.extend_from_slice(bytes.filled());
            self.reading = rules.delay.map(|delay| Box::pin(sleep(delay)));
        }
        if let Some(delay) = &mut self.reading {
            ready!(delay.as_mut().poll(cx));
            self.reading = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for FaultyIo<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rules = this.fault.reader(cx);
        rules.check_reset()?;
        if rules.half_open {
            return Poll::Pending;
        }
        ready!(this.poll_arrived(cx, rules))?;
        let count = rules.at_most(this.arrived.len()).min(into.remaining());
        into.put_slice(&this.arrived[..count]);
        this.arrived.advance(count);
        this.fault.count_arrived(count);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for FaultyIo<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let rules = this.fault.writer(cx);
        rules.check_reset()?;
        if rules.half_open {
            return Poll::Ready(Ok(bytes.len()));
        }
        if rules.stopped {
            return Poll::Pending;
        }
        if let Some(delay) = rules.delay {
            let timer = this.writing.get_or_insert_with(|| Box::pin(sleep(delay)));
            ready!(timer.as_mut().poll(cx));
        }
        let count = if rules.split {
            bytes.len().min(1)
        } else {
            bytes.len()
        };
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, &bytes[..count]));
        this.writing = None;
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rules = this.fault.writer(cx);
        rules.check_reset()?;
        if rules.half_open {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rules = this.fault.writer(cx);
        rules.check_reset()?;
        if rules.half_open {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}
