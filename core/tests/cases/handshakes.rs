//! Families of opening handshakes, made rather than written down; those that stand for
//! themselves are in `ws_handshake.json` (RFC 6455 §4.2, RFC 9110, RFC 9112).

/// The key of the RFC's sample handshake.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// One request and what must be answered.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Up to the empty line.
    pub(crate) request: Vec<u8>,
    pub(crate) expected: Expected,
    /// What actix-http makes of it before us, where that is something else.
    pub(crate) actix: Option<Expected>,
    /// What hyper makes of it before us, where that is something else.
    pub(crate) hyper: Option<Expected>,
}

/// What must be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// 101 with what belongs to this key, and this subprotocol.
    Accepted {
        key: String,
        protocol: Option<&'static str>,
    },
    /// Our refusal with this status and all that belongs to it.
    Refused(u16),
    /// The framework's refusal with one of these.
    Malformed(&'static [u16]),
}

use Expected::{Malformed, Refused};

fn accepted() -> Expected {
    accepted_with(KEY)
}

fn accepted_with(key: &str) -> Expected {
    Expected::Accepted {
        key: key.to_owned(),
        protocol: None,
    }
}

/// A request as it is being written.
#[derive(Clone)]
struct Request {
    line: String,
    headers: Vec<(String, Vec<u8>)>,
}

impl Request {
    fn valid() -> Self {
        Self::to("/echo")
    }

    fn to(path: &str) -> Self {
        let headers = [
            ("Host", "server.example"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", "13"),
        ];
        Self {
            line: format!("GET {path} HTTP/1.1"),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.into()))
                .into(),
        }
    }

    /// In place of the lines of that name these, where the first one stood.
    fn with<V: AsRef<[u8]>>(mut self, name: &str, values: &[V]) -> Self {
        let at = self.headers.iter().position(|(found, _)| found == name);
        let at = at.unwrap_or(self.headers.len());
        self.headers.retain(|(found, _)| found != name);
        let lines = values
            .iter()
            .map(|value| (name.to_owned(), value.as_ref().to_vec()));
        self.headers.splice(at..at, lines);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.line.clone().into_bytes();
        bytes.extend_from_slice(b"\r\n");
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

/// The families as they are being written.
#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn add(&mut self, name: impl Into<String>, request: &Request, expected: Expected) {
        self.raw(name, request.bytes(), expected);
    }

    fn raw(&mut self, name: impl Into<String>, request: Vec<u8>, expected: Expected) {
        self.0.push(Case {
            name: name.into(),
            request,
            expected,
            actix: None,
            hyper: None,
        });
    }

    /// Of the last one actix makes something else.
    fn actix(&mut self, expected: Expected) {
        if let Some(case) = self.0.last_mut() {
            case.actix = Some(expected);
        }
    }

    /// Of the last one hyper makes something else.
    fn hyper(&mut self, expected: Expected) {
        if let Some(case) = self.0.last_mut() {
            case.hyper = Some(expected);
        }
    }
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Cases::default();
    keys(&mut cases);
    upgrades(&mut cases);
    connections(&mut cases);
    hosts(&mut cases);
    versions(&mut cases);
    methods(&mut cases);
    contents(&mut cases);
    protocols(&mut cases);
    extensions(&mut cases);
    targets(&mut cases);
    syntax(&mut cases);
    cases.0
}

/// A request that is right but for what these lines of `Origin` are.
pub(crate) fn from_origins(origins: &[&str]) -> Vec<u8> {
    Request::valid().with("Origin", origins).bytes()
}

