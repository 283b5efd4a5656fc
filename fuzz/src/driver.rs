//! The driver over a transport that does whatever a transport may: time is paused,
//! so that every time-out is reached at once.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::time::{Sleep, sleep, timeout};
use towpath::{
    Drain, Stats,
    backpressure::Permits,
    ws::{
        Accepted, HandlerError, Message, Outbox, Received, Transport, WebSocket, WsConfig, drive,
        protocol::Role,
    },
};

use crate::{
    connection::{Deflated, some_code},
    input::{Cuts, Input},
    model::{self, Said},
    terms::Terms,
    wire::{self, BINARY, CLOSE, TEXT},
};

/// Longer than all waits of a transport and a handler together.
const FOR_EVER: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long a handler waits that takes nothing.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What stands at the end of a direction.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Well,
    WithAnError,
    Never,
}

/// A peer and the network to it.
struct Faulty {
    cuts: Cuts,
    incoming: Bytes,
    reads_end: Ends,
    written: Rc<RefCell<Vec<u8>>>,
    /// So many bytes are taken before the direction ends.
    takes: usize,
    writes_end: Ends,
    shuts_down: Ends,
    /// How long it waits at times: less than 2 to this in milliseconds.
    slow: u32,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
    aborted: Rc<Cell<bool>>,
    shut: bool,
}

impl Faulty {
    fn wait(slow: u32, cuts: &mut Cuts, timer: &mut Option<Pin<Box<Sleep>>>) -> bool {
        let next = cuts.number();
        if slow > 0 && next & 3 == 0 && timer.is_none() {
            let exponent = (next >> 8) % slow;
            *timer = Some(Box::pin(sleep(Duration::from_millis(1 << exponent))));
        }
        timer.is_some()
    }

    fn poll_reading(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if Self::wait(self.slow, &mut self.cuts, &mut self.reading)
            && let Some(timer) = &mut self.reading
        {
            ready!(timer.as_mut().poll(cx));
            self.reading = None;
        }
        Poll::Ready(())
    }

    fn poll_writing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if Self::wait(self.slow, &mut self.cuts, &mut self.writing)
            && let Some(timer) = &mut self.writing
        {
            ready!(timer.as_mut().poll(cx));
            self.writing = None;
        }
        Poll::Ready(())
    }
}

fn broken<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
}

impl Transport for Faulty {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        max: usize,
    ) -> Poll<io::Result<Received>> {
        assert!(max > 0, "a read of nothing");
        assert!(!self.aborted.get(), "read behind its end");
        ready!(self.poll_reading(cx));
        if self.incoming.is_empty() {
            return match self.reads_end {
                Ends::Well => Poll::Ready(Ok(Received::End)),
                Ends::WithAnError => broken(),
                // Nobody will ever wake whoever waits for this.
                Ends::Never => Poll::Pending,
            };
        }
        let len = self.cuts.piece().min(self.incoming.len());
        if self.cuts.number() & 1 == 0 {
            return Poll::Ready(Ok(Received::Chunk(self.incoming.split_to(len))));
        }
        let len = len.min(max);
        assert!(into.capacity() - into.len() >= len, "room for what is read");
        into.extend_from_slice(&self.incoming.split_to(len));
        Poll::Ready(Ok(Received::Filled(len)))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<usize>> {
        assert!(!out.is_empty(), "a write of nothing");
        assert!(!self.shut, "a write behind the end");
        ready!(self.poll_writing(cx));
        if self.takes == 0 {
            return match self.writes_end {
                Ends::Never => Poll::Pending,
                Ends::Well | Ends::WithAnError => broken(),
            };
        }
        let chunk = out.chunk();
        let len = self.cuts.piece().min(chunk.len()).min(self.takes);
        self.written.borrow_mut().extend_from_slice(&chunk[..len]);
        out.advance(len);
        self.takes -= len;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writing(cx).map(Ok)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        ready!(self.poll_writing(cx));
        match self.shuts_down {
            Ends::Well => Poll::Ready(Ok(())),
            Ends::WithAnError => broken(),
            Ends::Never => Poll::Pending,
        }
    }

    fn abort(&mut self) {
        self.aborted.set(true);
    }
}

/// What a handler does, one after another; then it returns.
#[derive(Clone, Debug)]
enum Step {
    Echo(u8),
    EchoAll,
    Send(Message),
    Sleep(Duration),
    Close(u16),
    Halves,
    AwaitClosed,
    Fail,
}

impl Step {
    fn take(input: &mut Input<'_>) -> Self {
        match input.byte() % 8 {
            0 => Self::EchoAll,
            1 => Self::Echo(input.byte()),
            2 => Self::Send(input.payload().into()),
            3 => Self::Sleep(Duration::from_millis(u64::from(input.short()))),
            4 => Self::Close(input.short()),
            5 => Self::Halves,
            6 => Self::AwaitClosed,
            _ => Self::Fail,
        }
    }
}

/// What the handler has seen and said.
#[derive(Default)]
struct Seen {
    received: RefCell<Vec<Message>>,
    sent: RefCell<Vec<Message>>,
}

impl Seen {
    async fn echo(&self, socket: &mut WebSocket) -> Result<bool, HandlerError> {
        let Some(message) = socket.recv().await? else {
            return Ok(false);
        };
        self.received.borrow_mut().push(message.clone());
        // In order, since one handler sends one message at a time.
        self.sent.borrow_mut().push(message.clone());
        socket.send(message).await?;
        Ok(true)
    }

