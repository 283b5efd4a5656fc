//! A whole stream of bytes at once, by the letter of RFC 6455 and RFC 7692: what the
//! library must make of it however it arrives.

use towpath::ws::protocol::{Limits, Role};

use crate::{
    puff::{self, inflate},
    terms::Terms,
    wire::{CLOSE, PING, PONG, TEXT, masked_bytewise},
};

/// What a peer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Message { text: bool, payload: Vec<u8> },
    Ping(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// How a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// More may come.
    Open,
    Closed,
    /// Broken: by one of these codes. Several where one message is wrong in several
    /// ways, of which the one found first depends on how it arrives.
    Broken(Vec<u16>),
    /// As [`Broken`](Self::Broken), by the end of a compressed message that was wrong
    /// before it: an inflater may see that late, and pings in between be answered.
    Late(Vec<u16>),
    /// The RFC does not say: the peer sent a compressed message that ends inside of
    /// a block, or is wrong and has no end.
    Unclear,
}

const PROTOCOL: u16 = 1002;
const PAYLOAD: u16 = 1007;
const POLICY: u16 = 1008;
const BIG: u16 = 1009;

#[derive(Default)]
struct Message {
    text: bool,
    compressed: bool,
    fragments: u32,
    payload: Vec<u8>,
}

/// What `bytes` say to the end of `terms`.
pub fn read(terms: &Terms, bytes: &[u8]) -> (Vec<Said>, End) {
    let mut reader = Reader {
        terms,
        said: Vec::new(),
        message: None,
        history: Vec::new(),
        late: false,
    };
    let mut rest = bytes;
    let end = loop {
        match reader.frame(&mut rest) {
            Ok(true) => {}
            Ok(false) => break End::Open,
            Err(end) => break end,
        }
    };
    match end {
        End::Late(_) => (reader.said, end),
        _ if reader.late => (reader.said, End::Unclear),
        _ => (reader.said, end),
    }
}

struct Reader<'a> {
    terms: &'a Terms,
    said: Vec<Said>,
    message: Option<Message>,
    history: Vec<u8>,
    /// The message that is being read is wrong, which need not be seen yet.
    late: bool,
}

fn broken<T>(code: u16) -> Result<T, End> {
    Err(End::Broken(vec![code]))
}

