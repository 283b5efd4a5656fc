//! The opening handshake, against RFC 6455 §4.2.1 and RFC 9110 said once more.

use std::net::Ipv6Addr;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};
use towpath::ws::{
    Deflate, Negotiation, OriginPolicy, WsConfig,
    handshake::{HttpVersion, RequestHead, check},
};

use crate::input::Input;

/// A request's head, as a server would hand it over.
struct Request {
    method: String,
    version: HttpVersion,
    authority: Option<String>,
    protocol: Option<String>,
    lines: Vec<(String, Vec<u8>)>,
}

impl Request {
    fn head(&self) -> RequestHead<'_, [(String, Vec<u8>)]> {
        RequestHead {
            method: &self.method,
            version: self.version,
            authority: self.authority.as_deref(),
            protocol: self.protocol.as_deref(),
            lines: &self.lines[..],
        }
    }

    fn values(&self, name: &str) -> Vec<&[u8]> {
        let lines = self.lines.iter();
        let lines = lines.filter(|(line, _)| line.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| trim(value)).collect()
    }

    fn single(&self, name: &str) -> Option<Option<&[u8]>> {
        match self.values(name)[..] {
            [] => Some(None),
            [value] => Some(Some(value)),
            _ => None,
        }
    }

    fn list(&self, name: &str) -> Vec<&[u8]> {
        let values = self.values(name);
        let elements = values.iter().flat_map(|value| value.split(|&c| c == b','));
        elements
            .map(trim)
            .filter(|value| !value.is_empty())
            .collect()
    }

    fn has(&self, name: &str, token: &str) -> bool {
        let list = self.list(name);
        list.iter()
            .any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let Some((b' ' | b'\t', rest)) = value.split_first() {
        value = rest;
    }
    while let Some((b' ' | b'\t', rest)) = value.split_last() {
        value = rest;
    }
    value
}

fn is_token(value: &[u8]) -> bool {
    !value.is_empty()
        && value
            .iter()
            .all(|&c| c > b' ' && c < 0x7F && !b"()<>@,;:\\\"/[]?={}".contains(&c))
}

/// Host in one spelling, and port.
fn authority(value: &[u8]) -> Option<(String, Option<u16>)> {
    let text = std::str::from_utf8(value).ok()?;
    let (host, port) = match text.strip_prefix('[') {
        Some(text) => {
            let (address, port) = text.split_once(']')?;
            (address.parse::<Ipv6Addr>().ok()?.to_string(), port)
        }
        None => {
            let colon = text.find(':').unwrap_or(text.len());
            (text[..colon].to_ascii_lowercase(), &text[colon..])
        }
    };
    let mut characters = host.bytes();
    if host.is_empty() {
        return None;
    }
    if !text.starts_with('[') {
        while let Some(c) = characters.next() {
            let good = c.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&c);
            let mut hexadecimal = || characters.next().is_some_and(|c| c.is_ascii_hexdigit());
            if good || c == b'%' && hexadecimal() && hexadecimal() {
                continue;
            }
            return None;
        }
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|c| c.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    // An address is never a name.
    let bracket = if text.starts_with('[') { "[" } else { "" };
    Some((format!("{bracket}{host}"), port))
}

/// Whether a page of `origin` is of the host.
fn same_host(origin: &[u8], host: &[u8]) -> bool {
    let lower = origin.to_ascii_lowercase();
    let (default, of) = match (
        lower.strip_prefix(b"http://"),
        lower.strip_prefix(b"https://"),
    ) {
        (Some(of), _) => (80, of),
        (_, Some(of)) => (443, of),
        _ => return false,
    };
    let (Some(of), Some(host)) = (authority(of), authority(host)) else {
        return false;
    };
    !lower.ends_with(b":") && of.0 == host.0 && of.1.unwrap_or(default) == host.1.unwrap_or(default)
}

