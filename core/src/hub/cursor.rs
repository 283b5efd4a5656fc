use std::fmt;

use super::EventId;

/// Where a subscription begins to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With what is published from now on.
    Live,
    /// With the newest so many that are kept.
    Last(usize),
    /// Behind the event of this id, which is as its client gave it: a text that
    /// is no id is told as a gap.
    After(String),
}

/// What a log has, at one moment: the events `first..=head` of `epoch`; none are
/// kept where `first` is `head + 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) epoch: u64,
    pub(super) first: u64,
    pub(super) head: u64,
}

impl Start {
    /// The number of the last event that the subscription has behind it, and the
    /// gap that it is told first.
    pub(super) fn resolve(&self, log: Extent) -> (u64, Option<Gap>) {
        let before_oldest = log.first - 1;
        match self {
            Self::Live => (log.head, None),
            Self::Last(n) => {
                let n = u64::try_from(*n).unwrap_or(u64::MAX);
                (log.head.saturating_sub(n).max(before_oldest), None)
            }
            Self::After(text) => match text.parse::<EventId>() {
                Ok(id) if id.epoch() == log.epoch && id.sequence() <= log.head => {
                    let missed = before_oldest.saturating_sub(id.sequence());
                    let gap = (missed > 0).then_some(Gap::Expired { missed });
                    (id.sequence().max(before_oldest), gap)
                }
                _ => (before_oldest, Some(Gap::Unknown)),
            },
        }
    }
}

/// Events that a subscription does not get. What is still kept follows it, then
/// live events.
///
/// `Display` is the form in which clients are told, as JSON:
///
/// ```
/// use towpath::hub::Gap;
/// let gap = Gap::Expired { missed: 3 };
/// assert_eq!(gap.to_string(), r#"{"reason":"expired","missed":3}"#);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Gap {
    /// The id that was resumed from is known, but what followed it is no longer
    /// kept.
    Expired {
        /// How many events lie between it and the oldest kept.
        missed: u64,
    },
    /// The id that was resumed from cannot be served: it is none, lies in the
    /// future, or is of another epoch (from before a restart, say). How many
    /// events are missing cannot be known.
    Unknown,
    /// The subscription is live and fell behind what is kept.
    Lagged {
        /// How many events it lost.
        missed: u64,
    },
}

impl Gap {
    /// `expired`, `unknown` or `lagged`.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "expired",
            Self::Unknown => "unknown",
            Self::Lagged { .. } => "lagged",
        }
    }

    /// How many events are missing, where that can be known.
    #[must_use]
    pub const fn missed(&self) -> Option<u64> {
        match *self {
            Self::Expired { missed } | Self::Lagged { missed } => Some(missed),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"{{"reason":"{}","missed":"#, self.reason())?;
        match self.missed() {
            Some(missed) => write!(f, "{missed}}}"),
            None => f.write_str("null}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Extent = Extent {
        epoch: 7,
        first: 5,
        head: 9,
    };

    fn after(epoch: u64, sequence: u64) -> (u64, Option<Gap>) {
        Start::After(EventId::new(epoch, sequence).to_string()).resolve(LOG)
    }

    #[test]
    fn nothing_missing_is_no_gap() {
        assert_eq!(Start::Live.resolve(LOG), (9, None));
        for sequence in 4..=9 {
            assert_eq!(after(7, sequence), (sequence, None));
        }
    }

    #[test]
    fn expired_tells_the_number_up_to_the_oldest_kept() {
        assert_eq!(after(7, 3), (4, Some(Gap::Expired { missed: 1 })));
        assert_eq!(after(7, 1), (4, Some(Gap::Expired { missed: 3 })));
        let nothing_kept = Extent { first: 10, ..LOG };
        let start = Start::After(EventId::new(7, 3).to_string());
        assert_eq!(
            start.resolve(nothing_kept),
            (9, Some(Gap::Expired { missed: 6 })),
        );
    }

    #[test]
    fn future_other_epoch_and_malformed_are_unknown() {
        assert_eq!(after(7, 10), (4, Some(Gap::Unknown)));
        assert_eq!(after(8, 6), (4, Some(Gap::Unknown)));
        let start = Start::After("42".into());
        assert_eq!(start.resolve(LOG), (4, Some(Gap::Unknown)));
        let empty = Extent {
            first: 1,
            head: 0,
            ..LOG
        };
        assert_eq!(start.resolve(empty), (0, Some(Gap::Unknown)));
    }

    #[test]
    fn last_is_never_a_gap() {
        for (n, cursor) in [(0, 9), (1, 8), (5, 4), (6, 4), (usize::MAX, 4)] {
            assert_eq!(Start::Last(n).resolve(LOG), (cursor, None), "{n}");
        }
    }

    #[test]
    fn gap_is_told_as_json() {
        assert_eq!(
            Gap::Unknown.to_string(),
            r#"{"reason":"unknown","missed":null}"#,
        );
        assert_eq!(
            Gap::Lagged { missed: 7 }.to_string(),
            r#"{"reason":"lagged","missed":7}"#,
        );
    }
}
