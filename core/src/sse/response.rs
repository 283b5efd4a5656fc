use std::{fmt, net::SocketAddr, time::Duration};

use tracing::Span;

use super::{KeepAlive, Source, SseBody, body::Opening, encode, span};
use crate::{Drain, Draining, Expiry, Stats, backpressure::StreamDefaults};

/// What browsers wait before they reconnect, where a drain may have told them
/// another time before: they keep the last one that they were told.
const NORMAL_RETRY: Duration = Duration::from_secs(3);

/// What happens to a stream when its moment in a drain has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDrain {
    /// It gives what is ready (a subscription: what was published before the
    /// drain), tells its reader when to come back, and ends.
    #[default]
    End,
    /// It runs to its own end. If it has none by the deadline it is cut, and
    /// the drain is not clean.
    Finish,
}

/// An event stream on its way to being a response: its events, and what holds
/// for as long as it lives. The extension crates wrap it.
///
/// Keep-alive comments are on by default. With a [`Drain`] the stream counts as
/// alive until its body is dropped, and begins with `retry: 3000`.
///
/// ```
/// use std::time::Duration;
/// use towpath::{Drain, sse::{Event, KeepAlive, OnDrain, Sse}};
///
/// let drain = Drain::new(Duration::from_secs(5));
/// let numbers = futures_util::stream::iter((1..=3).map(|n| Event::new().id(n).data("…")));
/// let sse = Sse::new(numbers)
///     .keep_alive(KeepAlive::new().interval(Duration::from_secs(5)))
///     .drain(&drain)
///     .on_drain(OnDrain::Finish);
///
/// match sse.into_body() {
///     Ok(body) => drop(body), // 200, `sse::HEADERS`
///     Err(draining) => drop(draining), // 503, `Retry-After`
/// }
/// ```
#[must_use = "it is a response only when it is returned"]
pub struct Sse<S> {
    source: S,
    keep_alive: KeepAlive,
    retry: Option<Duration>,
    drain: Option<Drain>,
    on_drain: OnDrain,
    sse_retry: bool,
    expiry: Option<Expiry>,
    span: Span,
    stats: Option<Stats>,
}

impl<S: Source> Sse<S> {
    /// A response that sends the events of a stream, whose items are
    /// [`Event`](super::Event) or `Result<Event, E>`; an `Err` ends it.
    pub fn new(source: S) -> Self {
        Self {
            source,
            keep_alive: KeepAlive::new(),
            retry: None,
            drain: None,
            on_drain: OnDrain::End,
            sse_retry: false,
            expiry: None,
            span: span::begin(),
            stats: None,
        }
    }

    /// When comments are sent: by default after 15 s without an event.
    pub fn keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// The retry time with which the stream begins, in whole milliseconds: by
    /// default 3 s with a drain, and none without.
    pub fn retry(mut self, time: Duration) -> Self {
        self.retry = Some(time);
        self
    }

    /// Puts the stream under a drain: refused once it has begun, and ended by
    /// it.
    pub fn drain(mut self, drain: &Drain) -> Self {
        self.drain = Some(drain.clone());
        self
    }

    /// What the drain does to the stream: by default it ends it.
    pub fn on_drain(mut self, on_drain: OnDrain) -> Self {
        self.on_drain = on_drain;
        self
    }

    /// Instead of refusing the stream in a drain, answers 200 with a `retry:`
    /// and nothing else. For browsers: to an `EventSource` every other status
    /// is final. Programs are better told by a 503 and its `Retry-After`.
    pub fn sse_retry(mut self) -> Self {
        self.sse_retry = true;
        self
    }

    /// Who the user is, for the stream's span.
    pub fn user(self, user: impl fmt::Display) -> Self {
        self.span.record("user", tracing::field::display(user));
        self
    }

    /// Whether somebody listens to the stream's span.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        !self.span.is_disabled()
    }

    /// Who the peer is, for the stream's span.
    pub fn peer(self, peer: SocketAddr) -> Self {
        self.span.record("peer", tracing::field::display(peer));
        self
    }

    /// The pattern of the route, for the stream's span.
    pub fn route(self, route: &str) -> Self {
        self.span.record("route", route);
        self
    }

    /// Ends the stream at that time, unless the [`Expiry`] is refreshed: when what its
    /// reader was let in with expires. What was taken from the source by then goes out;
    /// the reader comes back by itself, with the last id that it has, and is asked for
    /// its credential.
    ///
    /// A stream does not see its request: where whoever authenticated left an `Expiry`
    /// in the request's extensions, the handler passes it on.
    pub fn expires_at(mut self, expiry: impl Into<Expiry>) -> Self {
        self.expiry = Some(expiry.into());
        self
    }

    /// The counters: by default the process's.
    pub fn stats(mut self, stats: &Stats) -> Self {
        self.stats = Some(stats.clone());
        self
    }

    /// What belongs into the response's extensions, where it is something: what a
    /// [`BackpressureLayer`](crate::backpressure::BackpressureLayer) around the stream says
    /// of it is put there.
    #[must_use]
    pub fn defaults(&self) -> Option<StreamDefaults> {
        self.source.defaults()
    }

    /// The body of a response 200 with [`HEADERS`](super::HEADERS).
    ///
    /// # Errors
    /// [`Draining`] when the stream is refused: the response is its
    /// [`status`](Draining::status) with its
    /// [`retry_after`](Draining::retry_after). It is counted as a rejection
    /// here.
    pub fn into_body(self) -> Result<SseBody<S>, Draining> {
        let stats = self.stats.unwrap_or_else(Stats::global);
        let guard = match self.drain.map(|drain| drain.guard()).transpose() {
            Ok(guard) => guard,
            Err(draining) if self.sse_retry => return Ok(SseBody::retry_only(draining.retry())),
            Err(draining) => {
                stats.count_rejected();
                return Err(draining);
            }
        };
        let retry = self.retry.or_else(|| guard.as_ref().map(|_| NORMAL_RETRY));
        Ok(SseBody::new(
            self.source,
            Opening {
                text: retry.map_or(encode::COMMENT, encode::retry_block),
                keep_alive: self.keep_alive,
                guard,
                on_drain: self.on_drain,
                expiry: self.expiry,
                span: self.span,
                stats,
            },
        ))
    }
}

impl<S> fmt::Debug for Sse<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sse")
            .field("keep_alive", &self.keep_alive)
            .field("retry", &self.retry)
            .field("drain", &self.drain)
            .field("on_drain", &self.on_drain)
            .field("sse_retry", &self.sse_retry)
            .finish_non_exhaustive()
    }
}
