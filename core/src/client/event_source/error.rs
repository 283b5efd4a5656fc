use std::{error::Error as StdError, sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};

use super::super::error::{BoxError, ConnectError};
use crate::sse::EventTooBig;

/// Why an event stream could not be had, or was lost.
///
/// Of most of them an [`EventSource`](super::EventSource) tells only in its
/// [state](super::EventSource::state), and tries again. What ends it is its last item:
/// those that [`is_final`](Self::is_final) names, and the others where it does not
/// reconnect, or has been told to give up.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventSourceError {
    /// There is no connection.
    #[error(transparent)]
    Connect(Arc<ConnectError>),
    /// The service that was given in place of the client failed.
    #[error("the request failed: {0}")]
    Request(#[source] Arc<dyn StdError + Send + Sync>),
    /// The hook that [prepares](super::EventSourceBuilder::each_request) requests failed.
    #[error("the request was not prepared: {0}")]
    Prepare(#[source] Arc<dyn StdError + Send + Sync>),
    /// No answer within the connect time-out.
    #[error("no answer after {after:?}")]
    Timeout {
        /// The time-out.
        after: Duration,
    },
    /// A status other than 200 and 204; one of a redirect where it was not followed.
    #[error("refused with {status}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The headers of the answer.
        headers: Box<HeaderMap>,
    },
    /// A 200 that is no `text/event-stream`; what it is, where it says.
    #[error("not an event stream, but {0:?}")]
    ContentType(Option<String>),
    /// The stream broke before its end.
    #[error("the stream broke: {0}")]
    Interrupted(#[source] Arc<dyn StdError + Send + Sync>),
    /// The server ended the stream, which for an event stream asks to come back.
    #[error("the stream ended")]
    Ended,
    /// No byte for so long, not even of a comment.
    #[error("no byte for {after:?}")]
    Idle {
        /// The time-out.
        after: Duration,
    },
    /// An event is larger than
    /// [`max_event_size`](super::EventSourceBuilder::max_event_size).
    #[error(transparent)]
    TooBig(#[from] EventTooBig),
}

impl EventSourceError {
    pub(super) fn request(error: BoxError) -> Self {
        match error.downcast::<ConnectError>() {
            Ok(error) => Self::Connect(Arc::new(*error)),
            Err(other) => Self::Request(other.into()),
        }
    }

    /// Whether the same request would fail again: what cannot be, a status for good (all
    /// but 408, 425, 429, 500, 502, 503 and 504), another type of content, an event that
    /// is too big. A certificate that is not trusted may be renewed: like all else of
    /// the way there it is not final.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Connect(error) => matches!(
                **error,
                ConnectError::Invalid(_) | ConnectError::TlsUnavailable | ConnectError::NoRoots(_)
            ),
            Self::Refused { status, .. } => {
                !matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502..=504)
            }
            Self::ContentType(_) | Self::TooBig(_) => true,
            Self::Request(_)
            | Self::Prepare(_)
            | Self::Timeout { .. }
            | Self::Interrupted(_)
            | Self::Ended
            | Self::Idle { .. } => false,
        }
    }

    /// The status, where it is one that refuses.
    #[must_use]
    pub const fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// How long the server asks to wait: `Retry-After` (RFC 9110 §10.2.3).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { headers, .. } => super::super::retry_after::parse(headers),
            _ => None,
        }
    }
}