/// Whether a request may be upgraded, without a reason.
fn is_good(request: &Request, origins: &OriginPolicy) -> Option<()> {
    let holds = |condition: bool| condition.then_some(());
    let old = matches!(request.version, HttpVersion::Http11);
    match request.version {
        HttpVersion::Http11 => {
            holds(request.method == "GET")?;
            holds(request.has("upgrade", "websocket"))?;
            holds(request.has("connection", "upgrade"))?;
            let key = request.single("sec-websocket-key")??;
            holds(key.len() == 24 && key.ends_with(b"=="))?;
            // Any last character goes: the RFC's own sample has bits behind its end.
            let mut key = key.to_vec();
            holds(key[21].is_ascii_alphanumeric() || b"+/".contains(&key[21]))?;
            key[21] = b'A';
            holds(STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16))?;
        }
        HttpVersion::Http2 | HttpVersion::Http3 => {
            holds(request.method == "CONNECT")?;
            let protocol = request.protocol.as_ref()?;
            holds(protocol.eq_ignore_ascii_case("websocket"))?;
        }
        HttpVersion::Http09 | HttpVersion::Http10 => return None,
    }
    let host = request.single("host")?;
    let named = request.authority.as_deref().map(str::as_bytes);
    holds(!old || host.is_some())?;
    for value in [host, named].into_iter().flatten() {
        authority(value)?;
    }
    let effective = named.or(host)?;
    if let (false, Some(host), Some(named)) = (old, host, named) {
        let (host, named) = (authority(host)?, authority(named)?);
        let default = |port| matches!(port, None | Some(80 | 443));
        holds(host.0 == named.0)?;
        let one_is_default = host.1.is_none() || named.1.is_none();
        holds(host.1 == named.1 || one_is_default && default(host.1) && default(named.1))?;
    }
    holds(request.values("transfer-encoding").is_empty())?;
    let length = request.single("content-length")?.unwrap_or(b"0");
    holds(!length.is_empty() && length.iter().all(|&c| c == b'0'))?;
    holds(request.single("sec-websocket-version")?? == b"13")?;
    let mut names = request.list("sec-websocket-protocol");
    holds(names.iter().all(|name| is_token(name)))?;
    holds(!names.is_empty() || request.values("sec-websocket-protocol").is_empty())?;
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    holds(names.len() == all)?;
    match (request.single("origin")?, origins) {
        (None, _) | (_, OriginPolicy::Any) => Some(()),
        (Some(origin), OriginPolicy::SameHost) => holds(same_host(origin, effective)),
        (Some(origin), OriginPolicy::SameForwardedHost) => {
            let forwarded = request.list("x-forwarded-host");
            holds(same_host(origin, forwarded.first().unwrap_or(&effective)))
        }
        (Some(_), _) => None,
    }
}

/// `handshake`: version and policy, then the head as text: the request line (method,
/// authority, `:protocol`, by spaces), then header lines.
pub fn handshake(data: &[u8]) {
    let mut input = Input::new(data);
    let version = input.choose(&[
        HttpVersion::Http11,
        HttpVersion::Http2,
        HttpVersion::Http3,
        HttpVersion::Http10,
        HttpVersion::Http09,
    ]);
    let origins = input.choose(&[0, 1, 2]);
    let origins = match origins {
        0 => OriginPolicy::SameHost,
        1 => OriginPolicy::SameForwardedHost,
        _ => OriginPolicy::Any,
    };
    let mut lines = input.rest().split(|&c| c == b'\n');
    let first = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let mut words = first.split(' ').map(str::to_owned);
    let request = Request {
        method: words.next().unwrap_or_default(),
        version,
        authority: words.next().filter(|word| !word.is_empty()),
        protocol: words.next().filter(|word| !word.is_empty()),
        lines: header_lines(lines),
    };
    let good = is_good(&request, &origins).is_some();
    let handshake = match check(&request.head(), &origins) {
        Ok(handshake) => handshake,
        Err(rejection) => {
            assert!(!good, "refused: {rejection}");
            assert!(rejection.to_string().len() < 4096, "a refusal is short");
            let status = rejection.status();
            assert!(matches!(status, 400 | 403 | 405 | 426 | 501), "{status}");
            for (_, value) in rejection.headers() {
                assert!(!value.contains(['\r', '\n']));
            }
            return;
        }
    };
    assert!(good, "accepted");
    let offered = request.list("sec-websocket-protocol");
    let names: Vec<_> = handshake.offered().iter().map(str::as_bytes).collect();
    assert_eq!(names, offered);
    let chosen = handshake
        .offered()
        .iter()
        .last()
        .or(Some("chat"))
        .map(str::to_owned);
    let answer = handshake.answer(chosen.as_deref());
    let headers: Vec<_> = answer.headers().collect();
    let value = |name| {
        headers
            .iter()
            .find(|(found, _)| *found == name)
            .map(|header| header.1)
    };
    let subprotocol = value("Sec-WebSocket-Protocol").map(str::as_bytes);
    assert_eq!(subprotocol, offered.last().copied());
    if version == HttpVersion::Http11 {
        assert_eq!(answer.status(), 101);
        let mut digest = Sha1::new();
        digest.update(request.values("sec-websocket-key")[0]);
        digest.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let accept = STANDARD.encode(digest.finalize());
        assert_eq!(value("Sec-WebSocket-Accept"), Some(&*accept));
    } else {
        assert_eq!(answer.status(), 200);
        assert_eq!(value("Upgrade").or(value("Connection")), None);
    }
}

