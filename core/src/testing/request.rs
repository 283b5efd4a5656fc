use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, header, request::Builder};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::{
    Fault, RequestError, TestServer, TestSocket, TestStream,
    client::{Client, Protocol, collect},
};

/// A request to a [`TestServer`], and what is expected of it: a
/// [`socket`](Self::socket), a [`stream`](Self::stream) or just a
/// [response](Self::send).
///
/// It goes over HTTP/1.1 to `localhost`, unless told otherwise. Headers that
/// belong to a WebSocket handshake or to an event stream are added where they
/// are not there, so that a test may have them wrong.
#[derive(Debug)]
#[must_use = "nothing is sent before `socket`, `stream` or `send`"]
pub struct TestRequest {
    server: TestServer,
    protocol: Protocol,
    builder: Builder,
    path: String,
    body: String,
    fault: Fault,
}

impl TestRequest {
    pub(super) fn new(server: TestServer, method: Method, path: &str) -> Self {
        Self {
            server,
            protocol: Protocol::Http1,
            builder: http::Request::builder().method(method),
            path: path.to_owned(),
            body: String::new(),
            fault: Fault::new(),
        }
    }

    /// Asks over HTTP/2; for a socket with an extended CONNECT (RFC 8441).
    pub fn http2(mut self) -> Self {
        self.protocol = Protocol::Http2;
        self
    }

    /// Adds a header.
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName, Error: Into<http::Error>>,
        V: TryInto<HeaderValue, Error: Into<http::Error>>,
    {
        self.builder = self.builder.header(name, value);
        self
    }

    /// Offers subprotocols, the preferred one first (RFC 6455 §1.9).
    pub fn protocols<S: AsRef<str>>(self, offered: impl IntoIterator<Item = S>) -> Self {
        let offered: Vec<_> = offered.into_iter().collect();
        let names: Vec<_> = offered.iter().map(AsRef::as_ref).collect();
        self.header(header::SEC_WEBSOCKET_PROTOCOL, names.join(", "))
    }

    /// Resumes behind this event.
    pub fn last_event_id(self, id: &str) -> Self {
        self.header("last-event-id", id)
    }

    /// Sends a body.
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    /// Gives the server's end of the connection this fault, from the first byte
    /// of the request on.
    pub fn fault(mut self, fault: &Fault) -> Self {
        self.fault = fault.clone();
        self
    }

    /// Upgrades to a WebSocket.
    ///
    /// # Errors
    /// The answer, where it is no upgrade, or why there is none.
    pub async fn socket(mut self) -> Result<TestSocket, RequestError> {
        if self.protocol == Protocol::Http2 {
            let websocket = hyper::ext::Protocol::from_static("websocket");
            self.builder = self.builder.method(Method::CONNECT).extension(websocket);
        } else {
            self.default_header(header::CONNECTION, "Upgrade");
            self.default_header(header::UPGRADE, "websocket");
            // The nonce of RFC 6455 §1.3: the server's answer proves nothing here.
            self.default_header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
        }
        self.default_header(header::SEC_WEBSOCKET_VERSION, "13");
        let fault = self.fault.clone();
        let mut response = self.answer().await?;
        let Some(on_upgrade) = response.extensions_mut().remove::<OnUpgrade>() else {
            return Err(RequestError::Refused(Box::new(collect(response).await?)));
        };
        let upgraded = TokioIo::new(on_upgrade.await?);
        Ok(TestSocket::over(upgraded, response.map(drop), fault))
    }

    /// Opens an event stream.
    ///
    /// # Errors
    /// The answer, where it is not a 200 of type `text/event-stream`, or why
    /// there is none.
    pub async fn stream(mut self) -> Result<TestStream, RequestError> {
        self.default_header(header::ACCEPT, "text/event-stream");
        let fault = self.fault.clone();
        let headers = self.builder.headers_ref();
        let resumed = headers
            .and_then(|headers| headers.get("last-event-id")?.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let response = self.answer().await?;
        let kind = response.headers().get(header::CONTENT_TYPE);
        let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if response.status() != http::StatusCode::OK || !is_stream {
            return Err(RequestError::Refused(Box::new(collect(response).await?)));
        }
        Ok(TestStream::new(response, resumed, fault))
    }

    /// Sends it as it is, and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(self) -> Result<Response<Bytes>, RequestError> {
        collect(self.answer().await?).await
    }

    fn default_header(&mut self, name: HeaderName, value: &'static str) {
        if let Some(headers) = self.builder.headers_mut() {
            let value = HeaderValue::from_static(value);
            headers.entry(name).or_insert(value);
        }
    }

    async fn answer(mut self) -> Result<Response<hyper::body::Incoming>, RequestError> {
        let uri = match self.protocol {
            Protocol::Http1 => {
                self.default_header(header::HOST, "localhost");
                self.path
            }
            Protocol::Http2 => format!("http://localhost{}", self.path),
        };
        let request = self.builder.uri(uri).body(self.body)?;
        let io = self.server.connect(&self.fault);
        let client = Client::handshake(io, self.protocol).await?;
        Ok(client.send(request).await?)
    }
}