impl Reader<'_> {
    /// Reads a frame; false where its end has not come.
    fn frame(&mut self, rest: &mut &[u8]) -> Result<bool, End> {
        let Some(&first) = rest.first() else {
            return Ok(false);
        };
        let (fin, rsv, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0F);
        let data = matches!(opcode, 1 | 2);
        let compressed = rsv == 0x40 && data && self.terms.agreed.is_some();
        if rsv != 0 && !compressed || !matches!(opcode, 0..=2 | 8..=10) || opcode >= 8 && !fin {
            return broken(PROTOCOL);
        }
        let Some(&second) = rest.get(1) else {
            return Ok(false);
        };
        let masked = second & 0x80 != 0;
        let order = match &self.message {
            None => opcode != 0,
            Some(_) => !data,
        };
        if masked != (self.terms.role == Role::Server)
            || !order
            || opcode >= 8 && second & 0x7F > 125
        {
            return broken(PROTOCOL);
        }
        let length_bytes = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(length) = rest.get(2..2 + length_bytes) else {
            return Ok(false);
        };
        let length = length.iter().fold(0_u64, |n, &b| n << 8 | u64::from(b));
        let length = match length_bytes {
            0 => u64::from(second & 0x7F),
            2 if length < 126 => return broken(PROTOCOL),
            8 if length < 0x1_0000 || length >> 63 != 0 => return broken(PROTOCOL),
            _ => length,
        };
        let start = 2 + length_bytes + if masked { 4 } else { 0 };
        if rest.len() < start {
            return Ok(false);
        }
        let key = match rest[..start] {
            [.., a, b, c, d] if masked => [a, b, c, d],
            _ => [0; 4],
        };
        if opcode < 8 {
            self.begin(opcode, compressed, length)?;
        }
        let payload = &rest[start..];
        let here = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .min(payload.len());
        let whole = here as u64 == length;
        let unmasked = masked_bytewise(&payload[..here], key).collect::<Vec<_>>();
        *rest = &payload[here..];
        if opcode >= 8 {
            if whole {
                self.control(opcode, unmasked)?;
            }
            return Ok(whole);
        }
        if let Some(message) = &mut self.message {
            message.payload.extend_from_slice(&unmasked);
        }
        self.data(fin && whole)?;
        Ok(whole)
    }

    fn begin(&mut self, opcode: u8, compressed: bool, length: u64) -> Result<(), End> {
        let message = self.message.get_or_insert_with(|| Message {
            text: opcode == TEXT,
            compressed,
            ..Message::default()
        });
        let Limits {
            max_frame_size,
            max_message_size,
            max_fragments,
        } = self.terms.limits;
        // What is compressed may be longer on the wire than the message, by as much
        // as no compressor needs; a frame's limit of its own is for the wire.
        let (frame, most) = if message.compressed {
            let frame = (max_frame_size < max_message_size).then_some(max_frame_size);
            (frame.unwrap_or(usize::MAX), 2 * max_message_size + 1024)
        } else {
            (max_frame_size, max_message_size)
        };
        let have = message.payload.len() as u64;
        if length > frame as u64 || length.saturating_add(have) > most as u64 {
            return broken(BIG);
        }
        if message.fragments == max_fragments {
            return broken(POLICY);
        }
        message.fragments += 1;
        Ok(())
    }

    /// More of a message has come.
    fn data(&mut self, whole: bool) -> Result<(), End> {
        let Some(message) = &self.message else {
            return Ok(());
        };
        let (mut wrong, mut unclear, mut late) = (Vec::new(), false, false);
        let mut history = None;
        let payload = match (message.compressed, self.terms.agreed) {
            (true, Some(agreed)) => {
                let limit = self.terms.limits.max_message_size;
                let inflated = inflate(&self.history, &message.payload, whole, limit, 1 << 15);
                if inflated.bytes.len() > limit {
                    wrong.push(BIG);
                }
                unclear = whole && (inflated.end == puff::End::Cut || inflated.ends_in_tail);
                if inflated.end == puff::End::Invalid && !unclear {
                    late = wrong.is_empty() && !whole;
                    wrong.push(PAYLOAD);
                }
                if agreed.peers(self.terms.role).takeover {
                    history = Some(inflated.history);
                }
                inflated.bytes
            }
            _ => message.payload.clone(),
        };
        if message.text {
            match std::str::from_utf8(&payload) {
                Err(error) if error.error_len().is_some() || whole => {
                    late = false;
                    wrong.push(PAYLOAD);
                }
                _ => {}
            }
        }
        if unclear {
            if wrong.is_empty() {
                return Err(End::Unclear);
            }
            wrong.push(PAYLOAD);
        }
        if !wrong.is_empty() {
            if late {
                self.late = true;
                return Ok(());
            }
            return Err(if self.late {
                End::Late(wrong)
            } else {
                End::Broken(wrong)
            });
        }
        if whole {
            self.said.push(Said::Message {
                text: message.text,
                payload,
            });
            self.message = None;
            if let Some(history) = history {
                self.history = history;
            }
        }
        Ok(())
    }

    fn control(&mut self, opcode: u8, payload: Vec<u8>) -> Result<(), End> {
        match opcode {
            PING => self.said.push(Said::Ping(payload)),
            PONG => {}
            CLOSE => {
                self.said.push(Said::Close(close(&payload)?));
                return Err(End::Closed);
            }
            other => unreachable!("opcode {other}"),
        }
        Ok(())
    }
}

/// RFC 6455 §5.5.1 and §7.4, with IANA's registry.
fn close(payload: &[u8]) -> Result<Option<(u16, String)>, End> {
    let [high, low, reason @ ..] = payload else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            broken(PROTOCOL)
        };
    };
    let code = u16::from(*high) << 8 | u16::from(*low);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return broken(PROTOCOL);
    }
    match String::from_utf8(reason.to_vec()) {
        Ok(reason) => Ok(Some((code, reason))),
        Err(_) => broken(PAYLOAD),
    }
}
