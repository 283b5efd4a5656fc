//! The fuzzer's bytes, taken off the front: a seed is written as it is read.

use bytes::Bytes;

/// What is left of an input. Past its end everything is zero, so that a short one
/// is as good as a long one.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *byte
    }

    /// Big-endian, as lengths on the wire are.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn word(&mut self) -> u32 {
        u32::from(self.short()) << 16 | u32::from(self.short())
    }

    pub fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Up to 64 KiB out of three bytes of input and what follows them: random
    /// payloads alone would never reach the sizes where buffers change hands.
    pub fn payload(&mut self) -> Bytes {
        let len = usize::from(self.short());
        let repeat = usize::from(self.byte());
        if repeat == 0 {
            return Bytes::copy_from_slice(self.take(len));
        }
        let pattern = self.take(repeat);
        pattern.iter().copied().cycle().take(len).collect()
    }
}

/// Where an input is cut: a small generator, so that a cut costs no input.
#[derive(Clone, Debug)]
pub struct Cuts(u32);

impl Cuts {
    pub const fn new(seed: u32) -> Self {
        Self(seed | 1)
    }

    pub const fn number(&mut self) -> u32 {
        // Xorshift (Marsaglia).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// The length of the next piece: mostly a few bytes, at times thousands.
    pub const fn piece(&mut self) -> usize {
        let next = self.number() as usize;
        1 + match next & 7 {
            0..=4 => (next >> 8) & 7,
            5 | 6 => (next >> 8) & 0xFF,
            _ => (next >> 8) & 0x3FFF,
        }
    }

    /// The pieces of `bytes`.
    pub fn pieces<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(self.piece().min(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}
