//! Frames become messages.

use std::{mem, ops::Range};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    close::CloseFrame,
    deflate::Inflater,
    error::ProtocolError,
    frame::{Header, MAX_CONTROL, Opcode},
    mask,
    message::{Message, Text},
    spare::{Loan, Spares},
    utf8::{self, Utf8},
};

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes masked frames and sends bare ones.
    Server,
    /// Takes bare frames and sends masked ones.
    Client,
}

/// What a peer may send at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest payload of a frame in bytes; exactly so many still pass.
    pub max_frame_size: usize,
    /// The largest message in bytes; exactly so many still pass.
    pub max_message_size: usize,
    /// The most frames of one message.
    pub max_fragments: u32,
}

/// A large payload's buffer grows by so much at a time, so that a header's
/// promise costs nothing: memory follows what has arrived.
const GROWTH: usize = 64 * 1024;

/// A message of so many bytes, and no smaller one, may share the memory of the read that
/// brought it: who keeps it keeps the rest of that read too.
const SHARED: usize = 16 * 1024;

/// Compressed bytes are unmasked and inflated so many at a time.
const PIECE: usize = 4096;

/// A message may be twice its limit while it is compressed, and so many bytes: far
/// more than any compressor adds to what it cannot make smaller.
const COMPRESSED_SLACK: u64 = 1024;

/// What a peer said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Message(Message),
    Ping(Bytes),
    Pong,
    Close(Option<CloseFrame>),
}

/// The receiving half of the protocol.
///
/// Between two messages it owns nothing: a frame that arrives whole becomes a
/// message at once, and only one that is cut leaves state here.
#[derive(Debug)]
pub(crate) struct Receiver {
    role: Role,
    limits: Limits,
    cut: Cut,
    assembly: Option<Box<Assembly>>,
    /// The message in the making is compressed.
    inflates: bool,
    inflater: Option<Box<Inflater>>,
}

/// Where the last piece of input ended.
#[derive(Debug)]
enum Cut {
    BetweenFrames,
    InHeader {
        bytes: [u8; Header::MAX_LEN],
        len: u8,
    },
    InData(Payload),
    /// Never read directly: what arrives is not what the message is made of.
    InCompressed(Payload),
    InControl(Box<Control>),
}

#[derive(Clone, Copy, Debug)]
struct Payload {
    fin: bool,
    mask: [u8; 4],
    /// Bytes that have been taken, modulo four: where the mask stands.
    phase: usize,
    remaining: u64,
}

#[derive(Debug)]
struct Control {
    opcode: Opcode,
    mask: [u8; 4],
    payload: [u8; MAX_CONTROL],
    have: u8,
    len: u8,
}

/// A message that is there, in one frame.
struct Whole {
    text: bool,
    key: Option<[u8; 4]>,
    /// Where it is.
    payload: Range<usize>,
}

/// A message in the making.
#[derive(Debug, Default)]
struct Assembly {
    /// The check of the text so far, where it is one.
    utf8: Option<Utf8>,
    fragments: u32,
    /// The bytes of its frames so far, where it is compressed.
    compressed: u64,
    /// What they have inflated to: never more room than the limit, where `bytes`
    /// would double it.
    inflated: Vec<u8>,
    bytes: BytesMut,
    /// `bytes` has room for all of it, before all of it has come.
    loan: Option<Loan>,
}

impl Receiver {
    pub(crate) const fn new(role: Role, limits: Limits, inflater: Option<Box<Inflater>>) -> Self {
        Self {
            role,
            limits,
            cut: Cut::BetweenFrames,
            assembly: None,
            inflates: false,
            inflater,
        }
    }

    /// How many bytes came of the message that is in the making.
    pub(crate) fn assembled(&self) -> u64 {
        let Some(assembly) = &self.assembly else {
            return 0;
        };
        let promised = match self.cut {
            Cut::InCompressed(payload) => payload.remaining,
            _ => 0,
        };
        assembly.bytes.len() as u64 + (assembly.compressed - promised)
    }

    /// Gives back the memory of a message that will not be finished: nothing is
    /// read after this.
    pub(crate) fn forget(&mut self) {
        self.cut = Cut::BetweenFrames;
        self.assembly = None;
        self.inflater = None;
    }

