use bytes::Buf;
use proptest::prelude::*;

use super::{super::frame::Header, *};

const LIMITS: Limits = Limits {
    max_frame_size: 1 << 20,
    max_message_size: 1 << 20,
    max_fragments: 1 << 16,
};
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

fn frame(fin: bool, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = BytesMut::new();
    let len = payload.len() as u64;
    Header {
        fin,
        compressed: false,
        opcode,
        mask,
        len,
    }
    .encode(&mut out);
    let start = out.len();
    out.extend_from_slice(payload);
    super::super::mask::apply(&mut out[start..], mask.unwrap_or_default(), 0);
    out.to_vec()
}

fn client_frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    frame(fin, opcode, payload, Some(KEY))
}

/// What a server makes of `wire`, given in pieces that end at `cuts`; every
/// other piece goes the direct way where there is one.
fn server_reads(
    limits: Limits,
    wire: &[u8],
    cuts: &[usize],
) -> (Vec<Event>, Option<ProtocolError>, Vec<u8>) {
    let mut server = Connection::new(Role::Server, limits);
    let mut out = Outbox::default();
    let mut events = Vec::new();
    let mut at = 0;
    let ends = cuts.iter().copied().chain([wire.len()]);
    let error = 'read: {
        for (turn, end) in ends.enumerate() {
            let end = end.clamp(at, wire.len());
            if turn % 2 == 1
                && let Some((buffer, max)) = server.direct(1)
            {
                let take = max.min(end - at);
                buffer.extend_from_slice(&wire[at..at + take]);
                at += take;
                match server.direct_filled(take, &mut out) {
                    Ok(event) => events.extend(event),
                    Err(error) => break 'read Some(error),
                }
            }
            let mut input = &wire[at..end];
            at = end;
            loop {
                match server.receive(&mut input, &mut out) {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(error) => break 'read Some(error),
                }
            }
        }
        None
    };
    let sent = out.copy_to_bytes(out.remaining()).to_vec();
    (events, error, sent)
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        ".{0,40}".prop_map(Message::from),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Message::binary),
        (120usize..130).prop_map(|len| Message::binary(vec![7; len])),
        (65_530usize..65_540).prop_map(|len| Message::binary(vec![7; len])),
    ]
}

/// Lengths around that from which on messages share a read, and others.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..200, 16_380usize..16_390, 30_000usize..70_000]
}

/// What a server makes of one read, taken as its driver takes it.
fn reads_each(input: &mut impl Input) -> (Vec<Event>, Option<ProtocolError>, Vec<u8>) {
    let mut server = Connection::new(Role::Server, LIMITS);
    let mut out = Outbox::default();
    let mut events = Vec::new();
    let end = server.receive_each(input, &mut out, |message| {
        events.push(Event::Message(message));
        ControlFlow::Continue(())
    });
    let error = match end {
        Ok(event) => {
            assert!(!input.has_remaining());
            events.extend(event);
            None
        }
        Err(error) => Some(error),
    };
    let sent = out.copy_to_bytes(out.remaining()).to_vec();
    (events, error, sent)
}

#[test]
fn only_a_large_message_has_a_share_in_the_read() {
    for (len, shares) in [(16 * 1024 - 1, false), (16 * 1024, true)] {
        let mut server = Connection::new(Role::Server, LIMITS);
        let mut read = BytesMut::with_capacity(64 * 1024);
        let memory = read.as_ptr().addr()..read.as_ptr().addr() + read.capacity();
        for _ in 0..3 {
            read.extend_from_slice(&client_frame(true, Opcode::Binary, &vec![7; len]));
        }
        let mut kept = Vec::new();
        let end = server.receive_each(&mut read, &mut Outbox::default(), |message| {
            kept.push(message.into_bytes());
            ControlFlow::Continue(())
        });
        assert_eq!((end, kept.len(), read.len()), (Ok(None), 3, 0));
        for bytes in &kept {
            assert_eq!(memory.contains(&bytes.as_ptr().addr()), shares, "{len}");
        }
        // The next read goes where nobody has a share any more.
        assert_eq!(read.try_reclaim(64 * 1024), !shares);
        kept.clear();
        assert!(read.try_reclaim(64 * 1024));
    }
}

