//! The one poll that owns a connection: see `docs/driver.md`.

mod ending;
mod inbound;
mod moment;
mod outbound;
mod scratch;
mod time;

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tracing::Span;

use self::{
    ending::{Behind, Phase},
    moment::Moment,
    scratch::Scratch,
};
use super::{
    error::{Error, HandlerError},
    heartbeat::Heartbeat,
    idle::Idle,
    protocol::{CloseCode, Connection, Extensions, Limits, Outbox, Outgoing, Role, Text},
    service::WsSettings,
    shared::{Agreed, Bound, Shared},
    socket::WebSocket,
    source::FrameSource,
    span::Trace,
    transport::Transport,
};
use crate::{
    Expiry, Stats,
    backpressure::{Account, Permits},
    drain::DrainGuard,
    expiry,
};

/// A driver yields to the scheduler after so many rounds …
const MAX_ROUNDS: u32 = 32;
/// … or so many bytes, read and written.
const MAX_BYTES: usize = 256 * 1024;
/// As much as is encoded ahead of the transport.
const WRITE_AHEAD: usize = 64 * 1024;
/// A compression context that is taken over is kept for so long behind the last
/// message.
const CONTEXT_KEPT: Duration = Duration::from_secs(30);

/// What a driver begins with, besides its transport and its handler.
#[derive(Debug)]
pub struct Accepted {
    /// The settings.
    pub settings: WsSettings,
    /// The negotiated subprotocol.
    pub protocol: Option<Text>,
    /// The negotiated extensions.
    pub extensions: Extensions,
    /// Bytes that came behind the handshake.
    pub read_ahead: Bytes,
    /// The drain that this socket counts for.
    pub guard: Option<DrainGuard>,
    /// When what it was let in with expires.
    pub expiry: Option<Expiry>,
    /// Which end this is.
    pub role: Role,
    /// Its place among those that live, until the driver ends.
    pub permits: Permits,
    /// Its span, in which the driver and the handler are polled, and which ends last;
    /// [`Span::none`] for none.
    pub span: Span,
}

pin_project! {
    /// A connection's engine: a future that owns the transport and polls the
    /// handler inside itself. It is spawned as a task of its own and completes
    /// when the connection and the handler have ended.
    ///
    /// One turn: read what there is, give it to the handler, poll the handler
    /// until it yields, write all that it said in one go.
    struct Driver<T: Transport, F> {
        #[pin]
        handler: Option<F>,
        engine: Engine<T>,
        #[pin]
        timer: Option<Sleep>,
        // The timer is to fire; it is set anew only to fire earlier.
        armed: bool,
        // It wakes whoever has parked.
        familiar: bool,
    }

    impl<T: Transport, F> PinnedDrop for Driver<T, F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            let span = this.engine.span();
            let _entered = span.map(Span::entered);
            // The runtime drops us before our time, or a panic unwinds: the other
            // halves learn it, and the handler goes first.
            let dropped = catch_unwind(AssertUnwindSafe(|| this.handler.set(None)));
            if dropped.is_err() {
                this.engine.stats.counters().panics.fetch_add(1, Relaxed);
            }
            this.engine.die_of(&Error::PeerGone, "dropped");
        }
    }
}

/// All of a driver but the handler and the timer. What is rare is boxed: every idle
/// connection would pay for its room.
struct Engine<T> {
    shared: Arc<Shared>,
    /// Fires into `shared`: the handler is polled only then.
    handler_waker: Waker,
    connection: Connection,
    /// Accepted by `send` and not yet encoded.
    queue: std::collections::VecDeque<Outgoing>,
    queue_weight: usize,
    /// Encoded and not yet written; kept only while it is not empty.
    out: Option<Box<Outbox>>,
    /// Received and not yet parsed: what came with the handshake, or what the
    /// inbox had no room for.
    read_ahead: Option<Box<Bytes>>,
    sources: Vec<Box<dyn FrameSource>>,
    transport: Option<T>,
    phase: Phase,
    /// Who receives lives in another task than the handler's.
    receives_elsewhere: bool,
    /// The handler has had its turn: the close frame may go out.
    may_say_close: bool,
    /// The peer sends no more: nothing to linger for.
    peer_ended: bool,
    /// What is behind its close frame, where nothing should be.
    behind_close: Behind,
    /// No room in the inbox when it was last filled.
    inbox_full: bool,
    heartbeat: Option<Heartbeat>,
    /// Boxed, since few sockets have it and all would pay for its room.
    idle: Option<Box<Idle>>,
    /// As the former.
    expiry: Option<Box<expiry::Watch>>,
    /// Data came in or went out since this was last asked.
    data_moved: bool,
    /// Of what waits for the transport something is data.
    data_waits: bool,
    /// When the connection's compression context is given back.
    rest_at: Option<Box<Instant>>,
    /// The transport may hold back what it took.
    unflushed: bool,
    /// Since when the transport takes nothing, and what its kernel held then.
    blocked: Option<Box<(Instant, Option<usize>)>>,
    settings: WsSettings,
    /// What of `stats.buffered_bytes` is ours.
    buffered: usize,
    /// Where that is counted against a budget.
    account: Option<Box<Account>>,
    /// It was told that the peer is slow.
    slow: bool,
    guard: Option<DrainGuard>,
    moment: Option<Box<Moment>>,
    now: Instant,
    // From here on in the order in which they are dropped, behind the handler, the
    // messages and the transport.
    #[expect(dead_code, reason = "it is held, not read")]
    permits: Permits,
    stats: Live,
    trace: Option<Box<Trace>>,
}

