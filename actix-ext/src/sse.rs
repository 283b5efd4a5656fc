use std::{
    convert::Infallible,
    fmt::Display,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse, Responder,
    body::{BodySize, BoxBody, MessageBody},
    http::{
        ConnectionType, Method, StatusCode, Version,
        header::{ContentType, RETRY_AFTER},
    },
};
use bytes::Bytes;
use http_body::Body;
use towpath::{
    Drain, Draining, Expiry, Stats,
    hub::{self, Subscription},
    sse::{self, KeepAlive, OnDrain, Source, SseBody},
};

/// An event stream as a response (WHATWG HTML §9.2): the one of [`towpath`], for actix.
///
/// Keep-alive comments are on by default: over HTTP/1.1 actix does not notice that an
/// idle reader has hung up unless `h1_allow_half_closed(false)` is set, over HTTP/2 not
/// at all, and the writes find it. A reader that stays and reads nothing is ended by the
/// time-out of [`on_connect`](crate::on_connect).
///
/// ```
/// use std::time::Duration;
/// use actix_web::Responder;
/// use towpath::sse::{Event, KeepAlive};
/// use towpath_actix::Sse;
///
/// async fn ticks() -> impl Responder {
/// # struct Ticks;
/// # impl futures_core::Stream for Ticks {
/// #     type Item = Event;
/// #     fn poll_next(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>)
/// #         -> std::task::Poll<Option<Event>> { std::task::Poll::Ready(None) }
/// # }
/// # let ticks = Ticks;
///     Sse::new(ticks).keep_alive(KeepAlive::new().interval(Duration::from_secs(5)))
/// }
/// # let _ = actix_web::web::get().to(ticks);
/// ```
#[derive(Debug)]
#[must_use = "it is a response only when it is returned"]
pub struct Sse<S>(sse::Sse<S>);

impl<S: Source> Sse<S> {
    /// See [`towpath::sse::Sse::new`].
    pub fn new(source: S) -> Self {
        Self(sse::Sse::new(source))
    }

    /// See [`towpath::sse::Sse::keep_alive`].
    pub fn keep_alive(self, keep_alive: KeepAlive) -> Self {
        Self(self.0.keep_alive(keep_alive))
    }

    /// See [`towpath::sse::Sse::retry`].
    pub fn retry(self, time: Duration) -> Self {
        Self(self.0.retry(time))
    }

    /// See [`towpath::sse::Sse::drain`].
    pub fn drain(self, drain: &Drain) -> Self {
        Self(self.0.drain(drain))
    }

    /// See [`towpath::sse::Sse::on_drain`].
    pub fn on_drain(self, on_drain: OnDrain) -> Self {
        Self(self.0.on_drain(on_drain))
    }

    /// See [`towpath::sse::Sse::sse_retry`].
    pub fn sse_retry(self) -> Self {
        Self(self.0.sse_retry())
    }

    /// Who the user is, for the stream's span.
    pub fn user(self, user: impl Display) -> Self {
        Self(self.0.user(user))
    }

    /// Ends the stream at that time, unless the [`Expiry`] is refreshed: when what its
    /// reader was let in with expires. Where whoever authenticated left one in the
    /// request's extensions, the handler passes it on: `ReqData<Expiry>`.
    pub fn expires_at(self, expiry: impl Into<Expiry>) -> Self {
        Self(self.0.expires_at(expiry))
    }

    /// See [`towpath::sse::Sse::stats`].
    pub fn stats(self, stats: &Stats) -> Self {
        Self(self.0.stats(stats))
    }
}

impl<S> From<sse::Sse<S>> for Sse<S> {
    fn from(sse: sse::Sse<S>) -> Self {
        Self(sse)
    }
}

impl From<Subscription> for Sse<hub::Events> {
    /// The subscription's events, with their ids, and its gaps.
    fn from(subscription: Subscription) -> Self {
        Self(subscription.into())
    }
}

impl<S: Source + 'static> Responder for Sse<S> {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        // actix would poll the body of a HEAD's response to its end.
        if request.method() == Method::HEAD {
            return stream_head().finish();
        }
        let mut sse = self.0;
        if sse.is_traced() {
            if let Some(peer) = request.peer_addr() {
                sse = sse.peer(peer);
            }
            if let Some(route) = request.match_pattern() {
                sse = sse.route(&route);
            }
        }
        let defaults = sse.defaults();
        match sse.into_body() {
            Ok(body) => {
                let mut response = stream_head().body(Events(Box::pin(body)));
                if let Some(defaults) = defaults {
                    response.extensions_mut().insert(defaults);
                }
                // RFC 9112 §6.1: no chunks for HTTP/1.0, where the body ends with the
                // connection; actix sends them all the same.
                if request.version() < Version::HTTP_11 {
                    let head = response.head_mut();
                    head.no_chunking(true);
                    head.set_connection_type(ConnectionType::Close);
                }
                response
            }
            Err(draining) => refusal(&draining),
        }
    }
}

fn stream_head() -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    for header in sse::HEADERS {
        response.insert_header(header);
    }
    response
}

fn refusal(draining: &Draining) -> HttpResponse {
    let status = StatusCode::from_u16(draining.status());
    HttpResponse::build(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE))
        .insert_header((RETRY_AFTER, draining.retry_after()))
        .content_type(ContentType::plaintext())
        .body(draining.to_string())
}

struct Events<S>(Pin<Box<SseBody<S>>>);

impl<S: Source> MessageBody for Events<S> {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        loop {
            let frame = match self.0.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(Some(Err(never))) => match never {},
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            };
            // An empty chunk would end a chunked body, and there are no trailers.
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}
