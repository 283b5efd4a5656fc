//! A client of HTTP/2, over the crate `h2`: what it sends, and when, is what the test
//! says.
#![expect(
    clippy::missing_panics_doc,
    reason = "for tests: whatever is not as expected fails them"
)]

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use h2::{
    Ping, Reason, RecvStream, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
    ext::Protocol,
};
use http::{Method, Request, Version};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    http::{Connection, Head, Response},
    process::SOON,
    sse::EventStream,
    ws::WebSocket,
};

/// What an opening handshake says besides its request line.
pub const HANDSHAKE: [(&str, &str); 1] = [("sec-websocket-version", "13")];

/// Settings that let a server send whatever it has. By its own `h2` ends a connection on
/// which some hundred small frames have come that nobody has read yet.
#[must_use]
pub fn settings() -> Builder {
    let mut settings = Builder::new();
    settings
        .enable_push(false)
        .initial_connection_window_size(256 << 20)
        .data_frame_budget(usize::MAX >> 1);
    settings
}

/// A connection of HTTP/2.
pub struct Client {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    /// A connection over TCP, with prior knowledge (RFC 9113 §3.3).
    pub async fn open(address: SocketAddr) -> Self {
        Self::open_with(address, &settings()).await
    }

    /// As [`open`](Self::open), with these settings.
    pub async fn open_with(address: SocketAddr, settings: &Builder) -> Self {
        let (stream, _) = Connection::open(address).await.into_parts();
        Self::over(stream, settings).await
    }

