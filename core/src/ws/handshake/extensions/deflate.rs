//! permessage-deflate, offered and answered (RFC 7692 §7.1).

use super::Agreement;
use crate::ws::{
    Deflate,
    handshake::list,
    protocol::{Direction, Extensions, Terms},
};

const MAX_WINDOW_BITS: u8 = 15;

/// A well-formed offer of permessage-deflate, each of which can be accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// 15 where it came without a value.
    client_max_window_bits: Option<u8>,
}

impl Offer {
    pub(super) fn first<'a>(mut lines: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        lines.find_map(|line| split(line, b',').find_map(Self::parse))
    }

    /// `None` where it is of another extension, or malformed.
    fn parse(element: &[u8]) -> Option<Self> {
        let mut parts = split(element, b';').map(list::trim);
        if parts.next() != Some(b"permessage-deflate") {
            return None;
        }
        let mut offer = Self::default();
        for parameter in parts {
            let (name, value) = match parameter.iter().position(|&c| c == b'=') {
                Some(at) => (&parameter[..at], Some(list::trim(&parameter[at + 1..]))),
                None => (parameter, None),
            };
            let repeated = match (list::trim(name), value) {
                (b"server_no_context_takeover", None) => {
                    std::mem::replace(&mut offer.server_no_context_takeover, true)
                }
                (b"client_no_context_takeover", None) => {
                    std::mem::replace(&mut offer.client_no_context_takeover, true)
                }
                (b"server_max_window_bits", Some(value)) => {
                    let bits = window_bits(value)?;
                    offer.server_max_window_bits.replace(bits).is_some()
                }
                (b"client_max_window_bits", value) => {
                    let bits = value.map_or(Some(MAX_WINDOW_BITS), window_bits)?;
                    offer.client_max_window_bits.replace(bits).is_some()
                }
                _ => return None,
            };
            if repeated {
                return None;
            }
        }
        Some(offer)
    }

    pub(super) fn accept(self, settings: &Deflate) -> Agreement {
        let keeps = settings.takes_context_over();
        let own_bits = settings.window_limit();
        let asked_bits = self.server_max_window_bits;
        let terms = Terms {
            server: Direction {
                takeover: keeps && !self.server_no_context_takeover,
                // Not told where it was not asked for: a larger window reads it.
                window_bits: asked_bits.map_or(own_bits, |asked| asked.min(own_bits)),
            },
            client: Direction {
                takeover: keeps && !self.client_no_context_takeover,
                window_bits: self.client_max_window_bits.unwrap_or(MAX_WINDOW_BITS),
            },
            threshold: settings.compressed_from(),
            level: settings.compression_level(),
        };
        let mut header = String::from("permessage-deflate");
        if !terms.server.takeover {
            header.push_str("; server_no_context_takeover");
        }
        if !terms.client.takeover {
            header.push_str("; client_no_context_takeover");
        }
        if asked_bits.is_some() {
            let bits = terms.server.window_bits;
            header.push_str(&format!("; server_max_window_bits={bits}"));
        }
        if terms.client.window_bits < MAX_WINDOW_BITS {
            let bits = terms.client.window_bits;
            header.push_str(&format!("; client_max_window_bits={bits}"));
        }
        Agreement {
            header: Some(header),
            extensions: Extensions {
                deflate: Some(terms),
            },
        }
    }
}

/// What a client offers: one offer of permessage-deflate (RFC 7692 §7.1).
#[cfg(feature = "client")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked(Deflate);

#[cfg(feature = "client")]
impl Asked {
    pub(super) const fn new(settings: Deflate) -> Self {
        Self(settings)
    }

    /// The server is always allowed to ask for a smaller window of ours, and told
    /// where ours is smaller already.
    pub(super) fn header(self) -> String {
        let mut header = String::from("permessage-deflate");
        if !self.0.takes_context_over() {
            header.push_str("; server_no_context_takeover; client_no_context_takeover");
        }
        header.push_str("; client_max_window_bits");
        let bits = self.0.window_limit();
        if bits < MAX_WINDOW_BITS {
            header.push_str(&format!("={bits}"));
        }
        header
    }

    /// What the answer's lines agree to: nothing, or this extension once, with
    /// parameters that go with the offer.
    pub(super) fn agree<'a>(
        self,
        lines: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Agreement, &'a [u8]> {
        let mut elements = lines
            .flat_map(|line| split(line, b','))
            .filter(|element| !element.is_empty());
        let Some(element) = elements.next() else {
            return Ok(Agreement::default());
        };
        if let Some(second) = elements.next() {
            return Err(second);
        }
        // An offer and an answer are written alike; a bare `client_max_window_bits`
        // is of an offer only.
        let answer = Offer::parse(element).ok_or(element)?;
        let bare = split(element, b';').any(|parameter| parameter == b"client_max_window_bits");
        let keeps = self.0.takes_context_over();
        let own_bits = self.0.window_limit();
        let told_bits = answer.client_max_window_bits;
        if bare
            || (!keeps && !answer.server_no_context_takeover)
            || told_bits.is_some_and(|told| told > own_bits)
        {
            return Err(element);
        }
        let terms = Terms {
            server: Direction {
                takeover: !answer.server_no_context_takeover,
                window_bits: answer.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS),
            },
            client: Direction {
                takeover: keeps && !answer.client_no_context_takeover,
                window_bits: told_bits.unwrap_or(own_bits),
            },
            threshold: self.0.compressed_from(),
            level: self.0.compression_level(),
        };
        Ok(Agreement {
            header: None,
            extensions: Extensions {
                deflate: Some(terms),
            },
        })
    }
}

/// The parts of `bytes` between separators outside of quoted strings
/// (RFC 9110 §5.6.4).
fn split(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest.take()?;
        let (mut quoted, mut escaped) = (false, false);
        let end = bytes.iter().position(|&c| {
            let skipped = std::mem::take(&mut escaped);
            match c {
                _ if skipped => {}
                b'\\' => escaped = quoted,
                b'"' => quoted = !quoted,
                _ => return c == separator && !quoted,
            }
            false
        });
        let Some(end) = end else {
            return Some(bytes);
        };
        rest = Some(&bytes[end + 1..]);
        Some(&bytes[..end])
    })
    .map(list::trim)
}

/// A number from 8 to 15 without leading zeros, as a token or a quoted string
/// (RFC 7692 §7.1.2).
fn window_bits(value: &[u8]) -> Option<u8> {
    let mut unescaped = Vec::new();
    let digits = match value {
        [b'"', inner @ .., b'"'] => {
            let mut bytes = inner.iter().copied();
            while let Some(byte) = bytes.next() {
                unescaped.push(match byte {
                    b'\\' => bytes.next()?,
                    byte => byte,
                });
            }
            &unescaped[..]
        }
        token => token,
    };
    match digits {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
