use std::{convert::Infallible, ops::Deref};

use axum::extract::FromRequestParts;
use http::request::Parts;
use towpath::sse;

/// Where a reader wants to go on: the `Last-Event-ID` header, or the query's
/// `last_event_id` or `after`, and its `last`. It never fails: see
/// [`sse::LastEventId`], which it derefs to.
///
/// ```
/// use towpath_axum::{Event, LastEventId, Sse};
/// # fn ticks_after(_: Option<&str>) -> impl futures_core::Stream<Item = Event> + use<> {
/// #     futures_util::stream::empty()
/// # }
///
/// async fn ticks(last: LastEventId) -> Sse<impl futures_core::Stream<Item = Event>> {
///     Sse::new(ticks_after(last.id()))
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(ticks));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastEventId(sse::LastEventId);

impl LastEventId {
    /// The id alone.
    #[must_use]
    pub fn into_id(self) -> Option<String> {
        self.0.into_id()
    }
}

impl Deref for LastEventId {
    type Target = sse::LastEventId;

    fn deref(&self) -> &sse::LastEventId {
        &self.0
    }
}

impl From<LastEventId> for sse::LastEventId {
    fn from(last: LastEventId) -> Self {
        last.0
    }
}

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let header = parts.headers.get("last-event-id");
        let header = header.map(http::HeaderValue::as_bytes);
        Ok(Self(sse::LastEventId::new(header, parts.uri.query())))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    async fn last(request: http::request::Builder) -> LastEventId {
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let Ok(last) = LastEventId::from_request_parts(&mut parts, &()).await;
        last
    }

    #[tokio::test]
    async fn the_header_wins_over_the_query() {
        let asked = "/?last_event_id=4&last=2";
        let request = Request::get(asked).header("Last-Event-ID", "7");
        assert_eq!(last(request).await.id(), Some("7"));
        let from_query = last(Request::get(asked)).await;
        assert_eq!(from_query.newest(), Some(2));
        assert_eq!(from_query.into_id().as_deref(), Some("4"));
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_are_an_unknown_id() {
        let value = http::HeaderValue::from_bytes(b"\xFF").unwrap();
        let request = Request::get("/").header("Last-Event-ID", value);
        assert_eq!(last(request).await.id(), Some("\u{FFFD}"));
        assert_eq!(last(Request::get("/")).await, LastEventId::default());
    }
}
