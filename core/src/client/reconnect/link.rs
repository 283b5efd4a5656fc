//! What the handles share with the task that keeps the connection up.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::{Down, SendError, WhenFull};
use crate::ws::{CloseCode, CloseFrame, Message, Outgoing, Text, weight, weight_out};

pub(super) struct Link {
    inbound_bound: usize,
    outbound_bound: usize,
    when_full: WhenFull,
    state: Mutex<State>,
}

/// The lock is held for moves of data only: nothing is woken or dropped under it.
struct State {
    inbox: VecDeque<Message>,
    inbox_weight: usize,
    queue: VecDeque<Outgoing>,
    queue_weight: usize,
    /// Messages that were thrown away by [`WhenFull`].
    dropped: u64,
    /// What the user closes with.
    close: Option<CloseFrame>,
    /// It is over, and why.
    end: Option<Option<Arc<Down>>>,
    handles: usize,
    receiver_lives: bool,
    /// Who waits for a message, …
    receiving: Option<Waker>,
    /// … for room, …
    sending: Vec<Waker>,
    /// … and the task, for whatever the handles do.
    task: Option<Waker>,
}

impl State {
    fn take_wakers(&mut self) -> Vec<Waker> {
        let mut wakers = mem::take(&mut self.sending);
        wakers.extend(self.receiving.take());
        wakers
    }
}

impl Link {
    pub(super) fn new(inbound_bound: usize, outbound_bound: usize, when_full: WhenFull) -> Self {
        Self {
            inbound_bound,
            outbound_bound,
            when_full,
            state: Mutex::new(State {
                inbox: VecDeque::new(),
                inbox_weight: 0,
                queue: VecDeque::new(),
                queue_weight: 0,
                dropped: 0,
                close: None,
                end: None,
                handles: 1,
                receiver_lives: true,
                receiving: None,
                sending: Vec::new(),
                task: None,
            }),
        }
    }

    /// Poison is ignored: no user code runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What the handles do.

