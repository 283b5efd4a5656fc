//! The whole protocol without input and output, against the model.

use bytes::{Buf, Bytes};
use towpath::ws::{
    Broadcast, CloseCode, CloseFrame, Message, Outbox, Outgoing, ProtocolError,
    protocol::{Connection, Event, Extensions, Role},
};

use crate::{
    input::{Cuts, Input},
    memory,
    model::{self, End, Said},
    puff::{self, inflate},
    terms::{Agreed, Terms, UNLIMITED, other},
    wire::{self, BINARY, CLOSE, Frame, PONG, TEXT},
};

/// Past so many unsent bytes not every ping is answered.
const PONG_ROOM: usize = 16 * 1024;

/// How the bytes arrive.
#[derive(Clone, Debug)]
enum Arrival {
    Whole,
    ByteByByte,
    Pieces(Cuts),
    /// Large payloads straight into their own buffers.
    Direct(Cuts),
}

/// What a connection made of its input.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    said: Vec<Said>,
    end: How,
    out: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum How {
    Open,
    Closed,
    Broken(u16),
}

/// `connection`: terms, a seed for the cuts, then the bytes of the wire.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let terms = Terms::take(&mut input);
    let seed = input.word();
    check(&terms, input.rest(), seed);
}

/// `inflate`: terms, a seed, then compressed messages in so many frames each.
pub fn inflate_messages(data: &[u8]) {
    let mut input = Input::new(data);
    let terms = Terms::take_compressed(&mut input);
    let seed = input.word();
    let mask = (terms.role == Role::Server).then_some(seed.to_be_bytes());
    let mut bytes = Vec::new();
    while !input.is_empty() {
        let flags = input.byte();
        let len = usize::from(input.short());
        let payload = input.take(len);
        let opcode = if flags & 1 == 0 { BINARY } else { TEXT };
        let frames = usize::from(flags >> 4) + 1;
        let mut parts = payload.chunks(payload.len().div_ceil(frames).max(1));
        let mut part = parts.next().unwrap_or_default();
        let (mut opcode, mut rsv) = (opcode, 4);
        loop {
            let next = parts.next();
            let mut frame = Frame::new(opcode, part, mask);
            (frame.fin, frame.rsv) = (next.is_none(), rsv);
            frame.encode(&mut bytes);
            (opcode, rsv) = (0, 0);
            let Some(next) = next else {
                break;
            };
            part = next;
        }
    }
    check(&terms, &bytes, seed);
}

/// Holds the library to the model, however `bytes` arrive.
///
/// # Panics
/// Where it differs.
pub fn check(terms: &Terms, bytes: &[u8], seed: u32) {
    let extensions = terms.extensions();
    let (expected, end) = model::read(terms, bytes);
    let whole = receive(terms, extensions, bytes, Arrival::Whole);
    compare(&whole, &expected, &end);
    check_sent(terms, extensions, &whole, &expected, &end);
    let mut arrivals = vec![
        Arrival::Pieces(Cuts::new(seed)),
        Arrival::Direct(Cuts::new(seed.rotate_left(7))),
    ];
    if bytes.len() <= 4096 {
        arrivals.push(Arrival::ByteByByte);
    }
    for arrival in arrivals {
        let name = format!("{arrival:?}");
        let outcome = receive(terms, extensions, bytes, arrival);
        assert_eq!(outcome.said, whole.said, "{name}");
        compare(&outcome, &expected, &end);
        // A client masks with other keys each time, and the codes may differ where a
        // message is wrong in two ways, or nobody says what is right.
        let codes_agree = outcome.end == whole.end;
        let may_differ = match &end {
            End::Broken(codes) | End::Late(codes) => codes.len() > 1,
            End::Unclear => matches!((&outcome.end, &whole.end), (How::Broken(_), How::Broken(_))),
            End::Open | End::Closed => false,
        };
        assert!(
            codes_agree || may_differ,
            "{name}: {:?} and {:?}",
            outcome.end,
            whole.end
        );
        // Nor is a compressor that was used before, and reset, the equal of a new one:
        // zlib-rs then finds other matches, which are as good.
        let same_bytes = terms.role == Role::Server && terms.agreed.is_none();
        if same_bytes && codes_agree {
            assert!(outcome.out == whole.out, "{name}: other bytes go out");
        } else {
            check_sent(terms, extensions, &outcome, &expected, &end);
        }
    }
    check_memory(terms, extensions, bytes);
}

/// Events but pings, which the connection answers by itself.
fn told(expected: &[Said]) -> impl Iterator<Item = &Said> {
    expected
        .iter()
        .filter(|said| !matches!(said, Said::Ping(_)))
}