/// A message in fragments of the given sizes, pings between them.
fn fragmented(message: &Message, sizes: &[usize], pings: bool) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut rest = message.as_bytes();
    let mut opcode = Opcode::of(message);
    for size in sizes {
        let (now, later) = rest.split_at((*size).min(rest.len()));
        rest = later;
        wire.extend(client_frame(false, opcode, now));
        opcode = Opcode::Continuation;
        if pings {
            wire.extend(client_frame(true, Opcode::Ping, b"between"));
        }
    }
    wire.extend(client_frame(true, opcode, rest));
    wire
}

#[test]
fn the_beginning_is_judged_before_the_length_however_it_arrives() {
    // A continuation of nothing, unmasked, whose length has its highest bit set.
    let bytes = [0, 127, 128, 0, 0, 0, 0, 0, 0, 0];
    let cuts: Vec<usize> = (0..bytes.len()).collect();
    for cuts in [&[][..], &cuts] {
        let (_, error, _) = server_reads(LIMITS, &bytes, cuts);
        assert_eq!(error, Some(ProtocolError::UnmaskedFrame), "{cuts:?}");
    }
}

proptest! {
    #[test]
    fn any_messages_in_any_fragments_and_any_reads_come_out_the_same(
        messages in proptest::collection::vec(
            (message(), proptest::collection::vec(0usize..90, 0..4), any::<bool>()), 1..5),
        mut cuts in proptest::collection::vec(0usize..70_000, 0..12),
    ) {
        let mut wire = Vec::new();
        let mut pings = 0;
        for (message, sizes, with_pings) in &messages {
            wire.extend(fragmented(message, sizes, *with_pings));
            pings += if *with_pings { sizes.len() } else { 0 };
        }
        cuts.sort_unstable();
        let (events, error, sent) = server_reads(LIMITS, &wire, &cuts);
        prop_assert_eq!(error, None);
        let expected: Vec<Event> =
            messages.into_iter().map(|(message, ..)| Event::Message(message)).collect();
        prop_assert_eq!(events, expected);
        let pong = frame(true, Opcode::Pong, b"between", None);
        prop_assert_eq!(sent, pong.repeat(pings));
    }

    #[test]
    fn byte_by_byte_equals_whole(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let cuts: Vec<usize> = (0..bytes.len()).collect();
        let (whole, whole_error, whole_sent) = server_reads(LIMITS, &bytes, &[]);
        let (split, split_error, split_sent) = server_reads(LIMITS, &bytes, &cuts);
        prop_assert_eq!(whole_error, split_error);
        prop_assert_eq!(whole, split);
        prop_assert_eq!(whole_sent, split_sent);
    }

    /// Large messages stay in the buffer of the read, and are the same.
    #[test]
    fn a_shared_read_equals_a_copied_one(
        messages in proptest::collection::vec((size(), any::<bool>(), 0u8..4), 1..6),
        breach: bool,
        end in 0usize..200_000,
    ) {
        let mut wire = Vec::new();
        for (index, (len, text, next_to)) in messages.into_iter().enumerate() {
            let opcode = if text { Opcode::Text } else { Opcode::Binary };
            let byte = b'a' + u8::try_from(index).unwrap();
            wire.extend(client_frame(true, opcode, &vec![byte; len]));
            match next_to {
                0 => wire.extend(client_frame(true, Opcode::Ping, b"between")),
                1 => wire.extend(fragmented(&Message::text("in parts"), &[2, 3], true)),
                _ => {}
            }
        }
        if breach {
            wire.extend(client_frame(true, Opcode::Text, &[0xFF; 20_000]));
        }
        let wire = &wire[..end.min(wire.len())];
        let copied = reads_each(&mut &wire[..]);
        prop_assert_eq!(&copied, &reads_each(&mut BytesMut::from(wire)));
        let all = server_reads(LIMITS, wire, &[]);
        prop_assert_eq!(copied, all);
    }

    #[test]
    fn a_client_and_a_server_understand_each_other(
        messages in proptest::collection::vec(message(), 0..5),
    ) {
        let mut client = Connection::new(Role::Client, LIMITS);
        let mut wire = Outbox::default();
        for message in &messages {
            client.send(message.clone(), &mut wire);
        }
        client.close(Some(&CloseFrame::new(CloseCode::NORMAL, "bye")), &mut wire);
        let bytes = wire.copy_to_bytes(wire.remaining());
        let (events, error, _) = server_reads(LIMITS, &bytes, &[]);
        prop_assert_eq!(error, None);
        let mut expected: Vec<Event> = messages.into_iter().map(Event::Message).collect();
        expected.push(Event::Close(Some(CloseFrame::new(CloseCode::NORMAL, "bye"))));
        prop_assert_eq!(events, expected);
    }
}

