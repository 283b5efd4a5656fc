//! The frame's header (RFC 6455 §5.2).

use bytes::Bytes;
#[cfg(any(test, feature = "deflate"))]
use bytes::{BufMut, BytesMut};

use super::{error::ProtocolError, message::Message};

/// The longest payload of a control frame (RFC 6455 §5.5).
pub(crate) const MAX_CONTROL: usize = 125;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    const fn decode(bits: u8) -> Result<Self, ProtocolError> {
        Ok(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return Err(ProtocolError::ReservedOpcode(bits)),
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    pub(crate) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    pub(crate) const fn of(message: &Message) -> Self {
        match message {
            Message::Text(_) => Self::Text,
            Message::Binary(_) => Self::Binary,
        }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    /// RSV1: the beginning of a compressed message (RFC 7692 §6).
    pub(crate) compressed: bool,
    pub(crate) opcode: Opcode,
    pub(crate) mask: Option<[u8; 4]>,
    pub(crate) len: u64,
}

impl Header {
    /// The longest header: two bytes, eight of length, four of mask.
    pub(crate) const MAX_LEN: usize = 14;

    /// Reads a header off the front of `bytes`; `None` where its end has not
    /// arrived and nothing so far is wrong. The number is the header's length.
    /// `deflate` tells whether messages may be compressed.
    pub(crate) fn decode(
        bytes: &[u8],
        deflate: bool,
    ) -> Result<Option<(Self, usize)>, ProtocolError> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let compressed = first & 0x70 != 0;
        if compressed && !(deflate && begins_compressed(first)) {
            return Err(ProtocolError::ReservedBit);
        }
        let fin = first & 0x80 != 0;
        let opcode = Opcode::decode(first & 0x0F)?;
        if opcode.is_control() && !fin {
            return Err(ProtocolError::FragmentedControl);
        }
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        let masked = second & 0x80 != 0;
        let short = second & 0x7F;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL {
            return Err(ProtocolError::LongControl);
        }
        let (len, after_len) = match short {
            126 => match bytes.get(2..4) {
                Some(&[a, b]) => (u64::from(u16::from_be_bytes([a, b])), 4),
                _ => return Ok(None),
            },
            127 => match bytes.get(2..10).and_then(|len| len.first_chunk()) {
                Some(len) => (u64::from_be_bytes(*len), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        let shortest = match short {
            126 => len >= 126,
            127 => len > 0xFFFF && len >> 63 == 0,
            _ => true,
        };
        if !shortest {
            return Err(ProtocolError::InvalidLength);
        }
        let (mask, end) = if masked {
            match bytes.get(after_len..).and_then(|mask| mask.first_chunk()) {
                Some(mask) => (Some(*mask), after_len + 4),
                None => return Ok(None),
            }
        } else {
            (None, after_len)
        };
        let header = Self {
            fin,
            compressed,
            opcode,
            mask,
            len,
        };
        Ok(Some((header, end)))
    }

    /// Appends the header to `out`.
    #[cfg(any(test, feature = "deflate"))]
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let (bytes, end) = self.encoded();
        out.put_slice(&bytes[..end]);
    }

    /// The first byte of a whole message's only frame.
    pub(crate) const fn first_byte(opcode: Opcode) -> u8 {
        0x80 | opcode.bits()
    }

    /// The header's bytes, and how many they are.
    #[inline]
    pub(crate) fn encoded(&self) -> ([u8; Self::MAX_LEN], usize) {
        let mut bytes = [0; Self::MAX_LEN];
        bytes[0] = u8::from(self.fin) << 7 | u8::from(self.compressed) << 6 | self.opcode.bits();
        let len = self.len.to_be_bytes();
        let mut end = match self.len {
            0..=125 => {
                bytes[1] = len[7];
                2
            }
            126..=0xFFFF => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&len[6..]);
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..10].copy_from_slice(&len);
                10
            }
        };
        if let Some(mask) = self.mask {
            bytes[1] |= 0x80;
            bytes[end..end + 4].copy_from_slice(&mask);
            end += 4;
        }
        (bytes, end)
    }
}