fn compare(outcome: &Outcome, expected: &[Said], end: &End) {
    let expected: Vec<_> = told(expected).cloned().collect();
    match (end, &outcome.end) {
        (End::Open, How::Open) | (End::Closed, How::Closed) => {}
        (End::Broken(codes) | End::Late(codes), How::Broken(code)) if codes.contains(code) => {}
        (End::Unclear, _) => {
            let begin = outcome.said.get(..expected.len());
            assert_eq!(begin, Some(&expected[..]));
            return;
        }
        (end, how) => panic!("{how:?} where the model says {end:?}"),
    }
    assert_eq!(outcome.said, expected);
}

struct End2End {
    connection: Connection,
    out: Outbox,
    said: Vec<Said>,
    how: How,
}

impl End2End {
    fn take(&mut self, event: Result<Option<Event>, ProtocolError>) -> bool {
        match event {
            Ok(None) => return false,
            Ok(Some(Event::Message(message))) => {
                self.said.push(Said::Message {
                    text: matches!(message, Message::Text(_)),
                    payload: message.as_bytes().to_vec(),
                });
                self.connection.send(message, &mut self.out);
            }
            Ok(Some(Event::Close(frame))) => {
                let code = frame.as_ref().map(|frame| frame.code);
                let said = frame.map(|frame| (frame.code.get(), frame.reason.to_string()));
                self.said.push(Said::Close(said));
                self.how = How::Closed;
                self.connection.answer_ping(&mut self.out);
                self.connection.answer_close(code, &mut self.out);
            }
            Err(error) => {
                let code = error.close_code();
                self.how = How::Broken(code.get());
                let frame = CloseFrame::new(code, "");
                self.connection.answer_ping(&mut self.out);
                self.connection.close(Some(&frame), &mut self.out);
                return false;
            }
        }
        true
    }
}

fn receive(terms: &Terms, extensions: Extensions, bytes: &[u8], arrival: Arrival) -> Outcome {
    let mut end = End2End {
        connection: terms.connection(extensions),
        out: Outbox::default(),
        said: Vec::new(),
        how: How::Open,
    };
    let (pieces, direct) = match arrival {
        Arrival::Whole => (vec![bytes], false),
        Arrival::ByteByByte => (bytes.chunks(1).collect(), false),
        Arrival::Pieces(mut cuts) => (cuts.pieces(bytes), false),
        Arrival::Direct(mut cuts) => (cuts.pieces(bytes), true),
    };
    for mut piece in pieces {
        while direct && !piece.is_empty() && !matches!(end.how, How::Broken(_)) {
            let Some((buffer, max)) = end.connection.direct(1) else {
                break;
            };
            let count = max.min(piece.len());
            assert!(count > 0, "room for nothing");
            buffer.extend_from_slice(&piece[..count]);
            piece = &piece[count..];
            let event = end.connection.direct_filled(count, &mut end.out);
            end.take(event);
        }
        loop {
            if matches!(end.how, How::Broken(_)) {
                break;
            }
            let event = end.connection.receive(&mut piece, &mut end.out);
            if !end.take(event) {
                break;
            }
        }
        if end.how == How::Open {
            assert!(piece.is_empty(), "all is used where nothing is left to say");
        }
    }
    if end.how == How::Open {
        end.connection.answer_ping(&mut end.out);
    }
    let out = end.out.copy_to_bytes(end.out.remaining());
    Outcome {
        said: end.said,
        end: end.how,
        out: out.to_vec(),
    }
}

