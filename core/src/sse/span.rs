//! The span that lives as long as a stream; none where nobody listens.

use tokio::time::Instant;
use tracing::{Span, debug, debug_span, field::Empty};

/// The span of a stream, in that of the request.
pub(super) fn begin() -> Span {
    debug_span!(
        target: "towpath::connection",
        "event stream",
        peer = Empty,
        route = Empty,
        user = Empty,
    )
}

/// What of a stream its span tells at the end; only where somebody listens.
#[derive(Debug)]
pub(super) struct Trace {
    span: Span,
    began: Instant,
    pub(super) events: u64,
    pub(super) bytes: u64,
    cause: &'static str,
}

impl Trace {
    /// `None` where nobody listens.
    pub(super) fn open(span: Span) -> Option<Box<Self>> {
        if span.is_disabled() {
            return None;
        }
        span.in_scope(|| debug!(target: "towpath::connection", "event stream open"));
        Some(Box::new(Self {
            span,
            began: Instant::now(),
            events: 0,
            bytes: 0,
            cause: READER_LEFT,
        }))
    }

    pub(super) const fn span(&self) -> &Span {
        &self.span
    }

    /// Why it ends; the first reason is the reason.
    pub(super) fn ends(&mut self, cause: &'static str) {
        if self.cause == READER_LEFT {
            self.cause = cause;
        }
    }
}

/// What ends a stream that does not end by itself.
const READER_LEFT: &str = "reader left";

impl Drop for Trace {
    /// The one event of its end.
    fn drop(&mut self) {
        self.span.in_scope(|| {
            debug!(
                target: "towpath::connection",
                cause = self.cause,
                events = self.events,
                bytes = self.bytes,
                duration = ?self.began.elapsed(),
                "event stream closed",
            );
        });
    }
}
