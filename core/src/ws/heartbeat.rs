//! When to ping, and when a peer is gone.

use std::time::Duration;

use tokio::time::Instant;

/// Pings a peer after `interval` without traffic in one of the two directions;
/// one from which no byte came for twice as long, a ping among it, is gone.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    interval: Duration,
    received: Instant,
    sent: Instant,
    /// When the ping went out that nothing has come since.
    pinged: Option<Instant>,
    /// The runtime's timer came to the end of the wait for the pong.
    told: bool,
    /// Since when nothing is read, by our own choice: the silence is ours.
    paused: Option<Instant>,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    Nothing,
    Ping,
    Gone,
}

impl Heartbeat {
    pub(crate) const fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            received: now,
            sent: now,
            pinged: None,
            told: false,
            paused: None,
        }
    }

    pub(crate) const fn received(&mut self, now: Instant) {
        self.received = now;
        self.pinged = None;
        self.told = false;
    }

    pub(crate) const fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// Nothing is read from now on: the peer's silence does not count.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.paused.get_or_insert(now);
    }

    /// Reading goes on.
    pub(crate) fn resume(&mut self, now: Instant) {
        if let Some(paused) = self.paused.take() {
            let silence = now.saturating_duration_since(paused);
            self.received += silence;
            self.told = false;
            if let Some(pinged) = &mut self.pinged {
                *pinged += silence;
            }
        }
    }

    /// When something is due next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.paused.is_some() {
            return None;
        }
        Some(match self.pinged {
            // A ping that went out late, because nobody polled us, has its
            // interval all the same.
            Some(pinged) => (self.received + self.interval * 2).max(pinged + self.interval),
            None => self.received.min(self.sent) + self.interval,
        })
    }

    /// The runtime's timer for `deadline` has fired.
    ///
    /// The clock alone does not tell that a pong stays away: while a handler computed,
    /// nobody may have looked at the socket. The runtime does so before it looks at its
    /// timers, so what came until then is there to be read now.
    pub(crate) fn timer_fired(&mut self, deadline: Instant) {
        self.told = self.pinged.is_some() && self.deadline().is_some_and(|due| due <= deadline);
    }

    /// By the clock the peer is gone; the timer has still to say so.
    pub(crate) fn awaits_timer(&self, now: Instant) -> bool {
        self.pinged.is_some() && !self.told && self.deadline().is_some_and(|due| due <= now)
    }

    /// What is due at `now`; a ping counts as sent. Asked after reading, so that
    /// what lies in the socket has counted.
    pub(crate) fn beat(&mut self, now: Instant) -> Beat {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Beat::Nothing;
        }
        if self.pinged.is_some() {
            return if self.told { Beat::Gone } else { Beat::Nothing };
        }
        self.pinged = Some(now);
        self.sent = now;
        Beat::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(30);

    fn start() -> (Heartbeat, Instant) {
        let now = Instant::now();
        (Heartbeat::new(T, now), now)
    }

    #[test]
    fn a_silent_peer_is_pinged_after_one_interval_and_gone_after_two() {
        let (mut heartbeat, start) = start();
        assert_eq!(heartbeat.beat(start + T / 2), Beat::Nothing);
        assert_eq!(heartbeat.beat(start + T), Beat::Ping);
        assert_eq!(heartbeat.deadline(), Some(start + T * 2));
        assert_eq!(heartbeat.beat(start + T * 3 / 2), Beat::Nothing);
        heartbeat.timer_fired(start + T * 2);
        assert_eq!(heartbeat.beat(start + T * 2), Beat::Gone);
    }

    #[test]
    fn the_clock_alone_does_not_say_that_a_peer_is_gone() {
        let (mut heartbeat, start) = start();
        assert_eq!(heartbeat.beat(start + T), Beat::Ping);
        let late = start + T * 10;
        heartbeat.timer_fired(start + T);
        assert_eq!(heartbeat.beat(late), Beat::Nothing, "a timer of before");
        assert!(heartbeat.awaits_timer(late));
        heartbeat.timer_fired(start + T * 2);
        assert!(!heartbeat.awaits_timer(late));
        assert_eq!(heartbeat.beat(late), Beat::Gone);
        heartbeat.received(late);
        assert_eq!(heartbeat.beat(late), Beat::Ping, "it has come since");
    }

    #[test]
    fn a_pong_is_life() {
        let (mut heartbeat, start) = start();
        assert_eq!(heartbeat.beat(start + T), Beat::Ping);
        heartbeat.received(start + T * 3 / 2);
        assert_eq!(
            heartbeat.beat(start + T * 2),
            Beat::Ping,
            "we were silent for T"
        );
        heartbeat.received(start + T * 2);
        assert_eq!(heartbeat.beat(start + T * 5 / 2), Beat::Nothing);
    }

    #[test]
    fn silence_of_either_direction_pings() {
        let (mut heartbeat, start) = start();
        heartbeat.received(start + T - Duration::from_secs(1));
        assert_eq!(heartbeat.beat(start + T), Beat::Ping, "nothing was sent");
        let (mut heartbeat, start) = self::start();
        heartbeat.sent(start + T - Duration::from_secs(1));
        assert_eq!(heartbeat.beat(start + T), Beat::Ping, "nothing came");
    }

    #[test]
    fn time_in_which_nobody_polled_us_is_not_the_peers_silence() {
        let (mut heartbeat, start) = start();
        let late = start + T * 10;
        assert_eq!(heartbeat.beat(late), Beat::Ping);
        assert_eq!(heartbeat.beat(late + T / 2), Beat::Nothing);
        heartbeat.timer_fired(late + T);
        assert_eq!(heartbeat.beat(late + T), Beat::Gone);
    }

    #[test]
    fn while_we_do_not_read_the_clock_stands_still() {
        let (mut heartbeat, start) = start();
        assert_eq!(heartbeat.beat(start + T), Beat::Ping);
        heartbeat.pause(start + T);
        assert_eq!(heartbeat.deadline(), None);
        assert_eq!(heartbeat.beat(start + T * 100), Beat::Nothing);
        heartbeat.resume(start + T * 100);
        assert_eq!(heartbeat.deadline(), Some(start + T * 101));
    }
}
