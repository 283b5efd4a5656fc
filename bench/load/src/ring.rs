//! The messages of a load, made before the clock runs: a ring, which each connection goes through again and again.

use flate2::{
    Compress as Deflater, Compression, Decompress as Inflater, FlushCompress, FlushDecompress,
};

use crate::{Compress, Failure, Kind, frame};

/// What permessage-deflate takes off the end of a message (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const WINDOW: usize = 32 * 1024;

/// Messages, and what is written for them.
#[derive(Debug)]
pub(crate) struct Ring {
    payloads: Vec<Vec<u8>>,
    opcode: u8,
    /// The frames of the first time around, and of each later one: a compressor that keeps its window writes other
    /// bytes once it has seen the ring.
    first: Wire,
    later: Option<Wire>,
}

/// Frames in a row.
#[derive(Debug)]
struct Wire {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Ring {
    /// Messages of `size` bytes; at least `least` of them.
    pub(crate) fn new(
        kind: Kind,
        size: usize,
        least: usize,
        compress: Option<Compress>,
    ) -> Result<Self, Failure> {
        // Enough that they differ, few enough that they stay in the cache.
        let fits = (256 * 1024 / size.max(1)).clamp(2, 256);
        let mut count = fits.max(least).next_multiple_of(least.max(1));
        if compress == Some(Compress::Takeover) {
            // The window is then the ring's end each time around.
            count = count.max((WINDOW / size.max(1) + 1).next_multiple_of(least.max(1)));
        }
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let payloads: Vec<_> = (0..count)
            .map(|number| payload(kind, size, number, &mut random))
            .collect();
        let opcode = match kind {
            Kind::Binary => frame::BINARY,
            Kind::Text | Kind::Json => frame::TEXT,
        };
        let mut deflater = Deflater::new(Compression::new(6), false);
        let mut wire = || -> Result<Wire, Failure> {
            let mut wire = Wire {
                bytes: Vec::new(),
                ends: Vec::new(),
            };
            for payload in &payloads {
                let mask = random.next().to_be_bytes();
                let mask = [mask[0], mask[1], mask[2], mask[3]];
                match compress {
                    None => frame::put(&mut wire.bytes, opcode, false, payload, mask),
                    Some(compress) => {
                        if compress == Compress::NoTakeover {
                            deflater.reset();
                        }
                        let squeezed = deflate(&mut deflater, payload)?;
                        frame::put(&mut wire.bytes, opcode, true, &squeezed, mask);
                    }
                }
                wire.ends.push(wire.bytes.len());
            }
            Ok(wire)
        };
        let first = wire()?;
        let keeps = compress == Some(Compress::Takeover);
        let later = keeps.then(&mut wire).transpose()?;
        Ok(Self {
            payloads,
            opcode,
            first,
            later,
        })
    }

    /// How many messages differ.
    pub(crate) fn len(&self) -> usize {
        self.payloads.len()
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.opcode
    }

    /// The message of this number.
    pub(crate) fn payload(&self, number: u64) -> &[u8] {
        &self.payloads[self.index(number)]
    }

    /// The frames of the messages from `number` on, to the end of the ring at most; `count` of them at most.
    pub(crate) fn frames(&self, number: u64, count: u64) -> (&[u8], u64) {
        let index = self.index(number);
        let later = self.later.as_ref().filter(|_| number >= self.len() as u64);
        let wire = later.unwrap_or(&self.first);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let end = index.saturating_add(count).min(self.len());
        let begin = index.checked_sub(1).map_or(0, |before| wire.ends[before]);
        let finish = end.checked_sub(1).map_or(0, |last| wire.ends[last]);
        (&wire.bytes[begin..finish], (end - index) as u64)
    }

    fn index(&self, number: u64) -> usize {
        usize::try_from(number % self.len() as u64).unwrap_or(0)
    }
}

/// What inflates the messages of a server.
#[derive(Debug)]
pub(crate) struct Inflate {
    inflater: Inflater,
    keeps: bool,
    out: Vec<u8>,
}

impl Inflate {
    pub(crate) fn new(compress: Compress) -> Self {
        Self {
            inflater: Inflater::new(false),
            keeps: compress == Compress::Takeover,
            out: Vec::new(),
        }
    }

    /// Whether a message needs those before it.
    pub(crate) fn keeps(&self) -> bool {
        self.keeps
    }

