//! The state machine, in both roles and however the bytes are cut, against the table of
//! what a peer may do wrong.

use std::ops::ControlFlow;

use bytes::{Buf, BytesMut};

use super::{
    CloseFrame, Connection, Event, Extensions, Input, Limits, Message, Outbox, ProtocolError, Role,
};

#[path = "../../../tests/cases/violations.rs"]
#[allow(
    unreachable_pub,
    reason = "the table is shared with the tests over sockets"
)]
mod cases;

use cases::{CLOSE, Case, End, PING, PONG, Peer, TEXT};

const LIMITS: Limits = Limits {
    max_frame_size: cases::MAX_FRAME,
    max_message_size: cases::MAX_MESSAGE,
    max_fragments: cases::MAX_FRAGMENTS,
};

/// A long case is not cut everywhere: only so near to its ends and to where it is judged.
const NEAR: usize = 40;

fn peers() -> impl Iterator<Item = Peer> {
    let deflates: &[bool] = if cfg!(feature = "deflate") {
        &[false, true]
    } else {
        &[false]
    };
    deflates
        .iter()
        .flat_map(|&deflate| [true, false].map(|masks| Peer { masks, deflate }))
}

/// The other end of such a peer.
fn connection(peer: Peer) -> Connection {
    let role = if peer.masks {
        Role::Server
    } else {
        Role::Client
    };
    Connection::with_extensions(role, LIMITS, extensions(peer.deflate))
}

#[cfg(feature = "deflate")]
fn extensions(deflate: bool) -> Extensions {
    let direction = super::Direction {
        takeover: true,
        window_bits: 15,
    };
    let terms = super::Terms {
        server: direction,
        client: direction,
        threshold: 0,
        level: 6,
    };
    Extensions {
        deflate: deflate.then_some(terms),
    }
}

#[cfg(not(feature = "deflate"))]
fn extensions(_: bool) -> Extensions {
    Extensions::default()
}

/// What came of the bytes so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    messages: Vec<Message>,
    end: Option<End>,
}

struct Reader {
    connection: Connection,
    out: Outbox,
    outcome: Outcome,
    error: Option<ProtocolError>,
}

impl Reader {
    fn new(peer: Peer) -> Self {
        Self {
            connection: connection(peer),
            out: Outbox::default(),
            outcome: Outcome::default(),
            error: None,
        }
    }

    /// Reads a piece, by the way for large payloads where `direct` says so.
    fn read(&mut self, mut piece: &[u8], direct: bool) {
        while self.error.is_none() {
            let result = match self.connection.direct(1) {
                Some((buffer, max)) if direct && !piece.is_empty() => {
                    let (now, rest) = piece.split_at(max.min(piece.len()));
                    buffer.extend_from_slice(now);
                    piece = rest;
                    let read = self.connection.direct_filled(now.len(), &mut self.out);
                    if matches!(read, Ok(None)) {
                        continue;
                    }
                    read
                }
                _ => self.connection.receive(&mut piece, &mut self.out),
            };
            match result {
                Ok(None) => return,
                Ok(Some(Event::Message(message))) => self.outcome.messages.push(message),
                Ok(Some(Event::Close(frame))) => {
                    assert_eq!(self.outcome.end, None, "one close");
                    let code = frame.map(|frame| frame.code.get());
                    self.outcome.end = Some(End::Closed(code));
                }
                Err(error) => {
                    assert_eq!(self.outcome.end, None, "nothing behind a close");
                    self.outcome.end = Some(End::Breach(error.close_code().get()));
                    self.error = Some(error);
                }
            }
        }
    }

    /// Reads a piece as the driver does, to which a message that is there whole is given
    /// on a shorter way.
    fn read_each(&mut self, mut piece: impl Input) {
        let messages = &mut self.outcome.messages;
        let read = self
            .connection
            .receive_each(&mut piece, &mut self.out, |message| {
                messages.push(message);
                ControlFlow::Continue(())
            });
        let end = match read {
            Ok(None) => return,
            Ok(Some(Event::Close(frame))) => End::Closed(frame.map(|frame| frame.code.get())),
            Ok(Some(Event::Message(_))) => panic!("each message is taken"),
            Err(error) => End::Breach(error.close_code().get()),
        };
        self.outcome.end = Some(end);
    }

    /// What goes to the peer in all, the close frame as the driver sends it.
    fn sent(mut self) -> Vec<u8> {
        match (self.outcome.end, self.error) {
            (Some(End::Breach(_)), Some(error)) => {
                let frame = CloseFrame::new(error.close_code(), error.to_string());
                self.connection.close(Some(&frame), &mut self.out);
            }
            (Some(End::Closed(code)), None) => {
                let code = code.and_then(super::CloseCode::new);
                self.connection.answer_close(code, &mut self.out);
            }
            other => panic!("{other:?}"),
        }
        let said = self.out.len();
        // Nothing stands behind a close frame, whatever is still asked for.
        self.connection.send(Message::text("late"), &mut self.out);
        self.connection.ping(&mut self.out);
        self.connection.answer_ping(&mut self.out);
        self.connection.close(None, &mut self.out);
        assert_eq!(self.out.len(), said);
        self.out.copy_to_bytes(said).to_vec()
    }
}

