//! permessage-deflate (RFC 7692): what one connection compresses and inflates.
//!
//! A context (a compressor owns 250 to 380 KB, an inflater 48 KB) is lent by the
//! thread for as long as it is needed: where no context is taken over, for a
//! message. So an idle connection owns none.

mod forms;
mod pool;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Decompress, FlushCompress, FlushDecompress, Status};

pub(crate) use self::forms::Forms;
use self::pool::Compressor;
use super::{
    broadcast::Broadcast,
    error::ProtocolError,
    frame::{Header, Opcode},
    message::Message,
    receive::Role,
};

/// What a sender cuts off the end of each message (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// The room for inflated bytes grows up to so much at a time.
const MAX_ROOM: usize = 64 * 1024;

/// One direction, as agreed on (RFC 7692 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Direction {
    /// Whether a message may refer to those before it.
    pub(crate) takeover: bool,
    /// The base-2 logarithm of the window, 8 to 15.
    pub(crate) window_bits: u8,
}

/// What was agreed on, and how this end compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) server: Direction,
    pub(crate) client: Direction,
    /// Shorter messages are sent as they are.
    pub(crate) threshold: usize,
    pub(crate) level: u32,
}

/// Compresses what this end sends.
#[derive(Debug)]
pub(crate) struct Deflater {
    direction: Direction,
    threshold: usize,
    level: u32,
    /// Kept from message to message where the context is taken over.
    context: Option<Compressor>,
}

impl Deflater {
    pub(crate) const fn new(terms: &Terms, role: Role) -> Self {
        Self {
            direction: match role {
                Role::Server => terms.server,
                Role::Client => terms.client,
            },
            threshold: terms.threshold,
            level: terms.level,
            context: None,
        }
    }

    /// The payload of `message` in a frame with RSV1; `None` where it is better
    /// sent as it is.
    pub(crate) fn compress(&mut self, message: &Message) -> Option<Vec<u8>> {
        let payload = message.as_bytes();
        if !self.compresses(payload.len()) {
            return None;
        }
        let Direction {
            takeover,
            window_bits,
        } = self.direction;
        let mut compressor = self
            .context
            .take()
            .unwrap_or_else(|| pool::compressor(self.level, window_bits));
        // A compressor that failed is not used again, nor is what it knows.
        let mut out = deflate(&mut compressor, payload)?;
        if takeover {
            // Even where it grew: the next message may refer to it.
            self.context = Some(compressor);
        } else {
            pool::give_back_compressor(compressor);
            if out.len() >= payload.len() {
                return None;
            }
        }
        if out.capacity() / 2 > out.len() {
            out.shrink_to_fit();
        }
        Some(out)
    }

    /// The frame of a server that `broadcast` is sent in, compressed for all peers
    /// whose window reads it; `None` where it is better sent as it is.
    pub(crate) fn broadcast(&mut self, broadcast: &Broadcast) -> Option<Bytes> {
        let len = broadcast.payload_len();
        if !broadcast.may_compress() || !self.compresses(len) {
            return None;
        }
        let window_bits = forms::class(len, self.direction.window_bits);
        let make = || shared_frame(&broadcast.message(), self.level, window_bits);
        let frame = broadcast.forms().frame(window_bits, make)?;
        // It is in the peer's window now (RFC 7692 §7.2.2) and not in ours: to what
        // was said before it we refer no more.
        self.rest();
        Some(frame)
    }

    /// Whether a payload of `len` bytes is worth it.
    const fn compresses(&self, len: usize) -> bool {
        len >= self.threshold && len > 0
    }

    /// Whether a context waits for the next message.
    pub(crate) const fn keeps_context(&self) -> bool {
        self.context.is_some()
    }

    /// Gives the context back: the next message begins with an empty window, which
    /// a sender may always do.
    pub(crate) fn rest(&mut self) {
        if let Some(compressor) = self.context.take() {
            pool::give_back_compressor(compressor);
        }
    }
}

impl Drop for Deflater {
    fn drop(&mut self) {
        self.rest();
    }
}

