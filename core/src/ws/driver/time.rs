//! All of a connection's deadlines, on one timer.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{Engine, ending::Phase, moment::Moment, scratch::Scratch};
use crate::ws::{
    error::Error,
    heartbeat::Beat,
    protocol::{CloseCode, CloseFrame},
    transport::Transport,
};

impl<T: Transport> Engine<T> {
    /// Asks whether a drain has begun, and when it is this socket's turn. An end
    /// that has begun before has to be done by the same time.
    pub(super) fn watch_drain(&mut self, cx: &mut Context<'_>) {
        if let Some(end) = self.drain_end() {
            self.phase.end_by(end);
        }
        if matches!(self.phase, Phase::Open)
            && let Some(guard) = &mut self.guard
            && let Poll::Ready(at) = guard.poll_moment(cx)
        {
            match &mut self.moment {
                Some(moment) => moment.next_turn(),
                none => *none = Some(Box::new(Moment::new(at, self.now))),
            }
        }
    }

    /// Asks until when the peer may stay.
    pub(super) fn watch_expiry(&mut self, cx: &Context<'_>) {
        if let Some(expiry) = &mut self.expiry {
            expiry.look(cx);
        }
    }

    pub(super) fn drain_is_due(&self) -> bool {
        self.moment.as_ref().is_some_and(|moment| moment.is_due())
    }

    /// Does what is due. Called after reading, so that what lies in the socket
    /// has counted as life.
    pub(super) fn check_time(&mut self, handler: bool, scratch: &mut Scratch) {
        let now = self.now;
        if self.phase.is_live() {
            match self.heartbeat.as_mut().map(|heartbeat| heartbeat.beat(now)) {
                None | Some(Beat::Nothing) => {}
                Some(Beat::Gone) => return self.abort(&Error::PeerGone),
                // What waits is asked for by the write time-out.
                Some(Beat::Ping) if self.blocked.is_some() && self.reading_is_paused() => {}
                Some(Beat::Ping) => {
                    let mut out = Self::take_out(&mut self.out, scratch);
                    self.connection.ping(&mut out);
                    Self::keep_out(&mut self.out, out, scratch);
                    self.shared.lock().changed = true;
                }
            }
            if self.rest_at.take_if(|at| now >= **at).is_some() {
                self.connection.rest();
            }
            if self
                .write_deadline()
                .is_some_and(|deadline| now >= deadline)
            {
                return self.abort(&Error::WriteTimeout);
            }
            self.check_idleness();
            self.check_expiry();
        }
        if self.phase.until().is_none_or(|until| now < until) {
            return;
        }
        match self.phase {
            Phase::Open | Phase::Abandoned => {}
            Phase::Draining { .. } => {
                if let Some(guard) = &mut self.guard {
                    if handler {
                        guard.cut();
                    }
                    self.close_drained();
                    // What was said goes out; the handler has had its time.
                    self.may_say_close = true;
                    self.shared.lock().changed = true;
                }
            }
            Phase::Closing(_) if !self.may_say_close => {
                self.overdue();
                self.shared.lock().changed = true;
            }
            // A server that leaves the end to its client.
            Phase::ShutDown { .. } if self.leaves_the_end_to_the_server() => {
                self.die(&Error::PeerGone);
            }
            Phase::Closing(_) | Phase::ShutDown { .. } => self.abort(&Error::PeerGone),
            Phase::Lingering { .. } => self.die(&Error::PeerGone),
            Phase::Dead { .. } => {
                if handler {
                    tracing::debug!("WebSocket handler ran on after its connection and is dropped");
                    let counters = self.stats.counters();
                    counters.handlers_dropped.fetch_add(1, Relaxed);
                }
                self.phase = Phase::Abandoned;
                self.shared.lock().changed = true;
            }
        }
    }

    fn reading_is_paused(&self) -> bool {
        let heartbeat = self.heartbeat.as_ref();
        heartbeat.is_some_and(|heartbeat| heartbeat.is_paused())
    }

    fn check_idleness(&mut self) {
        let Some(idle) = &mut self.idle else { return };
        let moved = mem::take(&mut self.data_moved);
        idle.look(moved, self.connection.assembled(), self.data_waits);
        // In a drain the drain's code is what the peer is told.
        if matches!(self.phase, Phase::Open) && idle.is_over(self.now) {
            self.cut(CloseFrame::new(CloseCode::GOING_AWAY, "idle"), "idle");
            self.shared.lock().changed = true;
        }
    }