/// Counts a socket as live until its driver ends, the handler with it.
struct Live(Stats);

impl Live {
    fn new(stats: Stats) -> Self {
        stats.counters().upgrades.fetch_add(1, Relaxed);
        stats.counters().websockets.fetch_add(1, Relaxed);
        Self(stats)
    }

    fn counters(&self) -> &crate::stats::Counters {
        self.0.counters()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.counters().websockets.fetch_sub(1, Relaxed);
    }
}

/// Drives a connection, and `handler` with its socket, to their end: a task of
/// its own, for those who write an extension crate for another framework.
///
/// Its time-outs use tokio's clock: it is called and polled inside a runtime.
pub fn drive<T, H, F>(
    transport: T,
    accepted: Accepted,
    handler: H,
) -> impl Future<Output = ()> + use<T, H, F>
where
    T: Transport,
    H: FnOnce(WebSocket) -> F,
    F: Future<Output = Result<(), HandlerError>>,
{
    // Called inside the first poll, where a panic is caught.
    Driver::new(transport, accepted, |socket| async move {
        handler(socket).await
    })
}

impl<T: Transport, F: Future<Output = Result<(), HandlerError>>> Driver<T, F> {
    fn new(transport: T, accepted: Accepted, handler: impl FnOnce(WebSocket) -> F) -> Self {
        let Accepted {
            settings,
            protocol,
            extensions,
            read_ahead,
            guard,
            expiry,
            role,
            permits,
            span,
        } = accepted;
        let now = Instant::now();
        let stats = Live::new(settings.counters());
        let trace = Trace::open(span, read_ahead.len(), now);
        let shared = Arc::new(Shared::new(
            Agreed {
                protocol,
                expiry: expiry.clone(),
            },
            settings.inbound_bound(),
            Bound {
                messages: settings.outbound_message_bound(),
                bytes: settings.outbound_bound(),
            },
        ));
        let limits = Limits {
            max_frame_size: settings.frame_limit(),
            max_message_size: settings.message_limit(),
            max_fragments: settings.fragment_limit(),
        };
        let engine = Engine {
            handler_waker: Waker::from(Arc::clone(&shared)),
            connection: Connection::with_extensions(role, limits, extensions),
            queue: std::collections::VecDeque::new(),
            queue_weight: 0,
            out: None,
            read_ahead: (!read_ahead.is_empty()).then(|| Box::new(read_ahead)),
            sources: Vec::new(),
            transport: Some(transport),
            phase: Phase::Open,
            receives_elsewhere: false,
            may_say_close: false,
            peer_ended: false,
            behind_close: Behind::Unknown,
            inbox_full: false,
            heartbeat: settings
                .heartbeat_interval()
                .map(|interval| Heartbeat::new(interval, now)),
            idle: settings
                .idle_limit()
                .map(|limit| Box::new(Idle::new(limit, now))),
            expiry: expiry.map(|expiry| Box::new(expiry::Watch::new(expiry))),
            data_moved: false,
            data_waits: false,
            rest_at: None,
            unflushed: false,
            blocked: None,
            settings,
            buffered: 0,
            account: permits.account(),
            slow: false,
            guard,
            moment: None,
            now,
            permits,
            stats,
            trace,
            shared: Arc::clone(&shared),
        };
        Self {
            handler: Some(handler(WebSocket::new(shared))),
            engine,
            timer: None,
            armed: false,
            familiar: false,
        }
    }
}

impl<T: Transport, F: Future<Output = Result<(), HandlerError>>> Future for Driver<T, F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.engine.span() {
            None => self.turn(cx),
            Some(span) => span.in_scope(|| self.turn(cx)),
        }
    }
}

