//! What a peer may do wrong, and how it may end: the table that the state machine is held
//! to in both roles, and both testbeds over sockets (RFC 6455 §5–§8, RFC 7692 §6–§7).

/// What the whole table is run with.
pub(crate) const MAX_FRAME: usize = 128 << 10;
pub(crate) const MAX_MESSAGE: usize = 192 << 10;
pub(crate) const MAX_FRAGMENTS: u32 = 8;

/// Not zero: that would not show what was unmasked where it must not be.
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// One thing that a peer sends.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// How many of the bytes tell how it ends: no fewer, and more are not waited for.
    pub(crate) at: usize,
    pub(crate) end: End,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By the peer's fault: it is told this close code.
    Breach(u16),
    /// By the peer's close, which is answered with its own code.
    Closed(Option<u16>),
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// A client masks what it sends.
    pub(crate) masks: bool,
    /// permessage-deflate was agreed on.
    pub(crate) deflate: bool,
}

pub(crate) const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const FIN: u8 = 0x80;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8A;
const DATA: [(&str, u8); 2] = [("text", TEXT), ("binary", BINARY)];
const CONTROL: [(&str, u8); 3] = [("close", CLOSE), ("ping", PING), ("pong", PONG)];

impl Peer {
    /// A frame: `first` is FIN, reserved bits and opcode.
    pub(crate) fn frame(self, first: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len();
        let mut frame = match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ ..=125), _) => self.header(first, short, &[]),
            (_, Ok(middle)) => self.header(first, 126, &middle.to_be_bytes()),
            _ => self.header(first, 127, &(length as u64).to_be_bytes()),
        };
        let key = if self.masks { KEY } else { [0; 4] };
        frame.extend(payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b));
        frame
    }

    /// A header whose length is as it is given.
    fn header(self, first: u8, length: u8, extended: &[u8]) -> Vec<u8> {
        let mut header = vec![first, length | if self.masks { 0x80 } else { 0 }];
        header.extend_from_slice(extended);
        if self.masks {
            header.extend_from_slice(&KEY);
        }
        header
    }

    pub(crate) fn close(self, code: u16, reason: &str) -> Vec<u8> {
        self.close_raw(code, reason.as_bytes())
    }

    fn close_raw(self, code: u16, reason: &[u8]) -> Vec<u8> {
        self.frame(CLOSE, &[&code.to_be_bytes()[..], reason].concat())
    }

    /// The first fragment of a text.
    fn begun(self) -> Vec<u8> {
        self.frame(TEXT & !FIN, b"begun")
    }
}

/// The table as it is being written.
struct Table {
    peer: Peer,
    cases: Vec<Case>,
}

impl Table {
    /// A breach that the first `at` bytes of `last` show, behind what is in front.
    fn breach(&mut self, name: impl Into<String>, front: &[u8], last: &[u8], at: usize, code: u16) {
        self.cases.push(Case {
            name: name.into(),
            at: front.len() + at,
            bytes: [front, last].concat(),
            end: End::Breach(code),
        });
    }

    /// A breach that only the frame's last byte shows.
    fn breach_at_end(&mut self, name: impl Into<String>, front: &[u8], last: &[u8], code: u16) {
        self.breach(name, front, last, last.len(), code);
    }

    fn closed(&mut self, name: impl Into<String>, close: &[u8], behind: &[u8], code: Option<u16>) {
        self.cases.push(Case {
            name: name.into(),
            at: close.len(),
            bytes: [close, behind].concat(),
            end: End::Closed(code),
        });
    }
}

/// The whole table of what such a peer may send.
pub(crate) fn table(peer: Peer) -> Vec<Case> {
    let mut table = Table {
        peer,
        cases: Vec::new(),
    };
    first_bytes(&mut table);
    masks(&mut table);
    lengths(&mut table);
    order(&mut table);
    text(&mut table);
    limits(&mut table);
    closes(&mut table);
    if peer.deflate {
        compressed(&mut table);
    }
    table.cases
}

