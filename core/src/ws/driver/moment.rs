//! When a socket is to end in a drain.

use std::time::Duration;

use tokio::time::Instant;

/// The timer's grain: a timer for less may be over before anybody has waited.
const TICK: Duration = Duration::from_millis(1);

/// A socket's moment in a drain. The clock alone does not bring it: what the peer has
/// sent lies in the kernel until the runtime asks for it, and the last read would miss
/// it. The runtime's timers fire behind its asking.
#[derive(Debug)]
pub(super) struct Moment {
    at: Instant,
    stage: Stage,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Ahead,
    /// The timer has fired: whoever else was woken with it has a turn first, since
    /// what we read may come through another task.
    Struck,
    Due,
}

impl Moment {
    pub(super) fn new(at: Instant, now: Instant) -> Self {
        Self {
            at: at.max(now + TICK),
            stage: Stage::Ahead,
        }
    }

    /// When a timer has to fire.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.stage == Stage::Ahead).then_some(self.at)
    }

    /// By the clock it is here; the timer has still to say so.
    pub(super) fn awaits_timer(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }

    /// The runtime's timer for `deadline` has fired. Whether another turn is needed.
    pub(super) fn timer_fired(&mut self, deadline: Instant) -> bool {
        let strikes = self.deadline().is_some_and(|at| at <= deadline);
        if strikes {
            self.stage = Stage::Struck;
        }
        strikes
    }

    /// A turn begins.
    pub(super) fn next_turn(&mut self) {
        if self.stage == Stage::Struck {
            self.stage = Stage::Due;
        }
    }

    /// What can be read now is the last that is.
    pub(super) fn is_due(&self) -> bool {
        self.stage == Stage::Due
    }
}