impl<T: Transport, F: Future<Output = Result<(), HandlerError>>> Driver<T, F> {
    fn turn(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let engine = this.engine;
        let mut scratch = Scratch::take();
        let (told, is_same) = engine.wake_up(cx.waker(), &mut scratch);
        let mut told = Some(told);
        *this.familiar &= is_same;
        engine.watch_drain(cx);
        engine.watch_expiry(cx);
        engine.watch_budget(cx);
        let mut bytes = 0;
        for _ in 0..MAX_ROUNDS {
            let read = engine.read(cx, &mut scratch);
            if read == 0 && engine.drain_is_due() {
                engine.begin_drain();
            }
            let told = engine.look(read > 0, told.take());
            if told.woken {
                poll_handler(this.handler.as_mut(), engine, told.direct, &mut scratch);
                if !tokio::task::coop::has_budget_remaining() {
                    // It did not yield by its own will: what it waits for may be
                    // there, and tokio wakes it only after this poll.
                    engine.shared.lock().handler_woken = true;
                }
            }
            // Its memory is given back too.
            if told.woken || told.changed || engine.queue.capacity() > 0 {
                engine.take_told(&mut scratch);
            }
            engine.end_when_due(this.handler.is_some());
            let written = engine.write(cx, &mut scratch);
            let timer = this.timer.as_ref().as_pin_ref();
            let timer = timer.filter(|_| *this.armed && *this.familiar);
            let rests = engine.rests(timer.map(|timer| timer.deadline()));
            if !rests {
                engine.check_time(this.handler.is_some(), &mut scratch);
            }
            if matches!(engine.phase, Phase::Abandoned) {
                drop_handler(this.handler.as_mut(), engine);
            }
            let handler = this.handler.is_some();
            if engine.is_dead() && !handler {
                scratch.give_back();
                return Poll::Ready(());
            }
            bytes += read + written;
            // Without budget the handler finds nothing ready: another poll of
            // this task gives it a new one.
            if bytes > MAX_BYTES || !tokio::task::coop::has_budget_remaining() {
                if engine.awaits_timer() {
                    engine.arm(this.timer.as_mut(), this.armed, handler, cx);
                }
                break;
            }
            if read == 0
                && (rests || engine.arm(this.timer.as_mut(), this.armed, handler, cx))
                && engine.park(cx.waker(), handler, &mut scratch)
            {
                *this.familiar = true;
                scratch.give_back();
                return Poll::Pending;
            }
        }
        // A peer that never pauses is drained all the same.
        if engine.drain_is_due() {
            engine.begin_drain();
        }
        engine.settle(cx.waker());
        scratch.give_back();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Polls the handler once; a panic and an error end the socket with 1011.
fn poll_handler<T: Transport, F: Future<Output = Result<(), HandlerError>>>(
    mut handler: Pin<&mut Option<F>>,
    engine: &mut Engine<T>,
    direct: bool,
    scratch: &mut Scratch,
) {
    let Some(future) = handler.as_mut().as_pin_mut() else {
        return;
    };
    let lent = if direct { engine.lend(scratch) } else { None };
    let mut cx = Context::from_waker(&engine.handler_waker);
    let polled = catch_unwind(AssertUnwindSafe(|| future.poll(&mut cx)));
    engine.take_back(lent, scratch);
    let result = match polled {
        Ok(Poll::Pending) => return,
        Ok(Poll::Ready(result)) => Ok(result),
        Err(panic) => Err(panic),
    };
    drop_handler(handler, engine);
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => engine.handler_failed(&error),
        Err(panic) => engine.handler_panicked(panic.as_ref()),
    }
}

fn drop_handler<T: Transport, F>(mut handler: Pin<&mut Option<F>>, engine: &mut Engine<T>) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| handler.set(None))) {
        engine.handler_panicked(panic.as_ref());
    }
}

impl<T: Transport> Engine<T> {
    fn is_dead(&self) -> bool {
        self.transport.is_none()
    }

    /// The connection's, where somebody listens.
    fn span(&self) -> Option<Span> {
        Some(self.trace.as_ref()?.span().clone())
    }

    /// Why the connection ends, for its span.
    fn ends(&mut self, cause: &'static str, code: Option<CloseCode>) {
        if let Some(trace) = &mut self.trace {
            trace.ends(cause, code);
        }
    }

    fn handler_failed(&mut self, error: &HandlerError) {
        if error.is_end() {
            return;
        }
        tracing::debug!(%error, code = %error.close_code(), "WebSocket handler failed");
        self.fail(error.close_code(), "handler failed");
    }

    fn handler_panicked(&mut self, panic: &(dyn Any + Send)) {
        let message = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a value of another type");
        tracing::error!(panic = message, "WebSocket handler panicked");
        self.stats.counters().panics.fetch_add(1, Relaxed);
        self.fail(CloseCode::INTERNAL_ERROR, "handler panicked");
    }
}

#[cfg(test)]
mod tests;
