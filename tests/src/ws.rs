//! A WebSocket client over a socket, on the sans-IO protocol, that tells its end.
#![expect(
    clippy::missing_panics_doc,
    reason = "for tests: whatever is not as expected fails them"
)]

use std::{io, net::SocketAddr};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use towpath::ws::{
    CloseCode, CloseFrame, Message, Outbox,
    protocol::{Connection, Event, Limits, Role},
};

use crate::{
    http::{self, Head},
    process::SOON,
};

/// The key of the RFC's sample handshake.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What is read at once.
const READ: usize = 64 << 10;

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket<S = TcpStream> {
    stream: S,
    connection: Connection,
    input: BytesMut,
    out: Outbox,
    head: Head,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A data message.
    Message(Message),
    /// A close frame.
    Close(Option<CloseFrame>),
    /// The end of the connection, in order.
    Fin,
    /// The end of the connection, or of HTTP/2's stream, by a reset.
    Reset,
}

impl WebSocket {
    /// Opens `path`, which must answer 101.
    pub async fn open(address: SocketAddr, path: &str) -> Self {
        Self::open_with(address, path, &[]).await
    }

    /// As [`open`](Self::open), offering a subprotocol.
    pub async fn open_as(address: SocketAddr, path: &str, protocol: &str) -> Self {
        let socket = Self::open_with(address, path, &[("Sec-WebSocket-Protocol", protocol)]).await;
        assert_eq!(socket.head.get("sec-websocket-protocol"), Some(protocol));
        socket
    }

    /// As [`open`](Self::open), with these headers.
    pub async fn open_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let connection = http::Connection::open(address).await;
        Self::upgrade(connection, path, headers).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// As [`open_with`](WebSocket::open_with), over a connection that is there.
    pub async fn upgrade(
        mut connection: http::Connection<S>,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        connection.write(handshake(path, headers).as_bytes()).await;
        let head = connection.head().await;
        assert_eq!(head.status, 101, "{head:?}");
        let (stream, input) = connection.into_parts();
        Self::answered(stream, input, head)
    }

    /// The socket behind an answer that was read already, and what came after it.
    #[must_use]
    pub fn answered(stream: S, input: BytesMut, head: Head) -> Self {
        let limits = Limits {
            max_frame_size: usize::MAX,
            max_message_size: usize::MAX,
            max_fragments: u32::MAX,
        };
        Self {
            stream,
            connection: Connection::new(Role::Client, limits),
            input,
            out: Outbox::default(),
            head,
        }
    }

    /// The response's head.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Sends a message.
    pub async fn send(&mut self, message: impl Into<Message>) {
        self.connection.send(message.into(), &mut self.out);
        self.flush().await.expect("sent");
    }

    /// Sends a close frame.
    pub async fn close(&mut self, code: u16) {
        let code = CloseCode::new(code).expect("a code");
        let frame = CloseFrame::new(code, "");
        self.connection.close(Some(&frame), &mut self.out);
        self.flush().await.expect("sent");
    }

    /// Sends these bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).await.expect("sent");
    }

    /// Sends these bytes as they are.
    ///
    /// # Errors
    /// Where the other side takes nothing any more.
    pub async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Sends a FIN, over HTTP/2 `END_STREAM`.
    pub async fn shutdown(&mut self) {
        self.stream.shutdown().await.expect("open");
    }

    /// The stream, for those who look at bytes.
    pub const fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// What comes next. Pings are answered; a close is not.
    pub async fn next(&mut self) -> Incoming {
        timeout(SOON, self.incoming())
            .await
            .expect("something comes")
    }

    /// As [`next`](Self::next), for as long as it takes.
    pub async fn incoming(&mut self) -> Incoming {
        loop {
            let mut input = &self.input[..];
            let event = self.connection.receive(&mut input, &mut self.out);
            let rest = input.len();
            self.input.advance(self.input.len() - rest);
            // A pong may be due; that the other side is gone is seen by reading.
            let _ = self.flush().await;
            match event.expect("the server keeps to the protocol") {
                Some(Event::Message(message)) => return Incoming::Message(message),
                Some(Event::Close(frame)) => return Incoming::Close(frame),
                None => {}
            }
            self.input.reserve(READ);
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Incoming::Fin,
                Ok(_) => {}
                Err(_) => return Incoming::Reset,
            }
        }
    }

    /// The next message, which must come.
    pub async fn message(&mut self) -> Message {
        match self.next().await {
            Incoming::Message(message) => message,
            other => unreachable!("{other:?}"),
        }
    }

    /// The next message as text, which must come.
    pub async fn text(&mut self) -> String {
        let message = self.message().await;
        message.as_text().expect("text").to_owned()
    }

    /// The next message as JSON, which must come.
    pub async fn json(&mut self) -> serde_json::Value {
        let text = self.text().await;
        serde_json::from_str(&text).expect("JSON")
    }

    /// The close frame that comes next, answered; then the FIN.
    pub async fn closed(&mut self) -> CloseFrame {
        let frame = self.close_frame().await;
        self.connection
            .answer_close(Some(frame.code), &mut self.out);
        let _ = self.flush().await;
        assert_eq!(self.next().await, Incoming::Fin);
        // The server lingers for what may still come.
        let _ = self.stream.shutdown().await;
        frame
    }

    /// The close frame that comes next.
    pub async fn close_frame(&mut self) -> CloseFrame {
        match self.next().await {
            Incoming::Close(Some(frame)) => frame,
            other => unreachable!("{other:?}"),
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        while self.out.has_remaining() {
            self.stream.write_all_buf(&mut self.out).await?;
        }
        // TLS may hold back what its socket had no room for.
        self.stream.flush().await
    }
}

/// The text of an opening handshake.
#[must_use]
pub fn handshake(path: &str, headers: &[(&str, &str)]) -> String {
    let mut all = vec![
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
    ];
    all.extend_from_slice(headers);
    http::head("GET", path, &all)
}

/// A frame as a client sends it, masked with zeros: `first` is FIN, reserved bits and
/// opcode.
#[must_use]
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => frame.push(0x80 | short),
        (_, Ok(middle)) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}