/// What went out is what was sent: seen by the twin, and by the library's own other
/// end.
fn check_sent(
    terms: &Terms,
    extensions: Extensions,
    outcome: &Outcome,
    expected: &[Said],
    end: &End,
) {
    let frames = wire::sent(
        &outcome.out,
        terms.role == Role::Client,
        terms.agreed.is_some(),
    );
    let mut deflated = Deflated::new(terms.agreed.as_ref(), terms.role);
    let frames: Vec<_> = frames.iter().map(|frame| deflated.said(frame)).collect();
    let mut wanted: Vec<Frame> = Vec::new();
    let seen = if *end == End::Unclear {
        &outcome.said
    } else {
        expected
    };
    for said in seen {
        wanted.push(match said {
            Said::Ping(payload) => Frame::new(PONG, &payload[..], None),
            Said::Message { text, payload } => {
                Frame::new(if *text { TEXT } else { BINARY }, &payload[..], None)
            }
            Said::Close(frame) => {
                let code = frame.as_ref().map(|(code, _)| code.to_be_bytes());
                Frame::new(CLOSE, code.map_or(Vec::new(), Vec::from), None)
            }
        });
    }
    let broken = match outcome.end {
        How::Broken(code) => Some(code),
        How::Open | How::Closed => None,
    };
    let (last, frames) = match (broken, frames.split_last()) {
        (Some(code), Some((last, frames))) => {
            assert_eq!(last.opcode, CLOSE);
            assert_eq!(last.payload.get(..2), Some(&code.to_be_bytes()[..]));
            (1, frames)
        }
        (Some(_), None) => panic!("no close frame"),
        (None, _) => (0, &frames[..]),
    };
    let sure = !matches!(end, End::Unclear | End::Late(_));
    if outcome.out.len() < PONG_ROOM && sure {
        assert_eq!(frames, wanted);
    } else {
        let data = |frames: &[Frame]| -> Vec<Frame> {
            let frames = frames.iter().filter(|frame| frame.opcode != PONG);
            frames.cloned().collect()
        };
        assert!(data(frames) == data(&wanted), "other messages go out");
        let mut pings = expected.iter().rev().filter_map(|said| match said {
            Said::Ping(payload) => Some(payload),
            _ => None,
        });
        let pongs: Vec<_> = frames.iter().filter(|frame| frame.opcode == PONG).collect();
        if sure {
            let last = pongs.last().map(|frame| &frame.payload);
            assert_eq!(last, pings.clone().next(), "the latest ping is answered");
            for pong in pongs.iter().rev() {
                assert!(pings.any(|ping| *ping == pong.payload), "a pong of its own");
            }
        }
    }
    let mut peer = Connection::with_extensions(other(terms.role), UNLIMITED, extensions);
    let mut messages = told(&outcome.said);
    let mut rest = &outcome.out[..];
    let mut closes = 0;
    while let Some(event) = peer
        .receive(&mut rest, &mut Outbox::default())
        .expect("what we send is good")
    {
        match event {
            Event::Message(message) => {
                let said = Said::Message {
                    text: matches!(message, Message::Text(_)),
                    payload: message.as_bytes().to_vec(),
                };
                assert_eq!(messages.next(), Some(&said));
            }
            Event::Close(_) => closes += 1,
        }
    }
    let closed = usize::from(outcome.end == How::Closed);
    assert_eq!(closes, last + closed);
    assert_eq!(messages.count(), closed, "only the close is not echoed");
}

/// Compressed frames, read by the twin with the window that was agreed on.
pub struct Deflated {
    direction: Option<crate::terms::Direction>,
    threshold: usize,
    history: Vec<u8>,
}

impl Deflated {
    pub fn new(agreed: Option<&Agreed>, role: Role) -> Self {
        Self {
            direction: agreed.map(|agreed| agreed.own(role)),
            threshold: agreed.map_or(0, |agreed| agreed.threshold),
            history: Vec::new(),
        }
    }

    /// The frame without mask and compression.
    ///
    /// # Panics
    /// Where it is not what was agreed on.
    pub fn said(&mut self, frame: &Frame) -> Frame {
        let payload = match self.direction {
            Some(direction) if frame.rsv != 0 => {
                let inflated = inflate(
                    &self.history,
                    &frame.payload,
                    true,
                    usize::MAX,
                    direction.window(),
                );
                assert_eq!(inflated.end, puff::End::Boundary);
                assert!(!inflated.ends_in_tail, "ends with an empty block");
                assert!(
                    inflated.bytes.len() >= self.threshold,
                    "below the threshold"
                );
                if direction.takeover {
                    self.history = inflated.history;
                } else {
                    assert!(frame.payload.len() < inflated.bytes.len(), "grew");
                }
                inflated.bytes
            }
            _ => frame.payload.clone(),
        };
        Frame::new(frame.opcode, payload, None)
    }
}

/// Nothing a peer sends allocates more than it sent plus a constant; where it is
/// compressed the message's limit, which is what it is for, comes on top.
fn check_memory(terms: &Terms, extensions: Extensions, bytes: &[u8]) {
    let mut connection = terms.connection(extensions);
    let mut out = Outbox::default();
    let most = memory::most(|| {
        let mut rest = bytes;
        while let Ok(Some(event)) = connection.receive(&mut rest, &mut out) {
            drop(event);
        }
    });
    // A payload's buffer grows by 64 KiB at a time, and once more while it moves; it
    // and the answered pings double.
    let mut bound = 160 * 1024 + 5 * bytes.len();
    if terms.agreed.is_some() {
        bound += 64 * 1024 + 64 * 1024 + 3 * terms.limits.max_message_size;
    }
    assert!(most <= bound, "{most} bytes for {}", bytes.len());
}

