use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Key, Limits, Meter, Outbound, StreamDefaults, budget::Budget};
use crate::Stats;

/// Who may come in: the count behind the layers of both frameworks. A clone counts the
/// same connections.
///
/// ```
/// use towpath::backpressure::{Admission, Key, Limits};
///
/// let admission = Admission::new(Limits::new().max_connections(2).max_per_key(1));
/// let ann = admission.try_admit(Some(Key::from("ann")))?;
/// assert_eq!(admission.try_admit(Some(Key::from("ann"))).unwrap_err().status(), 429);
/// let _bob = admission.try_admit(Some(Key::from("bob")))?;
/// assert_eq!(admission.try_admit(None).unwrap_err().status(), 503);
/// drop(ann);
/// assert!(admission.try_admit(None).is_ok());
/// # Ok::<(), towpath::backpressure::Refused>(())
/// ```
#[derive(Clone, Debug)]
pub struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    budget: Option<Budget>,
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    count: usize,
    /// Only of keys that have some: who left costs nothing.
    keys: HashMap<Key, usize>,
}

/// A connection's place among those that live. It is given back when it is dropped.
#[derive(Debug)]
#[must_use = "dropped at once it counts nothing"]
pub struct Permit {
    shared: Arc<Shared>,
    key: Option<Key>,
}

/// Why a connection is not admitted. Its `Display` is the body of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// So many live as may.
    #[error("too many connections: come back in {retry_after} s")]
    Full {
        /// In seconds.
        retry_after: u64,
    },
    /// So many of this key live as may.
    #[error("too many connections of one client: close one, or come back in {retry_after} s")]
    KeyFull {
        /// In seconds.
        retry_after: u64,
    },
    /// So many bytes are held for those that live as may be.
    #[error("too much is waiting for others: come back in {retry_after} s")]
    BudgetUsedUp {
        /// In seconds.
        retry_after: u64,
    },
}

impl Refused {
    /// 503, or 429 where the key has too many (RFC 9110 §15.6.4, RFC 6585 §4).
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Full { .. } | Self::BudgetUsedUp { .. } => 503,
            Self::KeyFull { .. } => 429,
        }
    }

    /// The value of `Retry-After`, in seconds.
    #[must_use]
    pub const fn retry_after(&self) -> u64 {
        match self {
            Self::Full { retry_after }
            | Self::KeyFull { retry_after }
            | Self::BudgetUsedUp { retry_after } => *retry_after,
        }
    }
}

impl Admission {
    /// With nobody in it.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared {
            budget: limits.budget().map(Budget::new),
            limits,
            live: Mutex::default(),
        }))
    }

    /// Takes a place, also one of `key`'s where there is a key.
    ///
    /// # Errors
    /// When there is none.
    pub fn try_admit(&self, key: Option<Key>) -> Result<Permit, Refused> {
        let limits = &self.0.limits;
        // Keys that nobody limits are not kept.
        let key = key.filter(|_| limits.per_key().is_some());
        let mut live = self.0.lock();
        let retry_after = limits.retry_seconds();
        if let (Some(key), Some(most)) = (&key, limits.per_key())
            && live.keys.get(key).is_some_and(|count| *count >= most)
        {
            return Err(Refused::KeyFull { retry_after });
        }
        if limits.in_all().is_some_and(|most| live.count >= most) {
            return Err(Refused::Full { retry_after });
        }
        if self.0.budget.as_ref().is_some_and(Budget::is_used_up) {
            return Err(Refused::BudgetUsedUp { retry_after });
        }
        live.count += 1;
        if let Some(key) = &key {
            match live.keys.get_mut(key) {
                Some(count) => *count += 1,
                None => drop(live.keys.insert(key.clone(), 1)),
            }
        }
        drop(live);
        Ok(Permit {
            shared: Arc::clone(&self.0),
            key,
        })
    }

    /// How many are in.
    #[must_use]
    pub fn live(&self) -> usize {
        self.0.lock().count
    }

    /// How many bytes are held for them, where there is a budget.
    #[must_use]
    pub fn buffered(&self) -> Option<usize> {
        self.0.budget.as_ref().map(Budget::held)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Live> {
        // Nothing in it can panic halfway.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    pub(super) fn budget(&self) -> Option<Budget> {
        self.shared.budget.clone()
    }

    /// What its layer says of the connection.
    pub(super) fn outbound(&self) -> Outbound {
        self.shared.limits.outbound
    }

    /// Tells an event stream what its layer says of it.
    pub fn tell(&self, stream: &StreamDefaults) {
        stream.say(self.outbound());
    }

    /// What counts the bytes of a response's body, where there is a budget. An event
    /// stream may be cut; another body's end would look as if it were complete.
    #[must_use]
    pub fn meter(&self, is_event_stream: bool, stats: &Stats) -> Option<Meter> {
        let budget = self.shared.budget.as_ref()?;
        Some(Meter::new(budget, is_event_stream, stats.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut live = self.shared.lock();
        live.count -= 1;
        let Some(key) = &self.key else { return };
        let left = live.keys.get_mut(key).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            live.keys.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Option<Key> {
        Some("ann".into())
    }

    #[test]
    fn so_many_and_no_more_and_always_so_many_again() {
        let admission = Admission::new(Limits::new().max_connections(3));
        for _ in 0..10 {
            let permits: Vec<_> = (0..3).map(|_| admission.try_admit(None).unwrap()).collect();
            let refused = admission.try_admit(None).unwrap_err();
            assert_eq!((refused.status(), refused.retry_after()), (503, 5));
            drop(permits);
        }
        assert_eq!(admission.live(), 0);
    }

    #[test]
    fn who_left_leaves_nothing_behind() {
        let admission = Admission::new(Limits::new().max_per_key(1));
        for number in 0..1000_u64 {
            drop(admission.try_admit(Some(number.into())).unwrap());
        }
        assert!(admission.0.lock().keys.is_empty());
    }

    #[test]
    fn a_key_that_has_too_many_is_told_so_where_all_have_too_many() {
        let admission = Admission::new(Limits::new().max_connections(1).max_per_key(1));
        let _permit = admission.try_admit(ann()).unwrap();
        assert_eq!(admission.try_admit(ann()).unwrap_err().status(), 429);
        assert_eq!(admission.try_admit(None).unwrap_err().status(), 503);
    }

    #[test]
    fn a_refusal_takes_no_place() {
        let admission = Admission::new(Limits::new().max_connections(1).max_per_key(5));
        let permit = admission.try_admit(None).unwrap();
        for _ in 0..10 {
            assert!(admission.try_admit(ann()).is_err());
        }
        drop(permit);
        assert!(admission.0.lock().keys.is_empty());
        assert!(admission.try_admit(ann()).is_ok());
    }

    #[test]
    fn without_limits_everybody_comes_in() {
        let admission = Admission::new(Limits::new());
        let permits: Vec<_> = (0..1000)
            .map(|_| admission.try_admit(ann()).unwrap())
            .collect();
        assert_eq!(admission.live(), permits.len());
    }

    #[test]
    fn threads_never_see_one_too_many() {
        let admission = Admission::new(Limits::new().max_connections(3).max_per_key(2));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let permit = admission.try_admit(ann());
                        let live = admission.0.lock();
                        assert!(live.count <= 3, "{live:?}");
                        assert!(live.keys.values().all(|count| *count <= 2), "{live:?}");
                        drop(live);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(admission.live(), 0);
    }
}
