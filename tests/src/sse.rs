//! A reader of event streams.
#![expect(
    clippy::missing_panics_doc,
    reason = "for tests: whatever is not as expected fails them"
)]

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use towpath::sse::{MessageEvent, Parser};

use crate::{
    http::{self, Body, Connection, Head},
    process::SOON,
};

/// An event stream, read as it comes.
#[derive(Debug)]
pub struct EventStream<S = TcpStream> {
    head: Head,
    body: Body<S>,
    parser: Parser,
    /// All that came.
    text: String,
    ended: bool,
}

impl EventStream {
    /// Opens `path`, which must answer 200.
    pub async fn open(address: SocketAddr, path: &str) -> Self {
        Self::open_with(address, path, &[]).await
    }

    /// As [`open`](Self::open), with a `Last-Event-ID`.
    pub async fn resume(address: SocketAddr, path: &str, id: &str) -> Self {
        Self::open_with(address, path, &[("Last-Event-ID", id)]).await
    }

    /// As [`open`](Self::open), with these headers.
    pub async fn open_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let connection = Connection::open(address).await;
        Self::request(connection, path, headers).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> EventStream<S> {
    /// As [`open_with`](EventStream::open_with), over a connection that is there.
    pub async fn request(
        mut connection: Connection<S>,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let request = http::head("GET", path, headers);
        connection.write(request.as_bytes()).await;
        let head = connection.head().await;
        Self::answered(connection, head)
    }

    /// The stream behind a response's head.
    #[must_use]
    pub fn answered(connection: Connection<S>, head: Head) -> Self {
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.get("content-type"), Some("text/event-stream"));
        Self {
            body: Body::new(connection, &head),
            head,
            parser: Parser::new(),
            text: String::new(),
            ended: false,
        }
    }

    /// The response's head.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The connection, for the next request, behind the stream's end.
    pub async fn into_connection(self) -> Connection<S> {
        self.body.skip().await
    }

    /// All that came until now.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The next event; `None` at the stream's end, which must be one in order.
    pub async fn next(&mut self) -> Option<MessageEvent> {
        loop {
            if let Some(event) = self.parser.poll_event() {
                return Some(event);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next event; `None` at the stream's end.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub async fn try_next(&mut self) -> io::Result<Option<MessageEvent>> {
        loop {
            if let Some(event) = self.parser.poll_event() {
                return Ok(Some(event));
            }
            let Some(chunk) = self.body.chunk().await? else {
                return Ok(None);
            };
            self.parser.receive(&chunk).expect("events of a fair size");
        }
    }

    /// The next event, which must come.
    pub async fn event(&mut self) -> MessageEvent {
        let event = self.next().await;
        event.unwrap_or_else(|| unreachable!("ended after {:?}", self.text))
    }

    /// Reads until all that came contains this.
    pub async fn until(&mut self, text: &str) {
        while !self.text.contains(text) {
            assert!(self.more().await, "ended after {:?}", self.text);
        }
    }

    /// All events up to the end.
    pub async fn rest(&mut self) -> Vec<MessageEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// What follows, as it comes; false at the end.
    async fn more(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let chunk = timeout(SOON, self.body.chunk()).await;
        let chunk = chunk.unwrap_or_else(|_| unreachable!("silent after {:?}", self.text));
        let Some(chunk) = chunk.expect("a whole body") else {
            self.ended = true;
            return false;
        };
        self.parser.receive(&chunk).expect("events of a fair size");
        self.text
            .push_str(std::str::from_utf8(&chunk).expect("whole characters"));
        true
    }
}
