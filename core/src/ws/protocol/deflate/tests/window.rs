//! A plain inflater (RFC 1951) with a window of exactly a size: the library's own
//! reads on where one of 8 bits must not.

/// Lengths and distances: the first value of each symbol, and its extra bits.
const LENGTHS: [(usize, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
const DISTANCES: [(usize, u32); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];
const ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<usize> {
        (0..count).try_fold(0, |value, place| {
            let byte = *self.bytes.get(self.at / 8)?;
            let bit = usize::from(byte >> (self.at % 8) & 1);
            self.at += 1;
            Some(value | bit << place)
        })
    }

    /// A symbol of the canonical code with these lengths.
    fn symbol(&mut self, lengths: &[usize]) -> Option<usize> {
        let (mut code, mut first) = (0, 0);
        for length in 1..=15 {
            code |= self.take(1)?;
            let of_length = || {
                lengths
                    .iter()
                    .enumerate()
                    .filter(|(_, len)| **len == length)
            };
            let count = of_length().count();
            if code < first + count {
                return of_length().nth(code - first).map(|(symbol, _)| symbol);
            }
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }

    fn codes(&mut self) -> Option<(Vec<usize>, Vec<usize>)> {
        let (literals, distances) = (self.take(5)? + 257, self.take(5)? + 1);
        let mut of_lengths = [0; 19];
        for index in &ORDER[..self.take(4)? + 4] {
            of_lengths[*index] = self.take(3)?;
        }
        let mut lengths = Vec::new();
        while lengths.len() < literals + distances {
            let (length, times) = match self.symbol(&of_lengths)? {
                16 => (*lengths.last()?, self.take(2)? + 3),
                17 => (0, self.take(3)? + 3),
                18 => (0, self.take(7)? + 11),
                length => (length, 1),
            };
            lengths.extend(std::iter::repeat_n(length, times));
        }
        let distances = lengths.split_off(literals);
        Some((lengths, distances))
    }
}

/// Appends what `bytes`, which end with a flush, inflate to behind `history`; `None`
/// where they are malformed or refer to more than `window` bytes back.
pub(super) fn inflate(bytes: &[u8], window: usize, history: &mut Vec<u8>) -> Option<()> {
    let mut bits = Bits { bytes, at: 0 };
    while bits.at < bytes.len() * 8 {
        let _last = bits.take(1)?;
        let (literals, distances) = match bits.take(2)? {
            0 => {
                let start = bits.at.div_ceil(8);
                let len = usize::from(u16::from_le_bytes([
                    *bytes.get(start)?,
                    *bytes.get(start + 1)?,
                ]));
                history.extend_from_slice(bytes.get(start + 4..start + 4 + len)?);
                bits.at = (start + 4 + len) * 8;
                continue;
            }
            1 => {
                let literals = [(8, 144), (9, 112), (7, 24), (8, 8)];
                let literals = literals.map(|(len, times)| vec![len; times]).concat();
                (literals, vec![5; 30])
            }
            2 => bits.codes()?,
            _ => return None,
        };
        loop {
            match bits.symbol(&literals)? {
                256 => break,
                symbol @ 257.. => {
                    let (len, extra) = *LENGTHS.get(symbol - 257)?;
                    let len = len + bits.take(extra)?;
                    let (distance, extra) = *DISTANCES.get(bits.symbol(&distances)?)?;
                    let distance = distance + bits.take(extra)?;
                    if distance > window {
                        return None;
                    }
                    for _ in 0..len {
                        history.push(history[history.len().checked_sub(distance)?]);
                    }
                }
                literal => history.push(u8::try_from(literal).ok()?),
            }
        }
    }
    Some(())
}
