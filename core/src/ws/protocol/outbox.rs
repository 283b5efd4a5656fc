use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    frame::{Header, Opcode},
    mask,
    message::Message,
    outgoing::{Form, Outgoing},
    spare::Spares,
};

/// Payloads up to this size are copied behind their header; a longer one is
/// written from where it is. A slice more in the vectored write costs about as
/// much as copying this many bytes.
const COPY_LIMIT: usize = 4096;

/// The longest header of a bare frame whose payload is copied.
const MAX_COPIED_HEADER: usize = 4;

/// As much of what was written is left in front of what was not, at least: moving
/// the rest to the front costs no more than writing it did.
const COMPACT: usize = 64 * 1024;

/// Bytes on their way out: whole frames, in order.
///
/// It is a [`Buf`] of several slices, so that all of it goes out in one vectored
/// write. Headers and small payloads stand in one plain buffer, large payloads
/// between its parts.
#[derive(Debug, Default)]
pub struct Outbox {
    small: Vec<u8>,
    /// So many bytes at the front of `small` have been taken.
    taken: usize,
    large: VecDeque<Large>,
    /// The bytes in `large`.
    large_len: usize,
    /// The bytes at the end of `small` that stand behind all of `large`.
    behind: usize,
    /// Data messages of which something waits, as far as they were counted.
    messages: usize,
    /// The frame at the front, where something of it was taken.
    begun: Begun,
    /// The buffers of large payloads that were written.
    spares: Spares,
}

/// A payload that is written from where it is.
#[derive(Debug)]
struct Large {
    /// So many bytes of `small` stand between the last large payload and this.
    before: usize,
    bytes: Bytes,
}

/// What is left of a frame that was taken in part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Begun {
    left: usize,
    is_data: bool,
}

impl Outbox {
    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.small.len() - self.taken + self.large_len
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Data messages, of those that were [counted](Self::count_messages), of which
    /// something waits.
    pub(crate) const fn messages(&self) -> usize {
        self.messages
    }

    /// So many data messages were appended. They are counted in batches, so that what is
    /// written in one go, as nearly everything is, costs nothing more.
    pub(crate) const fn count_messages(&mut self, count: usize) {
        self.messages += count;
    }

    /// Discards every frame that is not begun.
    pub(crate) fn discard_unbegun(&mut self) {
        let begun = self.begun;
        let messages = usize::from(begun.is_data).min(self.messages);
        let rest = self.copy_to_bytes(begun.left);
        let spares = std::mem::take(&mut self.spares);
        *self = Self {
            messages,
            begun,
            spares,
            ..Self::default()
        };
        self.push_encoded(&rest);
    }

    /// `count` bytes are to go off the front.
    #[inline]
    fn count_taken(&mut self, count: usize) {
        if count == self.len() {
            self.messages = 0;
            self.begun = Begun::default();
        } else if count < self.begun.left {
            self.begun.left -= count;
        } else if count > 0 {
            self.walk(count);
        }
    }

    /// Goes over the frames in the first `count` bytes, by their headers.
    fn walk(&mut self, count: usize) {
        let small = &self.small[self.taken..];
        let (mut small, behind) = small.split_at(small.len() - self.behind);
        let mut parts = self.large.iter().flat_map(|Large { before, bytes }| {
            let (between, rest) = small.split_at(*before);
            small = rest;
            [between, &bytes[..]]
        });
        let mut part = parts.next().unwrap_or(behind);
        let mut part_at = 0;
        let mut frame = self.begun;
        let mut end = frame.left;
        loop {
            if end > count {
                frame.left = end - count;
                break;
            }
            self.messages -= usize::from(frame.is_data).min(self.messages);
            frame = Begun::default();
            if end == count {
                break;
            }
            while end >= part_at + part.len() {
                part_at += part.len();
                part = parts.next().unwrap_or(behind);
            }
            let (is_data, len) = frame_len(&part[end - part_at..]);
            frame.is_data = is_data;
            end += len;
        }
        self.begun = frame;
    }

    /// Appends a message in one frame, masked where a key is given.
    pub(crate) fn push_message(&mut self, message: Message, mask: Option<[u8; 4]>) {
        self.push_header(Opcode::of(&message), message.len(), mask, false);
        self.push_payload(message.into_bytes(), mask);
    }

    /// Appends in one bare frame what needs no compression.
    #[inline]
    pub(crate) fn push_plain(&mut self, outgoing: Outgoing) {
        match outgoing.0 {
            Form::Message(message) => self.push_bare(message),
            Form::Uncompressed(message) => self.push_bare(*message),
            Form::Broadcast(broadcast) => self.push_encoded(broadcast.frame()),
        }
    }

