//! When to ping, and when a peer is gone.

use std::time::Duration;

use tokio::time::Instant;

/// Pings a peer after `interval` without traffic in one of the two directions;
/// one from which no byte came for twice as long, a ping among it, is gone.
///
/// While nothing is read, by our own choice, pings go out all the same: of a peer that
/// is gone the kernel tells only whoever writes to it.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    /// In nanoseconds, since a word is half of what a `Duration` is.
    interval: u64,
    received: Instant,
    sent: Instant,
    /// When the last ping went out, until its pong has come.
    pinged: Option<Instant>,
    /// Nothing at all has come since.
    awaits: bool,
    /// The time to its pong is that of the way: we have read all the while.
    measures: bool,
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
    pub(crate) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            // Centuries, where it is cut.
            interval: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX),
            received: now,
            sent: now,
            pinged: None,
            awaits: false,
            measures: false,
            told: false,
            paused: None,
        }
    }

    const fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval)
    }

    pub(crate) const fn received(&mut self, now: Instant) {
        self.received = now;
        self.awaits = false;
        self.told = false;
    }

    /// The pong has come: how long that took.
    pub(crate) fn ponged(&mut self, now: Instant) -> Option<Duration> {
        let pinged = self.pinged.take().filter(|_| self.measures)?;
        Some(now.saturating_duration_since(pinged))
    }

    pub(crate) const fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// Nothing is read from now on: the peer's silence does not count.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.paused.get_or_insert(now);
        self.measures = false;
    }

    /// Whether that is so.
    pub(crate) const fn is_paused(&self) -> bool {
        self.paused.is_some()
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
    pub(crate) fn deadline(&self) -> Instant {
        if self.paused.is_some() {
            return self.sent + self.interval();
        }
        match self.awaited() {
            // A ping that went out late, because nobody polled us, has its
            // interval all the same.
            Some(pinged) => (self.received + self.interval() * 2).max(pinged + self.interval()),
            None => self.received.min(self.sent) + self.interval(),
        }
    }

    /// Whether nothing is due before `time`, nor can be: with all that is heard and said
    /// it only comes later.
    pub(crate) fn rests_until(&self, time: Instant) -> bool {
        !self.awaits
            && self.paused.is_none()
            && time <= self.received.min(self.sent) + self.interval()
    }

    /// When the ping went out behind which nothing came that would be life.
    fn awaited(&self) -> Option<Instant> {
        let awaits = self.awaits && self.paused.is_none();
        self.pinged.filter(|_| awaits)
    }

    /// The runtime's timer for `deadline` has fired.
    ///
    /// The clock alone does not tell that a pong stays away: while a handler computed,
    /// nobody may have looked at the socket. The runtime does so before it looks at its
    /// timers, so what came until then is there to be read now.
    pub(crate) fn timer_fired(&mut self, deadline: Instant) {
        self.told = self.awaited().is_some() && self.deadline() <= deadline;
    }

    /// By the clock the peer is gone; the timer has still to say so.
    pub(crate) fn awaits_timer(&self, now: Instant) -> bool {
        self.awaited().is_some() && !self.told && self.deadline() <= now
    }

    /// What is due at `now`; a ping counts as sent. Asked after reading, so that
    /// what lies in the socket has counted.
    pub(crate) fn beat(&mut self, now: Instant) -> Beat {
        if now < self.deadline() {
            return Beat::Nothing;
        }
        if self.awaited().is_some() {
            return if self.told { Beat::Gone } else { Beat::Nothing };
        }
        self.sent = now;
        if self.paused.is_none() {
            self.pinged = Some(now);
            self.awaits = true;
            self.measures = true;
        }
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
        assert_eq!(heartbeat.deadline(), start + T * 2);
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
        for n in 2..100 {
            let deadline = heartbeat.deadline();
            assert_eq!(deadline, start + T * n);
            heartbeat.timer_fired(deadline);
            assert!(!heartbeat.awaits_timer(deadline));
            assert_eq!(heartbeat.beat(deadline), Beat::Ping, "it is never gone");
        }
        heartbeat.resume(start + T * 100);
        assert_eq!(heartbeat.deadline(), start + T * 101);
    }

    #[test]
    fn a_round_trip_is_the_time_from_ping_to_pong() {
        let second = Duration::from_secs(1);
        let (mut heartbeat, start) = start();
        assert_eq!(heartbeat.ponged(start), None, "nobody asked");
        assert_eq!(heartbeat.beat(start + T), Beat::Ping);
        heartbeat.received(start + T + second);
        let at = start + T + second * 2;
        assert_eq!(heartbeat.ponged(at), Some(second * 2), "behind data");
        assert_eq!(heartbeat.ponged(at), None, "once");

        assert_eq!(heartbeat.beat(start + T * 3), Beat::Ping);
        heartbeat.pause(start + T * 3);
        heartbeat.resume(start + T * 4);
        heartbeat.received(start + T * 4);
        assert_eq!(heartbeat.ponged(start + T * 4), None, "it lay there unread");
    }
}
