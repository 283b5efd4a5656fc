//! The user's end of a socket.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;

use super::{
    error::Error,
    inbox::Inbox,
    protocol::{CloseCode, CloseFrame, Message, Outgoing, Text},
    shared::Shared,
    source::FrameSource,
};
use crate::Expiry;

/// A WebSocket.
///
/// It is a small handle: bytes are read and written by a *driver* that polls the
/// handler inside its own task, and writes all that it said in one go once it
/// yields. So nobody flushes; pings are answered, heartbeats sent and closes
/// shaken hands on without the handler.
///
/// The connection lives while this or a half of it lives. The last one dropped
/// closes with 1000; a handler that fails or panics closes with 1011.
///
/// ```
/// use towpath::ws::{HandlerError, WebSocket};
///
/// async fn echo(mut socket: WebSocket) -> Result<(), HandlerError> {
///     while let Some(message) = socket.recv().await? {
///         socket.send(message).await?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct WebSocket {
    receiver: Receiver,
    sender: Sender,
}

/// The half of a [`WebSocket`] that receives.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    /// Taken from `shared` and not yet given.
    batch: Inbox,
    /// The stream has given its last item.
    terminated: bool,
}

/// The half of a [`WebSocket`] that sends. Clones send to the same peer; what
/// one sends keeps its order.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
    /// The slot that this handle waits in; 0 before it has waited.
    slot: u32,
}

impl WebSocket {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let sender = Sender::new(Arc::clone(&shared));
        Self {
            receiver: Receiver::new(shared),
            sender,
        }
    }

    /// The next message; `None` once the socket is closed in order: by the peer,
    /// by this side, or by a drain.
    ///
    /// Cancel-safe: a dropped future has taken nothing.
    ///
    /// # Errors
    /// How the socket ended, where that was not in order. What was received in
    /// front of it is given first.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message>, Error>> + Send {
        self.receiver.recv()
    }

    /// Sends a message: completes when it is in the bounded buffer to the peer,
    /// in which it is taken whenever less than the bound waits, however large
    /// it is; else it waits until the peer has taken some.
    ///
    /// Cancel-safe in that a message is either sent or not; where a dropped
    /// future must not lose it, [`reserve`](Self::reserve) first.
    ///
    /// # Errors
    /// Where the socket is closed or broken; the message is dropped then.
    pub fn send<M: Into<Outgoing>>(
        &mut self,
        message: M,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<'_, M> {
        self.sender.send(message)
    }

    /// For one message that is not to be compressed, though the connection
    /// compresses others: because it is compressed already, as images are, or
    /// because it mixes a secret with what an attacker may choose, where its size
    /// would tell. Without compression it changes nothing.
    ///
    /// ```
    /// use towpath::ws::{HandlerError, WebSocket};
    ///
    /// async fn picture(mut socket: WebSocket, jpeg: Vec<u8>) -> Result<(), HandlerError> {
    ///     socket.send(r#"{"type":"picture"}"#).await?;
    ///     socket.uncompressed().send(jpeg).await?;
    ///     // In two steps, where the message must not be lost with a dropped future:
    ///     socket.reserve().await?.uncompressed().send("token")?;
    ///     Ok(())
    /// }
    /// ```
    pub const fn uncompressed(&mut self) -> Uncompressed<'_> {
        self.sender.uncompressed()
    }

    /// The bytes that were accepted for the peer and that the transport has not taken
    /// yet: of what was sent here and by clones of the [`Sender`], and of what is
    /// forwarded. It is what counts against
    /// [`outbound_bytes`](super::WsConfig::outbound_bytes), so that a message which is
    /// still queued counts with a few bytes more than its own.
    ///
    /// ```
    /// use towpath::ws::{HandlerError, Message, WebSocket};
    ///
    /// /// Leaves out a frame of video where the peer is behind.
    /// async fn show(socket: &mut WebSocket, frame: Message) -> Result<(), HandlerError> {
    ///     if socket.buffered_amount() < 256 << 10 {
    ///         socket.send(frame).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn buffered_amount(&self) -> usize {
        self.sender.buffered_amount()
    }

    /// Waits for room for one message. Cancel-safe.
    ///
    /// # Errors
    /// Where the socket is closed or broken.
    pub async fn reserve(&mut self) -> Result<Permit<'_>, Error> {
        self.sender.reserve().await
    }

    /// Closes the socket behind what was sent: completes once that is accepted;
    /// the driver waits for the peer's answer. Messages of the peer are received
    /// until that. A second call changes nothing. A reason of more than 123
    /// bytes is cut.
    ///
    /// # Errors
    /// Where the socket is closed or broken already.
    // It never waits; it is async so that it reads as `send` does.
    #[expect(clippy::unused_async)]
    pub async fn close(&mut self, code: CloseCode, reason: impl Into<Text>) -> Result<(), Error> {
        self.sender.shared.close(CloseFrame::new(code, reason))
    }

    /// What the peer is told last where a [`Drain`](crate::Drain) ends the socket:
    /// behind all that was accepted and what subscriptions had to deliver, in front
    /// of the close frame. Without a drain it is never sent; a second call replaces
    /// the first.
    ///
    /// It is for a handler that will be busy, or whose other halves live elsewhere. One
    /// that receives can as well `send` when [`recv`](Self::recv) has returned `None`.
    ///
    /// ```
    /// use towpath::ws::{HandlerError, WebSocket};
    ///
    /// async fn play(mut socket: WebSocket) -> Result<(), HandlerError> {
    ///     socket.last_message(r#"{"type":"restart"}"#);
    ///     while let Some(message) = socket.recv().await? {
    ///         socket.send(message).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn last_message(&mut self, message: impl Into<Outgoing>) {
        self.sender.last_message(message);
    }

    /// Waits until the socket is closed, shaken hands on or broken, and tells how: as
    /// [`send`](Self::send) fails from then on. Also the end in order is one:
    /// [`Error::Closed`] with the peer's code, or this side's.
    pub async fn closed(&mut self) -> Error {
        self.sender.closed().await
    }

    /// The negotiated subprotocol (RFC 6455 §1.9).
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.sender.protocol()
    }

    /// What the peer closed with, once its close frame with a code came.
    #[must_use]
    pub fn close_frame(&self) -> Option<CloseFrame> {
        self.sender.close_frame()
    }

    /// How long the peer took to answer the last ping of the
    /// [heartbeat](super::WsConfig::heartbeat); `None` before the first pong, and while
    /// none is sent because there is traffic in both directions. It is the time of the
    /// way there and back and of whatever waited in front of the two at either end.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.sender.rtt()
    }

    /// When what the peer was let in with expires, where that was said: it can be
    /// refreshed here.
    ///
    /// ```
    /// use std::time::Duration;
    /// use towpath::ws::{HandlerError, WebSocket};
    ///
    /// # fn lifetime(token: &str) -> Option<Duration> { token.parse().ok().map(Duration::from_secs) }
    /// async fn chat(mut socket: WebSocket) -> Result<(), HandlerError> {
    ///     while let Some(message) = socket.recv().await? {
    ///         let token = message.as_text().and_then(|text| text.strip_prefix("token "));
    ///         if let (Some(time), Some(expiry)) = (token.and_then(lifetime), socket.expiry()) {
    ///             expiry.refresh(time);
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        self.sender.expiry()
    }

    /// Gives the driver a source of frames, sent beside what the handler sends
    /// for as long as the socket lives.
    pub fn attach(&mut self, source: impl FrameSource + 'static) {
        self.sender.attach(source);
    }

    /// Both halves, to be used from different tasks.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// The sending half.
    #[must_use]
    pub const fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }
}

