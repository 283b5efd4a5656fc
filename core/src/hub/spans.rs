//! How a log's positions and the ids of its events belong together.

use std::collections::VecDeque;

use super::EventId;

/// The stretches of a log in which the topic's running numbers are dense, the oldest
/// first.
///
/// A log counts *positions*: one for each event that it got, and one for each *break*,
/// at which events are missing that it never got. They only ever grow, whatever
/// becomes of the broker, and that is what its readers' cursors are. The embedded
/// broker's logs have one span and no break: there a position is the running number.
#[derive(Debug, Default)]
pub(super) struct Spans(VecDeque<Span>);

#[derive(Clone, Copy, Debug)]
struct Span {
    /// The position of its first event, which may be yet to come.
    start: u64,
    epoch: u64,
    /// The running number of that event.
    number: u64,
    /// What is missing at the break in front of it, where there is one.
    gap: Option<Missed>,
}

/// How many events are missing; `None` where that cannot be known.
pub(super) type Missed = Option<u64>;

/// How an event's id follows the newest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// It is the next.
    Directly,
    /// Events in between are missing.
    BehindGap(Missed),
    /// It was there already, or is of an epoch that has passed.
    Not,
}

/// Where a reader who has seen an event goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Located {
    /// The position of the last event, or break, behind the reader.
    pub(super) cursor: u64,
    /// What lies between the event and there.
    pub(super) missed: Missed,
}

impl Spans {
    /// So many are remembered: a broker that breaks often must not fill the memory.
    const MOST: usize = 64;

    /// Of a log without events, whose first one follows `seen`: `None` where the topic
    /// has never had any.
    pub(super) fn new(seen: Option<EventId>) -> Self {
        let span = seen.map(|seen| Span {
            start: 1,
            epoch: seen.epoch(),
            number: seen.sequence().wrapping_add(1),
            gap: None,
        });
        Self(span.into_iter().collect())
    }

    /// The id that follows directly on the event at `head`, which is the newest.
    pub(super) fn next(&self, head: u64) -> Option<EventId> {
        let span = self.0.back()?;
        let number = span.number.wrapping_add(head.wrapping_add(1) - span.start);
        Some(EventId::new(span.epoch, number))
    }

    pub(super) fn follows(&self, id: EventId, head: u64) -> Follows {
        let Some(next) = self.next(head) else {
            // The topic had nothing when it was opened, so it begins with its first.
            return match id.sequence() {
                0 | 1 => Follows::Directly,
                number => Follows::BehindGap(Some(number - 1)),
            };
        };
        if id.epoch() == next.epoch() {
            return match id.sequence().checked_sub(next.sequence()) {
                None => Follows::Not,
                Some(0) => Follows::Directly,
                Some(missed) => Follows::BehindGap(Some(missed)),
            };
        }
        if self.0.iter().any(|span| span.epoch == id.epoch()) {
            return Follows::Not;
        }
        Follows::BehindGap(None)
    }

    /// From the next position on, which is `start`, events are numbered from `id` on.
    /// Behind a `gap`, its break is at the position before.
    pub(super) fn begin(&mut self, id: EventId, start: u64, gap: Option<Missed>) {
        if self.0.len() == Self::MOST {
            self.0.pop_front();
        }
        self.0.push_back(Span {
            start,
            epoch: id.epoch(),
            number: id.sequence(),
            gap,
        });
    }

    /// How many events are missing that lie behind `cursor`, up to `to`, if none of
    /// these positions can be read.
    pub(super) fn missed(&self, cursor: u64, to: u64) -> Missed {
        let oldest = self.0.front()?;
        let mut missed = to.saturating_sub(cursor);
        if missed > 0 && cursor + 1 < oldest.position() {
            // What was there is not remembered.
            return None;
        }
        for (at, gap) in self.breaks() {
            if cursor < at && at <= to {
                missed = missed - 1 + gap?;
            }
        }
        Some(missed)
    }

    /// The first break behind `cursor`, and what is missing there.
    pub(super) fn break_behind(&self, cursor: u64) -> Option<(u64, Missed)> {
        self.breaks().find(|(at, _)| *at > cursor)
    }

    /// The newest break's position; 0 where there is none.
    pub(super) fn newest_break(&self) -> u64 {
        self.breaks().last().map_or(0, |(at, _)| at)
    }

    /// How many breaks there are from position `first` on.
    pub(super) fn breaks_from(&self, first: u64) -> usize {
        self.breaks().filter(|(at, _)| *at >= first).count()
    }

    fn breaks(&self) -> impl DoubleEndedIterator<Item = (u64, Missed)> {
        let broken = |span: &Span| span.gap.map(|missed| (span.start - 1, missed));
        self.0.iter().filter_map(broken)
    }

