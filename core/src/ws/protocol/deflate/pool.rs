//! Contexts that are not in use, kept by the thread.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress};

/// So many of each kind are kept: more are in use at once only inside fragmented
/// messages and by those who take their context over.
const KEPT_COMPRESSORS: usize = 4;
const KEPT_INFLATERS: usize = 16;

/// The smallest window that the library compresses with. Its distances stay below
/// the window's size less 262, so that one of 9 bits never exceeds 250 and a peer
/// that asked for 8 bits reads it.
pub(super) const MIN_COMPRESSOR_BITS: u8 = 9;
/// The largest window.
pub(super) const MAX_BITS: u8 = 15;

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { compressors: Vec::new(), inflaters: Vec::new() }) };
}

struct Kept {
    compressors: Vec<Compressor>,
    inflaters: Vec<Decompress>,
}

/// A compressor, and what it was made for.
#[derive(Debug)]
pub(super) struct Compressor {
    level: u32,
    window_bits: u8,
    stream: Compress,
}

impl Compressor {
    pub(super) const fn stream(&mut self) -> &mut Compress {
        &mut self.stream
    }
}

/// A compressor that knows nothing yet.
pub(super) fn compressor(level: u32, window_bits: u8) -> Compressor {
    let window_bits = window_bits.clamp(MIN_COMPRESSOR_BITS, MAX_BITS);
    let kept = with_kept(|kept| {
        let fits = |kept: &Compressor| (kept.level, kept.window_bits) == (level, window_bits);
        let index = kept.compressors.iter().rposition(fits)?;
        Some(kept.compressors.remove(index))
    });
    kept.unwrap_or_else(|| Compressor {
        level,
        window_bits,
        stream: Compress::new_with_window_bits(Compression::new(level), false, window_bits),
    })
}

pub(super) fn give_back_compressor(mut compressor: Compressor) {
    compressor.stream.reset();
    with_kept(|kept| {
        keep(&mut kept.compressors, compressor, KEPT_COMPRESSORS);
        None::<()>
    });
}

/// An inflater that knows nothing yet.
pub(super) fn inflater() -> Decompress {
    with_kept(|kept| kept.inflaters.pop())
        .unwrap_or_else(|| Decompress::new_with_window_bits(false, MAX_BITS))
}

pub(super) fn give_back_inflater(mut inflater: Decompress) {
    inflater.reset(false);
    with_kept(|kept| {
        keep(&mut kept.inflaters, inflater, KEPT_INFLATERS);
        None::<()>
    });
}

fn keep<C>(kept: &mut Vec<C>, context: C, most: usize) {
    if kept.len() == most {
        // The one that was of no use for longest.
        kept.remove(0);
    }
    kept.push(context);
}

/// `None` at the thread's end, too, where there is nothing any more.
fn with_kept<R>(take: impl FnOnce(&mut Kept) -> Option<R>) -> Option<R> {
    KEPT.try_with(|kept| take(&mut kept.borrow_mut()))
        .ok()
        .flatten()
}

/// How many compressors and inflaters this thread keeps.
#[cfg(test)]
pub(super) fn kept() -> (usize, usize) {
    KEPT.with_borrow(|kept| (kept.compressors.len(), kept.inflaters.len()))
}