impl Receiver {
    fn new(shared: Arc<Shared>) -> Self {
        shared.lock().handles += 1;
        Self {
            shared,
            batch: Inbox::default(),
            terminated: false,
        }
    }

    /// See [`WebSocket::recv`].
    ///
    /// # Errors
    /// As there.
    // Not an `async fn`, whose state would hold the same thing twice: it lives in
    // every idle handler.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message>, Error>> + Send {
        poll_fn(|cx| self.poll_recv(cx))
    }

    #[inline]
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        // A handler that always finds a message must let others run too.
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        let polled = self.shared.poll_receive(&mut self.batch, cx);
        if polled.is_ready() {
            budget.made_progress();
        }
        polled
    }

    /// What the peer closed with, once its close frame with a code came.
    #[must_use]
    pub fn close_frame(&self) -> Option<CloseFrame> {
        self.shared.lock().peer_close.as_deref().cloned()
    }
}

impl Sender {
    fn new(shared: Arc<Shared>) -> Self {
        shared.lock().handles += 1;
        Self { shared, slot: 0 }
    }

    /// See [`WebSocket::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send<M: Into<Outgoing>>(
        &mut self,
        message: M,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<'_, M> {
        let mut message = Some(message.into());
        poll_fn(move |cx| self.poll_send(cx, &mut message))
    }

    /// See [`WebSocket::uncompressed`].
    pub const fn uncompressed(&mut self) -> Uncompressed<'_> {
        Uncompressed(self)
    }

    /// See [`WebSocket::buffered_amount`].
    #[must_use]
    pub fn buffered_amount(&self) -> usize {
        self.shared.buffered_amount()
    }

    /// See [`WebSocket::reserve`].
    ///
    /// # Errors
    /// As there.
    pub async fn reserve(&mut self) -> Result<Permit<'_>, Error> {
        poll_fn(|cx| self.poll_send(cx, &mut None)).await?;
        Ok(Permit {
            sender: self,
            uncompressed: false,
        })
    }

    /// See [`WebSocket::close`].
    ///
    /// # Errors
    /// As there.
    // It never waits; it is async so that it reads as `send` does.
    #[expect(clippy::unused_async)]
    pub async fn close(&mut self, code: CloseCode, reason: impl Into<Text>) -> Result<(), Error> {
        self.shared.close(CloseFrame::new(code, reason))
    }

    /// See [`WebSocket::last_message`].
    pub fn last_message(&mut self, message: impl Into<Outgoing>) {
        let replaced = self.shared.set_last_message(message.into());
        drop(replaced);
    }

    /// Sends without waiting for room, which the [`Sink`] said there is.
    #[cfg(feature = "client")]
    pub(crate) fn send_now(&self, message: Outgoing) -> Result<(), Error> {
        self.shared.send_now(message)
    }

    /// [`close`](Self::close), which never waits.
    #[cfg(feature = "client")]
    pub(crate) fn close_now(&self, frame: CloseFrame) -> Result<(), Error> {
        self.shared.close(frame)
    }

    /// See [`WebSocket::closed`].
    pub async fn closed(&mut self) -> Error {
        poll_fn(|cx| self.shared.poll_closed(&mut self.slot, cx)).await
    }

    /// See [`WebSocket::protocol`].
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.shared.protocol()
    }

    /// See [`WebSocket::close_frame`].
    #[must_use]
    pub fn close_frame(&self) -> Option<CloseFrame> {
        self.shared.lock().peer_close.as_deref().cloned()
    }

    /// See [`WebSocket::rtt`].
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.shared.round_trip()
    }

    /// See [`WebSocket::expiry`].
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        self.shared.expiry().cloned()
    }

    /// See [`WebSocket::attach`].
    pub fn attach(&mut self, source: impl FrameSource + 'static) {
        let source = Box::new(source);
        self.shared
            .tell(|state| state.attached.get_or_insert_default().push(source));
    }

    #[inline]
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        message: &mut Option<Outgoing>,
    ) -> Poll<Result<(), Error>> {
        // Of tokio's budget it takes nothing: the outbox is full soon enough, and a
        // handler that answers has taken some for what it answers to.
        if self.shared.send_directly(message) {
            return Poll::Ready(Ok(()));
        }
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        let polled = self.shared.poll_send(&mut self.slot, cx, message);
        if polled.is_ready() {
            budget.made_progress();
        }
        polled
    }
}

