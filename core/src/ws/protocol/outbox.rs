use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    frame::{Header, Opcode},
    mask,
    message::Message,
};

/// Payloads up to this size are copied behind their header; a longer one is
/// written from where it is. A slice more in the vectored write costs about as
/// much as copying this many bytes.
const COPY_LIMIT: usize = 4096;

/// Bytes on their way out: whole frames, in order.
///
/// It is a [`Buf`] of several slices, so that all of it goes out in one vectored
/// write.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What stands in front of `tail`.
    front: VecDeque<Bytes>,
    front_len: usize,
    tail: BytesMut,
}

impl Outbox {
    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.front_len + self.tail.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a message in one frame, masked where a key is given.
    pub(crate) fn push_message(&mut self, message: Message, mask: Option<[u8; 4]>) {
        self.push_header(Opcode::of(&message), message.len(), mask, false);
        self.push_payload(message.into_bytes(), mask);
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
    pub(crate) fn push_encoded(&mut self, frame: Bytes) {
        if frame.len() <= COPY_LIMIT {
            self.tail.put_slice(&frame);
        } else {
            self.push_front(frame);
        }
    }

    fn push_payload(&mut self, payload: Bytes, mask: Option<[u8; 4]>) {
        if payload.len() <= COPY_LIMIT || mask.is_some() {
            self.copy(&payload, mask);
        } else {
            self.push_front(payload);
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
        header.encode(&mut self.tail);
    }

    fn copy(&mut self, payload: &[u8], mask: Option<[u8; 4]>) {
        match mask {
            Some(key) => mask::append(payload, key, 0, &mut self.tail),
            None => self.tail.put_slice(payload),
        }
    }

    fn push_front(&mut self, bytes: Bytes) {
        if !self.tail.is_empty() {
            let tail = self.tail.split().freeze();
            self.front_len += tail.len();
            self.front.push_back(tail);
        }
        self.front_len += bytes.len();
        self.front.push_back(bytes);
    }

    /// Bytes of memory that an empty outbox holds on to.
    pub(crate) fn capacity(&self) -> usize {
        self.tail.capacity()
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.front.front().map_or(&self.tail, |bytes| bytes)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let chunks = self.front.iter().map(|bytes| &bytes[..]).chain(tail);
        let mut used = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            used += 1;
        }
        used
    }

    /// # Panics
    /// Where `count` is more than what remains.
    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len(), "advanced past the end");
        while let Some(first) = self.front.front_mut() {
            if count < first.len() {
                first.advance(count);
                self.front_len -= count;
                return;
            }
            count -= first.len();
            self.front_len -= first.len();
            self.front.pop_front();
        }
        if count == self.tail.len() {
            self.tail.clear();
        } else {
            self.tail.advance(count);
        }
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        if let Some(first) = self.front.front_mut()
            && len <= first.len()
        {
            let bytes = first.split_to(len);
            self.front_len -= len;
            if first.is_empty() {
                self.front.pop_front();
            }
            return bytes;
        }
        if self.front.is_empty() {
            return self.tail.split_to(len).freeze();
        }
        let mut bytes = BytesMut::with_capacity(len);
        bytes.put(self.take(len));
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn gives_back_what_went_in_however_it_is_taken(
            frames in proptest::collection::vec((0usize..9000, any::<bool>()), 0..8),
            takes in proptest::collection::vec((1usize..6000, any::<bool>()), 1..6),
        ) {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for (index, (len, encoded)) in frames.into_iter().enumerate() {
                let payload = Bytes::from(vec![u8::try_from(index).unwrap(); len]);
                let message = Message::Binary(payload.clone());
                let frame = super::super::frame::server_frame(&message);
                expected.extend_from_slice(&frame);
                if encoded {
                    outbox.push_encoded(frame);
                } else {
                    outbox.push_message(message, None);
                }
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
    }
}
