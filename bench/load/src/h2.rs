//! HTTP/2 (RFC 9113) as far as one WebSocket over extended CONNECT (RFC 8441) needs it: a stream a connection.

use crate::{Failure, Target};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const HEADER: usize = 9;
const STREAM: u32 = 1;
/// What a peer may be sent before it says more (RFC 9113 §6.5.2).
const FIRST_WINDOW: u32 = 65_535;
const LARGEST_WINDOW: u32 = 0x7fff_ffff;
const LARGEST_FRAME: usize = 16_384;
/// `:status: 200` of HPACK's static table.
const STATUS_200: u8 = 0x88;

/// Where the handshake is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    AwaitsSettings,
    AwaitsAnswer,
    Open,
}

/// A client's end.
#[derive(Debug)]
pub(crate) struct Tunnel {
    state: State,
    /// What is to be written.
    pub(crate) out: Vec<u8>,
    head: Vec<u8>,
    /// Bytes of a frame that is not complete, or its header.
    begun: Vec<u8>,
    /// What may still be sent: over the connection, over the stream.
    windows: [i64; 2],
    first_window: i64,
    /// Bytes that came since the peer was last given room.
    taken: u32,
}

impl Tunnel {
    pub(crate) fn new(target: &Target) -> Result<Self, Failure> {
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut settings = 4_u16.to_be_bytes().to_vec();
        settings.extend(LARGEST_WINDOW.to_be_bytes());
        put(&mut out, SETTINGS, 0, 0, &settings);
        let room = LARGEST_WINDOW - FIRST_WINDOW;
        put(&mut out, WINDOW_UPDATE, 0, 0, &room.to_be_bytes());
        let mut head = Vec::new();
        let address = target.addr.to_string();
        for (name, value) in [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", &target.path),
            (":authority", &address),
            ("sec-websocket-version", "13"),
        ] {
            // A literal without indexing and with a new name (RFC 7541 §6.2.2).
            head.push(0);
            for text in [name, value] {
                let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
                head.push(length.ok_or("too long a header")?);
                head.extend(text.as_bytes());
            }
        }
        let first = i64::from(FIRST_WINDOW);
        Ok(Self {
            state: State::AwaitsSettings,
            out,
            head,
            begun: Vec::new(),
            windows: [first; 2],
            first_window: first,
            taken: 0,
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Puts payload into DATA frames, as much as the windows let; returns how much.
    pub(crate) fn send(&mut self, payload: &[u8]) -> usize {
        let [connection, stream] = self.windows;
        let room = usize::try_from(connection.min(stream)).unwrap_or(0);
        let payload = &payload[..payload.len().min(room)];
        for part in payload.chunks(LARGEST_FRAME) {
            put(&mut self.out, DATA, 0, STREAM, part);
        }
        let sent = i64::try_from(payload.len()).unwrap_or(0);
        self.windows = self.windows.map(|window| window - sent);
        payload.len()
    }

    /// Takes frames apart; `payload` gets what DATA frames carry.
    pub(crate) fn receive(
        &mut self,
        mut bytes: &[u8],
        mut payload: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let wanted = match frame_size(&self.begun) {
                Some(size) => size,
                None => HEADER,
            };
            // Whole frames are looked at where they are.
            if self.begun.is_empty()
                && let Some(size) = frame_size(bytes)
                && size <= bytes.len()
            {
                self.frame(&bytes[..size], &mut payload)?;
                bytes = &bytes[size..];
                continue;
            }
            let some = bytes.len().min(wanted - self.begun.len());
            self.begun.extend_from_slice(&bytes[..some]);
            bytes = &bytes[some..];
            if frame_size(&self.begun).is_some_and(|size| size == self.begun.len()) {
                let frame = std::mem::take(&mut self.begun);
                self.frame(&frame, &mut payload)?;
            }
        }
        Ok(())
    }

    fn frame(
        &mut self,
        frame: &[u8],
        payload: &mut impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (head, body) = frame.split_at(HEADER);
        let (kind, flags) = (head[3], head[4]);
        match kind {
            DATA => {
                if flags & PADDED != 0 {
                    return Err("padding is not expected".into());
                }
                self.taken += u32::try_from(body.len())?;
                if self.taken > LARGEST_WINDOW / 2 {
                    let taken = std::mem::take(&mut self.taken).to_be_bytes();
                    put(&mut self.out, WINDOW_UPDATE, 0, 0, &taken);
                    put(&mut self.out, WINDOW_UPDATE, 0, STREAM, &taken);
                }
                payload(body)?;
                if flags & END_STREAM != 0 {
                    return Err("the server has ended a stream".into());
                }
            }
            HEADERS => {
                if body.first() != Some(&STATUS_200) || flags & END_STREAM != 0 {
                    return Err("not upgraded: the status is not 200".into());
                }
                self.state = State::Open;
            }
            SETTINGS if flags & ACK == 0 => self.settings(body)?,
            PING if flags & ACK == 0 => put(&mut self.out, PING, ACK, 0, body),
            WINDOW_UPDATE => {
                let stream = usize::from(head[5..] != [0; 4]);
                self.windows[stream] += i64::from(number(body)?);
            }
            RST_STREAM | GOAWAY | CONTINUATION => {
                return Err(format!("a frame of type {kind} from the server").into());
            }
            _ => {}
        }
        Ok(())
    }

    fn settings(&mut self, body: &[u8]) -> Result<(), Failure> {
        let mut connects = false;
        for setting in body.chunks_exact(6) {
            let value = number(&setting[2..])?;
            match setting[..2] {
                [0, 4] => {
                    self.windows[1] += i64::from(value) - self.first_window;
                    self.first_window = value.into();
                }
                [0, 8] => connects = value == 1,
                _ => {}
            }
        }
        put(&mut self.out, SETTINGS, ACK, 0, &[]);
        if self.state == State::AwaitsSettings {
            if !connects {
                return Err("the server has no extended CONNECT".into());
            }
            let head = std::mem::take(&mut self.head);
            put(&mut self.out, HEADERS, END_HEADERS, STREAM, &head);
            self.state = State::AwaitsAnswer;
        }
        Ok(())
    }
}

/// The size of a frame, header included; `None` while its header is not complete.
fn frame_size(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [a, b, c, _, _, _, _, _, _, ..] => {
            Some(HEADER + (usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c)))
        }
        _ => None,
    }
}

