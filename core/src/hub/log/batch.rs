use crate::encoded::Encoded;

/// Events that a reader has taken from the log at once and not yet given on.
#[derive(Debug, Default)]
pub(in crate::hub) struct Batch {
    events: [Option<Encoded>; Self::SIZE],
    next: usize,
}

impl Batch {
    /// Enough that the lock does not show, small enough to lie in the reader.
    pub(super) const SIZE: usize = 8;
    /// Once the events have so many bytes no more are taken: a reader who then stalls
    /// keeps them in memory, past the retention.
    const BYTES: usize = 16 * 1024;

    pub(super) fn fill<'a>(&mut self, events: impl Iterator<Item = &'a Encoded>) {
        self.next = 0;
        let mut bytes = 0;
        for (slot, event) in self.events.iter_mut().zip(events) {
            *slot = Some(event.clone());
            bytes += event.payload_len();
            if bytes >= Self::BYTES {
                break;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are left.
    pub(super) fn len(&self) -> usize {
        let left = self.events.get(self.next..).unwrap_or_default();
        left.iter().take_while(|event| event.is_some()).count()
    }

    pub(in crate::hub) fn clear(&mut self) {
        if self.events.iter().any(Option::is_some) {
            *self = Self::default();
        }
    }

    pub(in crate::hub) fn pop(&mut self) -> Option<Encoded> {
        let event = self.events.get_mut(self.next)?.take()?;
        self.next += 1;
        Some(event)
    }
}