    /// A connection over any stream. The server's settings have come when it is there.
    pub async fn over<S>(stream: S, settings: &Builder) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, mut connection) = settings.handshake(stream).await.expect("HTTP/2");
        let mut ping = connection.ping_pong().expect("asked once");
        let connection = tokio::spawn(connection);
        // The answer stands behind the server's settings.
        let pong = timeout(SOON, ping.ping(Ping::opaque())).await;
        pong.expect("an answer").expect("an open connection");
        Self {
            requests,
            connection,
        }
    }

    /// Whether the server speaks extended CONNECT (RFC 8441 §3).
    #[must_use]
    pub fn extended_connect(&self) -> bool {
        self.requests.is_extended_connect_protocol_enabled()
    }

    /// Cuts the connection, as a network does.
    pub fn cut(self) {
        self.connection.abort();
    }

    /// Sends a request; the stream stays open behind it where it is not `whole`.
    pub async fn send(&mut self, request: Request<()>, whole: bool) -> (Head, Stream) {
        let requests = self.requests.clone().ready().await;
        self.requests = requests.expect("an open connection");
        let sent = self.requests.send_request(request, whole);
        let (response, send) = sent.expect("a request");
        Self::answer(response, send).await
    }

    async fn answer(response: ResponseFuture, send: SendStream<Bytes>) -> (Head, Stream) {
        let response = timeout(SOON, response).await.expect("an answer");
        let (parts, recv) = response.expect("an answer").into_parts();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into();
        let headers = parts.headers.iter();
        let head = Head {
            status: parts.status.as_u16(),
            headers: headers
                .map(|(name, value)| (name.as_str().to_owned(), text(value)))
                .collect(),
        };
        let stream = Stream {
            send,
            recv,
            chunk: Bytes::new(),
            reset: None,
        };
        (head, stream)
    }

    /// The answer to a whole request.
    pub async fn request(&mut self, request: Request<()>) -> Response {
        let answer = self.send(request, true).await;
        Self::whole(answer).await
    }

    async fn whole((head, stream): (Head, Stream)) -> Response {
        let mut connection = Connection::from(stream);
        let ended = timeout(SOON, connection.ended()).await;
        ended.expect("a body").expect("whole");
        Response {
            status: head.status,
            headers: head.headers,
            body: connection.into_parts().1.to_vec(),
        }
    }

    /// The answer to a POST of a text.
    pub async fn post(&mut self, path: &str, body: &'static str) -> Response {
        let text = [("content-type", "text/plain")];
        let requests = self.requests.clone().ready().await;
        self.requests = requests.expect("an open connection");
        let post = request(Method::POST, path, &text);
        let (response, mut send) = self.requests.send_request(post, false).expect("a request");
        send.send_data(body.into(), true).expect("an open stream");
        Self::whole(Self::answer(response, send).await).await
    }

    /// The answer to a GET.
    pub async fn get(&mut self, path: &str) -> Response {
        self.request(request(Method::GET, path, &[])).await
    }

    /// A WebSocket at `path`, with these headers besides the handshake's.
    pub async fn socket(&mut self, path: &str, headers: &[(&str, &str)]) -> WebSocket<Stream> {
        let headers = [&HANDSHAKE, headers].concat();
        let (head, stream) = self.send(connect("websocket", path, &headers), false).await;
        assert_eq!(head.status, 200, "{head:?}");
        WebSocket::answered(stream, BytesMut::new(), head)
    }

    /// An event stream at `path`.
    pub async fn events(&mut self, path: &str, headers: &[(&str, &str)]) -> EventStream<Stream> {
        let (head, stream) = self.send(request(Method::GET, path, headers), true).await;
        EventStream::answered(Connection::from(stream), head)
    }

    /// Waits for the connection's end; all of its streams are to be dropped before.
    ///
    /// # Errors
    /// Where it is not one in order.
    pub async fn ended(self) -> Result<(), h2::Error> {
        drop(self.requests);
        let ended = timeout(SOON, self.connection).await;
        ended.expect("it ends").expect("no panic")
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// A request of HTTP/2.
#[must_use]
pub fn request(method: Method, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let uri = format!("http://testbed.example{path}");
    let mut request = Request::builder()
        .method(method)
        .version(Version::HTTP_2)
        .uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

/// An extended CONNECT (RFC 8441 §4).
#[must_use]
pub fn connect(protocol: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = request(Method::CONNECT, path, headers);
    request.extensions_mut().insert(Protocol::from(protocol));
    request
}

/// A stream of HTTP/2 as bytes. What was read of it gives the peer new window, what was
/// not does not.
#[derive(Debug)]
pub struct Stream {
    send: SendStream<Bytes>,
    recv: RecvStream,
    chunk: Bytes,
    reset: Option<Reason>,
}

impl Stream {
    /// Resets it.
    pub fn reset(&mut self, reason: Reason) {
        self.send.send_reset(reason);
    }

    /// With what the peer has reset it, when that was read.
    #[must_use]
    pub const fn was_reset(&self) -> Option<Reason> {
        self.reset
    }

    /// With what the peer resets it, though nothing of it is read.
    pub async fn until_reset(&mut self) -> Reason {
        let reset = std::future::poll_fn(|cx| self.send.poll_reset(cx));
        let reset = timeout(SOON, reset).await;
        reset.expect("a reset").expect("an open connection")
    }

    fn failed(&mut self, error: h2::Error) -> io::Error {
        if let Some(reason) = error.reason().filter(|_| error.is_reset()) {
            self.reset = Some(reason);
        }
        io::Error::new(io::ErrorKind::ConnectionReset, error)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            match ready!(self.recv.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => return Poll::Ready(Err(self.failed(error))),
            }
        }
        let len = self.chunk.len().min(buf.remaining());
        buf.put_slice(&self.chunk[..len]);
        self.chunk.advance(len);
        // It fails where the stream has ended, which needs no window.
        let _ = self.recv.flow_control().release_capacity(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(buf.len());
        // Capacity may be there from before, of which nothing is told again.
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(self.failed(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let len = buf.len().min(self.send.capacity());
        let data = Bytes::copy_from_slice(&buf[..len]);
        match self.send.send_data(data, false) {
            Ok(()) => Poll::Ready(Ok(len)),
            Err(error) => Poll::Ready(Err(self.failed(error))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.send.send_data(Bytes::new(), true) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(self.failed(error))),
        }
    }
}
