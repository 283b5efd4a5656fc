mod broadcast;
mod window;

use bytes::{Buf, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::ws::protocol::{
    Connection, Event, Extensions, Limits, Outbox,
    frame::{Header, Opcode},
    mask,
};

const LIMITS: Limits = Limits {
    max_frame_size: 1 << 20,
    max_message_size: 1 << 20,
    max_fragments: 1 << 16,
};
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

fn terms(takeover: bool, window_bits: u8) -> Terms {
    let direction = Direction {
        takeover,
        window_bits,
    };
    Terms {
        server: direction,
        client: direction,
        threshold: 0,
        level: 6,
    }
}

fn end(role: Role, limits: Limits, terms: Terms) -> Connection {
    let deflate = Some(terms);
    Connection::with_extensions(role, limits, Extensions { deflate })
}

fn server(limits: Limits) -> Connection {
    end(Role::Server, limits, terms(true, 15))
}

fn sent(connection: &mut Connection, message: impl Into<Message>) -> Bytes {
    let mut out = Outbox::default();
    connection.send(message.into(), &mut out);
    out.copy_to_bytes(out.remaining())
}

/// Takes all of `wire` and gives what came out.
fn receives(connection: &mut Connection, mut wire: &[u8]) -> Result<Vec<Event>, ProtocolError> {
    let mut events = Vec::new();
    while let Some(event) = connection.receive(&mut wire, &mut Outbox::default())? {
        events.push(event);
    }
    Ok(events)
}

fn client_frame(fin: bool, compressed: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    Header {
        fin,
        compressed,
        opcode,
        mask: Some(KEY),
        len: payload.len() as u64,
    }
    .encode(&mut out);
    mask::append(payload, KEY, 0, &mut out);
    out.to_vec()
}

/// What a peer sends of `payload`, compressed with a context of its own.
fn compressed(payload: &[u8]) -> Vec<u8> {
    deflate(&mut pool::compressor(6, 15), payload).unwrap()
}

fn whole(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    client_frame(true, true, opcode, payload)
}

fn event(message: impl Into<Message>) -> Event {
    Event::Message(message.into())
}

fn noise(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..len).map(|_| random.u8(..)).collect()
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..3000),
        // Matches at every distance, near and far.
        prop::collection::vec((0u8..4, 1usize..900), 1..12).prop_map(|runs| {
            let words = noise(4096);
            let take = |(word, len): (u8, usize)| {
                let start = usize::from(word) * 700;
                words[start..start + len].to_vec()
            };
            runs.into_iter().flat_map(take).collect()
        }),
        "[ab]{0,400}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_messages_in_any_fragments_and_any_reads_come_out_the_same(
        payloads in prop::collection::vec((payload(), prop::collection::vec(0usize..300, 0..4)), 1..6),
        mut cuts in prop::collection::vec(0usize..8000, 0..8),
        takeover: bool,
        window_bits in 8u8..=15,
        level in 0u32..=9,
    ) {
        let terms = Terms { level, ..terms(takeover, window_bits) };
        let mut deflater = Deflater::new(&terms, Role::Client);
        let mut wire = Vec::new();
        for (payload, sizes) in &payloads {
            let deflated = deflater.compress(&Message::binary(payload.clone()));
            let compressed = deflated.is_some();
            let body = deflated.unwrap_or_else(|| payload.clone());
            let mut rest = &body[..];
            let mut first = true;
            for size in sizes {
                let (now, later) = rest.split_at((*size).min(rest.len()));
                rest = later;
                let opcode = if first { Opcode::Binary } else { Opcode::Continuation };
                wire.extend(client_frame(false, first && compressed, opcode, now));
                wire.extend(client_frame(true, false, Opcode::Ping, b""));
                first = false;
            }
            let opcode = if first { Opcode::Binary } else { Opcode::Continuation };
            wire.extend(client_frame(true, first && compressed, opcode, rest));
        }
        cuts.sort_unstable();
        let mut server = end(Role::Server, LIMITS, terms);
        let mut events = Vec::new();
        let mut at = 0;
        for (turn, cut) in cuts.into_iter().chain([wire.len()]).enumerate() {
            let cut = cut.clamp(at, wire.len());
            if turn % 2 == 1 && let Some((buffer, max)) = server.direct(1) {
                let take = max.min(cut - at);
                buffer.extend_from_slice(&wire[at..at + take]);
                at += take;
                events.extend(server.direct_filled(take, &mut Outbox::default()).unwrap());
            }
            events.extend(receives(&mut server, &wire[at..cut]).unwrap());
            at = cut;
        }
        let expected: Vec<_> = payloads.into_iter().map(|(payload, _)| event(payload)).collect();
        prop_assert_eq!(events, expected);
    }

    #[test]
    fn both_ends_understand_each_other(
        payloads in prop::collection::vec(payload(), 1..6),
        takeover: bool,
        window_bits in 8u8..=15,
    ) {
        let terms = terms(takeover, window_bits);
        let mut client = end(Role::Client, LIMITS, terms);
        let mut server = end(Role::Server, LIMITS, terms);
        for payload in payloads {
            let there = sent(&mut client, payload.clone());
            let expected = Ok(vec![event(payload.clone())]);
            prop_assert_eq!(receives(&mut server, &there), expected);
            let back = sent(&mut server, payload.clone());
            prop_assert_eq!(receives(&mut client, &back), Ok(vec![event(payload)]));
        }
    }

    #[test]
    fn where_8_bits_are_agreed_a_window_of_8_bits_reads_it(
        payloads in prop::collection::vec(payload(), 1..4),
        level in 0u32..=9,
    ) {
        let terms = Terms { level, ..terms(true, 8) };
        let mut deflater = Deflater::new(&terms, Role::Server);
        let mut inflated = Vec::new();
        let mut expected = Vec::new();
        for payload in payloads.into_iter().filter(|payload| !payload.is_empty()) {
            expected.extend_from_slice(&payload);
            let mut body = deflater.compress(&Message::binary(payload)).unwrap();
            body.extend(TAIL);
            prop_assert_eq!(window::inflate(&body, 1 << 8, &mut inflated), Some(()));
            prop_assert_eq!(&inflated, &expected);
        }
    }

    #[test]
    fn any_bytes_are_inflated_or_refused_however_they_are_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0usize..200,
    ) {
        let wire = [whole(Opcode::Binary, &bytes), whole(Opcode::Text, &bytes)].concat();
        let at_once = receives(&mut server(LIMITS), &wire);
        let mut split = server(LIMITS);
        let (left, right) = wire.split_at(cut.min(wire.len()));
        let split = receives(&mut split, left).and_then(|mut events| {
            events.extend(receives(&mut split, right)?);
            Ok(events)
        });
        prop_assert_eq!(at_once, split);
    }
}

