//! What one connection receives: taken apart, and compared with what it must be.

use crate::{
    Compress, Failure,
    frame::{self, Header},
    ring::{Inflate, Ring},
};

/// The longest header of a frame from a server.
const LONGEST_HEADER: usize = 10;
/// So many compressed messages are remembered.
const REMEMBERED: u64 = 64;

/// What is awaited.
#[derive(Debug)]
enum Form {
    /// The bytes that were sent, masks and all.
    Raw {
        offset: usize,
    },
    Frames(Frames),
}

/// The state between two reads.
#[derive(Debug)]
pub(crate) struct Incoming {
    form: Form,
    /// Messages that came whole.
    number: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Frames {
    /// A header that is not complete.
    begun: Vec<u8>,
    current: Option<Current>,
    /// The message that is not complete.
    message: Option<Message>,
    control: Vec<u8>,
    squeezed: Vec<u8>,
    inflate: Option<Box<Inflate>>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    header: Header,
    left: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Message {
    compressed: bool,
    offset: usize,
}

/// Compressed messages that were inflated and found right. A broadcast sends the same bytes to everyone: whoever gets
/// them again compares, and needs not inflate them again.
#[derive(Debug)]
pub(crate) struct Verified {
    messages: Vec<(u64, Vec<u8>)>,
}

impl Default for Verified {
    fn default() -> Self {
        let none = (u64::MAX, Vec::new());
        Self {
            messages: (0..REMEMBERED).map(|_| none.clone()).collect(),
        }
    }
}

impl Verified {
    fn slot(&mut self, number: u64) -> Option<&mut (u64, Vec<u8>)> {
        self.messages
            .get_mut(usize::try_from(number % REMEMBERED).ok()?)
    }
}

impl Incoming {
    pub(crate) fn raw() -> Self {
        Self {
            form: Form::Raw { offset: 0 },
            number: 0,
            closed: false,
        }
    }

    pub(crate) fn frames(compress: Option<Compress>) -> Self {
        let inflate = compress.map(|compress| Box::new(Inflate::new(compress)));
        Self {
            form: Form::Frames(Frames {
                inflate,
                ..Frames::default()
            }),
            number: 0,
            closed: false,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes what was read. Answers to pings go to `replies`.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        ring: &Ring,
        verified: &mut Verified,
        replies: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        match &mut self.form {
            Form::Raw { offset } => {
                while !bytes.is_empty() {
                    let (expected, _) = ring.frames(self.number, 1);
                    let some = bytes.len().min(expected.len() - *offset);
                    if bytes[..some] != expected[*offset..*offset + some] {
                        return Err(format!("message {} came back changed", self.number).into());
                    }
                    *offset += some;
                    bytes = &bytes[some..];
                    if *offset == expected.len() {
                        *offset = 0;
                        self.number += 1;
                    }
                }
            }
            Form::Frames(frames) => {
                while !bytes.is_empty() && !self.closed {
                    let (used, said) = frames.step(bytes, self.number, ring, verified)?;
                    bytes = &bytes[used..];
                    match said {
                        Said::Nothing => {}
                        Said::Message => self.number += 1,
                        Said::Ping => {
                            frame::put(replies, frame::PONG, false, &frames.control, [1, 2, 3, 4]);
                        }
                        Said::Close => self.closed = true,
                    }
                }
            }
        }
        Ok(())
    }
}

/// What a step has brought to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Said {
    Nothing,
    Message,
    Ping,
    Close,
}

impl Frames {
    /// Takes a header, or payload of one frame.
    fn step(
        &mut self,
        bytes: &[u8],
        number: u64,
        ring: &Ring,
        verified: &mut Verified,
    ) -> Result<(usize, Said), Failure> {
        let mut used = 0;
        let mut current = match self.current.take() {
            Some(current) => current,
            None => match self.header(bytes)? {
                (taken, None) => return Ok((taken, Said::Nothing)),
                (taken, Some(header)) => {
                    used = taken;
                    self.begin(header, ring)?
                }
            },
        };
        let some = current.left.min(bytes.len() - used);
        let payload = &bytes[used..used + some];
        used += some;
        current.left -= some;
        let done = current.left == 0;
        if current.header.opcode >= frame::CLOSE {
            self.control.extend_from_slice(payload);
        } else {
            self.data(payload, number, ring)?;
        }
        if !done {
            self.current = Some(current);
            return Ok((used, Said::Nothing));
        }
        let said = match current.header.opcode {
            frame::CLOSE => Said::Close,
            frame::PING => Said::Ping,
            opcode if opcode < frame::CLOSE && current.header.fin => {
                self.end(number, ring, verified)?;
                Said::Message
            }
            _ => Said::Nothing,
        };
        Ok((used, said))
    }

    fn header(&mut self, bytes: &[u8]) -> Result<(usize, Option<Header>), Failure> {
        if self.begun.is_empty()
            && let Some(header) = frame::header(bytes)?
        {
            return Ok((header.size, Some(header)));
        }
        let before = self.begun.len();
        let some = bytes.len().min(LONGEST_HEADER - before);
        self.begun.extend_from_slice(&bytes[..some]);
        let Some(header) = frame::header(&self.begun)? else {
            return Ok((some, None));
        };
        self.begun.clear();
        Ok((header.size - before, Some(header)))
    }

    fn begin(&mut self, header: Header, ring: &Ring) -> Result<Current, Failure> {
        if header.opcode >= frame::CLOSE {
            self.control.clear();
        } else {
            match (self.message, header.opcode) {
                (Some(_), frame::CONTINUATION) => {}
                (None, opcode) if opcode == ring.opcode() => {
                    if header.compressed && self.inflate.is_none() {
                        return Err("a compressed message that nobody agreed on".into());
                    }
                    self.message = Some(Message {
                        compressed: header.compressed,
                        offset: 0,
                    });
                }
                (_, opcode) => return Err(format!("opcode {opcode} is out of place").into()),
            }
        }
        Ok(Current {
            header,
            left: usize::try_from(header.length)?,
        })
    }

    fn data(&mut self, payload: &[u8], number: u64, ring: &Ring) -> Result<(), Failure> {
        let message = self.message.as_mut().ok_or("data outside a message")?;
        if message.compressed {
            self.squeezed.extend_from_slice(payload);
            return Ok(());
        }
        let end = message.offset + payload.len();
        if ring.payload(number).get(message.offset..end) != Some(payload) {
            return Err(format!("message {number} came back changed").into());
        }
        message.offset = end;
        Ok(())
    }

    fn end(&mut self, number: u64, ring: &Ring, verified: &mut Verified) -> Result<(), Failure> {
        let message = self.message.take().ok_or("the end of no message")?;
        let expected = ring.payload(number);
        if !message.compressed {
            if message.offset != expected.len() {
                return Err(format!("message {number} came back cut").into());
            }
            return Ok(());
        }
        let inflate = self.inflate.as_mut().ok_or("compressed")?;
        let right = match verified.slot(number).filter(|_| !inflate.keeps()) {
            Some((known, bytes)) if *known == number && *bytes == self.squeezed => true,
            slot => {
                let right = inflate.message(&self.squeezed, expected.len())? == expected;
                if right && let Some((known, bytes)) = slot {
                    *known = number;
                    bytes.clone_from(&self.squeezed);
                }
                right
            }
        };
        self.squeezed.clear();
        if right {
            Ok(())
        } else {
            Err(format!("message {number} came back changed").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn served(ring: &Ring, number: u64) -> Vec<u8> {
        let payload = ring.payload(number);
        let mut bytes = vec![0x80 | ring.opcode(), payload.len().to_le_bytes()[0]];
        bytes.extend(payload);
        bytes
    }

    fn feed(
        incoming: &mut Incoming,
        ring: &Ring,
        bytes: &[u8],
        step: usize,
    ) -> Result<Vec<u8>, Failure> {
        let mut replies = Vec::new();
        for part in bytes.chunks(step) {
            incoming.feed(part, ring, &mut Verified::default(), &mut replies)?;
        }
        Ok(replies)
    }

    #[test]
    fn the_same_however_it_is_cut() {
        let ring = Ring::new(Kind::Binary, 16, 1, None).unwrap();
        let mut bytes = served(&ring, 0);
        bytes.extend([0x89, 2, 7, 8]);
        // A message in two fragments, with a ping between them.
        let second = ring.payload(1);
        bytes.extend([ring.opcode(), 6]);
        bytes.extend(&second[..6]);
        bytes.extend([0x89, 0]);
        bytes.extend([0x80, 10]);
        bytes.extend(&second[6..]);
        for step in 1..=bytes.len() {
            let mut incoming = Incoming::frames(None);
            let replies = feed(&mut incoming, &ring, &bytes, step).unwrap();
            assert_eq!(incoming.number(), 2);
            assert_eq!(replies.len(), 2 + 4 + 2 + 2 + 4);
        }
    }

    #[test]
    fn a_changed_a_cut_and_a_long_message_are_told() {
        let ring = Ring::new(Kind::Binary, 16, 1, None).unwrap();
        let good = served(&ring, 0);
        for position in 2..good.len() {
            let mut bytes = good.clone();
            bytes[position] ^= 1;
            assert!(feed(&mut Incoming::frames(None), &ring, &bytes, 100).is_err());
        }
        let mut cut = good.clone();
        cut[1] = 15;
        assert!(feed(&mut Incoming::frames(None), &ring, &cut[..17], 100).is_err());
        let mut long = good;
        long[1] = 17;
        long.push(0);
        assert!(feed(&mut Incoming::frames(None), &ring, &long, 100).is_err());
    }

    #[test]
    fn raw_bytes_are_compared_too() {
        let ring = Ring::new(Kind::Binary, 16, 1, None).unwrap();
        let (frames, count) = ring.frames(0, 3);
        let mut incoming = Incoming::raw();
        feed(&mut incoming, &ring, frames, 5).unwrap();
        assert_eq!(incoming.number(), count);
        let mut changed = frames.to_vec();
        changed[30] ^= 1;
        assert!(feed(&mut Incoming::raw(), &ring, &changed, 5).is_err());
    }
}
