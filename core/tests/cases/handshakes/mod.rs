//! Families of opening handshakes, made rather than written down; those that stand for
//! themselves are in `ws_handshake.json` (RFC 6455 §4.2, RFC 9110, RFC 9112).

mod http;
mod websocket;

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
    websocket::keys(&mut cases);
    websocket::upgrades(&mut cases);
    websocket::connections(&mut cases);
    http::hosts(&mut cases);
    websocket::versions(&mut cases);
    http::methods(&mut cases);
    http::contents(&mut cases);
    websocket::protocols(&mut cases);
    websocket::extensions(&mut cases);
    http::targets(&mut cases);
    http::syntax(&mut cases);
    cases.0
}

/// A request that is right but for what these lines of `Origin` are.
pub(crate) fn from_origins(origins: &[&str]) -> Vec<u8> {
    Request::valid().with("Origin", origins).bytes()
}
