//! When a socket on which nothing is said has to go.

use std::time::Duration;

use tokio::time::Instant;

/// Finds that no data has moved for `limit`, in either direction. Control frames are
/// no data: the peer that only answers pings is idle.
#[derive(Debug)]
pub(crate) struct Idle {
    limit: Duration,
    /// When data last moved.
    since: Instant,
    /// What there was of a message in the making.
    assembled: u64,
    /// A message is on its way out: what does not take it is the write time-out's.
    under_way: bool,
    /// The runtime's timer came to the end of the wait.
    told: bool,
    /// Since when nothing is read, by our own choice: the silence is ours.
    paused: Option<Instant>,
}

impl Idle {
    pub(crate) const fn new(limit: Duration, now: Instant) -> Self {
        Self {
            limit,
            since: now,
            assembled: 0,
            under_way: false,
            told: false,
            paused: None,
        }
    }

    /// How things stand: whether data `moved` since the last look, how much of a
    /// message is `assembled`, and whether one is `under_way` to the peer.
    pub(crate) fn look(&mut self, moved: bool, assembled: u64, under_way: bool) {
        if moved || self.assembled != assembled {
            // Not the turn's beginning: a handler that computed since was not idle.
            self.since = Instant::now();
            self.told = false;
        }
        self.assembled = assembled;
        self.under_way = under_way;
    }

    /// Nothing is read from now on.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.paused.get_or_insert(now);
    }

    /// Reading goes on.
    pub(crate) fn resume(&mut self, now: Instant) {
        if let Some(paused) = self.paused.take() {
            // Data may have gone out meanwhile.
            self.since += now.saturating_duration_since(paused.max(self.since));
            self.told = false;
        }
    }

    /// When the socket has been idle for too long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let stands_still = self.paused.is_some() || self.under_way;
        (!stands_still).then(|| self.since + self.limit)
    }

    /// The runtime's timer for `deadline` has fired. As with the heartbeat the clock
    /// alone tells nothing: a message may lie in a socket that nobody has looked at.
    pub(crate) fn timer_fired(&mut self, deadline: Instant) {
        self.told = self.deadline().is_some_and(|due| due <= deadline);
    }

    /// By the clock it is over; the timer has still to say so.
    pub(crate) fn awaits_timer(&self, now: Instant) -> bool {
        !self.told && self.deadline().is_some_and(|due| due <= now)
    }

    /// Asked after reading, so that what lies in the socket has counted.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.told && self.deadline().is_some_and(|due| due <= now)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const T: Duration = Duration::from_secs(60);

    fn start() -> (Idle, Instant) {
        let now = Instant::now();
        (Idle::new(T, now), now)
    }

    #[test]
    fn the_clock_alone_does_not_say_that_it_is_over() {
        let (mut idle, start) = start();
        assert_eq!(idle.deadline(), Some(start + T));
        let late = start + T * 3;
        assert!(!idle.is_over(late) && idle.awaits_timer(late));
        idle.timer_fired(start + T / 2);
        assert!(!idle.is_over(late), "a timer of before");
        idle.timer_fired(start + T);
        assert!(idle.is_over(late) && !idle.awaits_timer(late));
        assert!(!idle.is_over(start + T / 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_begins_it_anew() {
        let (mut idle, start) = start();
        for (moved, assembled) in [(true, 0), (false, 10), (false, 20), (true, 20)] {
            advance(T / 2).await;
            idle.look(moved, assembled, false);
            assert_eq!(idle.deadline(), Some(Instant::now() + T));
        }
        idle.timer_fired(start + T * 3);
        advance(T).await;
        assert!(idle.is_over(Instant::now()));
        idle.look(false, 20, false);
        assert!(idle.is_over(Instant::now()), "half a message, and silence");
        idle.look(false, 0, false);
        assert!(!idle.is_over(Instant::now()));
    }

    #[test]
    fn a_message_on_its_way_is_not_idleness() {
        let (mut idle, start) = start();
        idle.look(false, 0, true);
        assert_eq!(idle.deadline(), None);
        idle.look(false, 0, false);
        assert_eq!(idle.deadline(), Some(start + T));
    }

    #[test]
    fn while_we_do_not_read_it_stands_still() {
        let (mut idle, start) = start();
        idle.timer_fired(start + T);
        idle.pause(start + T / 2);
        idle.pause(start + T);
        assert_eq!(idle.deadline(), None);
        idle.resume(start + T * 5);
        assert_eq!(idle.deadline(), Some(start + T * 11 / 2));
        assert!(!idle.is_over(start + T * 10), "told before");
        idle.resume(start + T * 6);
        assert_eq!(idle.deadline(), Some(start + T * 11 / 2));
    }
}
