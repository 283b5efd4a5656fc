//! What goes to many in one frame, between messages of the connection's own.

use super::*;
use crate::ws::{Broadcast, Outgoing};

/// How a payload is sent.
#[derive(Clone, Copy, Debug)]
enum How {
    Message,
    Uncompressed,
    Broadcast,
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        Just(How::Message),
        Just(How::Uncompressed),
        Just(How::Broadcast),
    ]
}

fn outgoing(how: How, payload: &[u8]) -> Outgoing {
    let message = Message::binary(payload.to_vec());
    match how {
        How::Message => message.into(),
        How::Uncompressed => Outgoing::uncompressed(message),
        How::Broadcast => Broadcast::new(message).into(),
    }
}

fn sent(connection: &mut Connection, outgoing: impl Into<Outgoing>) -> Bytes {
    let mut out = Outbox::default();
    connection.send(outgoing, &mut out);
    out.copy_to_bytes(out.remaining())
}

/// Whether a server's frame is compressed, and its payload.
fn opened(frame: &[u8]) -> (bool, &[u8]) {
    let (header, len) = Header::decode(frame, true).unwrap().unwrap();
    assert_eq!(header.mask, None);
    assert_eq!(frame.len() - len, usize::try_from(header.len).unwrap());
    (header.compressed, &frame[len..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// RFC 7692 §7.2.2: a peer whose window is exactly as large as agreed, and holds
    /// what was compressed and nothing else, reads all of it, in any order.
    #[test]
    fn a_peer_with_exactly_the_agreed_window_reads_every_mixture(
        payloads in prop::collection::vec((how(), payload()), 1..8),
        takeover: bool,
        window_bits in 8u8..=15,
        level in 1u32..=9,
    ) {
        let terms = Terms { level, ..terms(takeover, window_bits) };
        let mut server = end(Role::Server, LIMITS, terms);
        let mut client = end(Role::Client, LIMITS, terms);
        let mut history = Vec::new();
        for (how, payload) in payloads {
            let frame = sent(&mut server, outgoing(how, &payload));
            let events = receives(&mut client, &frame);
            prop_assert_eq!(events, Ok(vec![event(payload.clone())]));
            let (compressed, body) = opened(&frame);
            if !compressed {
                prop_assert_eq!(body, payload);
                continue;
            }
            prop_assert!(!matches!(how, How::Uncompressed));
            if !takeover {
                history.clear();
            }
            let before = history.len();
            let body = [body, &TAIL].concat();
            prop_assert_eq!(window::inflate(&body, 1 << window_bits, &mut history), Some(()));
            prop_assert_eq!(&history[before..], payload);
        }
    }
}

#[test]
fn a_broadcast_is_compressed_once_for_all_windows_that_cover_it() {
    let broadcast = Broadcast::new(noise(100).repeat(8));
    let frame = |window_bits, takeover| {
        let mut deflater = Deflater::new(&terms(takeover, window_bits), Role::Server);
        deflater.broadcast(&broadcast).unwrap()
    };
    let covering = frame(15, false);
    for window_bits in 10..=15 {
        for takeover in [false, true] {
            let shared = frame(window_bits, takeover);
            assert_eq!(shared.as_ptr(), covering.as_ptr(), "{window_bits}");
        }
    }
    // Once more for each class that does not cover it; 8 is served with 9.
    let narrow = frame(9, false);
    assert_ne!(narrow.as_ptr(), covering.as_ptr());
    assert_eq!(frame(8, true).as_ptr(), narrow.as_ptr());
    assert_eq!(frame(9, true).as_ptr(), narrow.as_ptr());
    assert_eq!(frame(12, true).as_ptr(), covering.as_ptr());
}

#[test]
fn a_window_covers_a_payload_of_its_own_size() {
    for window_bits in 8..15 {
        let narrow = window_bits.max(9);
        assert_eq!(forms::class(1 << window_bits, window_bits), 15);
        assert_eq!(forms::class((1 << window_bits) + 1, window_bits), narrow);
    }
    assert_eq!(forms::class(usize::MAX, 15), 15);
}

/// Many threads at once, each with a window of its own.
#[test]
fn threads_share_what_one_of_them_compresses() {
    let broadcast = Broadcast::new([noise(5000), noise(5000)].concat());
    let start = std::sync::Barrier::new(16);
    let mut frames: Vec<(u8, usize)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16u8)
            .map(|number| {
                let (broadcast, start) = (&broadcast, &start);
                scope.spawn(move || {
                    let window_bits = 13 + number % 3;
                    let mut deflater = Deflater::new(&terms(false, window_bits), Role::Server);
                    start.wait();
                    let frame = deflater.broadcast(broadcast).unwrap();
                    (forms::class(10_000, window_bits), frame.as_ptr() as usize)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    frames.sort_unstable();
    frames.dedup();
    assert_eq!(frames.len(), 2, "{frames:?}");
}

#[test]
fn behind_a_broadcast_a_context_begins_anew() {
    let text = noise(300);
    let mut server = end(Role::Server, LIMITS, terms(true, 15));
    let fresh = sent(&mut server, text.clone());
    assert!(sent(&mut server, text.clone()).len() < 40);
    // What is sent as it is enters no window (RFC 7692 §7.2.2).
    sent(&mut server, Outgoing::uncompressed(text.clone()));
    sent(&mut server, Broadcast::uncompressed(text.clone()));
    sent(&mut server, Broadcast::new(noise(50)));
    assert!(server.keeps_context());
    assert!(sent(&mut server, text.clone()).len() < 40);
    let broadcast = sent(&mut server, Broadcast::new("a".repeat(200)));
    assert_eq!(broadcast[0], 0xC1);
    assert!(!server.keeps_context());
    assert!(sent(&mut server, text).len() > fresh.len() - 20);
}

#[test]
fn a_broadcast_is_compressed_where_that_pays() {
    let terms = Terms {
        threshold: 100,
        ..terms(false, 15)
    };
    let mut server = end(Role::Server, LIMITS, terms);
    for (broadcast, first) in [
        (Broadcast::new("a".repeat(100)), 0xC1),
        (Broadcast::new(vec![b'a'; 100]), 0xC2),
        (Broadcast::new("a".repeat(99)), 0x81),
        (Broadcast::new(noise(100)), 0x82),
        (Broadcast::uncompressed("a".repeat(100)), 0x81),
    ] {
        let frame = sent(&mut server, &broadcast);
        assert_eq!(frame[0], first, "{broadcast:?}");
        if first & 0x40 == 0 {
            assert_eq!(frame, broadcast.frame());
        }
    }
    // Each connection has its own threshold, and the same bytes.
    let broadcast = Broadcast::new("a".repeat(99));
    let mut eager = end(Role::Server, LIMITS, self::terms(false, 15));
    assert_eq!(sent(&mut eager, &broadcast)[0], 0xC1);
    assert_eq!(sent(&mut server, &broadcast)[0], 0x81);
    let empty = Broadcast::new("");
    assert_eq!(sent(&mut eager, &empty)[..], [0x81, 0x00]);
    let mut plain = Connection::new(Role::Server, LIMITS);
    assert_eq!(sent(&mut plain, &broadcast), broadcast.frame());
}

/// RFC 6455 §5.3: a client masks what it sends, with a key of each frame's own.
#[test]
fn a_client_sends_a_broadcast_as_a_message() {
    let broadcast = Broadcast::new("a".repeat(200));
    for (deflate, outgoing, first) in [
        (true, Outgoing::from(&broadcast), 0xC1),
        (false, Outgoing::from(&broadcast), 0x81),
        (true, Broadcast::uncompressed("a".repeat(200)).into(), 0x81),
        (true, Outgoing::uncompressed("a".repeat(200)), 0x81),
    ] {
        let extensions = Extensions {
            deflate: deflate.then(|| terms(true, 15)),
        };
        let mut client = Connection::with_extensions(Role::Client, LIMITS, extensions);
        let mut server = Connection::with_extensions(Role::Server, LIMITS, extensions);
        let frame = sent(&mut client, outgoing);
        assert_eq!((frame[0], frame[1] & 0x80), (first, 0x80));
        let events = receives(&mut server, &frame);
        assert_eq!(events, Ok(vec![event("a".repeat(200))]));
    }
}