#[test]
fn what_looks_back_further_than_8_bits_would_be_noticed() {
    let payload = [&[b'a'; 400][..], &noise(300).repeat(2)].concat();
    for (window_bits, read) in [(8, true), (10, false)] {
        let mut deflater = Deflater::new(&terms(false, window_bits), Role::Server);
        let message = Message::binary(payload.clone());
        let mut body = deflater.compress(&message).unwrap();
        body.extend(TAIL);
        let mut inflated = Vec::new();
        let result = window::inflate(&body, 1 << 8, &mut inflated);
        assert_eq!(result.is_some(), read, "{window_bits}");
        assert_eq!(inflated == payload, read, "{window_bits}");
        inflated.clear();
        assert_eq!(window::inflate(&body, 1 << 10, &mut inflated), Some(()));
        assert_eq!(inflated, payload);
    }
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    let hello = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
    let taken_over = [0xF2, 0x00, 0x11, 0x00, 0x00];
    let stored = [
        0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00,
    ];
    let with_final_block = [0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00];
    let two_blocks = [
        0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00,
    ];
    let mut server = server(LIMITS);
    let bodies: [&[u8]; 6] = [
        &hello,
        &taken_over,
        &stored,
        &with_final_block,
        &two_blocks,
        // Without the empty block that would have to stand behind the final one.
        &with_final_block[..7],
    ];
    for body in bodies {
        let events = receives(&mut server, &whole(Opcode::Text, body));
        assert_eq!(events, Ok(vec![event("Hello")]), "{body:x?}");
    }
    let fragments = [
        client_frame(false, true, Opcode::Text, &hello[..3]),
        client_frame(true, false, Opcode::Continuation, &hello[3..]),
        whole(Opcode::Text, &[0x00]),
        client_frame(true, false, Opcode::Text, b"plain"),
    ];
    let events = receives(&mut server, &fragments.concat());
    let expected = ["Hello", "", "plain"].map(event);
    assert_eq!(events.unwrap(), expected);
}

#[test]
fn rsv1_is_refused_where_nothing_was_agreed() {
    let mut plain = Connection::new(Role::Server, LIMITS);
    let result = receives(&mut plain, &whole(Opcode::Text, &compressed(b"hi"))[..1]);
    assert_eq!(result, Err(ProtocolError::ReservedBit));
}

