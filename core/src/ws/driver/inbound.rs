//! Bytes become messages in the inbox.

use std::{
    mem,
    ops::ControlFlow,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use tokio::time::Instant;

use super::{
    Engine,
    ending::{Behind, Phase},
    scratch::{READ_SIZE, Scratch},
};
use crate::ws::{
    error::Error,
    protocol::{CloseFrame, Event, Input, Outbox, ProtocolError},
    shared::weight,
    transport::{Received, Transport},
};

/// A payload that still lacks so much is read straight into its own buffer.
const DIRECT: usize = 16 * 1024;

/// A read of so many bytes may be shared by the large messages in it: nearly all of the
/// memory is what the peer has sent.
const SHARED_READ: usize = 48 * 1024;

/// How parsing ended, besides running out of bytes.
enum End {
    Close(Option<CloseFrame>),
    Breach(ProtocolError),
}

impl<T: Transport> Engine<T> {
    /// Reads once, and returns how many bytes it took; 0 where nothing could be
    /// read now, with the read waker registered unless reading is not wanted.
    pub(super) fn read(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> usize {
        if !self.may_read() {
            return 0;
        }
        if let Some(bytes) = self.read_ahead.take() {
            let len = bytes.len();
            self.parse(&mut &bytes[..], scratch);
            return len;
        }
        let Some(transport) = &mut self.transport else {
            return 0;
        };
        let discards = self.phase.discards();
        if !discards && !scratch.spares.is_empty() {
            self.connection.reuse(&mut scratch.spares);
        }
        let direct = if discards {
            None
        } else {
            self.connection.direct(DIRECT)
        };
        let polled = match direct {
            Some((buffer, max)) => (transport.poll_receive(cx, buffer, max), true),
            None => {
                let buffer = scratch.read_buffer();
                (transport.poll_receive(cx, buffer, READ_SIZE), false)
            }
        };
        if self.connection.close_received() {
            self.behind_close = match polled.0 {
                Poll::Ready(Ok(Received::Filled(_) | Received::Chunk(_))) => Behind::More,
                _ if self.behind_close == Behind::Unknown => Behind::Nothing,
                _ => self.behind_close,
            };
        }
        match polled {
            (Poll::Pending, _) => 0,
            (Poll::Ready(Err(error)), _) => {
                tracing::debug!(%error, "WebSocket read failed");
                self.broken();
                0
            }
            (Poll::Ready(Ok(Received::End)), _) => {
                self.peer_ended();
                // Not a byte, but something happened.
                1
            }
            (Poll::Ready(Ok(Received::Filled(count))), true) => {
                self.heard(count);
                self.parse_direct(count, scratch);
                count
            }
            (Poll::Ready(Ok(Received::Filled(count))), false) => {
                self.heard(count);
                let mut bytes = mem::take(&mut scratch.read);
                if count < SHARED_READ {
                    self.parse(&mut &bytes[..], scratch);
                } else {
                    self.parse(&mut bytes, scratch);
                }
                scratch.read = bytes;
                count
            }
            (Poll::Ready(Ok(Received::Chunk(chunk))), _) => {
                self.heard(chunk.len());
                self.parse(&mut &chunk[..], scratch);
                chunk.len().max(1)
            }
        }
    }

    /// Whether there is a use for more bytes now.
    fn may_read(&mut self) -> bool {
        if self.transport.is_none() || self.phase.has_read_all() {
            return false;
        }
        if self.inbox_full && !self.phase.discards() {
            self.inbox_full = self.shared.inbox_is_full();
            match (&mut self.heartbeat, self.inbox_full) {
                (Some(heartbeat), true) => heartbeat.pause(self.now),
                (Some(heartbeat), false) => heartbeat.resume(self.now),
                (None, _) => {}
            }
            match (&mut self.idle, self.inbox_full) {
                (Some(idle), true) => idle.pause(self.now),
                (Some(idle), false) => idle.resume(self.now),
                (None, _) => {}
            }
            // While closing, what nobody takes is thrown away: the peer's close
            // frame stands behind it.
            return !self.inbox_full || self.connection.close_sent();
        }
        true
    }

    /// Whether reading stands still until the handler makes room.
    pub(super) const fn awaits_room(&self) -> bool {
        let reads = self.transport.is_some() && !self.phase.has_read_all();
        self.inbox_full && reads && !self.phase.discards()
    }

    fn heard(&mut self, bytes: usize) {
        if let Some(trace) = &mut self.trace {
            trace.bytes_in += bytes as u64;
        }
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.received(self.now);
        }
    }

    fn ponged(&mut self) {
        // Not the turn's beginning: the ping may have gone out since.
        let heartbeat = self.heartbeat.as_mut();
        let time = heartbeat.and_then(|heartbeat| heartbeat.ponged(Instant::now()));
        if let Some(time) = time {
            self.shared.set_round_trip(time);
        }
    }

    fn parse(&mut self, input: &mut impl Input, scratch: &mut Scratch) {
        if self.phase.discards() {
            return;
        }
        let mut out = Self::take_out(&mut self.out, scratch);
        let room = match self.shared.inbox_room() {
            // Read all the same: it is to be thrown away.
            0 => usize::MAX,
            room => room,
        };
        let mut taken = 0;
        let batch = scratch.batch.queue();
        let end = self.connection.receive_each(input, &mut out, |message| {
            taken += weight(&message);
            batch.push_back(message);
            if taken < room {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        if self.connection.take_pong() {
            self.ponged();
        }
        let end = match end {
            Ok(Some(Event::Close(frame))) => {
                if input.has_remaining() {
                    self.behind_close = Behind::More;
                }
                Some(End::Close(frame))
            }
            Ok(None | Some(Event::Message(_))) => None,
            Err(breach) => Some(End::Breach(breach)),
        };
        if input.has_remaining() && end.is_none() {
            // No more than one read: the rest waits for the handler.
            self.read_ahead = Some(Box::new(Bytes::copy_from_slice(input.chunk())));
        }
        Self::keep_out(&mut self.out, out, scratch);
        self.deliver(taken, end, scratch);
    }

    fn parse_direct(&mut self, count: usize, scratch: &mut Scratch) {
        let mut out = Self::take_out(&mut self.out, scratch);
        let result = self.connection.direct_filled(count, &mut out);
        Self::keep_out(&mut self.out, out, scratch);
        let (taken, end) = match result {
            Ok(Some(Event::Message(message))) => {
                let taken = weight(&message);
                scratch.batch.queue().push_back(message);
                (taken, None)
            }
            Ok(Some(Event::Close(frame))) => (0, Some(End::Close(frame))),
            Ok(None) => return,
            Err(breach) => (0, Some(End::Breach(breach))),
        };
        self.deliver(taken, end, scratch);
    }

    /// Puts the batch into the inbox, and the end behind it.
    fn deliver(&mut self, taken: usize, end: Option<End>, scratch: &mut Scratch) {
        let count = scratch.batch.len() as u64;
        if count > 0 {
            self.data_moved = true;
            self.stats.counters().messages_in.fetch_add(count, Relaxed);
            if let Some(trace) = &mut self.trace {
                trace.messages_in += count;
            }
        }
        let mut state = self.shared.lock();
        // While closing, what a full inbox has no room for is thrown away, whole.
        let overflows = self.connection.close_sent();
        let shared = &self.shared;
        self.inbox_full = shared.fill_inbox(&mut state, &mut scratch.batch, taken, overflows);
        if let Some(end) = &end
            && state.receive_end.is_none()
        {
            state.receive_end = Some(match end {
                End::Close(_) => Ok(()),
                End::Breach(breach) => Err(Error::Protocol(*breach).into()),
            });
        }
        if let Some(End::Close(frame)) = &end {
            state.peer_close = frame.clone().map(Box::new);
        }
        let receiving = if count > 0 || end.is_some() {
            state.take_receiving()
        } else {
            None
        };
        drop(state);
        scratch.batch.clear();
        self.wake_receiver(receiving);
        match end {
            None => {}
            Some(End::Close(frame)) => self.peer_closed(frame),
            Some(End::Breach(breach)) => {
                tracing::debug!(error = %breach, "WebSocket peer broke the protocol");
                self.breached(breach);
            }
        }
    }

    /// Wakes who waits in `recv`, and finds out whether that is the handler.
    pub(super) fn wake_receiver(&mut self, receiving: Option<Waker>) {
        let Some(waker) = receiving else { return };
        let own = waker.will_wake(&self.handler_waker);
        waker.wake();
        // A waker of `join!` or `select!` wakes the handler's in its turn.
        self.receives_elsewhere = !own && !self.shared.lock().handler_woken;
    }

    /// The peer sends no more.
    fn peer_ended(&mut self) {
        match self.phase {
            Phase::Open | Phase::Draining { .. } | Phase::Closing(_) => {
                if self.connection.close_received() {
                    self.phase.read_all();
                } else {
                    self.peer_gone();
                }
            }
            Phase::ShutDown { .. } | Phase::Lingering { .. } => {
                if self.leaves_the_end_to_the_server()
                    && let Some(transport) = &mut self.transport
                {
                    // TLS has a last word; whoever has gone does not wait for it.
                    let _ = transport.poll_shutdown(&mut Context::from_waker(Waker::noop()));
                }
                self.die(&Error::PeerGone);
            }
            Phase::Dead { .. } | Phase::Abandoned => {}
        }
    }

    /// The outbox to write to: what is left of the last turn, or a lent one.
    pub(super) fn take_out(kept: &mut Option<Box<Outbox>>, scratch: &mut Scratch) -> Box<Outbox> {
        kept.take()
            .or_else(|| scratch.out.take())
            .unwrap_or_default()
    }

    /// Keeps the outbox while there is something in it.
    pub(super) fn keep_out(
        kept: &mut Option<Box<Outbox>>,
        mut out: Box<Outbox>,
        scratch: &mut Scratch,
    ) {
        if !out.spares().is_empty() {
            scratch.spares.append(out.spares());
        }
        if out.has_remaining() {
            *kept = Some(out);
        } else {
            scratch.out = Some(out);
        }
    }
}