/// `mask`: one message in one frame under a key, in pieces, read and written.
pub fn mask(data: &[u8]) {
    let mut input = Input::new(data);
    let key = input.word().to_be_bytes();
    let seed = input.word();
    // Past 64 KiB a payload's buffer grows in another way.
    let times = if seed & 7 == 1 { 3 } else { 1 };
    let payload = Bytes::from(input.payload().repeat(times));
    let mut bytes = Vec::new();
    Frame::new(BINARY, &payload[..], Some(key)).encode(&mut bytes);
    let terms = Terms {
        role: Role::Server,
        limits: UNLIMITED,
        agreed: None,
    };
    let expected = vec![Said::Message {
        text: false,
        payload: payload.to_vec(),
    }];
    for arrival in [
        Arrival::Whole,
        Arrival::Pieces(Cuts::new(seed)),
        Arrival::Direct(Cuts::new(!seed)),
    ] {
        let outcome = receive(&terms, Extensions::default(), &bytes, arrival);
        assert!(outcome.said == expected, "unmasked to something else");
    }
    let mut client = Connection::new(Role::Client, UNLIMITED);
    let mut out = Outbox::default();
    client.send(Message::Binary(payload.clone()), &mut out);
    client.send(Message::Binary(payload.clone()), &mut out);
    let frames = wire::sent(&out.copy_to_bytes(out.remaining()), true, false);
    for frame in &frames {
        assert!(frame.payload == payload, "masked by another key");
    }
    assert_ne!(
        frames[0].mask, frames[1].mask,
        "the same key twice: one in four billion by chance"
    );
}

/// `deflate`: the terms of two connections, a seed, then messages that both send, and
/// pings between them.
pub fn deflate(data: &[u8]) {
    let mut input = Input::new(data);
    let role = input.choose(&[Role::Server, Role::Client]);
    let mut senders = [Agreed::take(&mut input), Agreed::take(&mut input)].map(|agreed| {
        let extensions = agreed.extensions();
        let connection = Connection::with_extensions(role, UNLIMITED, extensions);
        (agreed, connection, Outbox::default())
    });
    let seed = input.word();
    let mut messages = Vec::new();
    let mut total = 0;
    // More than a window, and few enough for the twin to be done in a moment.
    while !input.is_empty() && total < 40 * 1024 {
        let flags = input.byte();
        let payload = input.payload();
        let message = if flags & 1 == 0 {
            Message::Binary(payload)
        } else {
            Message::from(String::from_utf8_lossy(&payload).into_owned())
        };
        total += message.len();
        messages.push(message.clone());
        let broadcast = Broadcast::new(message.clone());
        for (_, connection, out) in &mut senders {
            match flags >> 1 & 3 {
                0 => connection.send(&broadcast, out),
                1 => connection.send(Outgoing::uncompressed(message.clone()), out),
                _ => connection.send(message.clone(), out),
            }
            if flags & 0x80 != 0 {
                connection.ping(out);
            }
            if flags & 0x40 != 0 {
                connection.rest();
            }
        }
    }
    for (agreed, _, mut out) in senders {
        let bytes = out.copy_to_bytes(out.remaining());
        check_deflated(&agreed, role, &bytes, &messages, seed);
    }
}

/// What went out is `messages`, for the twin and for the library's other end.
fn check_deflated(agreed: &Agreed, role: Role, bytes: &[u8], messages: &[Message], seed: u32) {
    let mut twin = Deflated::new(Some(agreed), role);
    let mut sent = messages.iter();
    for frame in wire::sent(bytes, role == Role::Client, true) {
        let frame = twin.said(&frame);
        if frame.opcode < CLOSE {
            let message = sent.next().expect("no more than was sent");
            assert!(
                message.as_bytes() == frame.payload,
                "inflates to something else"
            );
        }
    }
    assert_eq!(sent.count(), 0);
    let mut peer = Connection::with_extensions(other(role), UNLIMITED, agreed.extensions());
    let mut sent = messages.iter();
    for mut piece in Cuts::new(seed).pieces(bytes) {
        while let Some(event) = peer
            .receive(&mut piece, &mut Outbox::default())
            .expect("what we send is good")
        {
            let Event::Message(message) = event else {
                panic!("{event:?}");
            };
            assert!(sent.next() == Some(&message), "another message");
        }
    }
    assert_eq!(sent.count(), 0);
}

/// A code that a close frame may have, near `code`.
pub fn some_code(code: u16) -> CloseCode {
    CloseCode::new(code).unwrap_or(CloseCode::NORMAL)
}
