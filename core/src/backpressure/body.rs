use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Permit;

pin_project! {
    /// A response's body that has its place for as long as it lives, or the text of a
    /// refusal.
    #[derive(Debug)]
    pub struct AdmittedBody<B> {
        #[pin]
        kind: Kind<B>,
        // Behind the body: its place is free only once it is gone.
        permit: Option<Permit>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Text { text: Bytes },
    }
}

impl<B> AdmittedBody<B> {
    pub(super) const fn new(body: B, permit: Option<Permit>) -> Self {
        Self {
            kind: Kind::Inner { body },
            permit,
        }
    }

    pub(super) fn text(text: String) -> Self {
        Self {
            kind: Kind::Text { text: text.into() },
            permit: None,
        }
    }
}

impl<B: Body> Body for AdmittedBody<B>
where
    B::Data: From<Bytes>,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Inner { body } => body.poll_frame(cx),
            KindProj::Text { text } if text.is_empty() => Poll::Ready(None),
            KindProj::Text { text } => {
                let text = std::mem::take(text);
                Poll::Ready(Some(Ok(Frame::data(text.into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Text { text } => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Text { text } => SizeHint::with_exact(text.len() as u64),
        }
    }
}
