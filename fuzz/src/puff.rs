//! DEFLATE (RFC 1951) bit by bit, with nothing in common with the library that is
//! tested: slow, and plain enough to be seen right.

use crate::wire::TAIL;

/// What a compressed message inflates to.
#[derive(Debug)]
pub struct Inflated {
    pub bytes: Vec<u8>,
    pub end: End,
    /// What the receiver appends became data, or was what is wrong: the sender did not
    /// end the message with an empty block.
    pub ends_in_tail: bool,
    /// What the next message may refer to.
    pub history: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Between two blocks.
    Boundary,
    /// Inside of a block, or of its header.
    Cut,
    Invalid,
    /// Two bytes past the limit.
    TooBig,
}

/// Inflates a message behind `history`. Where it is `whole`, the tail that every
/// sender cuts off is put behind it (RFC 7692 §7.2.2).
pub fn inflate(
    history: &[u8],
    payload: &[u8],
    whole: bool,
    limit: usize,
    window: usize,
) -> Inflated {
    let mut input = payload.to_vec();
    if whole {
        input.extend_from_slice(&TAIL);
    }
    let mut puff = Puff {
        input: &input,
        payload: payload.len(),
        at: 0,
        bits: 0,
        count: 0,
        out: history.to_vec(),
        base: 0,
        start: history.len(),
        limit,
        window,
        grew_in_tail: false,
    };
    let end = puff.blocks().err().unwrap_or(End::Boundary);
    let from = puff.out.len().saturating_sub(32 * 1024).max(puff.base);
    Inflated {
        bytes: puff.out[puff.start..].to_vec(),
        end,
        ends_in_tail: puff.grew_in_tail || end == End::Invalid && puff.at > payload.len(),
        history: puff.out[from..].to_vec(),
    }
}

struct Puff<'a> {
    input: &'a [u8],
    payload: usize,
    at: usize,
    bits: u32,
    count: u32,
    /// The history, then the message.
    out: Vec<u8>,
    /// Where the stream began: no distance goes farther back.
    base: usize,
    start: usize,
    limit: usize,
    window: usize,
    grew_in_tail: bool,
}

const LENGTH_BASE: [usize; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
    163, 195, 227, 258,
];
const LENGTH_EXTRA: [u32; 29] = [
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
];
const DISTANCE_BASE: [usize; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537,
    2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
];
const DISTANCE_EXTRA: [u32; 30] = [
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13,
    13,
];
const ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// A canonical Huffman code: how many codes have each length, and their symbols.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
    /// Codes that are not used: negative where too many are.
    left: isize,
}

impl Code {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        for &length in lengths {
            counts[length] += 1;
        }
        let mut left = 1_isize;
        for &count in &counts[1..] {
            left = left * 2 - isize::try_from(count).unwrap_or(isize::MAX);
            if left < 0 {
                break;
            }
        }
        let mut symbols = Vec::new();
        for length in 1..16 {
            symbols.extend((0..lengths.len()).filter(|&symbol| lengths[symbol] == length));
        }
        if symbols.is_empty() {
            left = 0;
        }
        Self {
            counts,
            symbols,
            left,
        }
    }

    /// Complete, or a single code of one bit (which zlib allows).
    fn usable(&self) -> bool {
        self.left == 0 || (self.left > 0 && self.symbols.len() == 1 && self.counts[1] == 1)
    }
}

