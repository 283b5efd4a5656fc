use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{Meter, Permit};

pin_project! {
    /// A response's body that has its place for as long as it lives, or the text of a
    /// refusal.
    #[derive(Debug)]
    pub struct AdmittedBody<B> {
        #[pin]
        kind: Kind<B>,
        // Behind the body: its place is free only once it is gone.
        permit: Option<Permit>,
        meter: Option<Meter>,
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
    pub(super) const fn new(body: B, permit: Option<Permit>, meter: Option<Meter>) -> Self {
        Self {
            kind: Kind::Inner { body },
            permit,
            meter,
        }
    }

    pub(super) fn text(text: String) -> Self {
        Self {
            kind: Kind::Text { text: text.into() },
            permit: None,
            meter: None,
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
        let mut this = self.project();
        if let Some(meter) = this.meter.take_if(|meter| meter.is_cut(cx.waker())) {
            meter.count_cut();
            // What it was made of goes at once, however late the transport lets go.
            let text = Bytes::new();
            this.kind.set(Kind::Text { text });
        }
        match this.kind.project() {
            KindProj::Inner { body } => {
                let frame = ready!(body.poll_frame(cx));
                Poll::Ready(match (frame, this.meter) {
                    (Some(Ok(frame)), Some(meter)) => Some(Ok(frame.map_data(|mut data| {
                        let count = data.remaining();
                        meter.lend(data.copy_to_bytes(count)).into()
                    }))),
                    (frame, _) => frame,
                })
            }
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
