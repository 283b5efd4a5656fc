//! One request and its answer, over any service.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Mutex, PoisonError},
};

use bytes::{Buf, Bytes};
use http::{Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tower_http::follow_redirect::{
    FollowRedirect,
    policy::{self, Action, Attempt, PolicyExt, Standard},
};
use tower_service::Service;

use super::{super::error::BoxError, EventSourceError};

/// The stream's bytes, decompressed.
pub(super) type Bytestream = UnsyncBoxBody<Bytes, BoxError>;

pub(super) type Answer =
    Pin<Box<dyn Future<Output = Result<Response<Bytestream>, BoxError>> + Send>>;

/// A service whose types are forgotten.
pub(super) trait Exchange: Send + Sync {
    /// Sends a request, and follows redirects.
    fn send(&self, request: Request<Full<Bytes>>) -> Answer;
}

/// A service, cloned for each request; behind a lock, since it need not be `Sync`.
pub(super) struct Over<S>(Mutex<S>);

impl<S> Over<S> {
    pub(super) const fn new(service: S) -> Self {
        Self(Mutex::new(service))
    }
}

impl<S, B> Exchange for Over<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError> + Send,
{
    fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let service = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        // At most 20 redirects, and credentials stay with their origin.
        let policy = Standard::default()
            .and::<_, Full<Bytes>, S::Error>(policy::redirect_fn(stay_secret))
            .and::<_, Full<Bytes>, S::Error>(policy::clone_body_fn(
                (|body| Some(body.clone())) as fn(&Full<Bytes>) -> Option<Full<Bytes>>,
            ));
        let service = FollowRedirect::with_policy(service, policy);
        #[cfg(feature = "client-gzip")]
        let service = tower_http::decompression::Decompression::new(service);
        Box::pin(async move {
            let response = oneshot(service, request).await.map_err(Into::into)?;
            Ok(response.map(|body| {
                let body = body.map_frame(|frame| {
                    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
                });
                body.map_err(Into::into).boxed_unsync()
            }))
        })
    }
}

/// What was asked for over TLS is not asked for in the clear.
fn stay_secret<E>(attempt: &Attempt<'_>) -> Result<Action, E> {
    let scheme = |uri: &http::Uri| uri.scheme_str().map(str::to_ascii_lowercase);
    let was_secret = scheme(attempt.previous()).as_deref() == Some("https");
    Ok(
        if was_secret && scheme(attempt.location()).as_deref() != Some("https") {
            Action::Stop
        } else {
            Action::Follow
        },
    )
}

async fn oneshot<S, R>(mut service: S, request: R) -> Result<S::Response, S::Error>
where
    S: Service<R>,
{
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}

/// What an answer means (WHATWG HTML §9.2.2).
pub(super) enum Meaning {
    /// The stream.
    Stream(Box<Bytestream>),
    /// Come back no more.
    NoContent,
}

pub(super) fn meaning(response: Response<Bytestream>) -> Result<Meaning, EventSourceError> {
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NO_CONTENT => return Ok(Meaning::NoContent),
        status => {
            return Err(EventSourceError::Refused {
                status,
                headers: Box::new(response.into_parts().0.headers),
            });
        }
    }
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned());
    let is_stream = kind.as_deref().is_some_and(|kind| {
        let essence = kind.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("text/event-stream")
    });
    if !is_stream {
        return Err(EventSourceError::ContentType(kind));
    }
    Ok(Meaning::Stream(Box::new(response.into_body())))
}
