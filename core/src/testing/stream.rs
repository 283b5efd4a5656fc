use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hyper::body::Incoming;

use super::{Fault, StreamError, client};
use crate::sse::{MessageEvent, Parser};

/// The client's end of an event stream.
///
/// It does not reconnect: that is a further request, with
/// [`last_event_id`](super::TestRequest::last_event_id). Dropped, it closes the
/// connection.
#[derive(Debug)]
pub struct TestStream {
    response: Response<()>,
    body: Incoming,
    parser: Parser,
    fault: Fault,
}

impl TestStream {
    pub(super) fn new(response: Response<Incoming>, resumed: String, fault: Fault) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            response: Response::from_parts(parts, ()),
            body,
            parser: Parser::new().resume(resumed),
            fault,
        }
    }

    /// The head of the answer.
    #[must_use]
    pub const fn response(&self) -> &Response<()> {
        &self.response
    }

    /// What may go wrong with the connection, as the server sees it.
    #[must_use]
    pub const fn fault(&self) -> &Fault {
        &self.fault
    }

    /// The next event; `None` at the stream's end. Cancel-safe.
    ///
    /// # Errors
    /// Where the stream broke instead of ending, or an event has more than 1 MiB.
    pub async fn next(&mut self) -> Result<Option<MessageEvent>, StreamError> {
        loop {
            if let Some(event) = self.parser.poll_event() {
                return Ok(Some(event));
            }
            if self.chunk().await?.is_none() {
                return Ok(None);
            }
        }
    }

    /// The bytes that came next, with comments and all; `None` at the end. The
    /// events in them are [`next`](Self::next)'s all the same. Cancel-safe.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        let chunk = client::chunk(&mut self.body).await?;
        if let Some(bytes) = &chunk {
            self.parser.receive(bytes)?;
        }
        Ok(chunk)
    }

    /// The reconnection time that the stream has set last.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.parser.retry()
    }

    /// The id to resume with; empty where there is none.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        self.parser.last_event_id()
    }
}
