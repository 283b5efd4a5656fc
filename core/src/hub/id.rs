use std::{fmt, str::FromStr};

/// The id of an event: where it stands in its topic's log.
///
/// It is opaque to clients: they keep it as text (`Display`) and give it back to
/// [`Subscribe::after`](super::Subscribe::after). The same event has the same id
/// over every transport and on every node.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId {
    epoch: u64,
    sequence: u64,
}

impl EventId {
    /// Of an event that stands in no log yet; `FromStr` never makes it.
    pub(crate) const UNNUMBERED: Self = Self::new(0, 0);

    /// The id of the event with this running number, dense from 1 in each topic, in an
    /// epoch: for a [`Broker`](super::Broker), which gives them out.
    #[must_use]
    pub const fn new(epoch: u64, sequence: u64) -> Self {
        Self { epoch, sequence }
    }

    /// Tells one life of a log from the next: numbers of different epochs have
    /// nothing to do with each other.
    #[must_use]
    pub const fn epoch(self) -> u64 {
        self.epoch
    }

    /// The topic's running number, dense from 1.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.sequence
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.sequence)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.to_string()
    }
}

/// A text that no event has as its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an event")]
pub struct InvalidEventId;

impl FromStr for EventId {
    type Err = InvalidEventId;

    /// Takes exactly what `Display` writes, so that an event has one id and no
    /// second spelling of it.
    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        let (epoch, sequence) = text.split_once('-').ok_or(InvalidEventId)?;
        let is_epoch = epoch.len() == 16
            && epoch
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_sequence =
            !sequence.starts_with('0') && sequence.bytes().all(|b| b.is_ascii_digit());
        if !is_epoch || !is_sequence {
            return Err(InvalidEventId);
        }
        Ok(Self {
            epoch: u64::from_str_radix(epoch, 16).map_err(|_| InvalidEventId)?,
            sequence: sequence.parse().map_err(|_| InvalidEventId)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_of_an_id_is_read_back(epoch: u64, sequence in 1u64..) {
            let id = EventId::new(epoch, sequence);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn an_id_has_one_spelling(text in "[0-9a-fA-F+]{15,17}-[+0-9]{0,21}") {
            if let Ok(id) = text.parse::<EventId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        for text in [
            "",
            "-",
            "5",
            "0123456789abcdef",
            "0123456789abcdef-",
            "0123456789abcdef-0",
            "0123456789abcdef-01",
            "0123456789abcdef-+1",
            "0123456789ABCDEF-1",
            "123456789abcdef-1",
            "0123456789abcdef-18446744073709551616",
            "0123456789abcdef-1-1",
            "0123456789abcdef-1 ",
            "0123456789abcdé-1",
        ] {
            assert_eq!(text.parse::<EventId>(), Err(InvalidEventId), "{text:?}");
        }
    }
}
