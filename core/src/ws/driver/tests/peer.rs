//! A server's driver over memory, and its client as bytes and events.

use std::{future::Future, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};

use crate::{
    Expiry, Stats,
    drain::Drain,
    ws::{
        Accepted, CloseCode, CloseFrame, HandlerError, IoTransport, Message, WebSocket, WsConfig,
        drive,
        protocol::{Connection, Event, Extensions, Limits, Outbox, Role},
    },
};

pub(super) struct Peer {
    pub(super) io: DuplexStream,
    connection: Connection,
    input: BytesMut,
    close: Option<u16>,
    pub(super) stats: Stats,
    pub(super) driver: JoinHandle<()>,
}

pub(super) fn config() -> WsConfig {
    WsConfig::new()
}

/// Serves `handler` to the peer that is returned.
pub(super) fn serve<F>(
    config: WsConfig,
    handler: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Peer
where
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    serve_with(config, None, 64 * 1024, Bytes::new(), handler)
}

pub(super) fn serve_with<F>(
    config: WsConfig,
    drain: Option<&Drain>,
    pipe: usize,
    read_ahead: Bytes,
    handler: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Peer
where
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    serve_extended(
        config,
        drain,
        pipe,
        read_ahead,
        Extensions::default(),
        handler,
    )
}

/// Serves a client whose credential expires.
pub(super) fn serve_until<F>(
    config: WsConfig,
    expiry: impl Into<Until>,
    handler: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Peer
where
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    serve_all(config, None, expiry.into().0, handler)
}

/// Until when; as `WsUpgrade` takes it, or never.
pub(super) struct Until(Option<Expiry>);

impl From<Duration> for Until {
    fn from(time: Duration) -> Self {
        Self(Some(time.into()))
    }
}

impl From<Expiry> for Until {
    fn from(expiry: Expiry) -> Self {
        Self(Some(expiry))
    }
}

impl From<Option<Expiry>> for Until {
    fn from(expiry: Option<Expiry>) -> Self {
        Self(expiry)
    }
}

pub(super) fn serve_all<F>(
    config: WsConfig,
    drain: Option<&Drain>,
    expiry: Option<Expiry>,
    handler: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Peer
where
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let change = |accepted: &mut Accepted| accepted.expiry = expiry;
    serve_accepted(
        accepted(config, drain, Bytes::new()),
        64 * 1024,
        change,
        handler,
    )
}

pub(super) fn serve_extended<F>(
    config: WsConfig,
    drain: Option<&Drain>,
    pipe: usize,
    read_ahead: Bytes,
    extensions: Extensions,
    handler: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Peer
where
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let change = |accepted: &mut Accepted| accepted.extensions = extensions;
    serve_accepted(accepted(config, drain, read_ahead), pipe, change, handler)
}

pub(super) fn accepted(config: WsConfig, drain: Option<&Drain>, read_ahead: Bytes) -> Accepted {
    Accepted {
        settings: config.stats(Stats::new()).into(),
        protocol: None,
        extensions: Extensions::default(),
        read_ahead,
        guard: drain.map(|drain| drain.guard().unwrap()),
        role: Role::Server,
        expiry: None,
        permits: Default::default(),
        span: tracing::Span::none(),
    }
}

pub(super) fn serve_accepted<F>(
    mut accepted: Accepted,
    pipe: usize,
    change: impl FnOnce(&mut Accepted),
    handler: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Peer
where
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    change(&mut accepted);
    let stats = accepted.settings.counters();
    let extensions = accepted.extensions;
    let (io, server) = tokio::io::duplex(pipe);
    let driver = tokio::spawn(drive(IoTransport::new(server), accepted, handler));
    let limits = Limits {
        max_frame_size: usize::MAX,
        max_message_size: usize::MAX,
        max_fragments: u32::MAX,
    };
    Peer {
        io,
        connection: Connection::with_extensions(Role::Client, limits, extensions),
        input: BytesMut::new(),
        close: None,
        stats,
        driver,
    }
}

impl Peer {
    /// The bytes of some messages as a client sends them.
    pub(super) fn frames(messages: impl IntoIterator<Item = Message>) -> Bytes {
        let mut out = Outbox::default();
        let limits = Limits {
            max_frame_size: 0,
            max_message_size: 0,
            max_fragments: 0,
        };
        let mut client = Connection::new(Role::Client, limits);
        for message in messages {
            client.send(message, &mut out);
        }
        out.copy_to_bytes(out.remaining())
    }

    pub(super) async fn send_raw(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    pub(super) async fn send(&mut self, message: impl Into<Message>) {
        self.send_raw(&Self::frames([message.into()])).await;
    }

    pub(super) async fn close(&mut self, code: CloseCode) {
        let mut out = Outbox::default();
        self.connection
            .close(Some(&CloseFrame::new(code, "bye")), &mut out);
        let bytes = out.copy_to_bytes(out.remaining());
        self.send_raw(&bytes).await;
    }

    pub(super) async fn read_raw(&mut self) -> Option<Bytes> {
        let mut buffer = BytesMut::with_capacity(64 * 1024);
        match self.io.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(buffer.freeze()),
        }
    }

    /// The next event; `None` at the end of the stream. Pings are answered.
    pub(super) async fn event(&mut self) -> Option<Event> {
        loop {
            let mut out = Outbox::default();
            let mut input = &self.input[..];
            let event = self.connection.receive(&mut input, &mut out).unwrap();
            let used = self.input.len() - input.len();
            self.input.advance(used);
            if out.has_remaining() {
                let bytes = out.copy_to_bytes(out.remaining());
                self.send_raw(&bytes).await;
            }
            if let Some(Event::Close(frame)) = &event {
                self.close = frame.as_ref().map(|frame| frame.code.get());
            }
            if event.is_some() {
                return event;
            }
            if self.connection.close_received() {
                return None;
            }
            let bytes = self.read_raw().await?;
            self.input.extend_from_slice(&bytes);
        }
    }

    /// The code of the close frame that came.
    pub(super) const fn close_code(&self) -> Option<u16> {
        self.close
    }

    pub(super) async fn message(&mut self) -> Message {
        match self.event().await {
            Some(Event::Message(message)) => message,
            other => panic!("a message was expected, not {other:?}"),
        }
    }

    pub(super) async fn text(&mut self) -> String {
        self.message().await.as_text().unwrap().to_owned()
    }

    /// Expects a close frame next, answers it, and expects the end of the stream.
    pub(super) async fn closed(&mut self) -> u16 {
        let code = match self.event().await {
            Some(Event::Close(Some(frame))) => frame.code.get(),
            Some(Event::Close(None)) => 1005,
            other => panic!("a close was expected, not {other:?}"),
        };
        if !self.connection.close_sent() {
            let mut out = Outbox::default();
            self.connection.answer_close(CloseCode::new(code), &mut out);
            let bytes = out.copy_to_bytes(out.remaining());
            // Where the server failed the connection it reads no more.
            let _ = self.io.write_all(&bytes).await;
        }
        assert_eq!(self.read_raw().await, None, "nothing behind the close");
        code
    }

    /// Ends our direction without a close frame.
    pub(super) async fn end(&mut self) {
        self.io.shutdown().await.unwrap();
    }

    /// The driver has ended, within a second.
    pub(super) async fn finished(self) {
        let Self { io, driver, .. } = self;
        drop(io);
        tokio::time::timeout(Duration::from_secs(1), driver)
            .await
            .expect("the driver ends")
            .unwrap();
    }
}
