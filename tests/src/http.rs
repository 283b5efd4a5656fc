//! Requests over a socket, to the letter: what is sent is what the test says.
#![expect(
    clippy::missing_panics_doc,
    reason = "for tests: whatever is not as expected fails them"
)]

use std::{fmt::Write as _, io, net::SocketAddr};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::process::SOON;

/// A response's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// The headers in order, their names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// A header's first value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A whole response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers in order, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, unpacked.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// A header's first value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// The text of a request without a body, with these headers and a `Host`.
#[must_use]
pub fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        text.push_str("Host: testbed.example\r\n");
    }
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    text
}

/// GET of `path`.
pub async fn get(address: SocketAddr, path: &str) -> Response {
    request(address, "GET", path, &[], b"").await
}

/// POST of a text to `path`.
pub async fn post(address: SocketAddr, path: &str, body: impl AsRef<[u8]>) -> Response {
    let headers = [("Content-Type", "text/plain")];
    request(address, "POST", path, &headers, body.as_ref()).await
}

/// A request over a connection of its own.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let length = body.len().to_string();
    let mut headers = headers.to_vec();
    if !body.is_empty() || method == "POST" {
        headers.push(("Content-Length", &length));
    }
    let mut connection = Connection::open(address).await;
    connection
        .write(head(method, path, &headers).as_bytes())
        .await;
    connection.write(body).await;
    let head = connection.head().await;
    let body = if method == "HEAD" {
        Vec::new()
    } else {
        let mut body = Body::new(connection, &head);
        let mut whole = Vec::new();
        while let Some(chunk) = timeout(SOON, body.chunk())
            .await
            .expect("a body")
            .expect("whole")
        {
            whole.extend_from_slice(&chunk);
        }
        whole
    };
    Response {
        status: head.status,
        headers: head.headers,
        body,
    }
}

/// A connection on which nothing is known yet.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    stream: S,
    /// Read, and not yet taken.
    input: BytesMut,
}

impl Connection {
    /// A new connection.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = timeout(SOON, TcpStream::connect(address)).await;
        let stream = stream.expect("accepted").expect("connected");
        stream.set_nodelay(true).expect("an option");
        Self::from(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Sends these bytes.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).await.expect("sent");
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// Where the other side takes nothing any more.
    pub async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        // TLS may hold back what its socket had no room for.
        self.stream.flush().await
    }

    /// Reads the head of a response.
    pub async fn head(&mut self) -> Head {
        let read = async {
            loop {
                if let Some(end) = find(&self.input, b"\r\n\r\n") {
                    let head = self.input.split_to(end + 4);
                    return parse(&String::from_utf8_lossy(&head));
                }
                assert!(
                    self.more().await.expect("a head") > 0,
                    "no head: {:?}",
                    self.input
                );
            }
        };
        timeout(SOON, read).await.expect("a head")
    }

    /// Reads more; 0 at the end.
    ///
    /// # Errors
    /// Where the connection was reset.
    pub async fn more(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.input).await
    }

    /// Reads to the other side's end of the connection.
    ///
    /// # Errors
    /// Where that is a reset.
    pub async fn ended(&mut self) -> io::Result<()> {
        loop {
            if self.more().await? == 0 {
                return Ok(());
            }
        }
    }

    /// The stream and what was read of it.
    #[must_use]
    pub fn into_parts(self) -> (S, BytesMut) {
        (self.stream, self.input)
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.input, b"\r\n") {
                let line = self.input.split_to(end + 2);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.more().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn some(&mut self, most: usize) -> io::Result<Bytes> {
        if self.input.is_empty() {
            self.more().await?;
        }
        let length = self.input.len().min(most);
        Ok(self.input.split_to(length).freeze())
    }
}

impl<S> From<S> for Connection<S> {
    fn from(stream: S) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
        }
    }
}

/// The body of a response as it comes.
#[derive(Debug)]
pub struct Body<S = TcpStream> {
    connection: Connection<S>,
    length: Length,
}

#[derive(Clone, Copy, Debug)]
enum Length {
    Known(usize),
    Chunked,
    UntilEnd,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Body<S> {
    /// The body behind `head`.
    #[must_use]
    pub fn new(connection: Connection<S>, head: &Head) -> Self {
        let length = match (head.get("transfer-encoding"), head.get("content-length")) {
            (Some(encoding), _) if encoding.eq_ignore_ascii_case("chunked") => Length::Chunked,
            (_, Some(length)) => Length::Known(length.parse().expect("a length")),
            _ if matches!(head.status, 101 | 204 | 304) => Length::Known(0),
            _ => Length::UntilEnd,
        };
        Self { connection, length }
    }

    /// Reads to the body's end, and hands the connection over for the next request.
    pub async fn skip(mut self) -> Connection<S> {
        let read = async {
            while self.chunk().await.expect("a whole body").is_some() {}
            self.connection
        };
        timeout(SOON, read).await.expect("a body")
    }

    /// The next part; `None` at the body's own end.
    ///
    /// # Errors
    /// Where the connection ended before the body.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        match self.length {
            Length::Known(0) => Ok(None),
            Length::Known(left) => {
                let part = self.connection.some(left).await?;
                if part.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.length = Length::Known(left - part.len());
                Ok(Some(part))
            }
            Length::UntilEnd => {
                let part = self.connection.some(usize::MAX).await?;
                Ok((!part.is_empty()).then_some(part))
            }
            Length::Chunked => {
                let size = self.connection.line().await?;
                let size = usize::from_str_radix(&size, 16).expect("a chunk's size");
                while self.connection.input.len() < size + 2 {
                    if self.connection.more().await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                let chunk = self.connection.input.split_to(size).freeze();
                self.connection.input.advance(2);
                if size == 0 {
                    self.length = Length::Known(0);
                    return Ok(None);
                }
                Ok(Some(chunk))
            }
        }
    }
}

fn parse(text: &str) -> Head {
    let mut lines = text.trim_end().split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|status| status.parse().ok());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Head {
        status: status.expect("a status"),
        headers,
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}
