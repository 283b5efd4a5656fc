//! When the readers of a busy topic are woken.

use std::time::Duration;

use tokio::time::Instant;

/// What a hub's settings say: see [`HubBuilder::linger`](super::HubBuilder::linger).
#[derive(Clone, Copy, Debug)]
pub(super) struct Linger {
    /// The longest that an event waits for others.
    time: Duration,
    /// So many events do not wait for more.
    events: u64,
}

impl Linger {
    /// Nor do more events: what a socket takes at once is not much more.
    const EVENTS: u64 = 64;
    /// Nor so many bytes of payload.
    const BYTES: usize = 16 * 1024;

    /// `queue` is by how much a reader may lag: those who wait must not be cut off for
    /// what they have not been told.
    pub(super) fn new(time: Duration, queue: u64) -> Option<Self> {
        let events = Self::EVENTS.min(queue / 2);
        (!time.is_zero() && events > 0).then_some(Self { time, events })
    }
}

/// What is to be done for an event that was published.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Wake the readers now.
    Wake,
    /// Whoever comes next wakes them, or the timer.
    Hold,
    /// As the former, and the timer is to be set.
    HoldUntil(Instant),
}

/// A log's pace: the events that its readers have not been woken for.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    linger: Option<Linger>,
    woken: Option<Instant>,
    events: u64,
    bytes: usize,
    /// The timer is set.
    is_timed: bool,
}

impl Pacer {
    pub(super) const fn set(&mut self, linger: Linger) {
        self.linger = Some(linger);
    }

    /// An event of so many bytes was published.
    pub(super) fn publish(&mut self, bytes: usize) -> Pace {
        let Some(linger) = self.linger else {
            return Pace::Wake;
        };
        let now = Instant::now();
        // A pause is over: nobody waits for a second event that may not come.
        let due = self.woken.map(|woken| woken + linger.time);
        let due = due.filter(|due| now < *due);
        self.events += 1;
        self.bytes += bytes;
        match due {
            Some(due) if self.events < linger.events && self.bytes < Linger::BYTES => {
                if std::mem::replace(&mut self.is_timed, true) {
                    Pace::Hold
                } else {
                    Pace::HoldUntil(due)
                }
            }
            _ => {
                self.wake(now);
                Pace::Wake
            }
        }
    }

    /// The timer has fired: whether readers are to be woken.
    pub(super) fn fire(&mut self) -> bool {
        self.is_timed = false;
        let holds = self.events > 0;
        if holds {
            self.wake(Instant::now());
        }
        holds
    }

    const fn wake(&mut self, now: Instant) {
        self.woken = Some(now);
        self.events = 0;
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const TIME: Duration = Duration::from_millis(5);
    const MS: Duration = Duration::from_millis(1);

    fn pacer(queue: u64) -> Pacer {
        let mut pacer = Pacer::default();
        if let Some(linger) = Linger::new(TIME, queue) {
            pacer.set(linger);
        }
        pacer
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_behind_a_pause_is_at_once_and_no_other_later_than_the_time() {
        let mut pacer = pacer(1024);
        let start = Instant::now();
        assert_eq!(pacer.publish(1), Pace::Wake);
        advance(2 * MS).await;
        assert_eq!(pacer.publish(1), Pace::HoldUntil(start + TIME));
        assert_eq!(pacer.publish(1), Pace::Hold);
        advance(3 * MS).await;
        assert!(pacer.fire());
        assert_eq!(pacer.publish(1), Pace::HoldUntil(start + 2 * TIME));
        advance(TIME).await;
        assert!(pacer.fire());
        advance(TIME).await;
        assert!(!pacer.fire(), "nothing waits");
        assert_eq!(pacer.publish(1), Pace::Wake);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_late_holds_nothing_up() {
        let mut pacer = pacer(1024);
        assert_eq!(pacer.publish(1), Pace::Wake);
        assert!(matches!(pacer.publish(1), Pace::HoldUntil(_)));
        advance(2 * TIME).await;
        assert_eq!(pacer.publish(1), Pace::Wake);
        assert!(!pacer.fire());
    }

    #[tokio::test(start_paused = true)]
    async fn enough_does_not_wait_for_more() {
        let mut by_events = pacer(8);
        assert_eq!(by_events.publish(1), Pace::Wake);
        let paces = [(); 4].map(|()| by_events.publish(1) == Pace::Wake);
        assert_eq!(paces, [false, false, false, true], "half the queue");
        let mut by_bytes = pacer(1024);
        assert_eq!(by_bytes.publish(1), Pace::Wake);
        assert!(matches!(by_bytes.publish(10_000), Pace::HoldUntil(_)));
        assert_eq!(by_bytes.publish(10_000), Pace::Wake);
    }

    #[test]
    fn without_it_everything_is_at_once() {
        for mut pacer in [Pacer::default(), pacer(1)] {
            assert_eq!(
                [(); 3].map(|()| pacer.publish(1)),
                [(); 3].map(|()| Pace::Wake)
            );
        }
        assert!(Linger::new(Duration::ZERO, 1024).is_none());
    }
}
