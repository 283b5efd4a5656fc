//! A connection that comes back.

mod backoff;
mod down;
mod link;
mod task;

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

pub use backoff::Backoff;
pub use down::Down;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::{sync::watch, time::Instant};

use self::{link::Link, task::Resume};
use super::{BoxError, Connect, InvalidRequest};
use crate::ws::{CloseCode, CloseFrame, Message, Outgoing, Text};

type Request = dyn Fn(Connect, u32) -> Requesting + Send + Sync;
type Requesting = Pin<Box<dyn Future<Output = Result<Connect, BoxError>> + Send>>;

/// The settings of a [`Reconnecting`]: see [`Connect::reconnecting`].
///
/// | setting | default |
/// | --- | --- |
/// | [`backoff`](Self::backoff) | full jitter, from 1 s to 60 s, anew after 30 s |
/// | [`retry_if`](Self::retry_if) | [`Down::is_retryable`] |
/// | [`max_retry_after`](Self::max_retry_after) | 1 h |
/// | [`each_request`](Self::each_request) | the same request again |
/// | [`resume_by`](Self::resume_by) | nothing |
/// | [`queue_bytes`](Self::queue_bytes) | the socket's `outbound_bytes`, 1 MiB |
/// | [`when_full`](Self::when_full) | [`WhenFull::Wait`] |
#[derive(Clone)]
#[must_use = "nothing is connected before it is opened"]
pub struct Reconnect {
    connect: Connect,
    backoff: Backoff,
    retry: Arc<dyn Fn(&Down) -> bool + Send + Sync>,
    max_retry_after: Duration,
    request: Option<Arc<Request>>,
    resume: Option<Arc<Resume>>,
    queue_bytes: usize,
    when_full: WhenFull,
    seed: Option<u64>,
}

/// What becomes of a message that is sent while the queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// `send` waits for room.
    #[default]
    Wait,
    /// `send` fails with [`SendError::Full`].
    Fail,
    /// It is thrown away, and counted.
    DropNewest,
    /// The oldest are thrown away for it, and counted.
    DropOldest,
}

/// Where a [`Reconnecting`] stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum State {
    /// A connection is being made; the first attempt is 0.
    Connecting {
        /// How many there were before it.
        attempt: u32,
    },
    /// It is there.
    Open {
        /// How many attempts there were before the one that made it.
        attempt: u32,
    },
    /// It is not, and will be tried again.
    Waiting {
        /// What happened to the last.
        why: Arc<Down>,
        /// When it is tried again.
        next: Instant,
        /// How many attempts there were.
        attempt: u32,
    },
    /// It is over.
    Closed {
        /// Why; `None` where this side has closed.
        why: Option<Arc<Down>>,
    },
}

/// Why a message was not taken.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The queue is full: see [`WhenFull::Fail`].
    #[error("the queue is full")]
    Full,
    /// It is over, and why; `None` where this side has closed.
    #[error("the client is closed")]
    Closed(Option<Arc<Down>>),
}

/// A WebSocket that connects again when it was disconnected, for as long as there is
/// sense in it: see [`Connect::reconnecting`].
///
/// A task of its own keeps it up, from [`Reconnect::open`] until it is closed, the last
/// handle is dropped, or a connection ends in a way that is not worth trying again.
///
/// What is received is given in order, whatever connection it came over. What is sent
/// while there is none waits in a queue. A message that the connection has taken and the
/// server has not got is lost with it, and nobody knows: who must know has the server
/// acknowledge it, as the hub's subprotocol does.
#[derive(Debug)]
pub struct Reconnecting {
    link: Arc<Link>,
    sender: ReconnectingSender,
    /// The stream has given its last item.
    terminated: bool,
}

/// The half of a [`Reconnecting`] that sends; clones send to the same server.
#[derive(Debug)]
pub struct ReconnectingSender {
    link: Arc<Link>,
    state: watch::Receiver<State>,
}

