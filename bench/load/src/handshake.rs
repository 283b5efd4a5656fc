//! The client's side of RFC 6455 §4.1.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest as _, Sha1};

use crate::{Compress, Failure, Target};

/// Any 16 bytes: what matters is that the answer belongs to them.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What is written, and what must be answered.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) request: Vec<u8>,
    accept: String,
    compress: Option<Compress>,
}

impl Handshake {
    pub(crate) fn new(target: &Target) -> Self {
        let extensions = match target.compress {
            None => "",
            Some(Compress::Takeover) => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            Some(Compress::NoTakeover) => {
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
            }
        };
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{extensions}\r\n",
            target.path, target.addr,
        );
        let accept = Sha1::digest(format!("{KEY}{GUID}"));
        Self {
            request: request.into_bytes(),
            accept: STANDARD.encode(accept),
            compress: target.compress,
        }
    }

    /// Checks an answer's head.
    pub(crate) fn check(&self, head: &[u8]) -> Result<(), Failure> {
        let head = str::from_utf8(head)?;
        let first = head.lines().next().unwrap_or_default();
        if !first.starts_with("HTTP/1.1 101") {
            return Err(format!("not upgraded: {first}").into());
        }
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            lines
                .find(|(found, _)| found.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        if field("sec-websocket-accept") != Some(&self.accept) {
            return Err("a wrong Sec-WebSocket-Accept".into());
        }
        let extensions = field("sec-websocket-extensions").unwrap_or_default();
        let has = |parameter: &str| extensions.split(';').any(|part| part.trim() == parameter);
        let agreed = match self.compress {
            None => extensions.is_empty(),
            // A smaller window would do, but would not be the same load.
            Some(Compress::Takeover) => {
                has("permessage-deflate")
                    && !has("server_no_context_takeover")
                    && !has("client_no_context_takeover")
            }
            Some(Compress::NoTakeover) => {
                has("permessage-deflate") && has("server_no_context_takeover")
            }
        };
        if !agreed {
            return Err(format!("other extensions than asked for: `{extensions}`").into());
        }
        Ok(())
    }
}

/// Where the head of an answer ends.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, b"\r\n\r\n").map(|position| position + 4)
}
