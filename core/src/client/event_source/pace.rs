//! When to try again.

use std::time::Duration;

/// The reconnection time where neither side has said one (WHATWG HTML §9.2.3 leaves it
/// to the client; browsers take three to five seconds).
pub(super) const RETRY: Duration = Duration::from_secs(3);
/// What a server's `retry: 0` comes to: a stream that ends at once would otherwise be
/// asked for without a pause.
const LEAST: Duration = Duration::from_millis(100);

/// The reconnection time, and what comes upon it after failures: a random part of it,
/// doubled with each failure in a row up to a cap. So the server's own wish is the least
/// that is waited, and those whom a crash sends away together do not come back together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) retry: Duration,
    /// The most that comes upon the reconnection time.
    pub(super) cap: Duration,
    /// The most that is waited, whatever the server asks for.
    pub(super) max_retry_after: Duration,
    failures: u32,
}

/// How an attempt, or a stream, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// In order, after it had delivered events.
    Done,
    /// It had delivered events, and broke.
    Lost,
    /// It came to nothing.
    Failed,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self {
            retry: RETRY,
            cap: Duration::from_secs(60),
            max_retry_after: Duration::from_secs(60 * 60),
            failures: 0,
        }
    }

    /// What is to be waited after such an end; `asked` is what the server asked for.
    pub(super) fn after(&mut self, end: End, asked: Option<Duration>) -> Duration {
        self.failures = match end {
            End::Done => 0,
            End::Lost => 1,
            End::Failed => self.failures.saturating_add(1),
        };
        let (least, most) = self.bounds(asked);
        least + (most - least).mul_f64(fastrand::f64())
    }

    /// The least and the most that is waited.
    fn bounds(&self, asked: Option<Duration>) -> (Duration, Duration) {
        let retry = self.retry.clamp(LEAST, self.max_retry_after.max(LEAST));
        let least = retry.max(asked.unwrap_or_default().min(self.max_retry_after));
        let doubled = 2_u32.saturating_pow(self.failures.min(31)) - 1;
        (least, least + retry.saturating_mul(doubled).min(self.cap))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn after_failures(failures: u32) -> (Duration, Duration) {
        Pace {
            failures,
            ..Pace::new()
        }
        .bounds(None)
    }

    #[test]
    fn an_end_in_order_waits_what_was_asked_for() {
        let mut pace = Pace {
            retry: secs(7),
            ..Pace::new()
        };
        pace.after(End::Failed, None);
        assert_eq!(pace.after(End::Done, None), secs(7));
        assert_eq!(pace.failures, 0);
    }

    #[test]
    fn the_spread_doubles_up_to_its_cap() {
        let spreads: Vec<_> = (0..8)
            .map(|failures| {
                let (least, most) = after_failures(failures);
                assert_eq!(least, RETRY);
                (most - least).as_secs()
            })
            .collect();
        assert_eq!(spreads, [0, 3, 9, 21, 45, 60, 60, 60]);
        assert_eq!(after_failures(u32::MAX), after_failures(5));
    }

    #[test]
    fn a_loss_begins_anew_and_failures_add_up() {
        let mut pace = Pace::new();
        for n in 1..=4 {
            pace.after(End::Failed, None);
            assert_eq!(pace.failures, n);
        }
        pace.after(End::Lost, None);
        assert_eq!(pace.failures, 1);
    }

    #[test]
    fn no_server_can_send_it_away_for_ever_or_have_it_spin() {
        let mut pace = Pace {
            retry: Duration::MAX,
            ..Pace::new()
        };
        assert_eq!(pace.after(End::Done, None), secs(3600));
        assert!(pace.after(End::Failed, Some(Duration::MAX)) <= secs(3660));
        pace.retry = Duration::ZERO;
        assert_eq!(pace.after(End::Done, None), LEAST);
        assert!(pace.after(End::Done, Some(secs(9))) == secs(9));
    }

    proptest! {
        #[test]
        fn it_never_panics_and_lies_within_its_bounds(
            retry: Duration,
            cap in 0..1_000_000_u64,
            max_retry_after in 0..1_000_000_u64,
            failures: u32,
            asked: Option<Duration>,
        ) {
            let mut pace = Pace {
                retry,
                cap: secs(cap),
                max_retry_after: secs(max_retry_after),
                failures,
            };
            let waited = pace.after(End::Failed, asked);
            let (least, most) = pace.bounds(asked);
            prop_assert!(least <= waited && waited <= most);
            prop_assert!(most <= secs(cap) + secs(max_retry_after).max(LEAST));
        }
    }
}
