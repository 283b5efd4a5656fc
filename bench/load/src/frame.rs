//! Frames of RFC 6455 §5.2, as a client writes and reads them.

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;

/// Appends a masked frame that is a whole message.
pub(crate) fn put(out: &mut Vec<u8>, opcode: u8, compressed: bool, payload: &[u8], mask: [u8; 4]) {
    out.push(FIN | if compressed { RSV1 } else { 0 } | opcode);
    match payload.len() {
        length @ 0..126 => out.push(MASKED | length.to_le_bytes()[0]),
        length => match u16::try_from(length) {
            Ok(length) => {
                out.push(MASKED | 126);
                out.extend(length.to_be_bytes());
            }
            Err(_) => {
                out.push(MASKED | 127);
                out.extend((length as u64).to_be_bytes());
            }
        },
    }
    out.extend(mask);
    out.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
}

/// The header of a frame from a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    pub(crate) compressed: bool,
    pub(crate) opcode: u8,
    pub(crate) length: u64,
    /// Bytes of the header itself.
    pub(crate) size: usize,
}

/// Reads a header; `None` when there is not enough of it.
pub(crate) fn header(bytes: &[u8]) -> Result<Option<Header>, &'static str> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    if second & MASKED != 0 {
        return Err("a masked frame from the server");
    }
    if first & 0x30 != 0 {
        return Err("RSV2 or RSV3 is set");
    }
    let (length, size) = match (second, rest) {
        (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10)
        }
        (126 | 127, _) => return Ok(None),
        (length, _) => (u64::from(*length), 2),
    };
    Ok(Some(Header {
        fin: first & FIN != 0,
        compressed: first & RSV1 != 0,
        opcode: first & 0x0f,
        length,
        size,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masked_hello_of_the_rfc() {
        let mut out = Vec::new();
        put(&mut out, TEXT, false, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        let expected = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn headers_of_every_length() {
        let read = |bytes: &[u8]| header(bytes).map(|header| header.map(|h| (h.length, h.size)));
        assert_eq!(read(&[0x82]), Ok(None));
        assert_eq!(read(&[0x82, 5]), Ok(Some((5, 2))));
        assert_eq!(read(&[0x82, 126, 1]), Ok(None));
        assert_eq!(read(&[0x82, 126, 1, 0]), Ok(Some((256, 4))));
        let long = [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(read(&long), Ok(Some((65_536, 10))));
        assert_eq!(read(&long[..9]), Ok(None));
        assert!(header(&[0x82, 0x85]).is_err());
        assert!(header(&[0xa2, 5]).is_err());
    }
}
