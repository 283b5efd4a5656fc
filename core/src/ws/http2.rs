//! A WebSocket on a stream of HTTP/2 (RFC 8441).

use std::{
    fmt,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use hyper::rt::Executor;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
    task::JoinHandle,
};

use super::{
    protocol::Outbox,
    transport::{Received, Transport, poll_read},
};

/// What one write takes: as much as a frame of HTTP/2 has by default (RFC 9113 §4.2).
const CHUNK: usize = 16 * 1024;
/// Slices that are looked at for it.
const SLICES: usize = 16;

tokio::task_local! {
    /// The stream whose request this task answers.
    static STREAM: StreamWriter;
}

/// Runs hyper's tasks on tokio, as `TokioExecutor` of hyper-util does, so that a
/// WebSocket over HTTP/2 can reset its stream.
///
/// A peer that is gone, or takes nothing, is to see `RST_STREAM` with `CANCEL`, as over
/// TCP it sees a reset (RFC 8441 §5). hyper has no call for it: what it has is a task
/// that writes for the socket, and resets the stream where it is dropped. This
/// executor knows whose task it is. Over any other, `axum::serve`'s for one, such a
/// stream ends with `END_STREAM` in place of a reset, and once its peer takes what was
/// given to hyper before.
///
/// ```
/// use hyper_util::server::conn::auto::Builder;
/// use towpath::ws::WsExecutor;
///
/// let mut server = Builder::new(WsExecutor);
/// server.http2().enable_connect_protocol();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct WsExecutor;

impl<F> Executor<F> for WsExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        let of_stream = STREAM.try_with(|writer| writer.is_asked_for().then(|| writer.clone()));
        if let Ok(Some(writer)) = of_stream {
            // The answer was sent, and this is what writes for its socket.
            writer.set(tokio::spawn(async {
                future.await;
            }));
        } else {
            tokio::spawn(STREAM.scope(StreamWriter::default(), future));
        }
    }
}

/// hyper's task that writes what a socket sends to its stream.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamWriter(Arc<Mutex<Writer>>);

#[derive(Debug, Default)]
enum Writer {
    /// There is no socket on this stream.
    #[default]
    None,
    /// A socket was accepted; the task begins with the answer.
    AskedFor,
    Task(JoinHandle<()>),
}

impl StreamWriter {
    /// That of the stream whose request is answered by this task; `None` where it is
    /// not [`WsExecutor`] that runs it.
    pub(super) fn ask_for() -> Option<Self> {
        let writer = STREAM.try_with(Clone::clone).ok()?;
        writer.replace(Writer::AskedFor);
        Some(writer)
    }

    fn is_asked_for(&self) -> bool {
        let writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*writer, Writer::AskedFor)
    }

    fn set(&self, task: JoinHandle<()>) {
        self.replace(Writer::Task(task));
    }

    fn take(&self) -> Option<JoinHandle<()>> {
        match self.replace(Writer::None) {
            Writer::Task(task) => Some(task),
            Writer::None | Writer::AskedFor => None,
        }
    }

    fn replace(&self, writer: Writer) -> Writer {
        let mut this = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut this, writer)
    }
}

/// A transport over what hyper hands over of a stream.
///
/// hyper takes all that it is given in one piece, however large, and says only then
/// that it has no room. So it is given little at a time: else a peer that reads a large
/// message slowly would look stuck, and the message would be held twice.
pub(super) struct Http2Transport<I> {
    /// `None` once it was aborted.
    io: Option<I>,
    writer: Option<StreamWriter>,
}

impl<I> Http2Transport<I> {
    pub(super) const fn new(io: I, writer: Option<StreamWriter>) -> Self {
        Self {
            io: Some(io),
            writer,
        }
    }

    fn io(&mut self) -> io::Result<&mut I> {
        self.io
            .as_mut()
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for Http2Transport<I> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<Received>> {
        poll_read(self.io()?, cx, into, max)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<usize>> {
        let mut io = Pin::new(self.io()?);
        // For hyper that is to have room.
        ready!(io.as_mut().poll_flush(cx))?;
        let first = out.chunk();
        let count = if first.len() >= CHUNK.min(out.len()) {
            let count = CHUNK.min(first.len());
            ready!(io.poll_write(cx, &first[..count]))?
        } else {
            ready!(io.poll_write(cx, &gathered(out)))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        out.advance(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io()?).poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io()?).poll_shutdown(cx)
    }

    fn abort(&mut self) {
        let task = self.writer.take().and_then(|writer| writer.take());
        let (Some(task), Ok(runtime)) = (task, Handle::try_current()) else {
            // What this is of is dropped right after: an end, if no reset.
            return;
        };
        task.abort();
        // The other half goes when the task has gone, which could take it for the end
        // of what there is to write.
        let io = self.io.take();
        runtime.spawn(async move {
            let _ = task.await;
            drop(io);
        });
    }
}

impl<I> fmt::Debug for Http2Transport<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Transport")
            .field("writer", &self.writer)
            .finish_non_exhaustive()
    }
}

/// The first [`CHUNK`] of several slices, a header and its payload, in one piece.
fn gathered(out: &Outbox) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let used = out.chunks_vectored(&mut slices);
    let mut piece = Vec::with_capacity(CHUNK.min(out.len()));
    for slice in &slices[..used] {
        let room = CHUNK - piece.len();
        piece.extend_from_slice(&slice[..slice.len().min(room)]);
    }
    piece
}

#[cfg(test)]
mod tests;