/// What the other end of `peer` has to make of it: its messages in front and its end, at
/// the right byte; and the frames that it sends.
fn check(peer: Peer, case: &Case) {
    let name = format!("{peer:?}: {}", case.name);
    let front = [peer.frame(TEXT, b"before"), peer.frame(PING, b"ping")].concat();
    let wire = [&front[..], &case.bytes].concat();
    let expected = Outcome {
        messages: vec![Message::text("before")],
        end: Some(case.end),
    };

    let mut whole = Reader::new(peer);
    whole.read(&wire, false);
    assert_eq!(whole.outcome, expected, "{name}");
    let sent = whole.sent();
    if peer.masks {
        let mut frames = &sent[..];
        assert_eq!(frames.split_off(..6), Some(&b"\x8a\x04ping"[..]), "{name}");
        // A case's own pings.
        while frames[0] == PONG {
            frames = &frames[2 + usize::from(frames[1])..];
        }
        assert_eq!(frames[0], CLOSE, "{name}");
        assert_eq!(
            usize::from(frames[1]),
            frames.len() - 2,
            "{name}: one close frame"
        );
        let code = match case.end {
            End::Breach(code) | End::Closed(Some(code)) => Some(code),
            End::Closed(None) => None,
        };
        let found = frames
            .get(2..4)
            .map(|code| u16::from_be_bytes([code[0], code[1]]));
        assert_eq!(found, code, "{name}");
    }

    // Byte by byte: it ends at the byte that shows it.
    for direct in [false, true] {
        let mut slow = Reader::new(peer);
        let judged = front.len() + case.at;
        slow.read(&wire[..front.len()], direct);
        for (index, byte) in wire.iter().enumerate().skip(front.len()) {
            assert!(
                slow.outcome.end.is_none() || index >= judged || peer.deflate,
                "{name}: too early, at {index} of {judged}"
            );
            slow.read(&[*byte], direct);
            assert!(
                slow.outcome.end.is_some() || index + 1 < judged,
                "{name}: too late"
            );
        }
        assert_eq!(slow.outcome, expected, "{name}, byte by byte");
    }

    // In two pieces.
    let len = wire.len();
    for cut in (0..=len).filter(|cut| {
        let judged = front.len() + case.at;
        *cut < NEAR + front.len() || len - cut < NEAR || cut.abs_diff(judged) < NEAR
    }) {
        for direct in [false, true] {
            let mut cut_once = Reader::new(peer);
            cut_once.read(&wire[..cut], direct);
            cut_once.read(&wire[cut..], direct);
            assert_eq!(cut_once.outcome, expected, "{name}, cut at {cut}");
        }
        let mut each = Reader::new(peer);
        each.read_each(&wire[..cut]);
        if each.outcome.end.is_none() {
            each.read_each(&wire[cut..]);
        }
        assert_eq!(each.outcome, expected, "{name}, each, cut at {cut}");
        let mut shared = Reader::new(peer);
        shared.read_each(BytesMut::from(&wire[..cut]));
        if shared.outcome.end.is_none() {
            shared.read_each(BytesMut::from(&wire[cut..]));
        }
        assert_eq!(shared.outcome, expected, "{name}, shared, cut at {cut}");
    }
}

#[test]
fn the_table() {
    for peer in peers() {
        let table = cases::table(peer);
        assert!(table.len() > 300, "{}", table.len());
        for case in &table {
            check(peer, case);
        }
    }
}

/// A violation is found although a megabyte is behind it, and nothing of that counts.
#[test]
fn what_is_behind_a_violation_changes_nothing() {
    let junk = vec![0x5A; 1 << 20];
    for peer in peers() {
        for case in cases::table(peer) {
            let mut reader = Reader::new(peer);
            reader.read(&case.bytes, false);
            reader.read(&junk, false);
            assert_eq!(reader.outcome.end, Some(case.end), "{}", case.name);
            assert_eq!(reader.outcome.messages, [], "{}", case.name);
        }
    }
}

/// All of them, in both roles, with a reason and without.
#[test]
fn every_close_code() {
    for peer in peers() {
        let mut accepted = 0;
        for code in 0..=u16::MAX {
            for reason in ["", "caf\u{e9}"] {
                let mut reader = Reader::new(peer);
                reader.read(&peer.close(code, reason), false);
                let expected = if cases::may_be_sent(code) {
                    accepted += 1;
                    End::Closed(Some(code))
                } else {
                    End::Breach(1002)
                };
                assert_eq!(reader.outcome.end, Some(expected), "{code}");
            }
        }
        // 1000–1003, 1007–1014, and 3000–4999.
        assert_eq!(accepted, 2 * (4 + 8 + 2000));
    }
}
