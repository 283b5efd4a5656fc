use std::fmt;

use super::{EventId, spans::Spans};

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

/// What a log has, at one moment: the positions `first..=head`; none are kept where
/// `first` is `head + 1`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent<'a> {
    pub(super) spans: &'a Spans,
    pub(super) first: u64,
    pub(super) head: u64,
}

impl Start {
    /// The id behind which it begins, if it is one.
    pub(super) fn seen(&self) -> Option<EventId> {
        match self {
            Self::After(text) => text.parse().ok(),
            Self::Live | Self::Last(_) => None,
        }
    }

    /// The position of the last event that the subscription has behind it, and the
    /// gap that it is told first.
    pub(super) fn resolve(&self, log: Extent<'_>) -> (u64, Option<Gap>) {
        let before_oldest = log.first - 1;
        match self {
            Self::Live => (log.head, None),
            Self::Last(n) => {
                let n = u64::try_from(*n).unwrap_or(u64::MAX);
                let newest = log.head.saturating_sub(n);
                // That is never a gap, so it begins behind one.
                let whole = before_oldest.max(log.spans.newest_break());
                (newest.max(whole), None)
            }
            Self::After(text) => {
                let id = text.parse::<EventId>().ok();
                let found = id.and_then(|id| log.spans.locate(id, log.head));
                let Some(found) = found else {
                    return (before_oldest, Some(Gap::Unknown));
                };
                let cursor = found.cursor.max(before_oldest);
                let expired = log.spans.missed(found.cursor, cursor);
                let gap = match found.missed.zip(expired) {
                    Some((0, 0)) => None,
                    Some((missing, expired)) => Some(Gap::Expired {
                        missed: missing + expired,
                    }),
                    None => Some(Gap::Unknown),
                };
                (cursor, gap)
            }
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
    /// future, or is of another epoch (from before a restart, say); or the topic's
    /// epoch ended while the subscription was live, since the broker lost what it had.
    /// How many events are missing cannot be known.
    Unknown,
    /// The subscription is live and fell behind what is kept: here, or by the broker
    /// while it could not be reached.
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

    fn from(start: &Start, first: u64, head: u64) -> (u64, Option<Gap>) {
        let spans = &Spans::new(Some(EventId::new(7, 0)));
        start.resolve(Extent { spans, first, head })
    }

    fn after(epoch: u64, sequence: u64) -> (u64, Option<Gap>) {
        let start = Start::After(EventId::new(epoch, sequence).to_string());
        from(&start, 5, 9)
    }

    #[test]
    fn nothing_missing_is_no_gap() {
        assert_eq!(from(&Start::Live, 5, 9), (9, None));
        for sequence in 4..=9 {
            assert_eq!(after(7, sequence), (sequence, None));
        }
    }

    #[test]
    fn expired_tells_the_number_up_to_the_oldest_kept() {
        assert_eq!(after(7, 3), (4, Some(Gap::Expired { missed: 1 })));
        assert_eq!(after(7, 1), (4, Some(Gap::Expired { missed: 3 })));
        let start = Start::After(EventId::new(7, 3).to_string());
        let nothing_kept = from(&start, 10, 9);
        assert_eq!(nothing_kept, (9, Some(Gap::Expired { missed: 6 })));
    }

    #[test]
    fn future_other_epoch_and_malformed_are_unknown() {
        assert_eq!(after(7, 10), (4, Some(Gap::Unknown)));
        assert_eq!(after(8, 6), (4, Some(Gap::Unknown)));
        let start = Start::After("42".into());
        assert_eq!(from(&start, 5, 9), (4, Some(Gap::Unknown)));
        assert_eq!(from(&start, 1, 0), (0, Some(Gap::Unknown)));
    }

    #[test]
    fn last_is_never_a_gap() {
        for (n, cursor) in [(0, 9), (1, 8), (5, 4), (6, 4), (usize::MAX, 4)] {
            assert_eq!(from(&Start::Last(n), 5, 9), (cursor, None), "{n}");
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
