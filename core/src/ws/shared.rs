//! What a socket's handles and its driver share.

use std::{
    collections::VecDeque,
    mem, ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::{
    error::Error,
    inbox::Inbox,
    lent,
    protocol::{CloseFrame, Message, Outgoing, Text},
    source::FrameSource,
    waiters::Waiters,
};
use crate::Expiry;

/// What a queued message costs beside its payload.
const MESSAGE_OVERHEAD: usize = size_of::<Message>();

/// The memory that `message` is counted with while it waits.
pub(crate) const fn weight(message: &Message) -> usize {
    message.len() + MESSAGE_OVERHEAD
}

/// As [`weight`], on the way out; what many share is counted for each.
pub(crate) fn weight_out(outgoing: &Outgoing) -> usize {
    outgoing.len() + MESSAGE_OVERHEAD
}

/// Sources that are attached and not taken over.
pub(crate) type Attached = Vec<Box<dyn FrameSource>>;

/// What may wait for the peer before `send` waits: so many messages or so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// The state of one socket.
///
/// The lock is held for moves of data only: wakers, messages and user code are
/// woken, dropped and called without it. It is the handler's waker too.
pub(crate) struct Shared {
    /// What few sockets have, boxed.
    agreed: Option<Box<Agreed>>,
    inbound_bound: usize,
    outbound_bound: Bound,
    /// Something was said through the lock that its driver has not taken, or
    /// nothing may be said: what is said now must not go past it.
    has_queued: AtomicBool,
    /// The bytes that went straight into the outbox, past `State::unsent`.
    directly: AtomicUsize,
    /// The messages that these are.
    directly_said: AtomicUsize,
    /// The receiver has to ask under the lock for each message.
    watched: AtomicBool,
    /// What the receiver has given out of its own batch, ever; only it adds.
    given: AtomicUsize,
    /// The time to the last pong, in microseconds; 0 before it came.
    round_trip: AtomicU32,
    state: Mutex<State>,
}

/// What was agreed on with the handshake.
#[derive(Debug, Default)]
pub(crate) struct Agreed {
    pub(crate) protocol: Option<Text>,
    pub(crate) expiry: Option<Expiry>,
}

/// What a driver finds when it looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// The handler is to be polled.
    pub(crate) woken: bool,
    /// What it says may go straight into the outbox.
    pub(crate) direct: bool,
    /// A handle has said something.
    pub(crate) changed: bool,
}

// What few sockets have, or only at their end, is boxed: all would pay for its room.
pub(crate) struct State {
    /// Received and not yet taken by the receiver.
    pub(crate) inbox: Inbox,
    /// The same, with what the receiver has in its batch.
    inbox_weight: usize,
    /// What of `Shared::given` is no longer in `inbox_weight`.
    counted: usize,
    /// The handler failed: what is left of the receiver's batch is not given.
    discarded: bool,
    /// Accepted by `send` and not yet taken by the driver.
    pub(crate) queue: VecDeque<Outgoing>,
    pub(crate) queue_weight: usize,
    /// What the driver has taken and the transport has not, and the messages of which
    /// that is something.
    unsent: usize,
    unsent_messages: usize,
    /// How `recv` ends behind the inbox, once that is known.
    pub(crate) receive_end: Option<Result<(), Box<Error>>>,
    /// Why nothing can be sent any more, once that is so.
    pub(crate) send_end: Option<Box<Error>>,
    /// The receiver was told the end, or asked again behind it.
    pub(crate) end_seen: bool,
    /// What a handle asked to close with.
    pub(crate) close: Option<Box<CloseFrame>>,
    pub(crate) peer_close: Option<Box<CloseFrame>>,
    /// What a drain sends behind everything else.
    last_message: Option<Box<Outgoing>>,
    /// The socket is closed on the wire.
    pub(crate) done: bool,
    pub(crate) handles: u32,
    pub(crate) receiver_lives: bool,
    /// Sources that the driver has not taken over yet.
    pub(crate) attached: Option<Box<Attached>>,
    receiving: Option<Waker>,
    /// Those who wait for room: one slot a handle.
    waiting: Waiters,
    /// Those who wait for the end, whom room does not wake.
    closed: Waiters,
    next_id: u32,
    pub(crate) handler_woken: bool,
    /// Something was told that the driver has not looked at.
    pub(crate) changed: bool,
    driver: Option<Waker>,
    parked: bool,
}