impl Connect {
    /// A connection that is made again when it was lost: exponential backoff with full
    /// jitter, requests that are made anew, a queue for what is sent meanwhile.
    ///
    /// ```no_run
    /// # async fn token() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// # async fn follow() -> Result<(), Box<dyn std::error::Error>> {
    /// use towpath::client;
    ///
    /// let mut socket = client::connect("ws://127.0.0.1:8080/topics/room?last=10")
    ///     .reconnecting()
    ///     // A token that is fresh for each attempt …
    ///     .each_request(|request, _attempt| async {
    ///         Ok(request.header("authorization", format!("Bearer {}", token().await?)))
    ///     })
    ///     // … and `?after=` of the last message, so that none is missed or doubled.
    ///     .resume_by("after", |message| {
    ///         let (id, _) = message.as_text()?.split_once(' ')?;
    ///         Some(id.to_owned())
    ///     })
    ///     .open()?;
    /// while let Some(message) = socket.recv().await? {
    ///     println!("{message:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn reconnecting(self) -> Reconnect {
        Reconnect {
            queue_bytes: self.config().outbound_bound(),
            connect: self,
            backoff: Backoff::new(),
            retry: Arc::new(Down::is_retryable),
            max_retry_after: task::MAX_RETRY_AFTER,
            request: None,
            resume: None,
            when_full: WhenFull::default(),
            seed: None,
        }
    }
}

impl Reconnect {
    /// How long to wait before each attempt.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Whether to try again, in place of [`Down::is_retryable`].
    ///
    /// ```
    /// use towpath::client::{self, Down};
    ///
    /// let client = client::connect("ws://127.0.0.1/feed").reconnecting();
    /// // A feed that says when it is done.
    /// let client = client.retry_if(|down| match down {
    ///     Down::Closed(Some(frame)) if frame.code.get() == 1000 => false,
    ///     down => down.is_retryable(),
    /// });
    /// # let _ = client;
    /// ```
    pub fn retry_if(mut self, retry: impl Fn(&Down) -> bool + Send + Sync + 'static) -> Self {
        self.retry = Arc::new(retry);
        self
    }

    /// The longest that a server's `Retry-After` is honoured. The wait of the backoff
    /// comes on top of it, since the server told all its clients the same.
    pub const fn max_retry_after(mut self, limit: Duration) -> Self {
        self.max_retry_after = limit;
        self
    }

    /// Makes each request anew: with a fresh token, to another server. It gets the
    /// request as it was given and how many attempts there were before. Where it fails
    /// there is another attempt; how long it takes is its own affair.
    pub fn each_request<H, F>(mut self, request: H) -> Self
    where
        H: Fn(Connect, u32) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Connect, BoxError>> + Send + 'static,
    {
        self.request = Some(Arc::new(move |connect, attempt| {
            Box::pin(request(connect, attempt))
        }));
        self
    }

    /// Resumes behind the last message: `id_of` finds a message's id, and the next
    /// request has the last that was found as the parameter `parameter` of its query,
    /// in place of one of that name.
    pub fn resume_by(
        mut self,
        parameter: impl Into<String>,
        id_of: impl Fn(&Message) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.resume = Some(Arc::new(Resume {
            parameter: parameter.into(),
            id_of: Box::new(id_of),
        }));
        self
    }

    /// How many bytes wait for a connection before the queue is full. A message is taken
    /// whenever fewer wait, however large it is.
    pub const fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// What becomes of a message that is sent while the queue is full.
    pub const fn when_full(mut self, policy: WhenFull) -> Self {
        self.when_full = policy;
        self
    }

    /// Where the jitter's chance begins, so that a test can be repeated.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Begins to connect, in a task of its own.
    ///
    /// # Errors
    /// Where the request or a setting cannot be; nothing else is an error here.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(self) -> Result<Reconnecting, InvalidRequest> {
        self.backoff.check()?;
        if self.queue_bytes == 0 {
            return Err(InvalidRequest::Zero("queue_bytes"));
        }
        let connect = self.connect.check()?;
        let inbound = connect.config().inbound_bound();
        let settings = Self { connect, ..self };
        let link = Arc::new(Link::new(inbound, settings.queue_bytes, settings.when_full));
        let (tell, state) = watch::channel(State::Connecting { attempt: 0 });
        tokio::spawn(task::keep_up(settings, Arc::clone(&link), tell));
        let sender = ReconnectingSender {
            link: Arc::clone(&link),
            state,
        };
        link.add_handle();
        Ok(Reconnecting {
            link,
            sender,
            terminated: false,
        })
    }
}

