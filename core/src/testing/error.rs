use bytes::Bytes;
use http::{Response, StatusCode};

use crate::sse::EventTooBig;

/// Why there is no socket, no stream or no response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The answer is another one than was asked for, whole.
    #[error("the answer is {}, {} bytes", .0.status(), .0.body().len())]
    Refused(Box<Response<Bytes>>),
    /// The connection broke before the answer was there.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// The request cannot be: a header, the method or the path is malformed.
    #[error("the request cannot be: {0}")]
    Invalid(#[from] http::Error),
}

impl RequestError {
    /// The answer, where there is one.
    #[must_use]
    pub fn response(&self) -> Option<&Response<Bytes>> {
        match self {
            Self::Refused(response) => Some(response),
            Self::Broken(_) | Self::Invalid(_) => None,
        }
    }

    /// The answer's status, where there is one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.response().map(Response::status)
    }
}

/// How an event stream ended, where that was not in order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The connection broke, or the stream was reset.
    #[error("the stream broke: {0}")]
    Broken(#[from] hyper::Error),
    /// An event is larger than the parser takes.
    #[error(transparent)]
    TooBig(#[from] EventTooBig),
}
