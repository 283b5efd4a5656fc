use std::{fmt::Display, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use towpath::{
    Drain, Draining, Expiry, Stats,
    hub::{Events, Subscription},
    sse::{self, KeepAlive, OnDrain, Source},
};

/// A response that is an event stream.
///
/// It is made of a stream of [`Event`](crate::Event) or of `Result<Event, E>`, whose
/// `Err` ends it and is logged. While a [`Drain`] runs it is 503 with `Retry-After`.
/// Serve it with [`on_connect`](crate::on_connect), or a reader that stops reading
/// keeps it for ever.
///
/// ```
/// use axum::{Router, routing::get};
/// use futures_util::{Stream, stream};
/// use towpath_axum::{Event, Sse};
///
/// async fn ticks() -> Sse<impl Stream<Item = Event>> {
///     Sse::new(stream::iter((1..=3).map(|n| Event::new().id(n).event("tick").data("…"))))
/// }
/// let app: Router = Router::new().route("/ticks", get(ticks));
/// ```
#[derive(Debug)]
#[must_use = "it is a response only when it is returned"]
pub struct Sse<S>(sse::Sse<S>);

impl<S: Source> Sse<S> {
    /// A response that sends the events of `source`.
    pub fn new(source: S) -> Self {
        Self(sse::Sse::new(source))
    }

    /// When comments are sent: by default after 15 s without an event.
    pub fn keep_alive(self, keep_alive: KeepAlive) -> Self {
        Self(self.0.keep_alive(keep_alive))
    }

    /// The retry time with which the stream begins, in whole milliseconds: by default
    /// 3 s with a drain, and none without.
    pub fn retry(self, time: Duration) -> Self {
        Self(self.0.retry(time))
    }

    /// Puts the stream under a drain: refused once it has begun, and ended by it.
    pub fn drain(self, drain: &Drain) -> Self {
        Self(self.0.drain(drain))
    }

    /// What the drain does to the stream: by default it ends it.
    pub fn on_drain(self, on_drain: OnDrain) -> Self {
        Self(self.0.on_drain(on_drain))
    }

    /// Instead of refusing the stream in a drain, answers 200 with a `retry:` and
    /// nothing else. For browsers: to an `EventSource` every other status is final.
    pub fn sse_retry(self) -> Self {
        Self(self.0.sse_retry())
    }

    /// Who the user is, for the stream's span.
    pub fn user(self, user: impl Display) -> Self {
        Self(self.0.user(user))
    }

    /// Ends the stream at that time, unless the [`Expiry`] is refreshed: when what its
    /// reader was let in with expires. Where whoever authenticated left one in the
    /// request's extensions, the handler passes it on: `Extension<Expiry>`.
    pub fn expires_at(self, expiry: impl Into<Expiry>) -> Self {
        Self(self.0.expires_at(expiry))
    }

    /// The counters: by default the process's.
    pub fn stats(self, stats: &Stats) -> Self {
        Self(self.0.stats(stats))
    }
}

impl<S> From<sse::Sse<S>> for Sse<S> {
    fn from(sse: sse::Sse<S>) -> Self {
        Self(sse)
    }
}

/// The events of a topic, with what was missed told as an event `gap`.
impl From<Subscription> for Sse<Events> {
    fn from(subscription: Subscription) -> Self {
        Self(subscription.into())
    }
}

impl<S: Source + Send + 'static> IntoResponse for Sse<S> {
    fn into_response(self) -> Response {
        let defaults = self.0.defaults();
        match self.0.into_body() {
            Ok(body) => {
                let mut response = Response::new(Body::new(body));
                if let Some(defaults) = defaults {
                    response.extensions_mut().insert(defaults);
                }
                for (name, value) in sse::HEADERS {
                    response.headers_mut().insert(
                        HeaderName::from_static(name),
                        HeaderValue::from_static(value),
                    );
                }
                response
            }
            Err(draining) => refused(&draining),
        }
    }
}

fn refused(draining: &Draining) -> Response {
    let status = StatusCode::from_u16(draining.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let retry_after = [(header::RETRY_AFTER, draining.retry_after().to_string())];
    (status, retry_after, draining.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io};

    use axum::body::to_bytes;
    use futures_util::stream;
    use http_body_util::BodyExt;
    use towpath::sse::Event;

    use super::*;

    fn one() -> Sse<impl Source + Send + 'static> {
        Sse::new(stream::iter([Event::new().id(1).data("a")])).stats(&Stats::new())
    }

    async fn text(response: Response) -> String {
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_stream_has_its_headers_and_its_events() {
        let response = one().into_response();
        assert_eq!(response.status(), StatusCode::OK);
        for (name, value) in sse::HEADERS {
            assert_eq!(response.headers()[name], value);
        }
        assert!(!response.headers().contains_key(header::CONNECTION));
        assert!(text(response).await.ends_with("id: 1\ndata: a\n\n"));
    }

    #[tokio::test]
    async fn an_err_ends_the_stream_without_breaking_the_body() {
        let items = [Ok(Event::new().data("a")), Err(io::Error::other("gone"))];
        let response = Sse::new(stream::iter(items)).into_response();
        assert!(text(response).await.ends_with("data: a\n\n"));
        let never_fails = stream::iter([Ok::<_, Infallible>(Event::new().data("b"))]);
        let response = Sse::new(never_fails).into_response();
        assert!(text(response).await.ends_with("data: b\n\n"));
    }

    #[tokio::test]
    async fn a_subscription_is_a_stream() {
        let hub = towpath::hub::Hub::new();
        let id = hub.publish("ticks", "one").await.unwrap();
        let subscription = hub.subscribe("ticks").last(1).await.unwrap();
        let mut body = Sse::from(subscription).into_response().into_body();
        let mut text = String::new();
        while !text.contains("data: one\n\n") {
            let frame = body.frame().await.expect("a live stream").unwrap();
            text += std::str::from_utf8(&frame.into_data().unwrap()).unwrap();
        }
        assert!(text.contains(&format!("id: {id}\n")), "{text}");
    }

    #[tokio::test]
    async fn a_draining_process_refuses_streams() {
        let drain = Drain::new(Duration::from_secs(5));
        let stats = Stats::new();
        let open = one().drain(&drain).into_response();
        drain.start();
        let refused = one().stats(&stats).drain(&drain).into_response();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let seconds = refused.headers()[header::RETRY_AFTER].to_str().unwrap();
        assert!(seconds.parse::<u64>().unwrap() >= 1);
        assert_eq!(stats.snapshot().rejected_total, 1);

        let told = one().sse_retry().drain(&drain).into_response();
        assert_eq!(told.status(), StatusCode::OK);
        assert!(text(told).await.starts_with("retry: "));
        drop(open);
    }
}