#[test]
fn rsv1_is_refused_on_continuations() {
    let wire = [
        client_frame(false, true, Opcode::Text, &compressed(b"hi")),
        client_frame(true, true, Opcode::Continuation, b""),
    ]
    .concat();
    let result = receives(&mut server(LIMITS), &wire);
    assert_eq!(result, Err(ProtocolError::ReservedBit));
    let mut wire = whole(Opcode::Binary, b"");
    wire[0] = 0xC9;
    let result = receives(&mut server(LIMITS), &wire);
    assert_eq!(result, Err(ProtocolError::ReservedBit), "a ping");
}

#[test]
fn what_cannot_be_inflated_is_refused() {
    // A reserved block type, a distance before the beginning, a block cut off.
    let cut_off = &compressed(&[b'a'; 500])[..3];
    let stored_cut_off = [0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48];
    for body in [&[0x07][..], &[0x02, 0x41, 0x00], &stored_cut_off] {
        let result = receives(&mut server(LIMITS), &whole(Opcode::Binary, body));
        assert_eq!(result, Err(ProtocolError::InvalidDeflate), "{body:x?}");
    }
    let result = receives(&mut server(LIMITS), &whole(Opcode::Binary, cut_off));
    assert_ne!(result, Ok(vec![event(vec![b'a'; 500])]));
    let code = ProtocolError::InvalidDeflate.close_code().get();
    assert_eq!(code, 1007);
}

#[test]
fn text_is_checked_while_it_is_inflated() {
    let mut text = vec![b'a'; 300_000];
    text[100] = 0xFF;
    text.extend(noise(10_000));
    let wire = whole(Opcode::Text, &compressed(&text));
    // The bad byte is in what the first hundreds of bytes inflate to.
    let result = receives(&mut server(LIMITS), &wire[..1000]);
    assert_eq!(result, Err(ProtocolError::InvalidUtf8));
    let cut_character = whole(Opcode::Text, &compressed(&[b'a', 0xC3]));
    let result = receives(&mut server(LIMITS), &cut_character);
    assert_eq!(result, Err(ProtocolError::InvalidUtf8));
}

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let bomb = compressed(&vec![0; 64 << 20]);
    assert!(bomb.len() < 70_000);
    let limit = 100_000;
    let mut inflater = Inflater::new(&terms(false, 15), Role::Server);
    let mut out = Vec::new();
    let result = inflater.inflate(&bomb, &mut out, limit);
    assert_eq!(result, Err(ProtocolError::MessageTooBig { limit }));
    assert!(out.capacity() <= limit + 1, "{}", out.capacity());

    let limits = Limits {
        max_frame_size: limit,
        max_message_size: limit,
        max_fragments: 10,
    };
    let wire = whole(Opcode::Binary, &bomb);
    let result = receives(&mut server(limits), &wire[..2000]);
    assert_eq!(result, Err(ProtocolError::MessageTooBig { limit }));
}

#[test]
fn exactly_the_limit_passes_whether_it_compresses_or_not() {
    for payload in [vec![b'a'; 70_000], noise(70_000)] {
        let body = compressed(&payload);
        let wire = whole(Opcode::Binary, &body);
        let limits = |limit| Limits {
            max_frame_size: limit,
            max_message_size: limit,
            max_fragments: 1,
        };
        let expected = Ok(vec![event(payload.clone())]);
        assert_eq!(receives(&mut server(limits(70_000)), &wire), expected);
        let limit = 69_999;
        let result = receives(&mut server(limits(limit)), &wire);
        assert_eq!(result, Err(ProtocolError::MessageTooBig { limit }));
    }
}

#[test]
fn limits_of_frames_hold_for_what_is_on_the_wire() {
    let limits = Limits {
        max_frame_size: 10,
        max_message_size: 1000,
        max_fragments: 3,
    };
    let body = compressed(&noise(100));
    let wire = client_frame(false, true, Opcode::Binary, &body[..11]);
    let result = receives(&mut server(limits), &wire[..6]);
    assert_eq!(result, Err(ProtocolError::FrameTooBig { limit: 10 }));

    let more = client_frame(false, false, Opcode::Continuation, b"");
    let first = client_frame(false, true, Opcode::Binary, b"");
    let wire = [first, more.repeat(3)].concat();
    let result = receives(&mut server(limits), &wire);
    assert_eq!(result, Err(ProtocolError::TooManyFragments { limit: 3 }));
}