    /// A message that has arrived whole in one plain frame, off the front of
    /// `input`: the short way of what is most common. `None` where there is
    /// anything else, a fault among it, for [`next`](Self::next) to look at.
    #[inline]
    pub(crate) fn whole(&self, input: &mut &[u8]) -> Result<Option<Message>, ProtocolError> {
        let Some(Whole { text, key, payload }) = self.whole_frame(input) else {
            return Ok(None);
        };
        let (frame, rest) = input.split_at(payload.end);
        *input = rest;
        let mut payload: Box<[u8]> = frame[payload.start..].into();
        if let Some(key) = key {
            mask::apply(&mut payload, key, 0);
        }
        if text {
            utf8::check_whole(&payload)?;
            return Ok(Some(Message::Text(Text::from_checked(payload.into()))));
        }
        Ok(Some(Message::Binary(payload.into())))
    }

    /// As [`whole`](Self::whole), for a message of at least [`SHARED`] bytes, which is
    /// not copied: it has its share of the buffer's memory.
    pub(crate) fn whole_in_place(
        &self,
        input: &mut BytesMut,
    ) -> Result<Option<Message>, ProtocolError> {
        let Some(Whole { text, key, payload }) = self.whole_frame(input) else {
            return Ok(None);
        };
        if payload.len() < SHARED {
            return Ok(None);
        }
        let mut frame = input.split_to(payload.end);
        frame.advance(payload.start);
        if let Some(key) = key {
            mask::apply(&mut frame, key, 0);
        }
        if text {
            utf8::check_whole(&frame)?;
            return Ok(Some(Message::Text(Text::from_checked(frame.freeze()))));
        }
        Ok(Some(Message::Binary(frame.freeze())))
    }

    /// The frame at the front of `input`, where it is a message and is there whole.
    #[inline]
    fn whole_frame(&self, input: &[u8]) -> Option<Whole> {
        let (Cut::BetweenFrames, None) = (&self.cut, &self.assembly) else {
            return None;
        };
        let &[first, second, ..] = input else {
            return None;
        };
        // The last frame and the first, without a reserved bit.
        let text = match first {
            0x81 => true,
            0x82 => false,
            _ => return None,
        };
        let masked = matches!(self.role, Role::Server);
        // Masked as it has to be; what is wrong is no length, and so not short.
        let short = if masked { second ^ 0x80 } else { second };
        let (len, after_len) = match (short, input) {
            (0..=125, _) => (usize::from(short), 2),
            (126, &[_, _, a, b, ..]) => {
                let len = u16::from_be_bytes([a, b]);
                // Not in the shortest form.
                if len < 126 {
                    return None;
                }
                (usize::from(len), 4)
            }
            _ => return None,
        };
        if !self.allows_whole(len) {
            return None;
        }
        let (key, start) = match &input[after_len..] {
            _ if !masked => (None, after_len),
            &[a, b, c, d, ..] => (Some([a, b, c, d]), after_len + 4),
            _ => return None,
        };
        let end = start + len;
        (end <= input.len()).then_some(Whole {
            text,
            key,
            payload: start..end,
        })
    }

    /// Whether the limits allow a message of `len` bytes in one frame.
    const fn allows_whole(&self, len: usize) -> bool {
        let limits = &self.limits;
        len <= limits.max_frame_size && len <= limits.max_message_size && limits.max_fragments > 0
    }