    pub(super) fn poll_receive(
        &self,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<Message>, Arc<Down>>> {
        let mut state = self.lock();
        if let Some(message) = state.inbox.pop_front() {
            let was_full = state.inbox_weight >= self.inbound_bound;
            state.inbox_weight -= weight(&message);
            let task = was_full.then(|| state.task.take()).flatten();
            drop(state);
            wake(task);
            return Poll::Ready(Ok(Some(message)));
        }
        match &state.end {
            Some(None) => Poll::Ready(Ok(None)),
            Some(Some(why)) => Poll::Ready(Err(Arc::clone(why))),
            None => {
                let replaced = state.receiving.replace(cx.waker().clone());
                drop(state);
                drop(replaced);
                Poll::Pending
            }
        }
    }

    /// Queues what `message` holds; with `None` it only waits for room.
    pub(super) fn poll_send(
        &self,
        cx: &Context<'_>,
        message: &mut Option<Outgoing>,
    ) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        if let Some(why) = &state.end {
            return Poll::Ready(Err(SendError::Closed(why.clone())));
        }
        if state.close.is_some() {
            return Poll::Ready(Err(SendError::Closed(None)));
        }
        let mut thrown = Vec::new();
        if state.queue_weight >= self.outbound_bound {
            match self.when_full {
                WhenFull::Wait => {
                    if !state
                        .sending
                        .iter()
                        .any(|known| known.will_wake(cx.waker()))
                    {
                        state.sending.push(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
                WhenFull::Fail => return Poll::Ready(Err(SendError::Full)),
                WhenFull::DropNewest => {
                    state.dropped += u64::from(message.is_some());
                    drop(state);
                    drop(message.take());
                    return Poll::Ready(Ok(()));
                }
                WhenFull::DropOldest => {
                    while message.is_some()
                        && state.queue_weight >= self.outbound_bound
                        && let Some(oldest) = state.queue.pop_front()
                    {
                        state.queue_weight -= weight_out(&oldest);
                        state.dropped += 1;
                        thrown.push(oldest);
                    }
                }
            }
        }
        let mut task = None;
        if let Some(message) = message.take() {
            state.queue_weight += weight_out(&message);
            state.queue.push_back(message);
            task = state.task.take();
        }
        drop(state);
        drop(thrown);
        wake(task);
        Poll::Ready(Ok(()))
    }

    /// As [`poll_send`](Self::poll_send), by whoever has waited for room before.
    pub(super) fn send_now(&self, message: Outgoing) -> Result<(), SendError> {
        let mut message = Some(message);
        let cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(sent) = self.poll_send(&cx, &mut message) {
            return sent;
        }
        let mut state = self.lock();
        let mut task = None;
        if let Some(message) = message {
            state.queue_weight += weight_out(&message);
            state.queue.push_back(message);
            task = state.task.take();
        }
        drop(state);
        wake(task);
        Ok(())
    }

    /// Asks to close, the first time.
    pub(super) fn close(&self, frame: CloseFrame) {
        let mut state = self.lock();
        if state.close.is_none() {
            state.close = Some(frame);
        }
        let task = state.task.take();
        let sending = mem::take(&mut state.sending);
        drop(state);
        wake(task.into_iter().chain(sending));
    }

    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    pub(super) fn queued(&self) -> usize {
        self.lock().queue_weight
    }

    pub(super) fn add_handle(&self) {
        self.lock().handles += 1;
    }

    pub(super) fn forget_handle(&self) {
        let mut state = self.lock();
        state.handles -= 1;
        let last = state.handles == 0;
        drop(state);
        if last {
            self.close(CloseFrame::new(CloseCode::NORMAL, Text::default()));
        }
    }

    pub(super) fn forget_receiver(&self) {
        let mut state = self.lock();
        state.receiver_lives = false;
        state.inbox_weight = 0;
        let unread = mem::take(&mut state.inbox);
        let task = state.task.take();
        drop(state);
        drop(unread);
        wake(task);
        self.forget_handle();
    }

    // What the task does.

    /// Ready once the user has asked to close.
    pub(super) fn poll_closing(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.close.is_some() {
            return Poll::Ready(());
        }
        let replaced = state.task.replace(cx.waker().clone());
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().close.is_some()
    }

    /// Whether there is something to send, else what to close with once all is sent;
    /// registers the task where there is neither.
    pub(super) fn poll_say(&self, cx: &Context<'_>) -> Poll<Option<CloseFrame>> {
        let mut state = self.lock();
        if !state.queue.is_empty() {
            return Poll::Ready(None);
        }
        if let Some(frame) = &state.close {
            return Poll::Ready(Some(frame.clone()));
        }
        let replaced = state.task.replace(cx.waker().clone());
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    pub(super) fn take_queued(&self) -> Option<Outgoing> {
        let mut state = self.lock();
        let message = state.queue.pop_front()?;
        state.queue_weight -= weight_out(&message);
        let sending = if state.queue_weight < self.outbound_bound {
            mem::take(&mut state.sending)
        } else {
            Vec::new()
        };
        drop(state);
        wake(sending);
        Some(message)
    }

    /// Ready where the inbox takes another message.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.inbox_weight < self.inbound_bound {
            return Poll::Ready(());
        }
        let replaced = state.task.replace(cx.waker().clone());
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    pub(super) fn receive(&self, message: Message) {
        let mut state = self.lock();
        if !state.receiver_lives {
            drop(state);
            drop(message);
            return;
        }
        state.inbox_weight += weight(&message);
        state.inbox.push_back(message);
        let receiving = state.receiving.take();
        drop(state);
        wake(receiving);
    }

    /// It is over: what was received is still given, what is queued is not sent.
    pub(super) fn finish(&self, why: Option<Arc<Down>>) {
        let mut state = self.lock();
        state.end.get_or_insert(why);
        let unsent = mem::take(&mut state.queue);
        state.queue_weight = 0;
        let wakers = state.take_wakers();
        drop(state);
        drop(unsent);
        wake(wakers);
    }
}

fn wake(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        waker.wake();
    }
}