#[test]
fn a_message_of_nothing_but_empty_blocks_ends() {
    let limits = Limits {
        max_frame_size: 1000,
        max_message_size: 1000,
        max_fragments: 100,
    };
    let empty_blocks = [0x00, 0x00, 0x00, 0xFF, 0xFF].repeat(200);
    let mut wire = client_frame(false, true, Opcode::Binary, &empty_blocks);
    for _ in 0..10 {
        wire.extend(client_frame(
            false,
            false,
            Opcode::Continuation,
            &empty_blocks,
        ));
    }
    let result = receives(&mut server(limits), &wire);
    assert_eq!(result, Err(ProtocolError::MessageTooBig { limit: 1000 }));
}

#[test]
fn compressed_payloads_are_never_read_directly() {
    let body = compressed(&noise(100_000));
    let wire = whole(Opcode::Binary, &body);
    let mut server = server(LIMITS);
    assert_eq!(receives(&mut server, &wire[..20_000]), Ok(vec![]));
    assert!(server.direct(1).is_none());
    let events = receives(&mut server, &wire[20_000..]);
    assert_eq!(events, Ok(vec![event(noise(100_000))]));
}

#[test]
fn a_context_is_taken_over_only_where_that_was_agreed() {
    let mut text = noise(200);
    text.extend(noise(200));
    for (takeover, smaller) in [(true, true), (false, false)] {
        let mut server = end(Role::Server, LIMITS, terms(takeover, 15));
        let first = sent(&mut server, text.clone());
        let second = sent(&mut server, text.clone());
        assert_eq!(first[0], 0xC2, "compressed");
        assert_eq!(second.len() < first.len() / 4, smaller);
        // One that rests begins anew.
        assert_eq!(server.keeps_context(), takeover);
        server.rest();
        assert!(!server.keeps_context());
        // Not to the byte: a compressor that was reset may find other matches.
        assert!(sent(&mut server, text.clone()).len() > first.len() - 20);
    }
}

#[test]
fn what_is_short_or_would_grow_is_sent_as_it_is() {
    let terms = Terms {
        threshold: 100,
        ..terms(false, 15)
    };
    let mut server = end(Role::Server, LIMITS, terms);
    assert_eq!(sent(&mut server, vec![b'a'; 99])[0], 0x82);
    assert_eq!(sent(&mut server, vec![b'a'; 100])[0], 0xC2);
    assert_eq!(sent(&mut server, noise(100))[0], 0x82);
    let mut server = end(Role::Server, LIMITS, self::terms(true, 15));
    assert_eq!(sent(&mut server, vec![])[0], 0x82);
}

#[test]
fn an_idle_connection_owns_no_context() {
    let run = || {
        let agreed = terms(false, 15);
        let mut deflater = Deflater::new(&agreed, Role::Server);
        let mut inflater = Inflater::new(&agreed, Role::Server);
        assert_eq!(pool::kept(), (0, 0), "nothing before it is used");
        let body = deflater
            .compress(&Message::binary(vec![b'a'; 1000]))
            .unwrap();
        let mut out = Vec::new();
        inflater.inflate(&body, &mut out, 1000).unwrap();
        assert_eq!(pool::kept(), (1, 0));
        inflater.finish(&mut out, 1000).unwrap();
        assert_eq!(pool::kept(), (1, 1));
        assert!(deflater.context.is_none() && inflater.context.is_none());

        // Those who keep one give it back in the end, and the thread keeps a few.
        for _ in 0..3 {
            let keepers: Vec<_> = (0..40)
                .map(|_| {
                    let mut keeper = Deflater::new(&terms(true, 15), Role::Server);
                    keeper.compress(&Message::binary(vec![b'a'; 1000])).unwrap();
                    let mut inflater = Inflater::new(&terms(true, 15), Role::Server);
                    inflater.inflate(&body, &mut Vec::new(), 1000).unwrap();
                    (keeper, inflater)
                })
                .collect();
            drop(keepers);
            assert_eq!(pool::kept(), (4, 16));
        }
    };
    // A thread of its own has a pool of its own.
    std::thread::spawn(run).join().unwrap();
}

#[test]
fn a_context_given_back_in_the_middle_of_a_message_is_clean() {
    let wire = whole(Opcode::Binary, &compressed(&noise(10_000)));
    for _ in 0..3 {
        let mut broken_off = server(LIMITS);
        assert_eq!(receives(&mut broken_off, &wire[..3000]), Ok(vec![]));
    }
    let events = receives(&mut server(LIMITS), &wire);
    assert_eq!(events, Ok(vec![event(noise(10_000))]));
}
