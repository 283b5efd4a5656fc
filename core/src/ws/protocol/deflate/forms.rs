//! A broadcast's compressed frames: one for each class of windows that reads it.

use std::sync::OnceLock;

use bytes::Bytes;

use super::pool::{MAX_BITS, MIN_COMPRESSOR_BITS};

/// A list, since there is nearly always one: a window that covers the payload
/// reads what any other does that covers it.
#[derive(Default)]
pub(crate) struct Forms(OnceLock<Box<Form>>);

struct Form {
    /// The window of its compressor.
    window_bits: u8,
    /// `None` where it would not be shorter.
    frame: Option<Bytes>,
    others: Forms,
}

impl Forms {
    /// The frame that was made with a window of `window_bits`, by whoever needed it
    /// first; who needs it meanwhile waits.
    pub(super) fn frame(
        &self,
        window_bits: u8,
        make: impl FnOnce() -> Option<Bytes>,
    ) -> Option<Bytes> {
        let mut make = Some(make);
        let mut forms = self;
        loop {
            let form = forms.0.get_or_init(|| {
                Box::new(Form {
                    window_bits,
                    frame: make.take().and_then(|make| make()),
                    others: Self::default(),
                })
            });
            if form.window_bits == window_bits {
                return form.frame.clone();
            }
            forms = &form.others;
        }
    }
}

/// The window to compress `len` bytes with, for a peer whose window is of
/// `window_bits`: no distance reaches beyond the payload's own beginning, so a
/// window that covers it is as good as the largest.
pub(super) fn class(len: usize, window_bits: u8) -> u8 {
    if len <= 1 << window_bits {
        MAX_BITS
    } else {
        window_bits.max(MIN_COMPRESSOR_BITS)
    }
}