impl Shared {
    pub(crate) fn new(agreed: Agreed, inbound_bound: usize, outbound_bound: Bound) -> Self {
        let has_any = agreed.protocol.is_some() || agreed.expiry.is_some();
        Self {
            agreed: has_any.then(|| Box::new(agreed)),
            inbound_bound,
            outbound_bound,
            has_queued: AtomicBool::new(false),
            directly: AtomicUsize::new(0),
            directly_said: AtomicUsize::new(0),
            watched: AtomicBool::new(false),
            given: AtomicUsize::new(0),
            round_trip: AtomicU32::new(0),
            state: Mutex::new(State {
                inbox: Inbox::default(),
                inbox_weight: 0,
                counted: 0,
                discarded: false,
                queue: VecDeque::new(),
                queue_weight: 0,
                unsent: 0,
                unsent_messages: 0,
                receive_end: None,
                send_end: None,
                end_seen: false,
                close: None,
                peer_close: None,
                last_message: None,
                done: false,
                handles: 0,
                receiver_lives: true,
                attached: None,
                receiving: None,
                waiting: Waiters::default(),
                closed: Waiters::default(),
                next_id: 0,
                // The first poll is the driver's own doing.
                handler_woken: true,
                changed: false,
                driver: None,
                parked: false,
            }),
        }
    }

    pub(crate) fn protocol(&self) -> Option<&str> {
        self.agreed.as_ref()?.protocol.as_deref()
    }