    async fn handle(&self, mut socket: WebSocket, steps: Vec<Step>) -> Result<(), HandlerError> {
        for step in steps {
            match step {
                Step::Echo(times) => {
                    for _ in 0..times {
                        self.echo(&mut socket).await?;
                    }
                }
                Step::EchoAll => while self.echo(&mut socket).await? {},
                Step::Send(message) => {
                    self.sent.borrow_mut().push(message.clone());
                    socket.send(message).await?;
                }
                Step::Sleep(time) => sleep(time).await,
                Step::Close(code) => socket.close(some_code(code), "enough").await?,
                Step::AwaitClosed => {
                    // Not for ever: while it leaves a full inbox as it is, nothing is
                    // read, and a peer that says no more is not missed.
                    let _ = timeout(PATIENCE, socket.closed()).await;
                }
                Step::Fail => return Err(HandlerError::message("so it was to be")),
                Step::Halves => {
                    let (sender, mut receiver) = socket.split();
                    let mut other = sender;
                    while let Some(message) = receiver.recv().await? {
                        self.received.borrow_mut().push(message.clone());
                        self.sent.borrow_mut().push(message.clone());
                        other.send(message).await?;
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// `driver`: terms, the network, the handler's steps, then what the peer sends.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut terms = Terms::take(&mut input);
    terms.role = Role::Server;
    let seed = input.word();
    let flags = input.byte();
    let ends = [Ends::Well, Ends::WithAnError, Ends::Never];
    let (reads_end, writes_end, shuts_down) = (
        input.choose(&ends),
        input.choose(&ends),
        input.choose(&ends),
    );
    let takes = match input.short() {
        0 => usize::MAX,
        takes => usize::from(takes),
    };
    let drains = Duration::from_millis(u64::from(input.short()));
    let steps: Vec<_> = (0..input.byte() & 7)
        .map(|_| Step::take(&mut input))
        .collect();
    let ahead = input.byte();
    let read_ahead = Bytes::copy_from_slice(input.take(usize::from(ahead)));
    let incoming = Bytes::copy_from_slice(input.rest());

    let (written, aborted) = (Rc::default(), Rc::default());
    let transport = Faulty {
        cuts: Cuts::new(seed),
        incoming: incoming.clone(),
        reads_end,
        written: Rc::clone(&written),
        takes,
        writes_end,
        shuts_down,
        // Past every time-out at times, or past none.
        slow: [0, 16, 0, 6][usize::from(flags & 1 | flags >> 2 & 2)],
        reading: None,
        writing: None,
        aborted: Rc::clone(&aborted),
        shut: false,
    };
    let stats = Stats::new();
    let bound = if flags & 2 == 0 { 1 << 20 } else { 16 };
    let config = WsConfig::new()
        .max_frame_size(terms.limits.max_frame_size)
        .max_message_size(terms.limits.max_message_size)
        .max_fragments(terms.limits.max_fragments)
        .inbound_bytes(bound)
        .outbound_bytes(bound)
        .stats(stats.clone());
    let seen = Seen::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let drain = Drain::new(Duration::from_secs(10));
        let accepted = Accepted {
            settings: config.into(),
            protocol: None,
            extensions: terms.extensions(),
            read_ahead: read_ahead.clone(),
            guard: (flags & 4 != 0).then(|| drain.guard().expect("no drain has begun")),
            role: Role::Server,
            expiry: None,
            permits: Permits::default(),
            span: tracing::Span::none(),
        };
        let driver = drive(transport, accepted, |socket| seen.handle(socket, steps));
        tokio::spawn(async move {
            sleep(drains).await;
            drain.start();
        });
        let ended = timeout(FOR_EVER, driver).await;
        assert!(ended.is_ok(), "it hangs");
    });

    let live = stats.snapshot();
    assert_eq!(
        (live.websockets, live.buffered_bytes, live.panics_total),
        (0, 0, 0)
    );
    let bytes: Vec<u8> = [&read_ahead[..], &incoming[..]].concat();
    let (said, end) = model::read(&terms, &bytes);
    let messages = said.iter().filter_map(|said| match said {
        Said::Message { text, payload } => Some((*text, &payload[..])),
        _ => None,
    });
    if end != model::End::Unclear {
        let messages: Vec<_> = messages.collect();
        let received = seen.received.borrow();
        let received: Vec<_> = received.iter().map(as_pair).collect();
        assert!(messages.starts_with(&received), "other messages came");
    }
    let mut written = &written.borrow()[..];
    let mut deflated = Deflated::new(terms.agreed.as_ref(), Role::Server);
    let sent = seen.sent.borrow();
    let mut sent = sent.iter().map(as_pair);
    let mut closed = false;
    while let Some((frame, rest)) = wire::first(written, false, terms.agreed.is_some()) {
        written = rest;
        assert!(!closed, "a frame behind the close");
        let frame = deflated.said(&frame);
        match frame.opcode {
            TEXT | BINARY => {
                let wanted = sent.next();
                let went = (frame.opcode == TEXT, &frame.payload[..]);
                assert!(wanted == Some(went), "another message went out");
            }
            opcode => closed = opcode == CLOSE,
        }
    }
    if !written.is_empty() {
        assert!(!closed, "half a frame behind the close");
        let broken = takes != usize::MAX || matches!(reads_end, Ends::WithAnError);
        assert!(broken || aborted.get(), "a frame was cut");
    }
}

fn as_pair(message: &Message) -> (bool, &[u8]) {
    (matches!(message, Message::Text(_)), message.as_bytes())
}
