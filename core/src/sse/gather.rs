//! Ready events become one chunk.

use bytes::{Bytes, BytesMut};

/// The most that one chunk holds. hyper stops polling a body only at 16 chunks
/// or 408 KiB, and actix at 32 KiB: larger ones would be held in their buffers
/// for a peer that reads nothing.
pub(super) const CHUNK: usize = 16 * 1024;

/// A chunk of several has room for so many times its first two.
const AHEAD: usize = 4;

/// What is ready and not yet handed on. An event that is alone is handed on as
/// the shared bytes that it is; several are copied into one chunk.
#[derive(Debug, Default)]
pub(super) struct Gather {
    first: Bytes,
    /// `first` and what came after it, once something has.
    joined: BytesMut,
    /// What did not fit.
    next: Bytes,
}

impl Gather {
    /// Whether nothing more may be pushed.
    pub(super) fn is_full(&self) -> bool {
        !self.next.is_empty() || self.first.len() >= CHUNK || self.joined.len() >= CHUNK
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.first.is_empty() && self.joined.is_empty() && self.next.is_empty()
    }

    pub(super) fn push(&mut self, text: Bytes) {
        debug_assert!(!self.is_full(), "what comes after `next` has no place");
        let length = self.first.len() + self.joined.len();
        if length == 0 {
            self.first = text;
        } else if length + text.len() > CHUNK {
            self.next = text;
        } else {
            // A buffer only while it is filled: an idle stream has none. Where two are
            // ready more are likely: it is not to grow with each.
            if self.joined.is_empty() {
                let room = CHUNK.min(AHEAD * (length + text.len()));
                self.joined = BytesMut::with_capacity(room);
                self.joined
                    .extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.joined.extend_from_slice(&text);
        }
    }

    /// The next chunk, of at most [`CHUNK`] bytes.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let chunk = if self.joined.is_empty() {
            if self.first.len() <= CHUNK {
                std::mem::take(&mut self.first)
            } else {
                self.first.split_to(CHUNK)
            }
        } else {
            std::mem::take(&mut self.joined).freeze()
        };
        if self.first.is_empty() && !self.next.is_empty() {
            self.first = std::mem::take(&mut self.next);
        }
        (!chunk.is_empty()).then_some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(byte: u8, length: usize) -> Bytes {
        Bytes::from(vec![byte; length])
    }

    #[test]
    fn an_event_alone_is_not_copied() {
        let mut gather = Gather::default();
        let event = text(b'a', 10);
        gather.push(event.clone());
        assert_eq!(gather.take().unwrap().as_ptr(), event.as_ptr());
        assert!(gather.is_empty() && gather.take().is_none());
    }

    #[test]
    fn several_are_one_chunk() {
        let mut gather = Gather::default();
        for byte in *b"abc" {
            gather.push(text(byte, 2));
        }
        assert_eq!(gather.take().unwrap(), "aabbcc");
        assert!(gather.is_empty());
    }

    #[test]
    fn a_chunk_is_filled_to_its_bound_and_not_past_it() {
        let mut gather = Gather::default();
        gather.push(text(b'a', CHUNK - 5));
        gather.push(text(b'b', 5));
        assert!(gather.is_full());
        assert_eq!(gather.take().unwrap().len(), CHUNK);

        gather.push(text(b'a', CHUNK - 5));
        gather.push(text(b'b', 6));
        assert!(gather.is_full());
        assert_eq!(gather.take().unwrap(), text(b'a', CHUNK - 5));
        assert!(!gather.is_full() && !gather.is_empty());
        gather.push(text(b'c', 1));
        assert_eq!(gather.take().unwrap(), "bbbbbbc");
    }

    #[test]
    fn a_large_event_is_split_without_a_copy() {
        let mut gather = Gather::default();
        let large = text(b'a', 2 * CHUNK + 1);
        gather.push(text(b'x', 1));
        gather.push(large.clone());
        assert_eq!(gather.take().unwrap(), "x");
        for at in [0, CHUNK] {
            assert!(gather.is_full());
            let chunk = gather.take().unwrap();
            assert_eq!((chunk.as_ptr(), chunk.len()), (large[at..].as_ptr(), CHUNK));
        }
        assert!(!gather.is_full());
        assert_eq!(gather.take().unwrap(), "a");
        assert!(gather.is_empty());
    }
}