    /// Reads on in `input`, off whose front it takes what it has used. `None`
    /// once all of it is used.
    pub(crate) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Received>, ProtocolError> {
        loop {
            match &mut self.cut {
                Cut::BetweenFrames => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let deflate = self.inflater.is_some();
                    let decoded = Header::decode(input, deflate).or_else(|error| {
                        if error == ProtocolError::InvalidLength {
                            // Byte by byte the beginning is judged first.
                            self.check_beginning(input)?;
                        }
                        Err(error)
                    });
                    let Some((header, len)) = decoded? else {
                        self.check_beginning(input)?;
                        self.cut = Cut::InHeader {
                            bytes: [0; Header::MAX_LEN],
                            len: 0,
                        };
                        continue;
                    };
                    *input = &input[len..];
                    if let Some(received) = self.begin(header, input)? {
                        return Ok(Some(received));
                    }
                }
                Cut::InHeader { bytes, len } => {
                    let Some((&byte, rest)) = input.split_first() else {
                        return Ok(None);
                    };
                    *input = rest;
                    bytes[usize::from(*len)] = byte;
                    *len += 1;
                    let (bytes, len) = (*bytes, usize::from(*len));
                    let deflate = self.inflater.is_some();
                    if let Some((header, _)) = Header::decode(&bytes[..len], deflate)? {
                        self.cut = Cut::BetweenFrames;
                        if let Some(received) = self.begin(header, input)? {
                            return Ok(Some(received));
                        }
                    } else {
                        self.check_beginning(&bytes[..len])?;
                    }
                }
                Cut::InData(payload) => {
                    let take = within(input.len(), payload.remaining);
                    let (now, rest) = input.split_at(take);
                    *input = rest;
                    let (mask, phase) = (payload.mask, payload.phase);
                    let assembly = self.assembly.get_or_insert_default();
                    let grow = within(GROWTH.max(assembly.bytes.len()), payload.remaining);
                    assembly.bytes.reserve(grow.max(take));
                    mask::append(now, mask, phase, &mut assembly.bytes);
                    if let Some(received) = self.took(take)? {
                        return Ok(Some(received));
                    }
                    if input.is_empty() && matches!(self.cut, Cut::InData(_)) {
                        return Ok(None);
                    }
                }
                Cut::InCompressed(_) => {
                    if let Some(received) = self.inflate(input)? {
                        return Ok(Some(received));
                    }
                    if matches!(self.cut, Cut::InCompressed(_)) {
                        return Ok(None);
                    }
                }
                Cut::InControl(control) => {
                    let take = usize::from(control.len - control.have).min(input.len());
                    let (now, rest) = input.split_at(take);
                    *input = rest;
                    let have = usize::from(control.have);
                    control.payload[have..have + take].copy_from_slice(now);
                    control.have += u8::try_from(take).unwrap_or(u8::MAX);
                    if control.have < control.len {
                        return Ok(None);
                    }
                    let payload = &mut control.payload[..usize::from(control.len)];
                    mask::apply(payload, control.mask, 0);
                    let received = control_received(control.opcode, payload)?;
                    self.cut = Cut::BetweenFrames;
                    return Ok(Some(received));
                }
            }
        }
    }

    /// What of a frame can be judged before its header is whole: mask and
    /// order (its bits and lengths are judged by the decoder).
    fn check_beginning(&self, bytes: &[u8]) -> Result<(), ProtocolError> {
        let &[first, second, ..] = bytes else {
            return Ok(());
        };
        self.check_mask(second & 0x80 != 0)?;
        match first & 0x0F {
            0 if self.assembly.is_none() => Err(ProtocolError::UnexpectedContinuation),
            1 | 2 if self.assembly.is_some() => Err(ProtocolError::ExpectedContinuation),
            _ => Ok(()),
        }
    }

    const fn check_mask(&self, masked: bool) -> Result<(), ProtocolError> {
        match (self.role, masked) {
            (Role::Server, false) => Err(ProtocolError::UnmaskedFrame),
            (Role::Client, true) => Err(ProtocolError::MaskedFrame),
            (Role::Server, true) | (Role::Client, false) => Ok(()),
        }
    }

    /// Begins the frame of `header`, and ends it where all of it is there.
    fn begin(
        &mut self,
        header: Header,
        input: &mut &[u8],
    ) -> Result<Option<Received>, ProtocolError> {
        self.check_mask(header.mask.is_some())?;
        let mask = header.mask.unwrap_or_default();
        if header.opcode.is_control() {
            return self.begin_control(header, mask, input);
        }
        if header.compressed || self.inflates {
            return self.begin_compressed(&header, mask, input);
        }
        self.check_data(&header)?;
        let len = usize::try_from(header.len).unwrap_or(usize::MAX);
        if header.fin && self.assembly.is_none() && len <= input.len() {
            let (payload, rest) = input.split_at(len);
            *input = rest;
            let mut payload = payload.to_vec();
            mask::apply(&mut payload, mask, 0);
            let message = if header.opcode == Opcode::Text {
                utf8::check_whole(&payload)?;
                Message::Text(Text::from_checked(payload.into()))
            } else {
                Message::Binary(payload.into())
            };
            return Ok(Some(Received::Message(message)));
        }
        let assembly = self.assembly.get_or_insert_with(|| {
            Box::new(Assembly {
                utf8: (header.opcode == Opcode::Text).then(Utf8::default),
                ..Assembly::default()
            })
        });
        assembly.fragments += 1;
        self.cut = Cut::InData(Payload {
            fin: header.fin,
            mask,
            phase: 0,
            remaining: header.len,
        });
        // A frame without payload is over already.
        self.took(0)
    }

    /// Begins a frame of a compressed message, which is inflated as it arrives.
    fn begin_compressed(
        &mut self,
        header: &Header,
        mask: [u8; 4],
        input: &mut &[u8],
    ) -> Result<Option<Received>, ProtocolError> {
        self.check_compressed(header)?;
        let assembly = self.assembly.get_or_insert_with(|| {
            Box::new(Assembly {
                utf8: (header.opcode == Opcode::Text).then(Utf8::default),
                ..Assembly::default()
            })
        });
        assembly.fragments += 1;
        assembly.compressed += header.len;
        self.inflates = true;
        self.cut = Cut::InCompressed(Payload {
            fin: header.fin,
            mask,
            phase: 0,
            remaining: header.len,
        });
        self.inflate(input)
    }

    /// Inflates what `input` has of the frame, and ends the message where that
    /// was the last of it.
    fn inflate(&mut self, input: &mut &[u8]) -> Result<Option<Received>, ProtocolError> {
        let (Cut::InCompressed(payload), Some(assembly), Some(inflater)) =
            (&mut self.cut, &mut self.assembly, &mut self.inflater)
        else {
            return Ok(None);
        };
        let limit = self.limits.max_message_size;
        let (now, rest) = input.split_at(within(input.len(), payload.remaining));
        *input = rest;
        payload.remaining -= now.len() as u64;
        let mut piece = [0; PIECE];
        for masked in now.chunks(PIECE) {
            let piece = &mut piece[..masked.len()];
            piece.copy_from_slice(masked);
            mask::apply(piece, payload.mask, payload.phase);
            payload.phase = (payload.phase + masked.len()) & 3;
            let start = assembly.inflated.len();
            inflater.inflate(piece, &mut assembly.inflated, limit)?;
            if let Some(utf8) = &mut assembly.utf8 {
                utf8.push(&assembly.inflated[start..])?;
            }
        }
        if payload.remaining > 0 {
            return Ok(None);
        }
        let fin = payload.fin;
        self.cut = Cut::BetweenFrames;
        if !fin {
            return Ok(None);
        }
        inflater.finish(&mut assembly.inflated, limit)?;
        self.complete()
    }

    fn begin_control(
        &mut self,
        header: Header,
        mask: [u8; 4],
        input: &mut &[u8],
    ) -> Result<Option<Received>, ProtocolError> {
        let len = usize::try_from(header.len).unwrap_or(usize::MAX);
        let mut bytes = [0; MAX_CONTROL];
        if len <= input.len() && len <= MAX_CONTROL {
            let (now, rest) = input.split_at(len);
            *input = rest;
            bytes[..len].copy_from_slice(now);
            mask::apply(&mut bytes[..len], mask, 0);
            return control_received(header.opcode, &bytes[..len]).map(Some);
        }
        self.cut = Cut::InControl(Box::new(Control {
            opcode: header.opcode,
            mask,
            payload: bytes,
            have: 0,
            len: u8::try_from(len).map_err(|_| ProtocolError::LongControl)?,
        }));
        Ok(None)
    }

    /// Checks the order of a data frame, and returns the message that it goes on
    /// with.
    fn check_order(&self, header: &Header) -> Result<Option<&Assembly>, ProtocolError> {
        match (&self.assembly, header.opcode) {
            (None, Opcode::Continuation) => Err(ProtocolError::UnexpectedContinuation),
            (Some(assembly), Opcode::Continuation) => Ok(Some(assembly)),
            (Some(_), _) => Err(ProtocolError::ExpectedContinuation),
            (None, _) => Ok(None),
        }
    }

    /// Checks order and limits of a frame of a compressed message, by its header
    /// alone. The message's own limit is for what it inflates to; yet what cannot
    /// become a message must end.
    fn check_compressed(&self, header: &Header) -> Result<(), ProtocolError> {
        let assembly = self.check_order(header)?;
        let (have, fragments) =
            assembly.map_or((0, 0), |assembly| (assembly.compressed, assembly.fragments));
        let Limits {
            max_frame_size,
            max_message_size,
            max_fragments,
        } = self.limits;
        // Where frames have no limit of their own, what does not compress is a
        // little longer in its frame than the message may be.
        if max_frame_size < max_message_size && header.len > max_frame_size as u64 {
            return Err(ProtocolError::FrameTooBig {
                limit: max_frame_size,
            });
        }
        let most = (max_message_size as u64).saturating_mul(2);
        let most = most.saturating_add(COMPRESSED_SLACK);
        if header.len > most.saturating_sub(have) {
            return Err(ProtocolError::MessageTooBig {
                limit: max_message_size,
            });
        }
        if fragments >= max_fragments {
            return Err(ProtocolError::TooManyFragments {
                limit: max_fragments,
            });
        }
        Ok(())
    }

    /// Checks order and limits of a data frame, by its header alone.
    fn check_data(&self, header: &Header) -> Result<(), ProtocolError> {
        let (have, fragments) = self.check_order(header)?.map_or((0, 0), |assembly| {
            (assembly.bytes.len(), assembly.fragments)
        });
        let Limits {
            max_frame_size,
            max_message_size,
            max_fragments,
        } = self.limits;
        if header.len > max_frame_size as u64 {
            return Err(ProtocolError::FrameTooBig {
                limit: max_frame_size,
            });
        }
        if header.len > max_message_size.saturating_sub(have) as u64 {
            return Err(ProtocolError::MessageTooBig {
                limit: max_message_size,
            });
        }
        if fragments >= max_fragments {
            return Err(ProtocolError::TooManyFragments {
                limit: max_fragments,
            });
        }
        Ok(())
    }

    /// Has a large message that has begun go on in one of `spares`, where one fits.
    pub(crate) fn reuse(&mut self, spares: &mut Spares) {
        let (Cut::InData(payload), Some(assembly)) = (&self.cut, &mut self.assembly) else {
            return;
        };
        let have = assembly.bytes.len();
        let len = usize::try_from(payload.remaining).map_or(0, |remaining| have + remaining);
        // Later the copy would cost more than it saves.
        if assembly.bytes.capacity() >= len || have > GROWTH {
            return;
        }
        if let Some((mut buffer, loan)) = spares.lend(len) {
            buffer.extend_from_slice(&assembly.bytes);
            assembly.bytes = buffer;
            assembly.loan = Some(loan);
        }
    }

    /// Whether a large payload is on its way, which is best read straight into
    /// its own buffer; with how many bytes it still lacks.
    pub(crate) fn direct(&mut self, threshold: usize) -> Option<(&mut BytesMut, usize)> {
        let Cut::InData(payload) = &self.cut else {
            return None;
        };
        if payload.remaining < threshold as u64 {
            return None;
        }
        let bytes = &mut self.assembly.as_mut()?.bytes;
        let room = within(GROWTH.max(bytes.len()), payload.remaining);
        if bytes.capacity() - bytes.len() < room.min(GROWTH) {
            bytes.reserve(room);
        }
        let max = within(bytes.capacity() - bytes.len(), payload.remaining);
        Some((bytes, max))
    }

    /// Takes `count` bytes that were read into the buffer of [`Self::direct`].
    pub(crate) fn direct_filled(
        &mut self,
        count: usize,
    ) -> Result<Option<Received>, ProtocolError> {
        if let (Cut::InData(payload), Some(assembly)) = (&self.cut, &mut self.assembly) {
            let start = assembly.bytes.len() - count;
            let phase = payload.phase;
            mask::apply(&mut assembly.bytes[start..], payload.mask, phase);
        }
        self.took(count)
    }

    /// Accounts for `count` bytes of payload, unmasked at the buffer's end, and
    /// ends the message where they were its last.
    fn took(&mut self, count: usize) -> Result<Option<Received>, ProtocolError> {
        let (Cut::InData(payload), Some(assembly)) = (&mut self.cut, &mut self.assembly) else {
            return Ok(None);
        };
        let start = assembly.bytes.len() - count;
        if let Some(utf8) = &mut assembly.utf8 {
            utf8.push(&assembly.bytes[start..])?;
        }
        payload.remaining -= count as u64;
        payload.phase = (payload.phase + count) & 3;
        if payload.remaining > 0 {
            return Ok(None);
        }
        let fin = payload.fin;
        self.cut = Cut::BetweenFrames;
        if !fin {
            return Ok(None);
        }
        self.complete()
    }

    /// Ends the message.
    fn complete(&mut self) -> Result<Option<Received>, ProtocolError> {
        let Some(assembly) = self.assembly.take() else {
            return Ok(None);
        };
        let bytes = if mem::take(&mut self.inflates) {
            assembly.inflated.into()
        } else {
            assembly.bytes.freeze()
        };
        let message = match assembly.utf8 {
            Some(utf8) => {
                utf8.finish()?;
                Message::Text(Text::from_checked(bytes))
            }
            None => Message::Binary(bytes),
        };
        Ok(Some(Received::Message(message)))
    }
}

/// As much of `len` as `remaining` allows.
fn within(len: usize, remaining: u64) -> usize {
    usize::try_from(remaining).map_or(len, |remaining| len.min(remaining))
}

fn control_received(opcode: Opcode, payload: &[u8]) -> Result<Received, ProtocolError> {
    Ok(match opcode {
        Opcode::Close => Received::Close(CloseFrame::parse(payload)?),
        Opcode::Ping => Received::Ping(Bytes::copy_from_slice(payload)),
        _ => Received::Pong,
    })
}