#[test]
fn breaches_are_named() {
    use ProtocolError as E;
    let text = |payload: &[u8]| client_frame(true, Opcode::Text, payload);
    let begun = client_frame(false, Opcode::Text, b"a");
    let cases: Vec<(Vec<u8>, E)> = vec![
        (frame(true, Opcode::Text, b"hi", None), E::UnmaskedFrame),
        (
            client_frame(true, Opcode::Continuation, b""),
            E::UnexpectedContinuation,
        ),
        (
            [begun.clone(), text(b"b")].concat(),
            E::ExpectedContinuation,
        ),
        (text(&[0xFF]), E::InvalidUtf8),
        (
            [begun, client_frame(true, Opcode::Continuation, &[0xC3])].concat(),
            E::InvalidUtf8,
        ),
        (
            client_frame(true, Opcode::Close, &[3]),
            E::ShortClosePayload,
        ),
        (
            client_frame(true, Opcode::Close, &1005u16.to_be_bytes()),
            E::InvalidCloseCode(1005),
        ),
        (
            client_frame(true, Opcode::Close, &[3, 232, 0xFF]),
            E::InvalidUtf8,
        ),
    ];
    for (wire, expected) in cases {
        let (events, error, _) = server_reads(LIMITS, &wire, &[]);
        assert_eq!((events, error), (vec![], Some(expected)), "{wire:x?}");
    }
    let mut client = Connection::new(Role::Client, LIMITS);
    let masked = text(b"hi");
    assert_eq!(
        client.receive(&mut &masked[..], &mut Outbox::default()),
        Err(E::MaskedFrame)
    );
}

#[test]
fn bad_text_is_refused_before_its_frame_ends() {
    let mut wire = client_frame(true, Opcode::Text, &[b'a'; 1000]);
    wire[20] = 0xFF ^ KEY[(20 - 8) % 4];
    // Only the first of a thousand bytes arrive: the bad one is among them.
    let (_, error, _) = server_reads(LIMITS, &wire[..30], &[]);
    assert_eq!(error, Some(ProtocolError::InvalidUtf8));
}

#[test]
fn limits_are_judged_by_the_header_and_exactly_the_limit_passes() {
    let limits = Limits {
        max_frame_size: 10,
        max_message_size: 15,
        max_fragments: 3,
    };
    let binary = |fin, len| client_frame(fin, Opcode::Binary, &vec![0; len]);
    let more = |fin, len| client_frame(fin, Opcode::Continuation, &vec![0; len]);
    let fit = [binary(false, 10), more(true, 5)].concat();
    let (events, error, _) = server_reads(limits, &fit, &[]);
    assert_eq!((events.len(), error), (1, None));

    let too_big = binary(true, 11);
    let (_, error, _) = server_reads(limits, &too_big[..6], &[]);
    assert_eq!(error, Some(ProtocolError::FrameTooBig { limit: 10 }));

    let too_long = [binary(false, 10), more(true, 6)].concat();
    let (_, error, _) = server_reads(limits, &too_long[..too_long.len() - 6], &[]);
    assert_eq!(error, Some(ProtocolError::MessageTooBig { limit: 15 }));

    let three = [binary(false, 0), more(false, 0), more(false, 0)].concat();
    let (_, error, _) = server_reads(limits, &[three, more(true, 0)].concat(), &[]);
    assert_eq!(error, Some(ProtocolError::TooManyFragments { limit: 3 }));
}