/// RFC 6455 §5.2: reserved bits and opcodes; §5.5: control frames are whole.
fn first_bytes(table: &mut Table) {
    let peer = table.peer;
    for (bits, flags) in (1..8).map(|bits| (format!("reserved bits {bits:03b}"), bits << 4)) {
        for (name, opcode) in DATA.into_iter().chain(CONTROL) {
            // What the extension gave a meaning to.
            if peer.deflate && flags == 0x40 && DATA.iter().any(|(_, data)| *data == opcode) {
                continue;
            }
            let frame = peer.frame(opcode | flags, b"");
            table.breach(format!("{bits} on a {name}"), b"", &frame, 1, 1002);
            if opcode >= CLOSE {
                let name = format!("{bits} on a {name} inside a message");
                table.breach(name, &peer.begun(), &frame, 1, 1002);
            }
        }
        let frame = peer.frame(FIN | flags, b"");
        table.breach(
            format!("{bits} on a continuation"),
            &peer.begun(),
            &frame,
            1,
            1002,
        );
    }
    for opcode in (3..8).chain(11..16) {
        for (fin, flag) in [("", FIN), (", not the last", 0)] {
            let frame = peer.frame(flag | opcode, b"");
            let name = format!("opcode {opcode}{fin}");
            table.breach(&*name, b"", &frame, 1, 1002);
            table.breach(
                format!("{name}, inside a message"),
                &peer.begun(),
                &frame,
                1,
                1002,
            );
        }
    }
    for (name, opcode) in CONTROL {
        let frame = peer.frame(opcode & !FIN, b"");
        table.breach(format!("{name} in fragments"), b"", &frame, 1, 1002);
    }
}

/// RFC 6455 §5.1.
fn masks(table: &mut Table) {
    let other = Peer {
        masks: !table.peer.masks,
        ..table.peer
    };
    for (name, opcode) in DATA.into_iter().chain(CONTROL) {
        let frame = other.frame(opcode, b"");
        table.breach(format!("{name} with the other mask"), b"", &frame, 2, 1002);
    }
    let frame = other.frame(FIN, b"");
    let begun = table.peer.begun();
    table.breach("continuation with the other mask", &begun, &frame, 2, 1002);
    let frame = other.header(BINARY, 127, &[0xFF; 8]);
    table.breach(
        "the other mask before a length that is none",
        b"",
        &frame,
        2,
        1002,
    );
}

/// RFC 6455 §5.2: the shortest form, and no top bit; §5.5: control frames are short.
fn lengths(table: &mut Table) {
    let peer = table.peer;
    for length in [0_u16, 1, 124, 125] {
        let frame = peer.header(BINARY, 126, &length.to_be_bytes());
        table.breach(format!("{length} in 16 bits"), b"", &frame, 4, 1002);
    }
    for length in [0_u64, 125, 126, 65_535, 1 << 63, (1 << 63) + 5, u64::MAX] {
        let frame = peer.header(BINARY, 127, &length.to_be_bytes());
        table.breach(format!("{length} in 64 bits"), b"", &frame, 10, 1002);
    }
    for (name, opcode) in CONTROL {
        let frame = peer.frame(opcode, &[b'x'; 126]);
        table.breach(format!("{name} of 126 bytes"), b"", &frame, 2, 1002);
        let frame = peer.header(opcode, 126, &[0, 5]);
        table.breach(
            format!("{name} of 5 bytes in 16 bits"),
            b"",
            &frame,
            2,
            1002,
        );
        let frame = peer.header(opcode, 127, &[0xFF; 8]);
        table.breach(format!("{name} of 2^64 - 1 bytes"), b"", &frame, 2, 1002);
    }
}

/// RFC 6455 §5.4: what may follow what.
fn order(table: &mut Table) {
    let peer = table.peer;
    for (fin, flag) in [("", FIN), (", not the last", 0)] {
        let frame = peer.frame(flag, b"x");
        for (place, front) in [("", Vec::new()), (" behind a ping", peer.frame(PING, b""))] {
            table.breach(
                format!("stray continuation{fin}{place}"),
                &front,
                &frame,
                2,
                1002,
            );
        }
        for (name, opcode) in DATA {
            let frame = peer.frame(opcode & 0x0F | flag, b"x");
            let inside = format!("{name} inside a message{fin}");
            table.breach(&*inside, &peer.begun(), &frame, 2, 1002);
            let behind = [peer.begun(), peer.frame(PING, b"ping"), peer.frame(0, b"")].concat();
            table.breach(format!("{inside}, behind a ping"), &behind, &frame, 2, 1002);
        }
    }
}