    #[inline]
    fn push_bare(&mut self, message: Message) {
        let payload = message.as_bytes();
        if payload.len() > COPY_LIMIT {
            return self.push_message(message, None);
        }
        let first = Header::first_byte(Opcode::of(&message));
        self.small.reserve(MAX_COPIED_HEADER + payload.len());
        let start = self.small.len();
        // RFC 6455 §5.2: one byte of length, or two more.
        let [high, low] = u16::try_from(payload.len())
            .unwrap_or_default()
            .to_be_bytes();
        if payload.len() <= 125 {
            self.small.extend_from_slice(&[first, low]);
        } else {
            self.small.extend_from_slice(&[first, 126, high, low]);
        }
        self.small.extend_from_slice(payload);
        self.behind += self.small.len() - start;
    }

    /// Appends a message whose `payload` is compressed, in one frame.
    pub(crate) fn push_compressed(
        &mut self,
        opcode: Opcode,
        payload: Vec<u8>,
        mask: Option<[u8; 4]>,
    ) {
        self.push_header(opcode, payload.len(), mask, true);
        self.push_payload(payload.into(), mask);
    }

    /// Appends a control frame.
    pub(crate) fn push_control(&mut self, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
        self.push_header(opcode, payload.len(), mask, false);
        self.copy(payload, mask);
    }

    /// Appends a frame that is encoded already.
    pub(crate) fn push_encoded(&mut self, frame: &Bytes) {
        if frame.len() <= COPY_LIMIT {
            self.copy(frame, None);
        } else {
            self.push_large(frame.clone());
        }
    }

    fn push_payload(&mut self, payload: Bytes, mask: Option<[u8; 4]>) {
        if payload.len() <= COPY_LIMIT || mask.is_some() {
            self.copy(&payload, mask);
        } else {
            self.push_large(payload);
        }
    }

    fn push_header(&mut self, opcode: Opcode, len: usize, mask: Option<[u8; 4]>, compressed: bool) {
        let header = Header {
            fin: true,
            compressed,
            opcode,
            mask,
            len: len as u64,
        };
        let (bytes, end) = header.encoded();
        self.small.extend_from_slice(&bytes[..end]);
        self.behind += end;
    }

    fn copy(&mut self, payload: &[u8], mask: Option<[u8; 4]>) {
        let start = self.small.len();
        self.small.extend_from_slice(payload);
        if let Some(key) = mask {
            mask::apply(&mut self.small[start..], key, 0);
        }
        self.behind += payload.len();
    }

    fn push_large(&mut self, bytes: Bytes) {
        self.large_len += bytes.len();
        let before = std::mem::take(&mut self.behind);
        self.large.push_back(Large { before, bytes });
    }

    /// All that waits, where it is one slice.
    pub(crate) fn single(&self) -> Option<&[u8]> {
        self.large.is_empty().then(|| &self.small[self.taken..])
    }

    /// Bytes of memory that an empty outbox holds on to.
    pub(crate) const fn capacity(&self) -> usize {
        self.small.capacity()
    }

    /// The buffers of large payloads that were written, to be used again.
    pub(crate) const fn spares(&mut self) -> &mut Spares {
        &mut self.spares
    }

    /// Takes `count` bytes off the front of `small`.
    fn take_small(&mut self, count: usize) {
        self.taken += count;
        if self.taken == self.small.len() {
            self.small.clear();
            self.taken = 0;
        } else if self.taken >= COMPACT.max(self.small.len() / 2) {
            self.small.drain(..self.taken);
            self.taken = 0;
        }
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        match self.large.front() {
            None => &self.small[self.taken..],
            Some(Large { before: 0, bytes }) => bytes,
            Some(Large { before, .. }) => &self.small[self.taken..self.taken + before],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut small = &self.small[self.taken..];
        let mut free = slices.iter_mut();
        let mut used = 0;
        let mut push = |chunk: &'a [u8]| {
            if chunk.is_empty() {
                return true;
            }
            let Some(slice) = free.next() else {
                return false;
            };
            *slice = IoSlice::new(chunk);
            used += 1;
            true
        };
        for Large { before, bytes } in &self.large {
            let (between, rest) = small.split_at(*before);
            small = rest;
            if !push(between) || !push(bytes) {
                return used;
            }
        }
        push(small);
        used
    }

    /// # Panics
    /// Where `count` is more than what remains.
    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len(), "advanced past the end");
        self.count_taken(count);
        while let Some(Large { before, bytes }) = self.large.front_mut() {
            let small = count.min(*before);
            *before -= small;
            count -= small;
            let large = if *before > 0 {
                0
            } else {
                count.min(bytes.len())
            };
            bytes.advance(large);
            count -= large;
            self.large_len -= large;
            let done = *before == 0 && bytes.is_empty();
            self.take_small(small);
            if !done {
                return;
            }
            if let Some(Large { bytes, .. }) = self.large.pop_front() {
                self.spares.keep(bytes);
            }
        }
        self.behind -= count;
        self.take_small(count);
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        if let Some(Large { before: 0, bytes }) = self.large.front()
            && len <= bytes.len()
        {
            self.count_taken(len);
        }
        if let Some(Large { before: 0, bytes }) = self.large.front_mut()
            && len <= bytes.len()
        {
            let taken = bytes.split_to(len);
            self.large_len -= len;
            if bytes.is_empty() {
                self.large.pop_front();
            }
            return taken;
        }
        // An exact copy of what is small costs less than giving the buffer away.
        let mut bytes = BytesMut::with_capacity(len);
        bytes.put(self.take(len));
        bytes.freeze()
    }
}