/// `message` in a frame of a server, compressed by itself; `None` where that is not
/// shorter.
fn shared_frame(message: &Message, level: u32, window_bits: u8) -> Option<Bytes> {
    let payload = message.as_bytes();
    let mut compressor = pool::compressor(level, window_bits);
    let deflated = deflate(&mut compressor, payload)?;
    pool::give_back_compressor(compressor);
    if deflated.len() >= payload.len() {
        return None;
    }
    let header = Header {
        fin: true,
        compressed: true,
        opcode: Opcode::of(message),
        mask: None,
        len: deflated.len() as u64,
    };
    let mut frame = BytesMut::with_capacity(Header::MAX_LEN + deflated.len());
    header.encode(&mut frame);
    frame.put_slice(&deflated);
    Some(frame.freeze())
}

/// `payload` behind what `compressor` has seen, flushed, without its tail.
fn deflate(compressor: &mut Compressor, payload: &[u8]) -> Option<Vec<u8>> {
    let stream = compressor.stream();
    let mut out = Vec::with_capacity(payload.len() / 2 + 64);
    let mut rest = payload;
    loop {
        let before = stream.total_in();
        stream
            .compress_vec(rest, &mut out, FlushCompress::Sync)
            .ok()?;
        rest = &rest[moved(before, stream.total_in())..];
        // The flush is complete once it leaves room.
        if rest.is_empty() && out.len() < out.capacity() {
            break;
        }
        out.reserve(out.len());
    }
    let len = out.strip_suffix(&TAIL)?.len();
    out.truncate(len);
    Some(out)
}

/// Inflates what the peer sends.
#[derive(Debug)]
pub(crate) struct Inflater {
    takeover: bool,
    /// Kept between messages only where the context is taken over: the peer may
    /// refer to its window for ever.
    context: Option<Decompress>,
    /// The stream has ended, and nothing has come behind.
    ended: bool,
}

impl Inflater {
    /// Whatever window was agreed on, the largest reads it, and costs the same.
    pub(crate) const fn new(terms: &Terms, role: Role) -> Self {
        Self {
            takeover: match role {
                Role::Server => terms.client.takeover,
                Role::Client => terms.server.takeover,
            },
            context: None,
            ended: false,
        }
    }

    /// Appends what `input`, the next piece of a message, inflates to; at most
    /// one byte past `limit`, which is the message's.
    pub(crate) fn inflate(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), ProtocolError> {
        let context = self.context.get_or_insert_with(pool::inflater);
        let mut room = (input.len() * 4).clamp(64, MAX_ROOM);
        loop {
            let start = out.len();
            // One byte past the limit tells that there is more.
            let most = limit.saturating_add(1) - start;
            if out.capacity() - start < room.min(most) {
                out.reserve_exact(room.max(start).min(most));
            }
            out.resize(start + room.min(most), 0);
            let (read, written) = (context.total_in(), context.total_out());
            let inflated = context.decompress(input, &mut out[start..], FlushDecompress::None);
            let (read, written) = (
                moved(read, context.total_in()),
                moved(written, context.total_out()),
            );
            let filled = start + written == out.len();
            out.truncate(start + written);
            let status = inflated.map_err(|_| ProtocolError::InvalidDeflate)?;
            if out.len() > limit {
                return Err(ProtocolError::MessageTooBig { limit });
            }
            input = &input[read..];
            self.ended = match status {
                // §7.2.3.4: a final block does not end the message.
                Status::StreamEnd => {
                    context.reset(false);
                    true
                }
                Status::Ok | Status::BufError => self.ended && read == 0,
            };
            if input.is_empty() && !filled {
                return Ok(());
            }
            if read == 0 && written == 0 {
                return if input.is_empty() {
                    Ok(())
                } else {
                    Err(ProtocolError::InvalidDeflate)
                };
            }
            room = (room * 2).min(MAX_ROOM);
        }
    }

    /// Ends the message.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>, limit: usize) -> Result<(), ProtocolError> {
        if !self.ended {
            let whole = out.len();
            self.inflate(&TAIL, out, limit)?;
            if out.len() > whole {
                // It was taken for data: the message was cut off inside a block.
                return Err(ProtocolError::InvalidDeflate);
            }
        }
        self.ended = false;
        if !self.takeover {
            self.rest();
        }
        Ok(())
    }

    fn rest(&mut self) {
        if let Some(context) = self.context.take() {
            pool::give_back_inflater(context);
        }
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        self.rest();
    }
}

/// How far a counter of a stream went, in a call whose bytes were in memory.
fn moved(before: u64, after: u64) -> usize {
    usize::try_from(after - before).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