/// RFC 6455 §8.1: text is UTF-8, and what is not is refused at its first byte.
fn text(table: &mut Table) {
    let peer = table.peer;
    /// What is in front of the byte that is wrong, and that byte.
    const WRONG: [(&str, &[u8], u8); 14] = [
        ("a lone continuation", b"", 0x80),
        ("the last continuation", b"abc", 0xBF),
        ("an overlong slash", b"", 0xC0),
        ("an overlong slash of two", b"", 0xC1),
        ("an overlong character of three", b"\xE0", 0x9F),
        ("an overlong character of four", b"\xF0", 0x8F),
        ("a surrogate", b"\xED", 0xA0),
        ("the last surrogate", b"\xED", 0xBF),
        ("above U+10FFFF", b"\xF4", 0x90),
        ("F5", b"fine \xC3\xA9 ", 0xF5),
        ("FF", b"", 0xFF),
        ("a character of two, broken off", b"\xC3", 0x28),
        ("a character of three, broken off", b"\xE2\x82", 0x28),
        ("a character of four, broken off", b"\xF0\x9F\x98", b'x'),
    ];
    for (name, good, wrong) in WRONG {
        let bad = [good, &[wrong]].concat();
        // Behind the bad byte much is missing: it is not waited for.
        let long = [&bad[..], &[b'x'; 400]].concat();
        let frame = peer.frame(TEXT, &long);
        let at = frame.len() - 400;
        table.breach(
            format!("text with {name}"),
            b"",
            &frame[..frame.len() - 7],
            at,
            1007,
        );
        // The whole message is there at once.
        table.breach_at_end(
            format!("text that ends with {name}"),
            b"",
            &peer.frame(TEXT, &bad),
            1007,
        );
        // Cut inside the character, with a ping between.
        let front = [
            peer.frame(TEXT & !FIN, good),
            peer.frame(PING, b"\xFF"),
            peer.frame(0, b""),
        ]
        .concat();
        let last = peer.frame(0, &[wrong]);
        table.breach_at_end(format!("{name} over fragments"), &front, &last, 1007);
    }
    for (name, cut) in [
        ("two", &b"\xC3"[..]),
        ("three", b"\xE2\x82"),
        ("four", b"caf\xC3\xA9 \xF0\x9F\x98"),
    ] {
        let frame = peer.frame(TEXT, cut);
        table.breach_at_end(
            format!("a character of {name} without its end"),
            b"",
            &frame,
            1007,
        );
        let front = peer.frame(TEXT & !FIN, cut);
        let last = peer.frame(FIN, b"");
        let at = last.len();
        table.breach(
            format!("a character of {name} without its end, and an empty last fragment"),
            &front,
            &last,
            at,
            1007,
        );
    }
}

/// Limits are judged by the header alone; exactly the limit passes.
fn limits(table: &mut Table) {
    let peer = table.peer;
    // A compressed message's own limit is for what it inflates to.
    for (name, length) in [
        ("a frame above the limit", MAX_FRAME as u64 + 1),
        ("a frame of a gigabyte", 1 << 30),
        ("a frame of 2^63 - 1 bytes", u64::MAX >> 1),
    ] {
        for (kind, opcode) in DATA {
            let frame = peer.header(opcode, 127, &length.to_be_bytes());
            let at = frame.len();
            table.breach(format!("{name}, {kind}"), b"", &frame, at, 1009);
        }
        let frame = peer.header(FIN, 127, &length.to_be_bytes());
        let at = frame.len();
        table.breach(
            format!("{name}, continuation"),
            &peer.begun(),
            &frame,
            at,
            1009,
        );
    }
    let full = peer.frame(BINARY & !FIN, &vec![1; MAX_FRAME]);
    let rest = (MAX_MESSAGE - MAX_FRAME) as u64;
    let frame = peer.header(FIN, 127, &(rest + 1).to_be_bytes());
    let at = frame.len();
    table.breach("a message above the limit", &full, &frame, at, 1009);

    for (name, payload) in [("empty", &b""[..]), ("of a byte", b"x")] {
        let mut front = peer.frame(TEXT & !FIN, payload);
        for _ in 1..MAX_FRAGMENTS {
            front.extend(peer.frame(0, payload));
        }
        let last = peer.frame(FIN, payload);
        let at = last.len() - payload.len();
        table.breach(
            format!("too many fragments, {name}"),
            &front,
            &last,
            at,
            1008,
        );
    }
}