    /// The message that `squeezed` stands for; `size` is what it should have.
    pub(crate) fn message(&mut self, squeezed: &[u8], size: usize) -> Result<&[u8], Failure> {
        if !self.keeps {
            self.inflater.reset(false);
        }
        self.out.clear();
        // One byte more, which a message that is too long will fill.
        self.out.reserve(size + 1);
        for part in [squeezed, &TAIL] {
            let before = self.inflater.total_in();
            self.inflater
                .decompress_vec(part, &mut self.out, FlushDecompress::Sync)?;
            if self.inflater.total_in() - before != part.len() as u64 {
                return Err("a compressed message is longer than what was sent".into());
            }
        }
        Ok(&self.out)
    }
}

fn deflate(deflater: &mut Deflater, payload: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::with_capacity(payload.len() + 128);
    let before = deflater.total_in();
    deflater.compress_vec(payload, &mut out, FlushCompress::Sync)?;
    if deflater.total_in() - before != payload.len() as u64 || !out.ends_with(&TAIL) {
        return Err("the generator could not compress a message".into());
    }
    out.truncate(out.len() - TAIL.len());
    Ok(out)
}

fn payload(kind: Kind, size: usize, number: usize, random: &mut Random) -> Vec<u8> {
    match kind {
        Kind::Binary => (0..size).map(|_| random.next().to_le_bytes()[7]).collect(),
        Kind::Text => {
            let words = [
                "lorem ", "ipsum ", "dolor ", "süß ", "amet ", "🚀 ", "elit, ",
            ];
            let mut text = String::new();
            while text.len() < size {
                let word = usize::from(random.next().to_le_bytes()[7]) % words.len();
                text.push_str(words[word]);
            }
            cut(text, size)
        }
        Kind::Json => {
            let mut text = format!("{{\"sequence\":{number},\"room\":\"general\",\"items\":[");
            while text.len() < size {
                let [a, b, c, ..] = random.next().to_be_bytes();
                text.push_str(&format!(
                    "{{\"id\":{},\"user\":\"user-{a}\",\"price\":{c}.{b:02},\"active\":{}}},",
                    u32::from(b) * 977,
                    a % 2 == 0,
                ));
            }
            let mut text = cut(text, size);
            // A whole document, where there is room for its end.
            if let [.., a, b] = text.as_mut_slice() {
                (*a, *b) = (b']', b'}');
            }
            text
        }
    }
}

/// So many bytes, without half a character at the end.
fn cut(mut text: String, size: usize) -> Vec<u8> {
    while text.len() > size {
        text.pop();
    }
    let mut text = text.into_bytes();
    text.resize(size, b'.');
    text
}

/// Numbers that look random and are the same each time (splitmix64).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second time around uses the frames made behind the first, and so on: a peer that keeps its window
    /// must understand all of them.
    #[test]
    fn a_kept_window_is_right_each_time_around() {
        let ring = Ring::new(Kind::Json, 1024, 16, Some(Compress::Takeover)).unwrap();
        let mut inflate = Inflate::new(Compress::Takeover);
        for number in 0..4 * ring.len() as u64 {
            let (wire, count) = ring.frames(number, 1);
            assert_eq!(count, 1);
            let size = wire.len() - 4;
            let header = if wire[1] == 0xfe { 4 } else { 2 };
            let mask = &wire[header..header + 4];
            let squeezed: Vec<_> = wire[header + 4..]
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask)
                .collect();
            assert_eq!(squeezed.len(), size - header);
            let message = inflate.message(&squeezed, 1024).unwrap();
            assert_eq!(message, ring.payload(number));
        }
    }

    #[test]
    fn text_is_utf8_and_json_is_json() {
        for size in [2, 16, 64, 1024] {
            let text = Ring::new(Kind::Text, size, 1, None).unwrap();
            let lengths = text.payloads.iter().map(Vec::len);
            assert!(lengths.eq(vec![size; text.len()]));
            assert!(
                text.payloads
                    .iter()
                    .all(|text| str::from_utf8(text).is_ok())
            );
        }
    }

    #[test]
    fn frames_end_with_the_ring() {
        let ring = Ring::new(Kind::Binary, 16, 16, None).unwrap();
        let last = ring.len() as u64 - 1;
        assert_eq!(ring.frames(last, 16).1, 1);
        assert_eq!(ring.frames(last + 1, 16), ring.frames(0, 16));
        assert_eq!(ring.frames(0, 16).0.len(), 16 * 22);
    }
}