impl Puff<'_> {
    fn blocks(&mut self) -> Result<(), End> {
        loop {
            if self.at == self.input.len() && self.count == 0 {
                return Ok(());
            }
            let last = self.take(1)? == 1;
            match self.take(2)? {
                0 => self.stored()?,
                1 => {
                    let mut lengths = [8; 288];
                    lengths[144..256].fill(9);
                    lengths[256..280].fill(7);
                    self.codes(&Code::new(&lengths), &Code::new(&[5; 32]))?;
                }
                2 => self.dynamic()?,
                _ => return Err(End::Invalid),
            }
            if last {
                // The stream ends at a byte's end, and another begins (§7.2.3.4).
                (self.bits, self.count) = (0, 0);
                self.base = self.out.len();
                if self.at == self.payload {
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, need: u32) -> Result<u32, End> {
        while self.count < need {
            let byte = self.input.get(self.at).ok_or(End::Cut)?;
            self.at += 1;
            self.bits |= u32::from(*byte) << self.count;
            self.count += 8;
        }
        let value = self.bits & ((1 << need) - 1);
        self.bits >>= need;
        self.count -= need;
        Ok(value)
    }

    fn push(&mut self, byte: u8) -> Result<(), End> {
        self.grew_in_tail |= self.at > self.payload;
        self.out.push(byte);
        // One byte past it tells; what needs no more room is read on.
        if self.out.len() - self.start > self.limit.saturating_add(1) {
            return Err(End::TooBig);
        }
        Ok(())
    }

    fn stored(&mut self) -> Result<(), End> {
        (self.bits, self.count) = (0, 0);
        let len = self.take(16)?;
        if self.take(16)? != !len & 0xFFFF {
            return Err(End::Invalid);
        }
        for _ in 0..len {
            let byte = *self.input.get(self.at).ok_or(End::Cut)?;
            self.at += 1;
            self.push(byte)?;
        }
        Ok(())
    }

    fn dynamic(&mut self) -> Result<(), End> {
        let literals = self.take(5)? as usize + 257;
        let distances = self.take(5)? as usize + 1;
        let given = self.take(4)? as usize + 4;
        if literals > 286 || distances > 30 {
            return Err(End::Invalid);
        }
        let mut lengths = [0; 19];
        for &index in &ORDER[..given] {
            lengths[index] = self.take(3)? as usize;
        }
        let code = Code::new(&lengths);
        if code.symbols.is_empty() {
            // Inflaters read a bit for each, and see at the end that nothing is left.
            for _ in 0..literals + distances {
                self.take(1)?;
            }
        }
        if code.left != 0 || code.symbols.is_empty() {
            return Err(End::Invalid);
        }
        let mut lengths = Vec::with_capacity(literals + distances);
        while lengths.len() < literals + distances {
            let (length, repeat) = match self.symbol(&code)? {
                16 => {
                    let before = *lengths.last().ok_or(End::Invalid)?;
                    (before, 3 + self.take(2)?)
                }
                17 => (0, 3 + self.take(3)?),
                18 => (0, 11 + self.take(7)?),
                length => (length, 1),
            };
            if lengths.len() + repeat as usize > literals + distances {
                return Err(End::Invalid);
            }
            lengths.extend(std::iter::repeat_n(length, repeat as usize));
        }
        let (literal, distance) = lengths.split_at(literals);
        let (literal_code, distance_code) = (Code::new(literal), Code::new(distance));
        if literal[256] == 0 || !literal_code.usable() || !distance_code.usable() {
            return Err(End::Invalid);
        }
        self.codes(&literal_code, &distance_code)
    }

    fn symbol(&mut self, code: &Code) -> Result<usize, End> {
        let (mut value, mut first, mut index) = (0, 0, 0);
        for length in 1..16 {
            value |= self.take(1)? as usize;
            let count = code.counts[length];
            if value < first + count {
                return Ok(code.symbols[index + value - first]);
            }
            if code.symbols.len() <= 1 {
                // The only code there is, and this is not it.
                return Err(End::Invalid);
            }
            index += count;
            first = (first + count) << 1;
            value <<= 1;
        }
        Err(End::Invalid)
    }

    fn codes(&mut self, literals: &Code, distances: &Code) -> Result<(), End> {
        loop {
            let symbol = self.symbol(literals)?;
            if symbol == 256 {
                return Ok(());
            }
            if let Ok(byte) = u8::try_from(symbol) {
                self.push(byte)?;
                continue;
            }
            let index = symbol - 257;
            let base = LENGTH_BASE.get(index).ok_or(End::Invalid)?;
            let len = base + self.take(LENGTH_EXTRA[index])? as usize;
            let index = self.symbol(distances)?;
            let base = DISTANCE_BASE.get(index).ok_or(End::Invalid)?;
            let distance = base + self.take(DISTANCE_EXTRA[index])? as usize;
            if distance > self.out.len() - self.base || distance > self.window {
                return Err(End::Invalid);
            }
            for _ in 0..len {
                self.push(self.out[self.out.len() - distance])?;
            }
        }
    }
}
