//! The buffers of large messages, used again while more are on their way.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};

/// Buffers below this are the allocator's business, as are those above `LARGEST`.
const SMALLEST: usize = 64 * 1024;
const LARGEST: usize = 2 * 1024 * 1024;
/// So many are kept for the next large message …
const KEPT: usize = 4;
/// … and for so many turns in which none was needed.
const IDLE_TURNS: u32 = 16;
/// So many messages may be in the making in such a buffer, in the whole process: it
/// is more memory than their peers have sent, so that all of them together have only
/// so much of it.
const LOANS: usize = 8;

static LENT: AtomicUsize = AtomicUsize::new(0);

/// Buffers that nobody uses now.
///
/// A fresh megabyte costs more in page faults than what is read into it.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    buffers: Vec<BytesMut>,
    idle_turns: u32,
}

impl Spares {
    /// Keeps the buffer of `bytes`, which are over, where nobody else has them.
    pub(crate) fn keep(&mut self, bytes: Bytes) {
        if self.buffers.len() >= KEPT {
            return;
        }
        let Ok(mut buffer) = bytes.try_into_mut() else {
            return;
        };
        buffer.clear();
        if buffer.try_reclaim(SMALLEST) && buffer.capacity() <= LARGEST {
            self.buffers.push(buffer);
        }
    }

    /// Moves all of `other` here.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.buffers.append(&mut other.buffers);
        self.buffers.truncate(KEPT);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// A buffer for a message of `len` bytes that is on its way: it holds it, and is
    /// not so large that who keeps the message keeps much else.
    pub(crate) fn lend(&mut self, len: usize) -> Option<(BytesMut, Loan)> {
        let most = len.saturating_mul(2);
        let fits = |buffer: &BytesMut| (len..=most).contains(&buffer.capacity());
        let index = self.buffers.iter().position(fits)?;
        let loan = Loan::new()?;
        self.idle_turns = 0;
        Some((self.buffers.swap_remove(index), loan))
    }

    /// A turn is over: what was not needed for a while is given back.
    pub(crate) fn rest(&mut self) {
        if !self.buffers.is_empty() {
            self.idle_turns += 1;
            if self.idle_turns > IDLE_TURNS {
                *self = Self::default();
            }
        }
    }
}

/// One of the buffers in which a message is in the making.
#[derive(Debug)]
pub(crate) struct Loan(());

impl Loan {
    fn new() -> Option<Self> {
        let lent = LENT.fetch_update(Relaxed, Relaxed, |lent| (lent < LOANS).then_some(lent + 1));
        lent.is_ok().then_some(Self(()))
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        LENT.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Bytes {
        vec![1; len].into()
    }

    #[test]
    fn keeps_what_is_large_and_nobody_else_has() {
        let mut spares = Spares::default();
        spares.keep(bytes(SMALLEST - 1));
        spares.keep(bytes(LARGEST + 1));
        spares.keep(Bytes::from_static(&[0; SMALLEST]));
        let shared = bytes(SMALLEST);
        spares.keep(shared.clone());
        assert!(spares.is_empty());
        drop(shared);
        // As it is when all of it was written.
        let mut written = bytes(100_000);
        bytes::Buf::advance(&mut written, 100_000);
        spares.keep(written);
        let (buffer, _loan) = spares.lend(90_000).expect("it is kept");
        assert!(buffer.is_empty());
        assert_eq!(buffer.capacity(), 100_000);
        for _ in 0..2 * KEPT {
            spares.keep(bytes(SMALLEST));
        }
        assert_eq!(spares.buffers.len(), KEPT);
    }

    #[test]
    fn gives_a_message_what_fits_it() {
        let mut spares = Spares::default();
        spares.keep(bytes(100_000));
        assert!(spares.lend(100_001).is_none(), "too small");
        assert!(spares.lend(49_999).is_none(), "too large");
        assert!(spares.lend(50_000).is_some());
        assert!(spares.lend(50_000).is_none());
    }

    #[test]
    fn nothing_is_kept_for_long() {
        let mut spares = Spares::default();
        spares.keep(bytes(100_000));
        for _ in 0..IDLE_TURNS {
            spares.rest();
        }
        assert!(!spares.is_empty());
        spares.rest();
        assert!(spares.is_empty());
    }
}
