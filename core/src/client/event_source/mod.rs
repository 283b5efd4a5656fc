//! An event stream's other end, which never gives up.

mod builder;
mod error;
mod exchange;
mod http_client;
mod pace;
mod state;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::ready,
    pin::Pin,
    sync::Arc,
    task::{self, Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderName, HeaderValue, Request, Uri};
use http_body::Body;
use http_body_util::Full;
use tokio::{
    sync::watch,
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};

pub use self::{builder::EventSourceBuilder, error::EventSourceError, state::EventSourceState};
use self::{
    builder::{Prepare, Settings, Template},
    exchange::{Bytestream, Exchange, Meaning},
    pace::End,
};
use super::error::InvalidRequest;
use crate::sse::{MessageEvent, Parser};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How many bytes are parsed at a time: what they become waits to be taken, and a
/// hostile stream's smallest events are many times their bytes.
const PART: usize = 4 * 1024;

/// Reads an event stream, and comes back for the rest of it: the `EventSource` of
/// browsers (WHATWG HTML §9.2), with headers, bodies and backoff.
///
/// It is a stream of events. When the connection is lost, or the server ends the stream,
/// it waits the reconnection time and asks again with the `Last-Event-ID`, for as long as
/// it is polled; its [state](Self::state) tells what it is about. Only what would fail
/// for ever, and a 204, ends it: see [`EventSourceError::is_final`].
///
/// ```no_run
/// use futures_util::StreamExt;
/// use towpath::client::EventSource;
///
/// # async fn read() -> Result<(), Box<dyn std::error::Error>> {
/// let mut events = EventSource::connect("http://127.0.0.1:8080/feed")?;
/// while let Some(event) = events.next().await {
///     let event = event?;
///     println!("{} {}: {}", event.id, event.event, event.data);
/// }
/// # Ok(())
/// # }
/// ```
///
/// A POST, as language models are asked, is not sent again:
///
/// ```no_run
/// # fn ask() -> Result<(), towpath::client::InvalidRequest> {
/// use http::{Method, header};
/// use towpath::client::EventSource;
///
/// let answer = EventSource::builder("http://127.0.0.1:8080/v1/completions")
///     .method(Method::POST)
///     .header(header::AUTHORIZATION, "Bearer …")
///     .header(header::CONTENT_TYPE, "application/json")
///     .body(r#"{"stream":true,"prompt":"…"}"#)
///     .open()?;
/// # Ok(())
/// # }
/// ```
///
/// What differs from a browser's: a status that says *later* (408, 425, 429, 500, 502,
/// 503, 504) is tried again, after the time of its `Retry-After`, where a browser gives
/// up for good; the reconnection time grows with each failure, by a random part; and a
/// redirect from `https` to `http` is not followed.
///
/// With the feature `client-gzip` streams may be compressed.
#[must_use = "streams do nothing unless polled"]
pub struct EventSource {
    template: Template,
    prepare: Option<Prepare>,
    exchange: Arc<dyn Exchange>,
    settings: Settings,
    parser: Parser,
    phase: Phase,
    /// Bytes that came and were not parsed yet.
    unparsed: Bytes,
    /// The stream that is there, or was last, has delivered an event.
    delivered: bool,
    /// Attempts in a row that came to nothing.
    failed_attempts: u32,
    /// What ends the stream once the events in front of it are taken.
    too_big: Option<EventSourceError>,
    state: watch::Sender<EventSourceState>,
}

type Attempt = Pin<Box<dyn Future<Output = Result<Meaning, EventSourceError>> + Send>>;

enum Phase {
    /// It was not polled yet.
    New,
    Connecting(Attempt),
    Open {
        body: Box<Bytestream>,
        idle: Option<Pin<Box<Sleep>>>,
    },
    Waiting(Pin<Box<Sleep>>),
    Closed,
}

impl EventSource {
    /// Reads the stream at `uri`, `http://…` or `https://…`, with all defaults. It asks
    /// when it is first polled.
    ///
    /// # Errors
    /// Where there can be nothing at such an address.
    pub fn connect<U>(uri: U) -> Result<Self, InvalidRequest>
    where
        U: TryInto<Uri, Error: fmt::Display> + fmt::Debug,
    {
        Self::builder(uri).open()
    }

