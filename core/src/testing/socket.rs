use std::{fmt, io};

use bytes::{Buf, Bytes, BytesMut};
use http::Response;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Fault;
use crate::ws::{
    CloseCode, CloseFrame, Error, Message, Outbox, Text,
    protocol::{Connection, Event, Limits, Role},
};

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<I: AsyncRead + AsyncWrite + Send + Unpin> Io for I {}

/// The client's end of a WebSocket.
///
/// Nothing happens behind the test's back: bytes are read while it awaits
/// [`recv`](Self::recv), and by that pings and the server's close are answered;
/// who awaits something else is a peer that does not read. Messages and frames
/// of any size are taken. Dropped, it goes without a close frame.
pub struct TestSocket {
    io: Box<dyn Io>,
    response: Response<()>,
    fault: Fault,
    connection: Connection,
    input: BytesMut,
    out: Outbox,
    /// Received, while what it is answered with goes out.
    event: Option<Event>,
}

impl TestSocket {
    /// A socket over a connection of one's own, whose handshake was answered with
    /// `response`; `fault` is what [`fault`](Self::fault) gives.
    pub fn over<I>(io: I, response: Response<()>, fault: Fault) -> Self
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = Limits {
            max_frame_size: usize::MAX,
            max_message_size: usize::MAX,
            max_fragments: u32::MAX,
        };
        Self {
            io: Box::new(io),
            response,
            fault,
            connection: Connection::new(Role::Client, limits),
            input: BytesMut::new(),
            out: Outbox::default(),
            event: None,
        }
    }

    /// The head of the answer to the handshake.
    #[must_use]
    pub const fn response(&self) -> &Response<()> {
        &self.response
    }

    /// The negotiated subprotocol.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        let value = self.response.headers().get("sec-websocket-protocol")?;
        value.to_str().ok()
    }

    /// What may go wrong with the connection, as the server sees it.
    #[must_use]
    pub const fn fault(&self) -> &Fault {
        &self.fault
    }

    /// The next message or close frame; `None` once the connection has ended
    /// behind a close frame. Pings are answered, and so is the close. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::PeerGone`] where the connection ended without a close frame or
    /// broke, [`Error::Protocol`] where the server broke the protocol.
    pub async fn recv(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if self.event.is_none() {
                self.event = self.parse()?;
            }
            // A server that failed the connection takes no answer: what there is
            // to read tells how it ended.
            if self.flush().await.is_err() {
                self.out = Outbox::default();
            }
            if let Some(event) = self.event.take() {
                return Ok(Some(event));
            }
            match self.io.read_buf(&mut self.input).await {
                Ok(0) if self.connection.close_received() => return Ok(None),
                Ok(0) | Err(_) => return Err(Error::PeerGone),
                Ok(_) => {}
            }
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`Error::Closed`] for a close frame or behind
    /// one.
    pub async fn message(&mut self) -> Result<Message, Error> {
        match self.recv().await? {
            Some(Event::Message(message)) => Ok(message),
            Some(Event::Close(frame)) => Err(Error::closed(frame.as_ref())),
            None => Err(Error::closed(None)),
        }
    }

    /// Reads to the end, past whatever messages still come, and returns what the
    /// server closed with.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub async fn closed(&mut self) -> Result<Option<CloseFrame>, Error> {
        let mut closed = None;
        while let Some(event) = self.recv().await? {
            if let Event::Close(frame) = event {
                closed = frame;
            }
        }
        Ok(closed)
    }

    /// Sends a message; waits until the connection has taken it.
    ///
    /// # Errors
    /// [`Error::PeerGone`] where the server reads no more.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), Error> {
        self.connection.send(message.into(), &mut self.out);
        self.flush().await.map_err(|_| Error::PeerGone)
    }

    /// Sends a ping; the pong to it is no event.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn ping(&mut self) -> Result<(), Error> {
        self.connection.ping(&mut self.out);
        self.flush().await.map_err(|_| Error::PeerGone)
    }

    /// Sends a close frame; the server's answer is the next close frame of
    /// [`recv`](Self::recv). Messages sent after it are dropped.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn close(&mut self, code: CloseCode, reason: impl Into<Text>) -> Result<(), Error> {
        let frame = CloseFrame::new(code, reason);
        self.connection.close(Some(&frame), &mut self.out);
        self.flush().await.map_err(|_| Error::PeerGone)
    }

    /// Sends bytes as they are, which need not be frames.
    ///
    /// # Errors
    /// Where the server reads no more.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// The bytes that came next, as they are, and past everything that answers
    /// them; empty at the end.
    ///
    /// # Errors
    /// Where the connection broke.
    pub async fn recv_raw(&mut self) -> io::Result<Bytes> {
        if self.input.is_empty() {
            self.io.read_buf(&mut self.input).await?;
        }
        Ok(self.input.split().freeze())
    }

    /// Ends this direction without a close frame: a FIN, over HTTP/2 `END_STREAM`.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }

    fn parse(&mut self) -> Result<Option<Event>, Error> {
        let mut input = &self.input[..];
        let event = self.connection.receive(&mut input, &mut self.out)?;
        let used = self.input.len() - input.len();
        self.input.advance(used);
        if let Some(Event::Close(frame)) = &event {
            let code = frame.as_ref().map(|frame| frame.code);
            self.connection.answer_close(code, &mut self.out);
        }
        Ok(event)
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.io.write_all_buf(&mut self.out).await?;
        self.io.flush().await
    }
}

impl fmt::Debug for TestSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestSocket")
            .field("response", &self.response)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}