#[test]
fn a_promise_of_terabytes_allocates_a_constant() {
    let limits = Limits {
        max_frame_size: usize::MAX,
        max_message_size: usize::MAX,
        max_fragments: 1,
    };
    let mut wire = BytesMut::new();
    let header = Header {
        fin: true,
        compressed: false,
        opcode: Opcode::Binary,
        mask: Some(KEY),
        len: 1 << 40,
    };
    header.encode(&mut wire);
    let mut server = Connection::new(Role::Server, limits);
    let mut input = &wire[..];
    assert_eq!(server.receive(&mut input, &mut Outbox::default()), Ok(None));
    let (buffer, max) = server.direct(1).unwrap();
    assert!(buffer.capacity() <= 128 * 1024, "{}", buffer.capacity());
    assert!(max <= 128 * 1024);
}

#[test]
fn a_large_message_goes_on_in_the_buffer_of_one_that_has_gone_out() {
    let limits = Limits {
        max_frame_size: 1 << 20,
        max_message_size: 1 << 20,
        ..LIMITS
    };
    let mut server = Connection::new(Role::Server, limits);
    let mut spares = Spares::default();
    let mut buffers = Vec::new();
    for round in 0..4u8 {
        let len = 200_000 + usize::from(round) * 1000;
        let payload: Vec<u8> = (0..251)
            .cycle()
            .take(len)
            .map(|byte: u8| byte ^ round)
            .collect();
        let wire = client_frame(true, Opcode::Binary, &payload);
        let mut out = Outbox::default();
        let mut input = &wire[..50_000];
        assert_eq!(server.receive(&mut input, &mut out), Ok(None));
        let mut at = 50_000;
        let event = loop {
            server.reuse(&mut spares);
            let (buffer, max) = server.direct(1).unwrap();
            let take = max.min(70_001).min(wire.len() - at);
            buffer.extend_from_slice(&wire[at..at + take]);
            at += take;
            if let Some(event) = server.direct_filled(take, &mut out).unwrap() {
                break event;
            }
        };
        assert_eq!(event, Event::Message(Message::binary(payload.clone())));
        let Event::Message(message) = event else {
            unreachable!()
        };
        buffers.push(message.as_bytes().as_ptr());
        server.send(message, &mut out);
        let mut sent = Vec::new();
        while out.has_remaining() {
            let written = out.chunk().len().min(30_000);
            sent.extend_from_slice(&out.chunk()[..written]);
            out.advance(written);
        }
        assert!(sent.ends_with(&payload));
        spares.append(out.spares());
        assert!(!spares.is_empty());
    }
    assert!(buffers[1..].iter().all(|buffer| *buffer == buffers[0]));
}

#[test]
fn a_flood_of_pings_to_a_peer_that_reads_nothing_is_answered_by_a_bounded_number() {
    let wire = client_frame(true, Opcode::Ping, &[1; 125]).repeat(10_000);
    let (_, error, sent) = server_reads(LIMITS, &wire, &[]);
    assert_eq!(error, None);
    assert!(sent.len() <= PONG_ROOM + 127, "{}", sent.len());
}

#[test]
fn nothing_is_said_after_the_close() {
    let mut server = Connection::new(Role::Server, LIMITS);
    let mut out = Outbox::default();
    server.answer_close(Some(CloseCode::NORMAL), &mut out);
    let len = out.len();
    server.send(Message::text("late"), &mut out);
    server.ping(&mut out);
    server.close(None, &mut out);
    let ping = client_frame(true, Opcode::Ping, b"");
    assert_eq!(server.receive(&mut &ping[..], &mut out), Ok(None));
    assert_eq!(out.len(), len);
}