    /// Where one who has seen `id` goes on in a log that has the positions up to
    /// `head`; `None` where the log does not know the id.
    pub(super) fn locate(&self, id: EventId, head: u64) -> Option<Located> {
        let mut end = head;
        // The span that follows on the one that is looked at.
        let mut behind: Option<&Span> = None;
        for span in self.0.iter().rev() {
            if span.epoch == id.epoch() {
                if let Some(seen) = id.sequence().saturating_add(1).checked_sub(span.number) {
                    let cursor = (span.start - 1).saturating_add(seen);
                    if cursor <= end {
                        let missed = Some(0);
                        return Some(Located { cursor, missed });
                    }
                    // It is one of those that are missing at the break behind the span.
                    let next = behind.filter(|next| next.epoch == span.epoch)?;
                    return Some(next.after(id));
                }
            } else if let Some(next) = behind.filter(|next| next.epoch == id.epoch()) {
                return Some(next.after(id));
            }
            behind = Some(span);
            end = span.position() - 1;
        }
        let oldest = behind.filter(|oldest| oldest.epoch == id.epoch())?;
        Some(oldest.after(id))
    }
}

impl Span {
    /// The first position that is its own: that of its break, if it has one.
    const fn position(&self) -> u64 {
        self.start - self.gap.is_some() as u64
    }

    /// Where one goes on who has seen `id`, which lies before the first event.
    const fn after(&self, id: EventId) -> Located {
        Located {
            cursor: self.start - 1,
            missed: (self.number - 1).checked_sub(id.sequence()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(epoch: u64, number: u64) -> EventId {
        EventId::new(epoch, number)
    }

    fn located(cursor: u64, missed: u64) -> Option<Located> {
        let missed = Some(missed);
        Some(Located { cursor, missed })
    }

    /// 11 12 | 20 21 | of another epoch: 5 6, at the positions 1 2 | 4 5 | 7 8.
    fn broken() -> Spans {
        let mut spans = Spans::new(Some(id(1, 10)));
        spans.begin(id(1, 20), 4, Some(Some(7)));
        spans.begin(id(2, 5), 7, Some(None));
        spans
    }

    #[test]
    fn without_a_break_positions_are_numbers() {
        let spans = Spans::new(Some(id(7, 0)));
        assert_eq!(spans.next(0), Some(id(7, 1)));
        assert_eq!(spans.next(9), Some(id(7, 10)));
        assert_eq!(spans.missed(2, 9), Some(7));
        assert_eq!(spans.locate(id(7, 3), 9), located(3, 0));
        assert_eq!(spans.locate(id(7, 10), 9), None, "in the future");
        assert_eq!(spans.locate(id(8, 3), 9), None);
        assert_eq!((spans.break_behind(0), spans.newest_break()), (None, 0));
    }

    #[test]
    fn what_follows_is_told_from_what_does_not() {
        let spans = broken();
        assert_eq!(spans.next(8), Some(id(2, 7)));
        assert_eq!(spans.follows(id(2, 7), 8), Follows::Directly);
        assert_eq!(spans.follows(id(2, 9), 8), Follows::BehindGap(Some(2)));
        assert_eq!(spans.follows(id(2, 6), 8), Follows::Not);
        assert_eq!(spans.follows(id(1, 30), 8), Follows::Not, "has passed");
        assert_eq!(spans.follows(id(3, 1), 8), Follows::BehindGap(None));
        let new = Spans::new(None);
        assert_eq!(new.follows(id(1, 1), 0), Follows::Directly);
        assert_eq!(new.follows(id(1, 4), 0), Follows::BehindGap(Some(3)));
    }

    #[test]
    fn what_is_missing_counts_what_is_missing_at_breaks() {
        let spans = broken();
        assert_eq!(spans.missed(0, 2), Some(2));
        assert_eq!(spans.missed(1, 3), Some(1 + 7));
        assert_eq!(spans.missed(2, 5), Some(7 + 2));
        assert_eq!(spans.missed(3, 5), Some(2), "the break is behind it");
        assert_eq!(spans.missed(3, 6), None);
        assert_eq!(spans.missed(6, 8), Some(2));
        assert_eq!(spans.break_behind(0), Some((3, Some(7))));
        assert_eq!(spans.break_behind(3), Some((6, None)));
        assert_eq!((spans.newest_break(), spans.breaks_from(4)), (6, 1));
    }

    #[test]
    fn ids_are_found_on_both_sides_of_breaks_and_in_them() {
        let spans = broken();
        let locate = |epoch, number| spans.locate(id(epoch, number), 8);
        assert_eq!(locate(1, 4), located(0, 6));
        assert_eq!(locate(1, 10), located(0, 0));
        assert_eq!(locate(1, 12), located(2, 0));
        assert_eq!(locate(1, 13), located(3, 6), "14 to 19 are missing");
        assert_eq!(locate(1, 19), located(3, 0));
        assert_eq!(locate(1, 21), located(5, 0));
        assert_eq!(locate(1, 22), None, "nobody knows");
        assert_eq!(locate(2, 1), located(6, 3));
        assert_eq!(locate(2, 4), located(6, 0));
        assert_eq!(locate(2, 6), located(8, 0));
        assert_eq!(locate(2, 7), None);
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_is_not_made_up() {
        let mut spans = Spans::new(Some(id(1, 0)));
        for n in 1..=1000 {
            spans.begin(id(1, n * 10), n * 2, Some(Some(9)));
        }
        assert_eq!(spans.0.len(), Spans::MOST);
        assert_eq!(spans.missed(0, 2000), None);
        assert_eq!(spans.missed(1998, 2000), Some(1 + 9));
    }
}
