use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{AdmittedBody, Held, Refused};
use crate::Stats;

pin_project! {
    /// The response of a [`BackpressureService`](super::BackpressureService).
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<F> {
        Admitted { #[pin] inner: F, held: Held, stats: Stats },
        Refused { reason: Option<Refused> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn admitted(inner: F, held: Held, stats: Stats) -> Self {
        Self {
            kind: Kind::Admitted { inner, held, stats },
        }
    }

    pub(super) const fn refused(reason: Refused) -> Self {
        Self {
            kind: Kind::Refused {
                reason: Some(reason),
            },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<AdmittedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Admitted { inner, held, stats } => {
                let response = ready!(inner.poll(cx))?;
                // A socket has taken it by now; a body that is at its end needs none.
                let permit = held.take();
                if let (Some(permit), Some(stream)) = (&permit, response.extensions().get()) {
                    permit.tell(stream);
                }
                let permit = permit.filter(|_| !response.body().is_end_stream());
                // Only of those without a length: the others are over soon.
                let streams = response.body().size_hint().exact().is_none();
                let meter = permit
                    .as_ref()
                    .filter(|_| streams)
                    .and_then(|permit| permit.meter(is_event_stream(&response), stats));
                Poll::Ready(Ok(
                    response.map(|body| AdmittedBody::new(body, permit, meter))
                ))
            }
            KindProj::Refused { reason } => {
                #[expect(clippy::expect_used, reason = "the contract of futures")]
                let reason = reason.take().expect("polled after it was ready");
                Poll::Ready(Ok(refusal(&reason)))
            }
        }
    }
}

fn is_event_stream<B>(response: &Response<B>) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

fn refusal<B: Body>(reason: &Refused) -> Response<AdmittedBody<B>> {
    let mut response = Response::new(AdmittedBody::text(reason.to_string()));
    let status = StatusCode::from_u16(reason.status());
    *response.status_mut() = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let headers = response.headers_mut();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, text);
    headers.insert(header::RETRY_AFTER, reason.retry_after().into());
    response
}