    /// The same with settings.
    pub fn builder<U>(uri: U) -> EventSourceBuilder
    where
        U: TryInto<Uri, Error: fmt::Display> + fmt::Debug,
    {
        EventSourceBuilder::new(uri)
    }

    fn new(
        template: Template,
        prepare: Option<Prepare>,
        exchange: Arc<dyn Exchange>,
        settings: Settings,
        last_event_id: String,
    ) -> Self {
        let parser = Parser::new()
            .max_event_size(settings.max_event_size)
            .resume(last_event_id);
        Self {
            template,
            prepare,
            exchange,
            settings,
            parser,
            phase: Phase::New,
            unparsed: Bytes::new(),
            delivered: false,
            failed_attempts: 0,
            too_big: None,
            state: watch::Sender::new(EventSourceState::Connecting { attempt: 1 }),
        }
    }

    /// What it is about, now and from now on. It moves on only while the event source is
    /// polled.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<EventSourceState> {
        self.state.subscribe()
    }

    /// What the next request sends as `Last-Event-ID`; empty: no header.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        self.parser.last_event_id()
    }

    /// The reconnection time, as it was set or the server has last said.
    #[must_use]
    pub const fn retry(&self) -> Duration {
        self.settings.pace.retry
    }

    /// Ends it: the connection is given up, and the next item is none.
    pub fn close(&mut self) {
        if !matches!(self.phase, Phase::Closed) {
            self.end(None);
        }
    }

    /// Begins an attempt.
    fn attempt(&mut self) {
        let attempt = self.failed_attempts.saturating_add(1);
        self.state
            .send_replace(EventSourceState::Connecting { attempt });
        let mut request = Request::new(self.template.body.clone());
        *request.method_mut() = self.template.method.clone();
        *request.uri_mut() = self.template.uri.clone();
        request.headers_mut().clone_from(&self.template.headers);
        if !self.last_event_id().is_empty()
            && let Ok(id) = HeaderValue::from_bytes(self.last_event_id().as_bytes())
        {
            request.headers_mut().insert(LAST_EVENT_ID, id);
        }
        let after = self.settings.connect_timeout;
        let prepared = match &mut self.prepare {
            Some(prepare) => prepare(request),
            None => Box::pin(ready(Ok(request))),
        };
        let exchange = Arc::clone(&self.exchange);
        self.phase = Phase::Connecting(Box::pin(async move {
            let answer = async {
                let request = prepared
                    .await
                    .map_err(|error| EventSourceError::Prepare(error.into()))?;
                let response = exchange.send(request.map(Full::new)).await;
                exchange::meaning(response.map_err(EventSourceError::request)?)
            };
            timeout(after, answer)
                .await
                .unwrap_or(Err(EventSourceError::Timeout { after }))
        }));
    }

    fn opened(&mut self, body: Box<Bytestream>) {
        self.parser = Parser::new()
            .max_event_size(self.settings.max_event_size)
            .resume(self.parser.last_event_id());
        self.delivered = false;
        let idle = self
            .settings
            .idle_timeout
            .map(|limit| Box::pin(sleep(limit)));
        self.phase = Phase::Open { body, idle };
        self.state.send_replace(EventSourceState::Open);
    }

    /// What comes next: `None` while the stream goes on.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), EventSourceError>> {
        let Phase::Open { body, idle } = &mut self.phase else {
            return Poll::Ready(Ok(()));
        };
        if self.unparsed.is_empty() {
            match Pin::new(&mut **body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some((limit, idle)) = self.settings.idle_timeout.zip(idle.as_mut()) {
                        idle.as_mut().reset(Instant::now() + limit);
                    }
                    self.unparsed = frame.into_data().unwrap_or_default();
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(EventSourceError::Interrupted(error.into())));
                }
                Poll::Ready(None) => return Poll::Ready(Err(EventSourceError::Ended)),
                Poll::Pending => {
                    let Some((after, idle)) = self.settings.idle_timeout.zip(idle.as_mut()) else {
                        return Poll::Pending;
                    };
                    task::ready!(idle.as_mut().poll(cx));
                    return Poll::Ready(Err(EventSourceError::Idle { after }));
                }
            }
        }
        let part = self.unparsed.split_to(self.unparsed.len().min(PART));
        let parsed = self.parser.receive(&part);
        if let Some(retry) = self.parser.retry() {
            self.settings.pace.retry = retry;
        }
        self.too_big = parsed.err().map(EventSourceError::from);
        Poll::Ready(Ok(()))
    }

    /// The stream is lost, or was not to be had: when to try again, or the error to end
    /// with.
    fn fail(&mut self, why: EventSourceError) -> Option<EventSourceError> {
        let was_open = matches!(self.phase, Phase::Open { .. });
        let in_order = matches!(why, EventSourceError::Ended);
        self.unparsed = Bytes::new();
        if !self.settings.reconnect {
            let why = (!in_order).then_some(why);
            self.end(why.clone());
            return why;
        }
        let end = match (was_open && self.delivered, in_order) {
            (true, true) => End::Done,
            (true, false) => End::Lost,
            (false, _) => End::Failed,
        };
        let wait = self.settings.pace.after(end, why.retry_after());
        self.failed_attempts = match end {
            End::Done | End::Lost => 0,
            End::Failed => self.failed_attempts.saturating_add(1),
        };
        let most = self.settings.max_attempts.unwrap_or(u32::MAX);
        if why.is_final() || self.failed_attempts >= most {
            self.end(Some(why.clone()));
            return Some(why);
        }
        tracing::debug!(%why, ?wait, "an event stream is asked for again");
        let until = Instant::now() + wait;
        self.phase = Phase::Waiting(Box::pin(sleep_until(until)));
        self.state
            .send_replace(EventSourceState::Waiting { why, until });
        None
    }

    fn end(&mut self, why: Option<EventSourceError>) {
        self.phase = Phase::Closed;
        self.unparsed = Bytes::new();
        self.state.send_replace(EventSourceState::Closed { why });
    }

    /// As the stream's, outside tokio's budget.
    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<MessageEvent, EventSourceError>>> {
        loop {
            let came = match &mut self.phase {
                Phase::Closed => return Poll::Ready(None),
                Phase::New => {
                    self.attempt();
                    continue;
                }
                Phase::Waiting(sleep) => {
                    task::ready!(sleep.as_mut().poll(cx));
                    self.attempt();
                    continue;
                }
                Phase::Connecting(attempt) => match task::ready!(attempt.as_mut().poll(cx)) {
                    Ok(Meaning::Stream(body)) => {
                        self.opened(body);
                        continue;
                    }
                    Ok(Meaning::NoContent) => {
                        self.end(None);
                        continue;
                    }
                    Err(error) => Err(error),
                },
                Phase::Open { .. } => {
                    if let Some(event) = self.parser.poll_event() {
                        self.delivered = true;
                        return Poll::Ready(Some(Ok(event)));
                    }
                    match self.too_big.take() {
                        Some(error) => Err(error),
                        None => task::ready!(self.poll_bytes(cx)),
                    }
                }
            };
            if let Err(error) = came
                && let Some(error) = self.fail(error)
            {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

impl Stream for EventSource {
    type Item = Result<MessageEvent, EventSourceError>;

    /// # Panics
    /// Outside of a tokio runtime with its timer enabled.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // A stream that never pauses must not starve the task.
        let budget = task::ready!(tokio::task::coop::poll_proceed(cx));
        let event = task::ready!(self.poll_event(cx));
        budget.made_progress();
        Poll::Ready(event)
    }
}

impl fmt::Debug for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSource")
            // A query may have a ticket.
            .field("authority", &self.template.uri.authority())
            .field("path", &self.template.uri.path())
            .field("state", &*self.state.borrow())
            .field("last_event_id", &self.last_event_id())
            .finish_non_exhaustive()
    }
}
