//! What a driver reads from and writes to.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::protocol::Outbox;

/// What came of a read.
#[derive(Debug)]
pub enum Received {
    /// The peer sends no more.
    End,
    /// So many bytes, more than none, were appended to the buffer.
    Filled(usize),
    /// Bytes that the transport owned already; the buffer is untouched.
    Chunk(Bytes),
}

/// The way to the peer, below the driver: for those who write an extension
/// crate for another framework.
///
/// A method that returns `Pending` has registered the context's waker.
pub trait Transport {
    /// Reads up to `max` bytes, appended to `into`, which has room for them, or
    /// hands over a chunk of its own.
    ///
    /// # Errors
    /// Where the connection is broken.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<Received>>;

    /// Takes bytes off the front of `out`, at least one, and returns how many.
    ///
    /// # Errors
    /// Where the connection is broken.
    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<usize>>;

    /// Hands on what was sent, where it is buffered.
    ///
    /// # Errors
    /// Where the connection is broken.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ready when the peer may be taken to send no more; asked before
    /// [`poll_shutdown`](Self::poll_shutdown) where it has not said so, while what it
    /// sends is read and thrown away. Only for a transport that cannot end its own
    /// direction alone: unread bytes would make the kernel reset the connection, and
    /// destroy our close frame on its way.
    fn poll_quiet(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }

    /// Ends our direction behind what was sent.
    ///
    /// # Errors
    /// Where the connection is broken.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Breaks the connection at once: what was not delivered is not.
    fn abort(&mut self);

    /// Bytes that [`poll_send`](Self::poll_send) took and the peer's side has
    /// not, where it can be told: the write time-out counts a fall as progress.
    fn unsent(&self) -> Option<usize> {
        None
    }
}

/// A transport over a TCP socket of its own.
///
/// The kernel is asked to take no more than 16 KiB that it has not sent, so that
/// a write which takes a byte is progress of the peer: with an ordinary send
/// buffer a socket became writable only after its peer had read more than a
/// megabyte (`docs/driver-hyper.md`).
#[derive(Debug)]
pub struct TcpTransport(TcpStream);

/// What the kernel holds unsent for a peer before the socket counts as full.
const NOT_SENT_LOW_WATER: u32 = 16 * 1024;

impl TcpTransport {
    /// Takes over `stream` and sets what a WebSocket needs: no delay for small
    /// segments, the low-water mark of unsent bytes, and no `TCP_USER_TIMEOUT`,
    /// which would reset slow peers before the driver's own write time-out.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self::prepare(&stream);
        Self(stream)
    }

    /// Sets that, for a stream that something else is put upon.
    pub(crate) fn prepare(stream: &TcpStream) {
        let socket = socket2::SockRef::from(stream);
        // Neither is needed for the bytes to be right, so a kernel that knows
        // one of them not is no reason to fail.
        if let Err(error) = socket.set_tcp_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Err(error) = socket
            .set_tcp_notsent_lowat(NOT_SENT_LOW_WATER)
            .and_then(|()| socket.set_tcp_user_timeout(None))
        {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT, TCP_USER_TIMEOUT");
        }
    }
}

impl Transport for TcpTransport {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<Received>> {
        poll_read(&mut self.0, cx, into, max)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<usize>> {
        poll_write(&mut self.0, cx, out)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn abort(&mut self) {
        // With no time to linger the close that follows is a reset.
        if let Err(error) = socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "SO_LINGER");
        }
    }
}

/// A transport over any stream: TLS, memory.
#[derive(Debug)]
pub struct IoTransport<I>(I);

impl<I: AsyncRead + AsyncWrite + Unpin> IoTransport<I> {
    /// A transport over `io`.
    pub const fn new(io: I) -> Self {
        Self(io)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Transport for IoTransport<I> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<Received>> {
        poll_read(&mut self.0, cx, into, max)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<usize>> {
        poll_write(&mut self.0, cx, out)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    // The stream is dropped right after; what that means is the stream's own.
    fn abort(&mut self) {}
}

/// Reads without tokio's budget: a batch is one read, whatever else the task did.
pub(super) fn poll_read<I: AsyncRead + Unpin>(
    io: &mut I,
    cx: &mut Context<'_>,
    into: &mut BytesMut,
    max: usize,
) -> Poll<io::Result<Received>> {
    let mut limited = into.limit(max);
    let read = tokio::task::coop::unconstrained(io.read_buf(&mut limited));
    pin!(read).poll(cx).map_ok(|count| match count {
        0 => Received::End,
        count => Received::Filled(count),
    })
}

/// Writes without tokio's budget. What is one slice is one plain write, which costs the
/// kernel less than a vectored one.
fn poll_write<I: AsyncWrite + Unpin>(
    io: &mut I,
    cx: &mut Context<'_>,
    out: &mut Outbox,
) -> Poll<io::Result<usize>> {
    let written = if let Some(bytes) = out.single() {
        // A vectored write costs more, here and in the kernel.
        let write = tokio::task::coop::unconstrained(io.write(bytes));
        let written = pin!(write).poll(cx);
        if let Poll::Ready(Ok(count)) = written {
            out.advance(count);
        }
        written
    } else {
        let write = tokio::task::coop::unconstrained(io.write_buf(out));
        pin!(write).poll(cx)
    };
    match written {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        other => other,
    }
}
