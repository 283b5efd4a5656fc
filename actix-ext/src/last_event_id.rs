use std::{
    convert::Infallible,
    future::{Ready, ready},
    ops::Deref,
};

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use towpath::sse;

/// Where a reader wants to go on: the one of [`towpath`], taken from the request. It
/// never fails.
///
/// ```
/// use towpath_actix::LastEventId;
///
/// async fn ticks(last: LastEventId) -> String {
///     format!("behind {:?}, or the newest {:?}", last.id(), last.newest())
/// }
/// # let _ = actix_web::web::get().to(ticks);
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

impl FromRequest for LastEventId {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let header = request.headers().get("last-event-id");
        let header = header.map(|value| value.as_bytes());
        ready(Ok(Self(sse::LastEventId::new(
            header,
            Some(request.query_string()),
        ))))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    async fn of(request: TestRequest) -> LastEventId {
        LastEventId::extract(&request.to_http_request())
            .await
            .unwrap()
    }

    #[actix_web::test]
    async fn is_read_from_header_and_query() {
        let get = |uri| TestRequest::get().uri(uri);
        assert_eq!(of(get("/")).await, LastEventId::default());
        let both = get("/?after=q&last=3").insert_header(("Last-Event-ID", "h"));
        let last = of(both).await;
        assert_eq!((last.id(), last.newest()), (Some("h"), Some(3)));
        assert_eq!(
            of(get("/?after=4%2D7")).await.into_id().as_deref(),
            Some("4-7")
        );
    }
}
