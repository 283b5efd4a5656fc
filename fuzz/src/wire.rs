//! Frames as RFC 6455 §5.2 draws them, written anew: the twin that the library's
//! frames are held against.

/// What a sender cuts off each compressed message (RFC 7692 §7.2.1).
pub const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A frame, its payload unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub rsv: u8,
    pub opcode: u8,
    pub mask: Option<[u8; 4]>,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>, mask: Option<[u8; 4]>) -> Self {
        Self {
            fin: true,
            rsv: 0,
            opcode,
            mask,
            payload: payload.into(),
        }
    }

    pub fn encode(&self, into: &mut Vec<u8>) {
        let form = match self.payload.len() {
            0..=125 => 0,
            126..=0xFFFF => 2,
            _ => 8,
        };
        self.encode_as(form, into);
    }

    /// With the length in 0, 2 or 8 bytes behind the second, whether or not that is
    /// the shortest form.
    pub fn encode_as(&self, form: usize, into: &mut Vec<u8>) {
        into.push(u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode);
        let masked = u8::from(self.mask.is_some()) << 7;
        let len = self.payload.len();
        let short = match form {
            0 => u8::try_from(len).unwrap_or(0) & 0x7F,
            2 => 126,
            _ => 127,
        };
        into.push(masked | short);
        into.extend_from_slice(&(len as u64).to_be_bytes()[8 - form..]);
        into.extend_from_slice(self.mask.as_ref().map_or(&[][..], |mask| mask));
        into.extend(masked_bytewise(
            &self.payload,
            self.mask.unwrap_or_default(),
        ));
    }
}

/// RFC 6455 §5.3: transformed-octet-i = original-octet-i XOR key[i MOD 4].
pub fn masked_bytewise(payload: &[u8], key: [u8; 4]) -> impl Iterator<Item = u8> {
    let bytes = payload.iter().enumerate();
    bytes.map(move |(index, byte)| byte ^ key[index % 4])
}

/// The frames that we sent, each held to what every peer demands.
///
/// # Panics
/// Where one of them breaks the protocol, or the last is cut.
pub fn sent(mut bytes: &[u8], masked: bool, deflate: bool) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (frame, rest) = first(bytes, masked, deflate).expect("a whole frame");
        frames.push(frame);
        bytes = rest;
    }
    frames
}

/// The first frame that we sent, and what is behind it; `None` where it is cut.
///
/// # Panics
/// Where it breaks the protocol.
pub fn first(bytes: &[u8], masked: bool, deflate: bool) -> Option<(Frame, &[u8])> {
    let [first, second, rest @ ..] = bytes else {
        return None;
    };
    let (opcode, rsv) = (first & 0xF, first >> 4 & 7);
    assert_eq!(first & 0x80, 0x80, "we send no fragments");
    assert!(
        matches!(opcode, TEXT | BINARY | CLOSE | PING | PONG),
        "opcode {opcode}"
    );
    let compressed = deflate && matches!(opcode, TEXT | BINARY);
    assert!(rsv == 0 || rsv == 4 && compressed, "reserved bits {rsv}");
    assert_eq!(second & 0x80 != 0, masked, "masked");
    let (len, rest) = match second & 0x7F {
        126 => {
            let (len, rest) = rest.split_at_checked(2)?;
            let len = usize::from(len[0]) << 8 | usize::from(len[1]);
            assert!(len >= 126, "not the shortest form: {len}");
            (len, rest)
        }
        127 => {
            let (len, rest) = rest.split_at_checked(8)?;
            let len = len.iter().fold(0, |len, &b| len << 8 | usize::from(b));
            assert!(len > 0xFFFF, "not the shortest form: {len}");
            (len, rest)
        }
        short => (usize::from(short), rest),
    };
    assert!(opcode < 8 || len <= 125, "a control frame of {len} bytes");
    let (mask, rest) = if masked {
        let (mask, rest) = rest.split_first_chunk::<4>()?;
        (Some(*mask), rest)
    } else {
        (None, rest)
    };
    let (payload, rest) = rest.split_at_checked(len)?;
    let frame = Frame {
        fin: true,
        rsv,
        opcode,
        mask,
        payload: masked_bytewise(payload, mask.unwrap_or_default()).collect(),
    };
    Some((frame, rest))
}