fn header_lines<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<(String, Vec<u8>)> {
    lines
        .filter_map(|line| {
            let colon = line.iter().position(|&c| c == b':')?;
            let name = String::from_utf8_lossy(&line[..colon]).into_owned();
            Some((name, line[colon + 1..].to_vec()))
        })
        .collect()
}

/// An offer or an answer: parameters with their values.
type Parameters = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// The extensions of a value that is a list by RFC 6455 §9.1; `None` where it is not.
fn extension_list(value: &[u8]) -> Option<Vec<(Vec<u8>, Parameters)>> {
    let mut reader = Reader(value);
    let mut extensions = Vec::new();
    loop {
        reader.space();
        if reader.at_end() {
            return Some(extensions);
        }
        if reader.take(b',') {
            continue;
        }
        let name = reader.token()?;
        let mut parameters = Vec::new();
        loop {
            reader.space();
            if !reader.take(b';') {
                break;
            }
            reader.space();
            let name = reader.token()?;
            reader.space();
            let value = if reader.take(b'=') {
                reader.space();
                Some(reader.value()?)
            } else {
                None
            };
            parameters.push((name, value));
        }
        extensions.push((name, parameters));
        if !reader.at_end() && !reader.take(b',') {
            return None;
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    const fn at_end(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, byte: u8) -> bool {
        let taken = self.0.first() == Some(&byte);
        self.0 = &self.0[usize::from(taken)..];
        taken
    }

    fn space(&mut self) {
        while self.take(b' ') || self.take(b'\t') {}
    }

    fn token(&mut self) -> Option<Vec<u8>> {
        let end = (0..self.0.len()).find(|&at| !is_token(&self.0[at..=at]));
        let (token, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        is_token(token).then(|| token.to_vec())
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        if !self.take(b'"') {
            return self.token();
        }
        let mut value = Vec::new();
        loop {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value.push(match byte {
                b'"' => break,
                b'\\' => {
                    let (&byte, rest) = self.0.split_first()?;
                    self.0 = rest;
                    byte
                }
                byte => byte,
            });
        }
        // RFC 6455 §9.1: what was quoted is a token, too.
        is_token(&value).then_some(value)
    }
}

/// The four parameters of RFC 7692 §7.1.
#[derive(Debug, Default, PartialEq, Eq)]
struct Deflation {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// `Some(None)` without a value, as only an offer may have it.
    client_max_window_bits: Option<Option<u8>>,
}

impl Deflation {
    fn of(parameters: &Parameters) -> Option<Self> {
        let mut deflation = Self::default();
        for (index, (name, value)) in parameters.iter().enumerate() {
            if parameters[..index].iter().any(|(other, _)| other == name) {
                return None;
            }
            let bits = match value {
                Some(digits) => {
                    let digits = std::str::from_utf8(digits).ok()?;
                    let number: u8 = digits.parse().ok()?;
                    let canonical = (8..=15).contains(&number) && number.to_string() == digits;
                    Some(canonical.then_some(number)?)
                }
                None => None,
            };
            match (&name[..], bits) {
                (b"server_no_context_takeover", None) => {
                    deflation.server_no_context_takeover = true;
                }
                (b"client_no_context_takeover", None) => {
                    deflation.client_no_context_takeover = true;
                }
                (b"server_max_window_bits", Some(_)) => deflation.server_max_window_bits = bits,
                (b"client_max_window_bits", bits) => deflation.client_max_window_bits = Some(bits),
                _ => return None,
            }
        }
        Some(deflation)
    }
}

/// `extensions`: our settings, then lines of `Sec-WebSocket-Extensions`.
pub fn extensions(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let keeps = flags & 0x80 != 0;
    let own_bits = 8 + (flags & 7);
    let values: Vec<_> = input.rest().split(|&c| c == b'\n').collect();
    let mut lines = vec![
        ("Host", &b"h"[..]),
        ("Upgrade", b"websocket"),
        ("Connection", b"upgrade"),
        ("Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", b"13"),
    ];
    lines.extend(
        values
            .iter()
            .map(|value| ("Sec-WebSocket-Extensions", *value)),
    );
    let head = RequestHead {
        method: "GET",
        version: HttpVersion::Http11,
        authority: None,
        protocol: None,
        lines: &lines[..],
    };
    let settings = Deflate::new().context_takeover(keeps).window_bits(own_bits);
    let negotiation = Negotiation::new(&head, WsConfig::new().deflate(settings).into())
        .expect("no value of this header is a reason to refuse");
    let answer = negotiation.answer();
    let mut answers = answer
        .headers()
        .filter(|(name, _)| *name == "Sec-WebSocket-Extensions");
    let answered = answers.next().map(|(_, value)| value);
    assert_eq!(answers.next(), None);
    let answered = answered.map(|value| {
        let list = extension_list(value.as_bytes()).expect("a list");
        let [(name, parameters)] = &list[..] else {
            panic!("one extension: {value}");
        };
        assert_eq!(name, b"permessage-deflate");
        let deflation = Deflation::of(parameters).expect("known parameters");
        assert_ne!(
            deflation.client_max_window_bits,
            Some(None),
            "without a value"
        );
        deflation
    });
    let lists: Option<Vec<_>> = values.iter().map(|value| extension_list(value)).collect();
    let Some(lists) = lists else {
        // Where an element ends is not told by what is malformed: only that nothing
        // is answered which nobody spoke of.
        let names = |name: &str| {
            values.iter().any(|value| {
                value
                    .windows(name.len())
                    .any(|part| part == name.as_bytes())
            })
        };
        if let Some(answered) = answered {
            assert!(names("permessage-deflate"));
            let spoken = answered.client_max_window_bits.is_none();
            assert!(spoken || names("client_max_window_bits"));
        }
        return;
    };
    let offer = lists.iter().flatten().find_map(|(name, parameters)| {
        (name == b"permessage-deflate")
            .then(|| Deflation::of(parameters))
            .flatten()
    });
    let (offer, answered) = match (offer, answered) {
        (None, None) => return,
        (Some(offer), Some(answered)) => (offer, answered),
        (offer, answered) => panic!("{answered:?} to {offer:?}"),
    };
    // RFC 7692 §7.1.1 and §7.1.2, and our own settings.
    assert!(answered.server_no_context_takeover || keeps && !offer.server_no_context_takeover);
    assert_eq!(
        answered.client_no_context_takeover,
        !keeps || offer.client_no_context_takeover
    );
    let asked = offer.server_max_window_bits;
    assert_eq!(
        answered.server_max_window_bits,
        asked.map(|bits| bits.min(own_bits))
    );
    match (
        offer.client_max_window_bits,
        answered.client_max_window_bits,
    ) {
        (_, None) => {}
        (Some(offered), Some(Some(bits))) => {
            assert!(bits <= offered.unwrap_or(15));
        }
        (offered, bits) => panic!("{bits:?} to {offered:?}"),
    }
}