/// RFC 6455 §4.2.1 (5): the base64 of 16 bytes, alone.
fn keys(cases: &mut Cases) {
    let valid = Request::valid();
    // Bits behind the last byte may be set: RFC 6455 §4.1 has such a key.
    for last in BASE64 {
        let key = format!("dGhlIHNhbXBsZSBub25jZ{}==", char::from(*last));
        let request = valid.clone().with("Sec-WebSocket-Key", &[&key]);
        cases.add(format!("key {key}"), &request, accepted_with(&key));
    }
    for length in (0..=40).filter(|length| *length != 16) {
        let key = base64_of(length);
        let request = valid.clone().with("Sec-WebSocket-Key", &[&key]);
        cases.add(format!("key of {length} bytes"), &request, Refused(400));
    }
    for wrong in b"-_ \t=,;:.!\"#$%&'()*<>?@[\\]^`{|}~\x80\xC3\xFF" {
        for at in [1, 11, 21] {
            let mut key = KEY.as_bytes().to_vec();
            key[at] = *wrong;
            let request = valid.clone().with("Sec-WebSocket-Key", &[key]);
            let wrong = wrong.escape_ascii();
            cases.add(format!("key with {wrong} at {at}"), &request, Refused(400));
        }
    }
    for (name, values) in [
        ("key and an empty key", &[KEY, ""][..]),
        ("empty key and a key", &["", KEY]),
        ("three keys", &[KEY, KEY, KEY]),
        ("key and a comma", &["dGhlIHNhbXBsZSBub25jZQ==,"]),
        ("comma and a key", &[",dGhlIHNhbXBsZSBub25jZQ=="]),
        ("key with a parameter", &["dGhlIHNhbXBsZSBub25jZQ==;a=b"]),
        ("key with its padding inside", &["dGhlIHNhbXBs=SBub25jZQ=="]),
        ("key of padding", &["========================"]),
        ("key with three of padding", &["dGhlIHNhbXBsZSBub25jZ==="]),
        (
            "key with its padding in front",
            &["==dGhlIHNhbXBsZSBub25jZQ"],
        ),
        ("key with a comment", &["dGhlIHNhbXBsZSBub25jZQ== (mine)"]),
        ("key with escapes", &["dGhlIHNhbXBsZSBub25jZQ%3D%3D"]),
    ] {
        let request = valid.clone().with("Sec-WebSocket-Key", values);
        cases.add(name, &request, Refused(400));
    }
    let request = valid.clone().with("Sec-WebSocket-Key", &["A".repeat(4000)]);
    cases.add("key of 4,000 characters", &request, Refused(400));
    let request = valid.with("Sec-WebSocket-Accept", &["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]);
    cases.add("the answer's header in the request", &request, accepted());
}

fn base64_of(length: usize) -> String {
    let mut text = "A".repeat((length * 8).div_ceil(6));
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// RFC 9110 §7.8: a list of protocols, over any number of lines.
fn upgrades(cases: &mut Cases) {
    for (name, values) in [
        ("in upper case", &["WEBSOCKET"][..]),
        ("in mixed case", &["wEbSoCkEt"]),
        ("with white space", &["\t websocket \t"]),
        ("twice", &["websocket", "websocket"]),
        ("on the second line", &["h2c", "websocket"]),
        ("on the first line", &["websocket", "h2c"]),
        ("on the third line", &["h2c", "foo/1", "websocket"]),
        ("behind an empty line", &["", "websocket"]),
    ] {
        let request = Request::valid().with("Upgrade", values);
        cases.add(format!("upgrade {name}"), &request, accepted());
    }
    // actix-http hands over its raw stream only where a line has the token alone.
    for (name, values) in [
        ("first of a list", &["websocket, h2c"][..]),
        ("last of a list", &["h2c, websocket"]),
        ("in the middle of a list", &["a, websocket, b"]),
        ("in a list without spaces", &["a,websocket,b"]),
        ("in a list with tabs", &["a\t,\twebsocket\t"]),
        ("in a list with versions", &["foo/1.1, websocket, bar/2"]),
        ("in a list with empty elements", &[",, ,websocket, ,"]),
        ("twice in a list", &["websocket, websocket"]),
        ("in upper case in a list", &["h2c, WEBSOCKET"]),
        ("in a list on a second line", &["h2c", "foo, websocket"]),
    ] {
        let request = Request::valid().with("Upgrade", values);
        cases.add(format!("upgrade {name}"), &request, accepted());
        cases.actix(Refused(426));
    }
    for (name, value) in [
        ("as the end of a word", "notwebsocket"),
        ("as the beginning of a word", "websockets"),
        ("with a hyphen", "web-socket"),
        ("with a version", "websocket/13"),
        ("as a version", "foo/websocket"),
        ("with a parameter", "websocket; a=b"),
        ("as a parameter", "foo; websocket"),
        ("in quotes", "\"websocket\""),
        ("in a quoted list", "\"a, websocket\""),
        ("in a comment", "foo (websocket)"),
        ("with a space inside", "web socket"),
        ("behind a space", "foo websocket"),
        ("in other letters", "websoc\u{212a}et"),
        ("with a semicolon for a comma", "foo;websocket"),
        ("cut", "websocke"),
        ("as ws", "ws"),
        ("as another token", "h2c"),
        ("as a list of others", "h2c, TLS/1.0"),
        ("empty", ""),
        ("as commas", ",,,"),
        ("with a slash behind it", "websocket/"),
    ] {
        let request = Request::valid().with("Upgrade", &[value]);
        cases.add(format!("upgrade {name}"), &request, Refused(426));
    }
    let request = Request::valid().with("Upgrade", &["h2c", "foo"]);
    cases.add(
        "upgrade over lines without the token",
        &request,
        Refused(426),
    );
    let request = Request::valid().with::<&str>("Upgrade", &[]);
    cases.add("no upgrade, all else", &request, Refused(426));
}

/// RFC 9110 §7.6.1: a list of options, over any number of lines.
fn connections(cases: &mut Cases) {
    for (name, values) in [
        ("in lower case", &["upgrade"][..]),
        ("in mixed case", &["uPGRADE"]),
        ("with white space", &[" \tUpgrade\t "]),
        ("twice", &["Upgrade", "Upgrade"]),
        ("twice in a list", &["Upgrade, upgrade"]),
        ("behind keep-alive", &["keep-alive, Upgrade"]),
        ("in front of keep-alive", &["Upgrade, keep-alive"]),
        ("without spaces", &["keep-alive,Upgrade"]),
        ("with tabs", &["keep-alive\t,\tUpgrade"]),
        ("with empty elements", &[", ,Upgrade,,"]),
        ("behind an empty line", &["", "Upgrade"]),
        ("in front of an empty line", &["Upgrade", ""]),
        ("on a second line", &["keep-alive", "Upgrade"]),
        ("on the first line", &["Upgrade", "keep-alive"]),
        (
            "with the names of headers",
            &["Upgrade, Sec-WebSocket-Key, TE"],
        ),
        ("among many", &["a, b, c, d, e, f, g, upgrade, h"]),
        ("beside close", &["Upgrade, close"]),
        ("behind close", &["close, Upgrade"]),
        ("with close on a line of its own", &["close", "Upgrade"]),
    ] {
        let request = Request::valid().with("Connection", values);
        cases.add(format!("connection {name}"), &request, accepted());
    }
    for (name, values) in [
        ("as the end of a word", &["notupgrade"][..]),
        ("as the beginning of a word", &["upgrades"]),
        ("with a hyphen", &["upgrade-insecure-requests"]),
        ("behind a hyphen", &["x-upgrade"]),
        ("with a parameter", &["Upgrade; a=b"]),
        ("as a value", &["a=Upgrade"]),
        ("in quotes", &["\"Upgrade\""]),
        ("behind a space", &["keep-alive Upgrade"]),
        ("behind a semicolon", &["keep-alive; Upgrade"]),
        ("with a version", &["Upgrade/1"]),
        ("in a comment", &["(Upgrade)"]),
        ("cut over lines", &["Up", "grade"]),
        ("cut by a comma", &["Up,grade"]),
        ("as close", &["close"]),
        ("as keep-alive", &["keep-alive"]),
        ("as the protocol", &["websocket"]),
        ("empty", &[""]),
        ("as commas", &[", ,"]),
        ("not there", &[]),
    ] {
        let request = Request::valid().with("Connection", values);
        cases.add(format!("connection {name}"), &request, Refused(400));
    }
}

/// RFC 9112 §3.2: one host, and one that is a host.
fn hosts(cases: &mut Cases) {
    for host in [
        "a",
        "SERVER.EXAMPLE",
        "server.example.",
        "server.example:",
        "server.example:0",
        "server.example:00080",
        "server.example:65535",
        "127.0.0.1",
        "127.0.0.1:9001",
        "[::1]",
        "[2001:db8::1]:443",
        "[::ffff:192.0.2.1]",
        "xn--caf-dma.example",
        "under_score.example",
        "%41.example",
        "a-b.c~d",
        "server.example;a",
        "!$&'()*+=.example",
        "\tserver.example ",
    ] {
        let request = Request::valid().with("Host", &[host]);
        cases.add(format!("host {host:?}"), &request, accepted());
    }
    for host in [
        "",
        ":80",
        "http://server.example",
        "server.example/",
        "server.example?a",
        "server.example#a",
        "user@server.example",
        "user:password@server.example",
        "server.example:80:80",
        "server.example:-1",
        "server.example:+80",
        "server.example:0x50",
        "server.example:99999",
        "server.example: 80",
        "server.example, other.example",
        "a b",
        "[::1",
        "::1",
        "[::1]x",
        "[]",
        "[server.example]",
        "server\\.example",
        "\"server.example\"",
        "<server.example>",
        "%4.example",
        "%zz.example",
        "caf\u{e9}.example",
        "server.example|",
        "^",
        "{a}",
    ] {
        let request = Request::valid().with("Host", &[host]);
        cases.add(format!("host {host:?}"), &request, Refused(400));
    }
    for (name, values) in [
        ("missing", &[][..]),
        ("twice", &["server.example", "server.example"]),
        ("and an empty one", &["server.example", ""]),
        ("thrice", &["a", "b", "c"]),
    ] {
        let request = Request::valid().with("Host", values);
        cases.add(format!("host {name}"), &request, Refused(400));
        cases.actix(Malformed(&[400]));
    }
}

/// RFC 6455 §4.4: anything but 13 is told what there is.
fn versions(cases: &mut Cases) {
    for version in ["13", " 13", "13 ", "\t13\t", "   13   "] {
        let request = Request::valid().with("Sec-WebSocket-Version", &[version]);
        cases.add(format!("version {version:?}"), &request, accepted());
    }
    for version in [
        "",
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
        "10",
        "11",
        "12",
        "14",
        "15",
        "21",
        "99",
        "100",
        "113",
        "130",
        "131",
        "255",
        "256",
        "1000",
        "013",
        "0013",
        "13.0",
        "13.",
        ".13",
        "+13",
        "-13",
        "1 3",
        "13a",
        "a13",
        "0x0d",
        "0xd",
        "\"13\"",
        "'13'",
        "13;",
        "13;q=1",
        "(13)",
        "13,",
        ",13",
        "13, 8",
        "8, 13",
        "13, 13",
        "13 13",
        "thirteen",
        "\u{661}\u{663}",
        "1e1",
        "*",
        "13\u{a0}",
    ] {
        let request = Request::valid().with("Sec-WebSocket-Version", &[version]);
        cases.add(format!("version {version:?}"), &request, Refused(426));
    }
    for (name, values) in [
        ("missing", &[][..]),
        ("twice the same", &["13", "13"]),
        ("13 and 8", &["13", "8"]),
        ("8 and 13", &["8", "13"]),
        ("empty and 13", &["", "13"]),
        ("13 and empty", &["13", ""]),
    ] {
        let request = Request::valid().with("Sec-WebSocket-Version", values);
        cases.add(format!("version {name}"), &request, Refused(426));
    }
    // Who asks for another version hears of it, whatever else is wrong with the request.
    let request = Request::valid()
        .with("Sec-WebSocket-Version", &["8"])
        .with::<&str>("Sec-WebSocket-Key", &[]);
    cases.add("version 8 without a key", &request, Refused(426));
}

/// RFC 6455 §4.2.1 (1): a GET of HTTP/1.1 or later.
fn methods(cases: &mut Cases) {
    for method in [
        "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", "Get", "GETT", "GE",
        "CHAT", "PROPFIND", "UPGRADE",
    ] {
        let mut request = Request::valid();
        request.line = format!("{method} /echo HTTP/1.1");
        cases.add(format!("method {method}"), &request, Malformed(&[405]));
    }
    let mut request = Request::valid();
    request.line = "GET /echo HTTP/1.0".to_owned();
    cases.add("an upgrade of HTTP/1.0", &request, Refused(426));
    let request = request.with::<&str>("Host", &[]);
    cases.add(
        "an upgrade of HTTP/1.0 without a host",
        &request,
        Refused(426),
    );
    for line in [
        "GET /echo HTTP/1.2",
        "GET /echo HTTP/2",
        "GET /echo HTTP/2.0",
        "GET /echo HTTP/3.0",
        "GET /echo HTTP/0.9",
        "GET /echo HTTP/1",
        "GET /echo HTTP/11",
        "GET /echo http/1.1",
        "GET /echo HTTPS/1.1",
        "GET /echo HTTP/1.1 HTTP/1.1",
        "GET /echo",
        "GET",
        "GET /echo WS/1.1",
    ] {
        let mut request = Request::valid();
        request.line = line.to_owned();
        cases.add(
            format!("request line {line:?}"),
            &request,
            Malformed(&[400, 505]),
        );
    }
}

/// RFC 6455 §4.2.1: a handshake has no content.
fn contents(cases: &mut Cases) {
    for length in ["0", "00", " 0\t"] {
        let request = Request::valid().with("Content-Length", &[length]);
        cases.add(format!("content-length {length:?}"), &request, accepted());
    }
    for length in ["1", "5", "05", "1000000", "18446744073709551614"] {
        let request = Request::valid().with("Content-Length", &[length]);
        cases.add(format!("content-length {length:?}"), &request, Refused(400));
        if length.len() == 20 {
            // hyper has no room for it, and says so of the whole head.
            cases.hyper(Malformed(&[431]));
        }
    }
    for length in [
        "",
        "-1",
        "+0",
        "0x0",
        "zero",
        "0.0",
        "0, 5",
        "5, 0",
        "0 0",
        "\"0\"",
        "99999999999999999999",
    ] {
        let request = Request::valid().with("Content-Length", &[length]);
        cases.add(
            format!("content-length {length:?}"),
            &request,
            Malformed(&[400, 413]),
        );
    }
    for (name, values) in [("0 and 5", ["0", "5"]), ("5 and 0", ["5", "0"])] {
        let request = Request::valid().with("Content-Length", &values);
        cases.add(
            format!("content-lengths {name}"),
            &request,
            Malformed(&[400]),
        );
    }
    for coding in ["chunked", "Chunked", "CHUNKED"] {
        let request = Request::valid().with("Transfer-Encoding", &[coding]);
        cases.add(
            format!("transfer-encoding {coding:?}"),
            &request,
            Refused(400),
        );
        for length in ["0", "5"] {
            let request = request.clone().with("Content-Length", &[length]);
            cases.add(
                format!("transfer-encoding {coding:?} and content-length {length}"),
                &request,
                Refused(400),
            );
            cases.actix(Malformed(&[400]));
        }
    }
    for coding in [
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "identity",
        "",
        "x",
        "chunked;a=b",
    ] {
        let request = Request::valid().with("Transfer-Encoding", &[coding]);
        cases.add(
            format!("transfer-encoding {coding:?}"),
            &request,
            Malformed(&[400, 501]),
        );
    }
    let request = Request::valid().with("Transfer-Encoding", &["chunked", "chunked"]);
    cases.add("transfer-encoding twice", &request, Malformed(&[400]));
}

/// RFC 6455 §4.1, §4.2.2: tokens, none twice; the server's favourite is chosen.
fn protocols(cases: &mut Cases) {
    let offering = |lines: &[&str]| Request::to("/protocols").with("Sec-WebSocket-Protocol", lines);
    for (lines, protocol) in [
        (&[][..], None),
        (&["chat.v1"], Some("chat.v1")),
        (&["chat.v2"], Some("chat.v2")),
        (&["chat.v1, chat.v2"], Some("chat.v2")),
        (&["chat.v2, chat.v1"], Some("chat.v2")),
        (&["chat.v1", "chat.v2"], Some("chat.v2")),
        (&["chat.v2", "chat.v1"], Some("chat.v2")),
        (&["a, b, chat.v1"], Some("chat.v1")),
        (&["a, chat.v1, b"], Some("chat.v1")),
        (&["a", "b", "chat.v1, c"], Some("chat.v1")),
        (&["a,chat.v2"], Some("chat.v2")),
        (&["a\t,\tchat.v2\t"], Some("chat.v2")),
        (&[",,chat.v1,,"], Some("chat.v1")),
        (&["", "chat.v1"], Some("chat.v1")),
        (&["chat.v1", ""], Some("chat.v1")),
        (&["CHAT.V1"], None),
        (&["Chat.v2, chat.v1"], Some("chat.v1")),
        (&["chat.v1, CHAT.V1"], Some("chat.v1")),
        (&["chat"], None),
        (&["chat.v"], None),
        (&["chat.v11"], None),
        (&["xchat.v1"], None),
        (&["chat_v1"], None),
        (&["none"], None),
        (&["!#$%&'*+-.^_`|~, chat.v1"], Some("chat.v1")),
        (&["0123456789, chat.v1"], Some("chat.v1")),
    ] {
        let expected = Expected::Accepted {
            key: KEY.to_owned(),
            protocol,
        };
        cases.add(format!("protocols {lines:?}"), &offering(lines), expected);
    }
    // What is no character of a token (RFC 9110 §5.6.2).
    for wrong in b"()/:;<=>?@[\\]{}\" \t\x80\xE9\xFF" {
        for (place, mut name) in [
            ("inside", b"chat.v1x".to_vec()),
            ("in an offer behind ours", b"chat.v1, ax".to_vec()),
        ] {
            let last = name.len() - 1;
            name.splice(last..last, [*wrong]);
            let request = Request::to("/protocols").with("Sec-WebSocket-Protocol", &[name]);
            let wrong = wrong.escape_ascii();
            cases.add(
                format!("protocol with {wrong} {place}"),
                &request,
                Refused(400),
            );
        }
    }
    for lines in [
        &[""][..],
        &[",,"],
        &["", ""],
        &["chat.v1, chat.v1"],
        &["chat.v1,chat.v1"],
        &["chat.v1", "chat.v1"],
        &["chat.v2, a, b, c, chat.v2"],
        &["a, chat.v1", "b, a"],
        &["a, a"],
        &["chat.v1 chat.v2"],
        &["chat.v1;chat.v2"],
        &["\"chat.v1\""],
        &["\"chat.v1, chat.v2\""],
        &["chat.v1; q=1"],
        &["chat/v1"],
        &["chat.v1, (comment)"],
    ] {
        cases.add(
            format!("protocols {lines:?}"),
            &offering(lines),
            Refused(400),
        );
    }
    let many: Vec<String> = (0..1000).map(|number| format!("p{number}")).collect();
    let many = many.join(", ");
    let request = offering(&[&format!("{many}, chat.v1")]);
    let expected = Expected::Accepted {
        key: KEY.to_owned(),
        protocol: Some("chat.v1"),
    };
    cases.add("a thousand protocols", &request, expected);
    let request = offering(&[&format!("{many}, p999")]);
    cases.add(
        "a thousand protocols, the last one twice",
        &request,
        Refused(400),
    );
}

/// RFC 6455 §9.1, RFC 7692 §5: what is not known or not understood is declined.
fn extensions(cases: &mut Cases) {
    for lines in [
        &["foo"][..],
        &["foo, bar"],
        &["foo; a"],
        &["foo; a=1; b=\"c\""],
        &["foo", "bar; x=y"],
        &["x-webkit-deflate-frame"],
        &["deflate-frame, foo"],
        &["permessage-bzip2; blocksize=1"],
        &["permessage-deflatex"],
        &["xpermessage-deflate"],
        &["permessage-deflate; unknown"],
        &["permessage-deflate; server_max_window_bits=7"],
        &["permessage-deflate; server_max_window_bits=16"],
        &["permessage-deflate; server_max_window_bits"],
        &["permessage-deflate; server_max_window_bits=08"],
        &["permessage-deflate; server_max_window_bits=+9"],
        &["permessage-deflate; server_max_window_bits=\"16\""],
        &["permessage-deflate; client_max_window_bits=0"],
        &["permessage-deflate; client_max_window_bits=a"],
        &["permessage-deflate; client_max_window_bits; client_max_window_bits"],
        &["permessage-deflate; client_no_context_takeover=0"],
        &["permessage-deflate; server_no_context_takeover=true"],
        &["permessage-deflate; server_no_context_takeover; server_no_context_takeover"],
        &[""],
        &[","],
        &[";"],
        &["="],
        &["; a=b"],
        &["foo;"],
        &["foo;;a"],
        &["foo; =b"],
        &["foo; a="],
        &["foo bar"],
        &["foo; a b"],
        &["foo; a=\"b"],
        &["foo; a=\"\\"],
        &["\"foo\""],
        &["(foo)"],
        &["foo/bar"],
        &["permessage-deflate/1"],
        &["\"permessage-deflate\""],
    ] {
        let request = Request::valid().with("Sec-WebSocket-Extensions", lines);
        cases.add(format!("extensions {lines:?}"), &request, accepted());
    }
}

/// RFC 9112 §3.2: the forms of a request target.
fn targets(cases: &mut Cases) {
    for target in ["/echo?", "/echo?a=b", "/echo?a=%20&b=/?"] {
        cases.add(format!("target {target}"), &Request::to(target), accepted());
    }
    for target in [
        "http://server.example/echo",
        "http://server.example:8080/echo?a",
    ] {
        cases.add(format!("target {target}"), &Request::to(target), accepted());
    }
    for target in ["http://other.example/echo", "ws://server.example/echo"] {
        cases.add(format!("target {target}"), &Request::to(target), accepted());
    }
    for target in ["/nowhere", "/", "/echo/", "//echo", "*"] {
        cases.add(
            format!("target {target}"),
            &Request::to(target),
            Malformed(&[400, 404]),
        );
    }
    for target in ["", "echo", "/ec ho", "/echo\t", "http://", "/\u{0}"] {
        cases.add(
            format!("target {target:?}"),
            &Request::to(target),
            Malformed(&[400, 404]),
        );
    }
}

/// RFC 9112 §2.2, §5: what is no header is refused, whatever it would mean.
fn syntax(cases: &mut Cases) {
    let inject = |line: &[u8]| {
        let mut bytes = Request::valid().bytes();
        let end = bytes.len() - 2;
        bytes.splice(end..end, line.iter().copied());
        bytes
    };
    for (name, line) in [
        ("a folded line", &b"X-Folded: a\r\n b\r\n"[..]),
        ("a folded line with a tab", b"X-Folded: a\r\n\tb\r\n"),
        ("a line without a colon", b"X-Line\r\n"),
        ("a line without a name", b": a\r\n"),
        ("a space in front of the colon", b"X-Name : a\r\n"),
        ("a tab in front of the colon", b"X-Name\t: a\r\n"),
        ("a space in a name", b"X Name: a\r\n"),
        ("a line that begins with a space", b" X-Name: a\r\n"),
        ("NUL in a name", b"X-\0Name: a\r\n"),
        ("NUL in a value", b"X-Name: a\0b\r\n"),
        ("a bare CR in a value", b"X-Name: a\rb\r\n"),
        ("a bare CR in a name", b"X-\rName: a\r\n"),
        ("a control character in a value", b"X-Name: a\x01b\r\n"),
        ("DEL in a value", b"X-Name: a\x7fb\r\n"),
        ("a bracket in a name", b"X-[Name]: a\r\n"),
        (
            "a character that is not ASCII in a name",
            b"X-N\xC3\xA4me: a\r\n",
        ),
        ("a slash in a name", b"X/Name: a\r\n"),
        ("NUL for a line", b"\0\r\n"),
    ] {
        cases.raw(name, inject(line), Malformed(&[400]));
    }
    for (name, line) in [
        ("white space around a value", &b"X-Name: \t a \t \r\n"[..]),
        ("no white space in front of a value", b"X-Name:a\r\n"),
        ("an empty value", b"X-Name:\r\n"),
        ("a tab in a value", b"X-Name: a\tb\r\n"),
        ("bytes above ASCII in a value", b"X-Name: \xC3\xA4\xFF\r\n"),
        (
            "every character of a token in a name",
            b"!#$%&'*+-.^_`|~09azAZ: a\r\n",
        ),
        ("a colon in a value", b"X-Name: a: b\r\n"),
        (
            "a long name",
            b"X-Name-Name-Name-Name-Name-Name-Name-Name-Name-Name-Name-Name: a\r\n",
        ),
    ] {
        cases.raw(name, inject(line), accepted());
    }
    for name in [
        "Sec-WebSocket-Key",
        "Upgrade",
        "Connection",
        "Sec-WebSocket-Version",
    ] {
        for (what, injected) in [("NUL", 0), ("CR", b'\r'), ("a control character", 1)] {
            let mut request = Request::valid();
            for (found, value) in &mut request.headers {
                if found == name {
                    value.insert(2, injected);
                }
            }
            cases.add(format!("{what} in {name}"), &request, Malformed(&[400]));
        }
    }
    let mut bytes = b"\r\n".to_vec();
    bytes.extend(Request::valid().bytes());
    cases.raw("an empty line in front", bytes, accepted());
    let mut bytes = b" ".to_vec();
    bytes.extend(Request::valid().bytes());
    cases.raw("a space in front", bytes, Malformed(&[400]));
    for (length, name) in [(1000, "1,000"), (8000, "8,000"), (60_000, "60,000")] {
        let request = Request::valid().with("X-Long", &["x".repeat(length)]);
        cases.add(
            format!("a header of {name} characters"),
            &request,
            accepted(),
        );
    }
    let mut request = Request::valid();
    for number in 0..80 {
        request.headers.push((format!("X-{number}"), b"a".to_vec()));
    }
    cases.add("eighty headers more", &request, accepted());
    for number in 80..200 {
        request.headers.push((format!("X-{number}"), b"a".to_vec()));
    }
    cases.add("two hundred headers more", &request, Malformed(&[400, 431]));
}