    fn check_expiry(&mut self) {
        let expired = self.expiry.as_ref().is_some_and(|at| self.now >= at.at());
        // As above.
        if expired && matches!(self.phase, Phase::Open) {
            self.expire();
            self.shared.lock().changed = true;
        }
    }

    /// When a transport that takes nothing is given up; a kernel that hands on
    /// what it holds is progress.
    fn write_deadline(&mut self) -> Option<Instant> {
        let limit = self.settings.write_limit()?;
        let (since, held) = &mut **self.blocked.as_mut()?;
        if self.now >= *since + limit {
            let holds = self.transport.as_ref()?.unsent();
            if holds < *held {
                (*since, *held) = (self.now, holds);
            }
        }
        Some(*since + limit)
    }

    fn next_deadline(&mut self, handler: bool) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Dead { .. } if !handler => None,
            _ => self.phase.until(),
        };
        let live = if self.phase.is_live() {
            let beat = self
                .heartbeat
                .as_ref()
                .map(|heartbeat| heartbeat.deadline());
            let idle = match self.phase {
                Phase::Open => self.idle.as_ref().and_then(|idle| idle.deadline()),
                _ => None,
            };
            let expiry = match self.phase {
                Phase::Open => self.expiry.as_ref().map(|expiry| expiry.at()),
                _ => None,
            };
            [
                beat,
                idle,
                expiry,
                self.write_deadline(),
                self.moment.as_ref().and_then(|moment| moment.deadline()),
                self.rest_at.as_deref().copied(),
            ]
        } else {
            [None; 6]
        };
        live.into_iter().flatten().chain(phase).min()
    }

    /// Whether the timer has to be asked, however much else there is to do.
    pub(super) fn awaits_timer(&self) -> bool {
        let heartbeat = self.heartbeat.as_ref();
        heartbeat.is_some_and(|heartbeat| heartbeat.awaits_timer(self.now))
            || self.awaits_idleness()
            || self.awaits_moment()
    }

    fn awaits_moment(&self) -> bool {
        let moment = self.moment.as_ref();
        moment.is_some_and(|moment| moment.awaits_timer(self.now))
    }

    fn awaits_idleness(&self) -> bool {
        let idle = self.idle.as_ref();
        matches!(self.phase, Phase::Open) && idle.is_some_and(|idle| idle.awaits_timer(self.now))
    }

    /// Whether a timer that fires at `timer` comes before whatever may be due, and not
    /// yet: nearly always there is nothing but a heartbeat, which a turn can only put off.
    pub(super) fn rests(&self, timer: Option<Instant>) -> bool {
        if !matches!(self.phase, Phase::Open)
            || self.idle.is_some()
            || self.expiry.is_some()
            || self.blocked.is_some()
            || self.moment.is_some()
            || self.rest_at.is_some()
        {
            return false;
        }
        let Some(heartbeat) = &self.heartbeat else {
            return true;
        };
        timer.is_some_and(|at| self.now < at && heartbeat.rests_until(at))
    }

    /// Sees to it that the next deadline polls us; false where it is here.
    ///
    /// A timer that would fire earlier than needed is left alone: most
    /// deadlines move away with every message.
    pub(super) fn arm(
        &mut self,
        mut timer: Pin<&mut Option<Sleep>>,
        armed: &mut bool,
        handler: bool,
        cx: &mut Context<'_>,
    ) -> bool {
        let Some(deadline) = self.next_deadline(handler) else {
            return true;
        };
        match timer.as_mut().as_pin_mut() {
            None => timer.set(Some(sleep_until(deadline))),
            Some(timer) => {
                let at = timer.deadline();
                if !*armed || deadline < at || at <= self.now {
                    timer.reset(deadline);
                }
            }
        }
        *armed = true;
        let Some(timer) = timer.as_pin_mut() else {
            return true;
        };
        let deadline = timer.deadline();
        let mut timer = tokio::task::coop::unconstrained(timer);
        if Pin::new(&mut timer).poll(cx).is_pending() {
            return true;
        }
        *armed = false;
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.timer_fired(deadline);
        }
        if let Some(idle) = &mut self.idle {
            idle.timer_fired(deadline);
        }
        if let Some(moment) = &mut self.moment
            && moment.timer_fired(deadline)
        {
            cx.waker().wake_by_ref();
        }
        self.now = self.now.max(Instant::now());
        false
    }
}