/// Whether a frame is one of a data message, and its length: by its header, which we have
/// written ourselves.
fn frame_len(header: &[u8]) -> (bool, usize) {
    let byte = |at: usize| header.get(at).copied().unwrap_or_default();
    let is_data = byte(0) & 0x08 == 0;
    let mask = if byte(1) & 0x80 == 0 { 0 } else { 4 };
    let number = |bytes: std::ops::Range<usize>| {
        bytes.fold(0_usize, |number, at| number << 8 | usize::from(byte(at)))
    };
    let len = match byte(1) & 0x7F {
        126 => 4 + number(2..4),
        127 => 10 + number(2..10),
        short => 2 + usize::from(short),
    };
    (is_data, mask + len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Around the lengths at which the way or the header changes, and others.
    fn length() -> impl Strategy<Value = usize> {
        let copied = COPY_LIMIT - 2..COPY_LIMIT + 3;
        prop_oneof![0usize..9000, 124usize..128, copied, 65_534usize..65_538]
    }

    proptest! {
        #[test]
        fn gives_back_what_went_in_however_it_is_taken(
            frames in proptest::collection::vec((length(), 0..3), 0..8),
            takes in proptest::collection::vec((1usize..6000, any::<bool>()), 1..6),
        ) {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for (index, (len, way)) in frames.into_iter().enumerate() {
                let payload = Bytes::from(vec![u8::try_from(index).unwrap(); len]);
                let message = Message::Binary(payload.clone());
                let frame = super::super::frame::server_frame(&message);
                expected.extend_from_slice(&frame);
                match way {
                    0 => outbox.push_encoded(&frame),
                    1 => outbox.push_message(message, None),
                    _ => outbox.push_plain(message.into()),
                }
                let whole = outbox.large.is_empty();
                prop_assert_eq!(outbox.single(), whole.then_some(&expected[..]));
            }
            let mut taken = Vec::new();
            for (take, as_bytes) in takes.into_iter().cycle() {
                prop_assert_eq!(outbox.len(), expected.len() - taken.len());
                if outbox.is_empty() {
                    break;
                }
                let take = take.min(outbox.len());
                if as_bytes {
                    taken.extend_from_slice(&outbox.copy_to_bytes(take));
                } else {
                    let mut slices = [IoSlice::new(&[]); 16];
                    let used = outbox.chunks_vectored(&mut slices);
                    let all: Vec<u8> = slices[..used].iter().flat_map(|s| s.iter().copied()).collect();
                    let take = take.min(all.len());
                    taken.extend_from_slice(&all[..take]);
                    outbox.advance(take);
                }
            }
            prop_assert_eq!(taken, expected);
        }

        #[test]
        fn knows_how_many_messages_wait_and_which_frame_is_begun(
            frames in proptest::collection::vec((0usize..9000, 0u8..4, any::<bool>()), 1..12),
            takes in proptest::collection::vec((1usize..7000, any::<bool>()), 1..12),
            discard_at in 0usize..12,
        ) {
            let mut outbox = Outbox::default();
            // Where each ends, and whether it is a message's.
            let mut ends = Vec::new();
            for (len, kind, masked) in frames {
                let mask = masked.then_some([1, 2, 3, 4]);
                let message = Message::binary(vec![0x81; len]);
                match kind {
                    0 => outbox.push_control(Opcode::Ping, &[0x81; 100][..len % 100], mask),
                    1 => outbox.push_encoded(&super::super::frame::server_frame(&message)),
                    2 => outbox.push_compressed(Opcode::Text, vec![0x81; len], mask),
                    _ => outbox.push_message(message, mask),
                }
                outbox.count_messages(usize::from(kind > 0));
                ends.push((outbox.len(), kind > 0));
            }
            let mut taken = 0;
            for (index, (take, as_bytes)) in takes.into_iter().enumerate() {
                if index == discard_at {
                    outbox.discard_unbegun();
                    let begun = |end: &&(usize, bool)| end.0 > taken;
                    let first = ends.iter().position(|end| end.0 > taken);
                    let start = match first {
                        Some(0) => 0,
                        Some(first) => ends[first - 1].0,
                        None => taken,
                    };
                    let kept = ends.iter().find(begun).filter(|_| start < taken);
                    prop_assert_eq!(outbox.len(), kept.map_or(0, |end| end.0 - taken));
                    ends = kept.copied().into_iter().collect();
                }
                let take = take.min(outbox.len());
                if as_bytes {
                    let _ = outbox.copy_to_bytes(take);
                } else {
                    outbox.advance(take);
                }
                taken += take;
                let waiting = ends.iter().filter(|(end, data)| *data && *end > taken).count();
                prop_assert_eq!(outbox.messages(), waiting);
            }
        }
    }
}
