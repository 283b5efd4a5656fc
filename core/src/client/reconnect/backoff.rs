use std::time::Duration;

use crate::client::InvalidRequest;

/// How long a client waits before it connects again: exponential backoff with full
/// jitter, a time anywhere between nothing and a bound that grows with each attempt.
/// After an outage clients that left together do so not come back together.
///
/// | setting | default |
/// | --- | --- |
/// | [`base`](Self::base) | 1 s: the first bound |
/// | [`factor`](Self::factor) | 2: what it grows by |
/// | [`cap`](Self::cap) | 60 s: where it ends |
/// | [`stable`](Self::stable) | 30 s: a connection that lasts so long begins anew |
/// | [`jitter`](Self::jitter) | yes |
///
/// ```
/// use std::time::Duration;
/// use towpath::client::Backoff;
///
/// let bounds = [0, 1, 5, 6, 1000].map(|attempt| Backoff::new().bound(attempt).as_secs());
/// assert_eq!(bounds, [1, 2, 32, 60, 60]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Backoff {
    base: Duration,
    factor: f64,
    cap: Duration,
    stable: Duration,
    jitter: bool,
}

impl Backoff {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            base: Duration::from_secs(1),
            factor: 2.0,
            cap: Duration::from_secs(60),
            stable: Duration::from_secs(30),
            jitter: true,
        }
    }

    /// The bound of the first wait, which must not be zero.
    pub const fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// What the bound grows by with each attempt, 1 or more.
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// The largest bound, which must not be zero.
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// How long a connection has to last for the next wait to begin anew. One that is
    /// accepted and closed at once does not.
    pub const fn stable(mut self, stable: Duration) -> Self {
        self.stable = stable;
        self
    }

    /// Whether a wait is anywhere below its bound; without it is the bound itself, for
    /// tests and for the only client of a server.
    pub const fn jitter(mut self, jitter: bool) -> Self {
        self.jitter = jitter;
        self
    }

    /// The longest wait before a connection is tried again, after so many waits before:
    /// `min(cap, base · factor^attempt)`.
    #[must_use]
    pub fn bound(&self, attempt: u32) -> Duration {
        let power = self.factor.powi(i32::try_from(attempt).unwrap_or(i32::MAX));
        let bound = Duration::try_from_secs_f64(self.base.as_secs_f64() * power);
        // What no duration holds is more than the cap.
        bound.unwrap_or(self.cap).min(self.cap)
    }

    /// A wait, by a number from 0 to 1.
    pub(super) fn wait(&self, attempt: u32, random: f64) -> Duration {
        let bound = self.bound(attempt);
        if self.jitter {
            bound.mul_f64(random)
        } else {
            bound
        }
    }

    pub(super) const fn stable_after(&self) -> Duration {
        self.stable
    }

    pub(super) fn check(&self) -> Result<(), InvalidRequest> {
        if self.base.is_zero() {
            return Err(InvalidRequest::Zero("base"));
        }
        if self.cap.is_zero() {
            return Err(InvalidRequest::Zero("cap"));
        }
        if !(self.factor.is_finite() && self.factor >= 1.0) {
            return Err(InvalidRequest::Factor);
        }
        Ok(())
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_grows_to_its_cap() {
        let backoff = Backoff::new().base(Duration::from_millis(100)).factor(3.0);
        let bounds = [0, 1, 2, 3].map(|attempt| backoff.bound(attempt).as_millis());
        assert_eq!(bounds, [100, 300, 900, 2700]);
        let backoff = backoff.cap(Duration::from_secs(2));
        for attempt in [3, 100, 2_000, u32::MAX] {
            assert_eq!(backoff.bound(attempt), Duration::from_secs(2), "{attempt}");
        }
        assert_eq!(backoff.factor(1.0).bound(u32::MAX), backoff.bound(0));
    }

    #[test]
    fn a_wait_is_anywhere_below_its_bound() {
        let backoff = Backoff::new();
        assert_eq!(backoff.wait(3, 0.0), Duration::ZERO);
        assert_eq!(backoff.wait(3, 0.25), Duration::from_secs(2));
        assert_eq!(backoff.wait(3, 1.0), Duration::from_secs(8));
        assert_eq!(backoff.jitter(false).wait(3, 0.25), Duration::from_secs(8));
    }

    #[test]
    fn what_would_not_grow_or_end_is_refused() {
        let backoff = Backoff::new();
        assert_eq!(backoff.check(), Ok(()));
        let zero = Duration::ZERO;
        assert_eq!(
            backoff.base(zero).check(),
            Err(InvalidRequest::Zero("base"))
        );
        assert_eq!(backoff.cap(zero).check(), Err(InvalidRequest::Zero("cap")));
        for factor in [0.5, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(backoff.factor(factor).check(), Err(InvalidRequest::Factor));
        }
    }
}