impl Clone for Sender {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let wakers = self.shared.tell(|state| state.forget(self.slot));
        drop(wakers);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let unread = self.shared.forget_receiver();
        drop(unread);
    }
}

/// Room for one message; see [`WebSocket::reserve`].
#[derive(Debug)]
#[must_use]
pub struct Permit<'a> {
    sender: &'a mut Sender,
    uncompressed: bool,
}

impl Permit<'_> {
    /// Sends without waiting.
    ///
    /// # Errors
    /// Where the socket was closed or broken since.
    pub fn send(self, message: impl Into<Outgoing>) -> Result<(), Error> {
        let message = message.into();
        self.sender.shared.send_now(if self.uncompressed {
            message.into_uncompressed()
        } else {
            message
        })
    }

    /// Sends without compression: see [`WebSocket::uncompressed`].
    pub const fn uncompressed(mut self) -> Self {
        self.uncompressed = true;
        self
    }
}

/// Sends without compression: see [`WebSocket::uncompressed`].
#[derive(Debug)]
#[must_use]
pub struct Uncompressed<'a>(&'a mut Sender);

impl<'a> Uncompressed<'a> {
    /// As [`WebSocket::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send<M: Into<Outgoing>>(
        self,
        message: M,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<'a, M> {
        self.0.send(message.into().into_uncompressed())
    }
}

impl Stream for Receiver {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.terminated {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_recv(cx)).transpose();
        self.terminated = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

impl FusedStream for Receiver {
    fn is_terminated(&self) -> bool {
        self.terminated
    }
}

/// Ready means room, as [`WebSocket::send`] has it; to flush is no more than
/// that, since the driver writes by itself; to close is to close with 1000.
impl Sink<Message> for Sender {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_send(cx, &mut None)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.shared.send_now(message.into())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Closed already is closed.
        let _ = self
            .shared
            .close(CloseFrame::new(CloseCode::NORMAL, Text::default()));
        Poll::Ready(Ok(()))
    }
}

impl Stream for WebSocket {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.receiver).poll_next(cx)
    }
}

impl FusedStream for WebSocket {
    fn is_terminated(&self) -> bool {
        self.receiver.terminated
    }
}

impl Sink<Message> for WebSocket {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        Pin::new(&mut self.sender).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.sender).poll_close(cx)
    }
}