/// RFC 6455 §5.5.1, §7.4: how a close may look, and that nothing counts behind it.
fn closes(table: &mut Table) {
    let peer = table.peer;
    for byte in [0x00, 0x03, 0xFF] {
        let frame = peer.frame(CLOSE, &[byte]);
        table.breach_at_end(format!("close with the byte {byte:#x}"), b"", &frame, 1002);
        table.breach_at_end(
            format!("close with the byte {byte:#x} inside a message"),
            &peer.begun(),
            &frame,
            1002,
        );
    }
    for code in codes() {
        let frame = peer.close(code, "");
        if may_be_sent(code) {
            table.closed(format!("close {code}"), &frame, b"", Some(code));
        } else {
            table.breach_at_end(format!("close {code}"), b"", &frame, 1002);
            let frame = peer.close(code, "why");
            table.breach_at_end(format!("close {code} with a reason"), b"", &frame, 1002);
        }
    }
    for (name, reason) in [
        ("a lone continuation", &b"\x80"[..]),
        ("an overlong slash", b"\xC0\xAF"),
        ("a surrogate", b"so: \xED\xA0\x80"),
        ("a character without its end", b"caf\xC3"),
        ("FF at its end", &[&[b'x'; 122][..], b"\xFF"].concat()),
    ] {
        let frame = peer.close_raw(1000, reason);
        table.breach_at_end(format!("reason with {name}"), b"", &frame, 1007);
    }
    let long = peer.close(1000, &"x".repeat(123));
    let bare = peer.frame(CLOSE, b"");
    let other = Peer {
        masks: !peer.masks,
        ..peer
    };
    for (name, behind) in [
        ("nothing", Vec::new()),
        ("a text", peer.frame(TEXT, b"late")),
        ("a ping", peer.frame(PING, b"late")),
        ("another close", peer.close(1001, "late")),
        ("a close that is none", peer.close(1006, "")),
        ("a reserved opcode", peer.frame(0x83, b"")),
        ("the other mask", other.frame(TEXT, b"late")),
        ("half a frame", peer.frame(TEXT, b"late")[..3].to_vec()),
        ("no frames", vec![0xFF; 300]),
    ] {
        table.closed(
            format!("close, {name} behind it"),
            &peer.close(1000, "bye"),
            &behind,
            Some(1000),
        );
        table.closed(
            format!("close with a long reason, {name} behind it"),
            &long,
            &behind,
            Some(1000),
        );
        table.closed(
            format!("close without a code, {name} behind it"),
            &bare,
            &behind,
            None,
        );
        let inside = [peer.begun(), peer.close(4000, "caf\u{e9}")].concat();
        table.closed(
            format!("close inside a message, {name} behind it"),
            &inside,
            &behind,
            Some(4000),
        );
    }
}

/// RFC 7692 §6: RSV1 stands on a message's first frame alone; §7.2.2: what is inflated.
fn compressed(table: &mut Table) {
    let peer = table.peer;
    const RSV1: u8 = 0x40;
    // Stored blocks: they say what is inside without a compressor.
    let stored = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let mut block = vec![0];
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(&(!length).to_le_bytes());
        block.extend_from_slice(bytes);
        block.push(0);
        block
    };
    let begun = || peer.frame(TEXT & !FIN | RSV1, &stored(b"begun")[..7]);
    for (fin, flag) in [("", FIN), (", not the last", 0)] {
        let frame = peer.frame(RSV1 | flag, b"");
        table.breach(
            format!("RSV1 on a compressed message's continuation{fin}"),
            &begun(),
            &frame,
            1,
            1002,
        );
    }
    for (name, opcode) in DATA {
        let frame = peer.frame(opcode | RSV1, b"");
        table.breach(
            format!("compressed {name} inside a compressed message"),
            &begun(),
            &frame,
            2,
            1002,
        );
        table.breach(
            format!("compressed {name} inside a message"),
            &peer.begun(),
            &frame,
            2,
            1002,
        );
        // A block of the reserved type.
        let frame = peer.frame(opcode | RSV1, &[0b110, 0, 0]);
        table.breach_at_end(format!("compressed {name} that is none"), b"", &frame, 1007);
    }
    let frame = peer.frame(TEXT | RSV1, &stored(b"caf\xE9!"));
    table.breach_at_end("compressed text that is not UTF-8", b"", &frame, 1007);
    let frame = peer.frame(TEXT | RSV1, &stored(b"caf\xC3"));
    table.breach_at_end("compressed text without its end", b"", &frame, 1007);
}

/// The codes at whose borders a mistake would show.
fn codes() -> impl Iterator<Item = u16> {
    [0, 1, 255, 256, 998, 999]
        .into_iter()
        .chain(1000..=1020)
        .chain([
            1099, 1100, 1999, 2000, 2998, 2999, 3000, 3001, 3003, 3008, 3998, 3999,
        ])
        .chain([
            4000, 4001, 4998, 4999, 5000, 5001, 9999, 32_768, 65_534, 65_535,
        ])
}

/// RFC 6455 §7.4.2 and IANA's registry: what is registered for an endpoint to send, and
/// what is free to libraries and applications.
pub(crate) const fn may_be_sent(code: u16) -> bool {
    match code {
        // 1004 has no meaning, 1005 and 1006 are never sent.
        1000..=1003 => true,
        // 1015 is never sent; 1012 to 1014 were registered later.
        1007..=1014 => true,
        3000..=4999 => true,
        _ => false,
    }
}