fn number(bytes: &[u8]) -> Result<u32, Failure> {
    Ok(u32::from_be_bytes(bytes.try_into()?))
}

fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    out.extend_from_slice(&body.len().to_be_bytes()[5..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel() -> Tunnel {
        let target = Target {
            addr: ([127, 0, 0, 1], 80).into(),
            path: "/echo".to_owned(),
            pid: 1,
            compress: None,
            tls: None,
        };
        Tunnel::new(&target).unwrap()
    }

    #[test]
    fn the_same_however_it_is_cut() {
        let mut bytes = Vec::new();
        put(
            &mut bytes,
            SETTINGS,
            0,
            0,
            &[0, 8, 0, 0, 0, 1, 0, 4, 0, 0, 0, 10],
        );
        put(&mut bytes, HEADERS, END_HEADERS, STREAM, &[STATUS_200]);
        put(&mut bytes, WINDOW_UPDATE, 0, STREAM, &[0, 0, 0, 5]);
        put(&mut bytes, DATA, 0, STREAM, b"hello");
        put(&mut bytes, DATA, 0, STREAM, b"");
        for step in 1..=bytes.len() {
            let mut tunnel = tunnel();
            let mut heard = Vec::new();
            for part in bytes.chunks(step) {
                let hear = |payload: &[u8]| {
                    heard.extend_from_slice(payload);
                    Ok(())
                };
                tunnel.receive(part, hear).unwrap();
            }
            assert!(tunnel.is_open());
            assert_eq!(heard, b"hello");
            assert_eq!(tunnel.windows, [65_535, 15]);
        }
    }

    #[test]
    fn no_more_is_sent_than_the_windows_let() {
        let mut tunnel = tunnel();
        assert_eq!(tunnel.send(&[0; 100_000]), 65_535);
        assert_eq!(tunnel.send(&[0; 1]), 0);
        let mut update = Vec::new();
        put(&mut update, WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9]);
        tunnel.receive(&update, |_| Ok(())).unwrap();
        assert_eq!(
            tunnel.send(&[0; 1]),
            0,
            "the stream's window is still closed"
        );
        put(&mut update, WINDOW_UPDATE, 0, STREAM, &[0, 0, 0, 5]);
        tunnel.receive(&update, |_| Ok(())).unwrap();
        assert_eq!(tunnel.send(&[0; 100]), 5);
    }
}
