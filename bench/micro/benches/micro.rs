//! What the parts of the core cost without a kernel: bytes a second, with those of a `memcpy` of the same size into
//! new memory beside them. Through the public, sans-IO face: what a frame costs is what all of it costs.
//!
//!     cargo bench --manifest-path bench/Cargo.toml -p bench-micro

use bytes::{Buf as _, Bytes};
use divan::{Bencher, black_box, counter::BytesCount};
use towpath::{
    sse::Event,
    ws::{
        Deflate, Message, Negotiation, WsConfig, WsSettings,
        handshake::{HttpVersion, RequestHead},
        protocol::{Connection, Extensions, Limits, Outbox, Role, Text},
    },
};

const SIZES: [usize; 4] = [16, 1024, 16 * 1024, 1024 * 1024];
const LIMITS: Limits = Limits {
    max_frame_size: 64 << 20,
    max_message_size: 64 << 20,
    max_fragments: 1024,
};

fn main() {
    divan::main();
}

/// The measure of all others.
#[divan::bench(args = SIZES)]
fn memcpy(bencher: Bencher<'_, '_>, size: usize) {
    let from = vec![0x5a_u8; size];
    bencher
        .counter(BytesCount::new(size))
        .bench_local(|| black_box(from.as_slice()).to_vec());
}

/// Headers alone, of a thousand frames without payload; counted are the bytes of the headers.
#[divan::bench]
fn header(bencher: Bencher<'_, '_>) {
    const FRAMES: usize = 1000;
    let mut wire = Outbox::default();
    let mut client = Connection::new(Role::Client, LIMITS);
    for _ in 0..FRAMES {
        client.send(Message::binary(Vec::new()), &mut wire);
    }
    let bytes = wire.copy_to_bytes(wire.remaining());
    let mut server = Connection::new(Role::Server, LIMITS);
    let mut out = Outbox::default();
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| {
            let mut input = black_box(&bytes[..]);
            for _ in 0..FRAMES {
                let event = server.receive(&mut input, &mut out);
                assert!(matches!(event, Ok(Some(_))), "the message is right");
            }
        });
}

/// A payload masked into new memory, and its header: what a client sends.
#[divan::bench(args = SIZES)]
fn mask(bencher: Bencher<'_, '_>, size: usize) {
    let message = Message::binary(vec![0x5a; size]);
    let mut client = Connection::new(Role::Client, LIMITS);
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        let mut out = Outbox::default();
        client.send(black_box(&message).clone(), &mut out);
        out
    });
}

/// Found to be UTF-8, nothing copied: all of it ASCII.
#[divan::bench(args = SIZES)]
fn utf8_ascii(bencher: Bencher<'_, '_>, size: usize) {
    utf8(bencher, "a".repeat(size));
}

/// The same, two bytes a character.
#[divan::bench(args = SIZES)]
fn utf8_umlauts(bencher: Bencher<'_, '_>, size: usize) {
    utf8(bencher, "ü".repeat(size / 2));
}

/// A header decoded, a payload unmasked into a message of its own.
#[divan::bench(args = SIZES)]
fn receive_binary(bencher: Bencher<'_, '_>, size: usize) {
    receive(bencher, size, Message::binary(vec![0x5a; size]), none());
}

/// The same, and found to be UTF-8: all of it ASCII.
#[divan::bench(args = SIZES)]
fn receive_text_ascii(bencher: Bencher<'_, '_>, size: usize) {
    receive(bencher, size, Message::text("a".repeat(size)), none());
}

/// The same, two bytes a character.
#[divan::bench(args = SIZES)]
fn receive_text_umlauts(bencher: Bencher<'_, '_>, size: usize) {
    receive(bencher, size, Message::text("ü".repeat(size / 2)), none());
}

/// Inflated; counted are the bytes of the message.
#[divan::bench(args = [1024, 16 * 1024])]
fn receive_deflated_json(bencher: Bencher<'_, '_>, size: usize) {
    receive(bencher, size, Message::text(json(size)), deflate());
}

/// A message becomes what is written for it.
#[divan::bench(args = SIZES)]
fn send_binary(bencher: Bencher<'_, '_>, size: usize) {
    send(bencher, size, &Message::binary(vec![0x5a; size]), none());
}

/// Deflated; counted are the bytes of the message.
#[divan::bench(args = [1024, 16 * 1024])]
fn send_deflated_json(bencher: Bencher<'_, '_>, size: usize) {
    send(bencher, size, &Message::text(json(size)), deflate());
}

/// An event with an id becomes its lines.
#[divan::bench(args = [64, 1024, 16 * 1024])]
fn encode_event(bencher: Bencher<'_, '_>, size: usize) {
    let data = "a".repeat(size);
    bencher
        .counter(BytesCount::new(size))
        .bench_local(|| Event::new().id(7).data(black_box(&data)).encode());
}

/// The same with a line end every 64 bytes.
#[divan::bench(args = [1024, 16 * 1024])]
fn encode_event_of_lines(bencher: Bencher<'_, '_>, size: usize) {
    let data = format!("{}\n", "a".repeat(63)).repeat(size / 64);
    bencher
        .counter(BytesCount::new(size))
        .bench_local(|| Event::new().id(7).data(black_box(&data)).encode());
}

fn utf8(bencher: Bencher<'_, '_>, text: String) {
    let bytes = Bytes::from(text);
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| Text::try_from(black_box(&bytes).clone()));
}

fn receive(bencher: Bencher<'_, '_>, size: usize, message: Message, extensions: Extensions) {
    let mut wire = Outbox::default();
    let mut client = Connection::with_extensions(Role::Client, LIMITS, extensions);
    client.send(message, &mut wire);
    let bytes = wire.copy_to_bytes(wire.remaining());
    let mut server = Connection::with_extensions(Role::Server, LIMITS, extensions);
    let mut out = Outbox::default();
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        let event = server.receive(&mut black_box(&bytes[..]), &mut out);
        assert!(matches!(event, Ok(Some(_))), "the message is right");
        event
    });
}

fn send(bencher: Bencher<'_, '_>, size: usize, message: &Message, extensions: Extensions) {
    let mut server = Connection::with_extensions(Role::Server, LIMITS, extensions);
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        let mut out = Outbox::default();
        server.send(black_box(message).clone(), &mut out);
        out
    });
}

fn none() -> Extensions {
    Extensions::default()
}

/// What a client that offers permessage-deflate, without context takeover, gets.
fn deflate() -> Extensions {
    let lines = [
        ("host", "localhost"),
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-extensions", "permessage-deflate"),
    ];
    let head = RequestHead {
        method: "GET",
        version: HttpVersion::Http11,
        authority: None,
        protocol: None,
        lines: &lines[..],
    };
    let config = WsConfig::new().deflate(Deflate::new());
    let negotiation = Negotiation::new(&head, WsSettings::from(config));
    let extensions = negotiation.map(|negotiation| negotiation.accept(Bytes::new()).extensions);
    let extensions = extensions.unwrap_or_default();
    assert!(extensions != none(), "the handshake has agreed on it");
    extensions
}

fn json(size: usize) -> String {
    let mut text = String::new();
    let mut number = 1_u64;
    while text.len() < size {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(99);
        text.push_str(&format!(
            "{{\"id\":{},\"user\":\"user-{}\",\"active\":true}},",
            number >> 44,
            number >> 56
        ));
    }
    text.truncate(size);
    text
}