    pub(crate) fn set_round_trip(&self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.round_trip.store(micros.max(1), Relaxed);
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        match self.round_trip.load(Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros.into())),
        }
    }

    pub(crate) fn expiry(&self) -> Option<&Expiry> {
        self.agreed.as_ref()?.expiry.as_ref()
    }

    /// Poison is ignored: no user code runs under the lock, so that a panic
    /// leaves nothing half done.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much the inbox takes before reading stops.
    pub(crate) fn inbox_room(&self) -> usize {
        let mut state = self.lock();
        self.count_given(&mut state);
        self.inbound_bound.saturating_sub(state.inbox_weight)
    }

    pub(crate) fn inbox_is_full(&self) -> bool {
        self.is_full(&mut self.lock())
    }

    pub(crate) fn is_full(&self, state: &mut State) -> bool {
        self.count_given(state);
        state.inbox_weight >= self.inbound_bound
    }

    /// Puts `messages` of so much weight into the inbox, except where nobody takes
    /// them, and tells whether it is full. `overflows` is to throw away what a full
    /// one has no room for.
    pub(crate) fn fill_inbox(
        &self,
        state: &mut State,
        messages: &mut Inbox,
        weight: usize,
        overflows: bool,
    ) -> bool {
        let full = self.is_full(state);
        let overflows = overflows && full;
        if state.receiver_lives && state.receive_end.is_none() && !overflows {
            state.inbox.append(messages);
            state.inbox_weight += weight;
        }
        let full = self.is_full(state);
        if full {
            self.watched.store(true, Relaxed);
        }
        full
    }

    /// Throws away what was received, and returns it to be dropped unlocked.
    pub(crate) fn discard_inbox(&self, state: &mut State) -> Inbox {
        state.discarded = true;
        self.watched.store(true, Relaxed);
        state.counted = self.given.load(Relaxed);
        state.inbox_weight = 0;
        mem::take(&mut state.inbox)
    }

    fn count_given(&self, state: &mut State) {
        let given = self.given.load(Relaxed);
        let since = given.wrapping_sub(state.counted);
        state.inbox_weight = state.inbox_weight.saturating_sub(since);
        state.counted = given;
    }

    /// What the driver is to look at. It polls the handler then, where that is woken.
    pub(crate) fn look(&self, state: &mut State) -> Told {
        let direct = state.queue.is_empty() && state.send_end.is_none();
        self.has_queued.store(!direct, Relaxed);
        Told {
            woken: mem::take(&mut state.handler_woken),
            direct,
            changed: state.changed,
        }
    }

    /// Whether what is said now has to be queued: behind something else that was
    /// queued, or to fail. Whoever knows of what another half has said through the
    /// lock sees it here too.
    pub(crate) fn has_queued(&self) -> bool {
        self.has_queued.load(Relaxed)
    }

    /// So many bytes, and messages, went straight into the outbox in this poll of the
    /// handler.
    pub(crate) fn said_directly(&self, bytes: usize, messages: u64) {
        self.directly.store(bytes, Relaxed);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "as many as fit into memory"
        )]
        self.directly_said.store(messages as usize, Relaxed);
    }

    /// The driver knows what it has not sent.
    pub(crate) fn count_unsent(&self, state: &mut State, unsent: usize, messages: usize) {
        state.unsent = unsent;
        state.unsent_messages = messages;
        self.directly.store(0, Relaxed);
        self.directly_said.store(0, Relaxed);
    }

    /// What was accepted and the transport has not taken: what counts against the
    /// outbound bound.
    fn outbound(&self, state: &State) -> usize {
        state.queue_weight + state.unsent + self.directly.load(Relaxed)
    }

    /// The messages of it.
    fn outbound_messages(&self, state: &State) -> usize {
        state.queue.len() + state.unsent_messages + self.directly_said.load(Relaxed)
    }

    fn has_room(&self, state: &State) -> bool {
        self.outbound(state) < self.outbound_bound.bytes
            && self.outbound_messages(state) < self.outbound_bound.messages
    }

    pub(crate) fn buffered_amount(&self) -> usize {
        self.outbound(&self.lock())
    }

    pub(crate) const fn outbound_bound(&self) -> Bound {
        self.outbound_bound
    }

    /// Changes the state and wakes the driver, where it is asleep.
    pub(crate) fn tell<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state);
        let driver = state.unpark();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        result
    }

    /// The next message: out of the receiver's own batch, or out of the inbox.
    ///
    /// The handler takes the whole inbox under one lock. What is in its batch
    /// counts as received and not yet taken all the same; while the inbox is full,
    /// or where the receiver lives in another task, each message is taken under
    /// the lock, so that the driver learns at once that there is room.
    #[inline]
    pub(crate) fn poll_receive(
        self: &Arc<Self>,
        batch: &mut Inbox,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<Message>, Error>> {
        let own = ptr::eq(cx.waker().data(), Arc::as_ptr(self).cast());
        if own
            && !self.watched.load(Relaxed)
            && let Some(message) = batch.pop_but_last()
        {
            let given = self.given.load(Relaxed);
            self.given
                .store(given.wrapping_add(weight(&message)), Relaxed);
            return Poll::Ready(Ok(Some(message)));
        }
        self.poll_receive_locked(batch, cx, own)
    }

    fn poll_receive_locked(
        &self,
        batch: &mut Inbox,
        cx: &Context<'_>,
        own: bool,
    ) -> Poll<Result<Option<Message>, Error>> {
        let mut state = self.lock();
        let discarded = state.discarded.then(|| mem::take(batch));
        if own && batch.is_empty() {
            mem::swap(batch, &mut state.inbox);
        }
        if let Some(message) = batch.pop().or_else(|| state.inbox.pop()) {
            if let Some(memory) = batch.take_memory()
                && state.inbox.capacity() == 0
            {
                state.inbox = memory;
            }
            let full = self.is_full(&mut state);
            state.inbox_weight = state.inbox_weight.saturating_sub(weight(&message));
            let resumes = full && !self.is_full(&mut state);
            if resumes {
                self.watched.store(state.discarded, Relaxed);
            }
            let driver = resumes.then(|| state.unpark()).flatten();
            drop(state);
            drop(discarded);
            if let Some(driver) = driver {
                driver.wake();
            }
            return Poll::Ready(Ok(Some(message)));
        }
        if let Some(memory) = batch.take_memory()
            && state.inbox.capacity() == 0
        {
            state.inbox = memory;
        }
        if let Some(end) = state.receive_end.clone() {
            let first = !mem::replace(&mut state.end_seen, true);
            let driver = first.then(|| state.unpark()).flatten();
            drop(state);
            drop(discarded);
            if let Some(driver) = driver {
                driver.wake();
            }
            return Poll::Ready(end.map(|()| None).map_err(|end| *end));
        }
        let replaced = match &state.receiving {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => state.receiving.replace(cx.waker().clone()),
        };
        drop(state);
        drop((replaced, discarded));
        Poll::Pending
    }

    /// Sends what `message` holds, straight into the outbox that this thread has lent;
    /// false where that is not so, or full, and it is for [`poll_send`](Self::poll_send).
    #[inline]
    pub(crate) fn send_directly(&self, message: &mut Option<Outgoing>) -> bool {
        message.is_some() && lent::send(self, message)
    }

    /// Sends what `message` holds, once there is room: below the bound a
    /// message is taken however large it is. With `None` it only waits for room.
    pub(crate) fn poll_send(
        &self,
        id: &mut u32,
        cx: &Context<'_>,
        message: &mut Option<Outgoing>,
    ) -> Poll<Result<(), Error>> {
        if lent::send(self, message) {
            return Poll::Ready(Ok(()));
        }
        self.poll_send_locked(id, cx, message)
    }

    fn poll_send_locked(
        &self,
        id: &mut u32,
        cx: &Context<'_>,
        message: &mut Option<Outgoing>,
    ) -> Poll<Result<(), Error>> {
        let mut state = self.lock();
        if let Some(end) = &state.send_end {
            return Poll::Ready(Err(Error::clone(end)));
        }
        if !self.has_room(&state) {
            state.name(id);
            let replaced = state.waiting.wait(*id, cx.waker());
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
        if let Some(message) = message.take() {
            self.push(&mut state, message);
        }
        let driver = state.unpark();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Poll::Ready(Ok(()))
    }

    /// Sends without waiting for room, which a permit has given.
    pub(crate) fn send_now(&self, message: Outgoing) -> Result<(), Error> {
        let mut message = Some(message);
        if lent::send(self, &mut message) {
            return Ok(());
        }
        let (result, _dropped_unlocked) = self.tell(|state| match &state.send_end {
            Some(end) => (Err(Error::clone(end)), message),
            None => {
                if let Some(message) = message {
                    self.push(state, message);
                }
                (Ok(()), None)
            }
        });
        result
    }

    /// What a drain sends last; returns what that replaces, or what comes too late, to be
    /// dropped unlocked.
    pub(crate) fn set_last_message(&self, message: Outgoing) -> Option<Box<Outgoing>> {
        let message = Box::new(message);
        let mut state = self.lock();
        if state.done {
            return Some(message);
        }
        state.last_message.replace(message)
    }

    /// What a drain is to send last, if anything.
    pub(crate) fn take_last_message(&self) -> Option<Box<Outgoing>> {
        self.lock().last_message.take()
    }

    pub(crate) fn poll_closed(&self, id: &mut u32, cx: &Context<'_>) -> Poll<Error> {
        let mut state = self.lock();
        if state.done {
            let end = state.send_end.as_deref().cloned();
            return Poll::Ready(end.unwrap_or(Error::PeerGone));
        }
        state.name(id);
        let replaced = state.closed.wait(*id, cx.waker());
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Those who wait for room, where there is some now.
    pub(crate) fn take_waiting(&self, state: &mut State) -> Waiters {
        if state.waiting.is_empty() || (!self.has_room(state) && state.send_end.is_none()) {
            return Waiters::default();
        }
        mem::take(&mut state.waiting)
    }

    fn push(&self, state: &mut State, message: Outgoing) {
        self.has_queued.store(true, Relaxed);
        state.queue_weight += weight_out(&message);
        state.queue.push_back(message);
    }

    /// A handle asks to close: from here on nothing can be sent, and what was
    /// accepted goes out first.
    pub(crate) fn close(&self, frame: CloseFrame) -> Result<(), Error> {
        let frame = Box::new(frame);
        let (result, _dropped_unlocked) = self.tell(|state| match &state.send_end {
            Some(end) => (Err(Error::clone(end)), Some(frame)),
            None => {
                self.has_queued.store(true, Relaxed);
                state.send_end = Some(Error::closed(Some(&frame)).into());
                state.close = Some(frame);
                (Ok(()), None)
            }
        });
        result
    }

    /// The receiver is dropped; returns what it has not taken, to be dropped too.
    pub(crate) fn forget_receiver(&self) -> (Inbox, Option<Waker>) {
        self.tell(|state| {
            state.handles -= 1;
            state.receiver_lives = false;
            state.counted = self.given.load(Relaxed);
            state.inbox_weight = 0;
            (mem::take(&mut state.inbox), state.take_receiving())
        })
    }
}

impl State {
    /// Gives a handle that waits for the first time its number.
    const fn name(&mut self, id: &mut u32) {
        if *id == 0 {
            self.next_id += 1;
            *id = self.next_id;
        }
    }

    /// A handle is dropped; returns the wakers it left, to be dropped too.
    pub(crate) fn forget(&mut self, id: u32) -> [Option<Waker>; 2] {
        self.handles -= 1;
        if id == 0 {
            return [None, None];
        }
        [&mut self.waiting, &mut self.closed].map(|waiters| waiters.forget(id))
    }

    /// The driver's waker, where it sleeps; it is awake then.
    pub(crate) fn unpark(&mut self) -> Option<Waker> {
        self.changed = true;
        if mem::take(&mut self.parked) {
            self.driver.clone()
        } else {
            None
        }
    }

    /// The driver goes to sleep; returns a waker that is to be dropped.
    pub(crate) fn park(&mut self, waker: &Waker) -> Option<Waker> {
        self.parked = true;
        match &self.driver {
            Some(known) if known.will_wake(waker) => None,
            _ => self.driver.replace(waker.clone()),
        }
    }

    /// Whether the driver went to sleep with this waker.
    pub(crate) fn is_known(&self, waker: &Waker) -> bool {
        self.driver
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
    }

    /// The driver is awake by another's doing: nobody needs to wake it.
    pub(crate) const fn stay_awake(&mut self) {
        self.parked = false;
    }

    /// Who waits in `recv`.
    pub(crate) const fn take_receiving(&mut self) -> Option<Waker> {
        self.receiving.take()
    }

    /// Nothing more comes in or goes out: everyone is told, and what is left in
    /// the queue is returned to be dropped without the lock.
    pub(crate) fn finish(&mut self, end: &Error) -> (Vec<Waker>, VecDeque<Outgoing>) {
        self.done = true;
        self.receive_end
            .get_or_insert_with(|| Err(end.clone().into()));
        self.send_end.get_or_insert_with(|| end.clone().into());
        self.queue_weight = 0;
        self.unsent = 0;
        self.unsent_messages = 0;
        let wakers = self
            .receiving
            .take()
            .into_iter()
            .chain(mem::take(&mut self.waiting).into_wakers())
            .chain(mem::take(&mut self.closed).into_wakers())
            .collect();
        let mut unsent = mem::take(&mut self.queue);
        unsent.extend(self.last_message.take().map(|message| *message));
        (wakers, unsent)
    }
}

/// The handler's waker: it is polled only when this has fired.
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.tell(|state| state.handler_woken = true);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("Shared")
            .field("agreed", &self.agreed)
            .field("received", &state.inbox.len())
            .field("queued", &state.queue.len())
            .field("done", &state.done)
            .finish_non_exhaustive()
    }
}