/// Whether no reserved bit but RSV1 is set, and that on the first frame of a data
/// message (RFC 7692 §6).
const fn begins_compressed(first: u8) -> bool {
    first & 0x70 == 0x40 && matches!(first & 0x0F, 0x1 | 0x2)
}

/// A whole message as a server sends it: one frame, unmasked.
pub(crate) fn server_frame(message: &Message) -> Bytes {
    let payload = message.as_bytes();
    let header = Header {
        fin: true,
        compressed: false,
        opcode: Opcode::of(message),
        mask: None,
        len: payload.len() as u64,
    };
    let (bytes, end) = header.encoded();
    // To the byte: a kept event has no room for more.
    let mut out = Vec::with_capacity(end + payload.len());
    out.extend_from_slice(&bytes[..end]);
    out.extend_from_slice(payload);
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = Header> {
        let opcode = prop_oneof![
            Just(Opcode::Continuation),
            Just(Opcode::Text),
            Just(Opcode::Binary),
            Just(Opcode::Close),
            Just(Opcode::Ping),
            Just(Opcode::Pong),
        ];
        let len = prop_oneof![
            0u64..=125,
            126u64..=0xFFFF,
            0x1_0000u64..=u64::MAX >> 1,
            Just(125),
            Just(126),
            Just(0xFFFF),
            Just(0x1_0000),
            Just(u64::MAX >> 1),
        ];
        (any::<[bool; 2]>(), opcode, any::<Option<[u8; 4]>>(), len).prop_map(
            |([fin, compressed], opcode, mask, len)| Header {
                fin: fin || opcode.is_control(),
                compressed: compressed && matches!(opcode, Opcode::Text | Opcode::Binary),
                opcode,
                mask,
                len: if opcode.is_control() { len % 126 } else { len },
            },
        )
    }

    proptest! {
        #[test]
        fn decodes_what_it_encoded(header in header()) {
            let mut bytes = BytesMut::new();
            header.encode(&mut bytes);
            for end in 0..bytes.len() {
                prop_assert_eq!(Header::decode(&bytes[..end], true), Ok(None));
            }
            let whole = Ok(Some((header, bytes.len())));
            prop_assert_eq!(Header::decode(&bytes, true), whole);
            let plain = if header.compressed { Err(ProtocolError::ReservedBit) } else { whole };
            prop_assert_eq!(Header::decode(&bytes, false), plain);
        }

        #[test]
        fn takes_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..20), deflate: bool) {
            if let Ok(Some((header, len))) = Header::decode(&bytes, deflate) {
                let mut again = BytesMut::new();
                header.encode(&mut again);
                prop_assert_eq!(&again[..], &bytes[..len], "only the shortest form is taken");
            }
        }
    }

    #[test]
    fn refuses_at_the_first_byte_that_is_wrong() {
        let cases: [(&[u8], ProtocolError); 9] = [
            (&[0xC1], ProtocolError::ReservedBit),
            (&[0xA1], ProtocolError::ReservedBit),
            (&[0x91], ProtocolError::ReservedBit),
            (&[0x83], ProtocolError::ReservedOpcode(3)),
            (&[0x8F], ProtocolError::ReservedOpcode(15)),
            (&[0x09], ProtocolError::FragmentedControl),
            (&[0x89, 0xFE], ProtocolError::LongControl),
            (&[0x82, 0x7E, 0, 125], ProtocolError::InvalidLength),
            (
                &[0x82, 0x7F, 0x80, 0, 0, 0, 0, 0, 0, 0],
                ProtocolError::InvalidLength,
            ),
        ];
        for (bytes, error) in cases {
            assert_eq!(Header::decode(bytes, false), Err(error), "{bytes:x?}");
        }
    }

    #[test]
    fn rsv1_stands_only_on_the_first_frame_of_a_data_message() {
        for first in [0xC1, 0xC2, 0x41, 0x42] {
            assert_eq!(Header::decode(&[first], true), Ok(None), "{first:x}");
        }
        // A continuation, the control frames, and the other bits beside it.
        for first in [0xC0, 0x40, 0xC8, 0xC9, 0xCA, 0xE1, 0xD1, 0xF2, 0xA1, 0x91] {
            let decoded = Header::decode(&[first], true);
            assert_eq!(decoded, Err(ProtocolError::ReservedBit), "{first:x}");
        }
    }
}