impl Reconnecting {
    /// The next message, over whatever connection; `None` once this side has closed.
    ///
    /// While nobody takes messages the server is made to wait, as by a plain
    /// [`WebSocket`](super::WebSocket), and an end behind them is not seen either.
    ///
    /// Cancel-safe: a dropped future has taken nothing.
    ///
    /// # Errors
    /// Why there is no connection and will be none.
    pub async fn recv(&mut self) -> Result<Option<Message>, Arc<Down>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Arc<Down>>> {
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        let polled = self.link.poll_receive(cx);
        if polled.is_ready() {
            budget.made_progress();
        }
        polled
    }

    /// See [`ReconnectingSender::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&mut self, message: impl Into<Outgoing>) -> Result<(), SendError> {
        self.sender.send(message).await
    }

    /// See [`ReconnectingSender::close`].
    pub fn close(&self, code: CloseCode, reason: impl Into<Text>) {
        self.sender.close(code, reason);
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.sender.state()
    }

    /// Where it stands, to be watched.
    ///
    /// ```no_run
    /// # async fn follow() -> Result<(), Box<dyn std::error::Error>> {
    /// use towpath::client::{self, State};
    ///
    /// let socket = client::connect("ws://127.0.0.1:8080/feed").reconnecting().open()?;
    /// let mut state = socket.watch();
    /// tokio::spawn(async move {
    ///     while state.changed().await.is_ok() {
    ///         if let State::Waiting { why, next, .. } = &*state.borrow_and_update() {
    ///             eprintln!("{why}; again in {:?}", next.duration_since(tokio::time::Instant::now()));
    ///         }
    ///     }
    /// });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.sender.watch()
    }

    /// See [`ReconnectingSender::dropped`].
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.sender.dropped()
    }

    /// A handle that sends, for another task.
    #[must_use]
    pub fn sender(&self) -> ReconnectingSender {
        self.sender.clone()
    }
}

impl ReconnectingSender {
    /// Queues a message for the connection that is there, or the next. Completes when
    /// it is queued; what happens while the queue is full is
    /// [`when_full`](Reconnect::when_full)'s choice.
    ///
    /// Cancel-safe in that a message is either queued or not.
    ///
    /// # Errors
    /// Where it is closed, or the queue is full and that is to fail; the message is
    /// dropped then.
    pub async fn send(&mut self, message: impl Into<Outgoing>) -> Result<(), SendError> {
        let mut message = Some(message.into());
        poll_fn(|cx| self.poll_send(cx, &mut message)).await
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        message: &mut Option<Outgoing>,
    ) -> Poll<Result<(), SendError>> {
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        let polled = self.link.poll_send(cx, message);
        if polled.is_ready() {
            budget.made_progress();
        }
        polled
    }

    /// Closes behind what is queued, where there is a connection; where there is none
    /// what is queued is dropped. Messages of the server are received until it has
    /// answered. A second call changes nothing.
    pub fn close(&self, code: CloseCode, reason: impl Into<Text>) {
        self.link.close(CloseFrame::new(code, reason));
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Where it stands, to be watched: see [`Reconnecting::watch`].
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// How many messages were thrown away because the queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.link.dropped()
    }

    /// The bytes that wait in the queue, a message with a few more than its own; what
    /// the connection has taken is not among them.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.link.queued()
    }
}

impl Clone for ReconnectingSender {
    fn clone(&self) -> Self {
        self.link.add_handle();
        Self {
            link: Arc::clone(&self.link),
            state: self.state.clone(),
        }
    }
}

impl Drop for ReconnectingSender {
    fn drop(&mut self) {
        self.link.forget_handle();
    }
}

impl Drop for Reconnecting {
    fn drop(&mut self) {
        self.link.forget_receiver();
    }
}

impl Stream for Reconnecting {
    type Item = Result<Message, Arc<Down>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.terminated {
            return Poll::Ready(None);
        }
        let item = ready!(self.poll_recv(cx)).transpose();
        self.terminated = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

/// Ready means room in the queue; to flush is no more than that, since the task sends by
/// itself; to close is to close with 1000.
impl Sink<Message> for ReconnectingSender {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_send(cx, &mut None)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), SendError> {
        self.link.send_now(message.into())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.close(CloseCode::NORMAL, "");
        Poll::Ready(Ok(()))
    }
}

impl Sink<Message> for Reconnecting {
    type Error = SendError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Pin::new(&mut self.sender).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), SendError> {
        Pin::new(&mut self.sender).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Pin::new(&mut self.sender).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Pin::new(&mut self.sender).poll_close(cx)
    }
}

impl fmt::Debug for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("connect", &self.connect)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
