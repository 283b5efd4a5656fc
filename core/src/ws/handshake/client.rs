//! The client's half of the opening handshake (RFC 6455 §4.1): what is asked for, and
//! whether the answer is one to it.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{
    extensions::{self, Agreement},
    key::AcceptValue,
    list,
};
use crate::ws::{
    WsConfig,
    protocol::{Extensions, Text},
};

/// Why a 101 is no answer to what was asked for (RFC 6455 §4.1).
///
/// What a server sends is quoted up to 100 bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// `Upgrade` is not `websocket`, or `Connection` does not say `Upgrade`.
    #[error("the answer does not upgrade to websocket")]
    NotUpgraded,
    /// `Sec-WebSocket-Accept` is missing or is not what follows from the key: what
    /// answered has not understood the request, as a cache would not.
    #[error("the answer's Sec-WebSocket-Accept is missing or wrong")]
    WrongAccept,
    /// A header came twice that may come once.
    #[error("the answer repeats {0}")]
    RepeatedHeader(HeaderName),
    /// A subprotocol that was not offered.
    #[error("the answer has a subprotocol that was not offered: {0:?}")]
    UnexpectedSubprotocol(String),
    /// An extension that was not offered, is not known or has parameters that do not
    /// go with the offer (RFC 6455 §9.1, RFC 7692 §7.1).
    #[error("the answer has an extension that does not go with the offer: {0:?}")]
    UnexpectedExtension(String),
}

/// What a client asks for, kept until the answer.
#[derive(Debug)]
pub(crate) struct Asked {
    key: String,
    /// The subprotocols, each a token, joined by commas.
    protocols: String,
    extensions: extensions::Asked,
}

/// What was agreed on.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) protocol: Option<Text>,
    pub(crate) extensions: Extensions,
}

impl Asked {
    /// With a new key, and the extensions that `config` has.
    pub(crate) fn new(protocols: &[String], config: &WsConfig) -> Self {
        Self {
            key: STANDARD.encode(nonce()),
            protocols: protocols.join(", "),
            extensions: extensions::Asked::new(config),
        }
    }

    /// Whether `name` may be offered as a subprotocol.
    pub(crate) fn is_subprotocol(name: &str) -> bool {
        list::is_token(name.as_bytes())
    }

    /// The headers that say it. Each value is one that a header may have.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let protocols = (!self.protocols.is_empty()).then_some(&*self.protocols);
        [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", &self.key),
        ]
        .into_iter()
        .chain(protocols.map(|value| ("Sec-WebSocket-Protocol", value)))
        .chain(
            self.extensions
                .header()
                .map(|value| ("Sec-WebSocket-Extensions", value)),
        )
    }

    /// Holds the headers of a 101 against what was asked for.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<Agreed, AnswerError> {
        let lines = |name: &HeaderName| headers.get_all(name).into_iter();
        let values = |name| lines(name).map(HeaderValue::as_bytes);
        let upgrade = single(headers, &header::UPGRADE)?;
        if !upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
            || !list::has_token(values(&header::CONNECTION), "upgrade")
        {
            return Err(AnswerError::NotUpgraded);
        }
        let accept = AcceptValue::for_key(self.key.as_bytes());
        let expected = accept.as_ref().map(|value| value.as_str().as_bytes());
        if single(headers, &header::SEC_WEBSOCKET_ACCEPT)? != expected {
            return Err(AnswerError::WrongAccept);
        }
        let protocol = match single(headers, &header::SEC_WEBSOCKET_PROTOCOL)? {
            None => None,
            Some(name) => Some(self.offered(name)?),
        };
        let answered = values(&header::SEC_WEBSOCKET_EXTENSIONS);
        let Agreement { extensions, .. } = self
            .extensions
            .agree(answered)
            .map_err(|element| AnswerError::UnexpectedExtension(quote(element)))?;
        Ok(Agreed {
            protocol,
            extensions,
        })
    }

    fn offered(&self, name: &[u8]) -> Result<Text, AnswerError> {
        let mut offered = self.protocols.split(", ").filter(|name| !name.is_empty());
        offered
            .find(|offered| offered.as_bytes() == name)
            .map(Into::into)
            .ok_or_else(|| AnswerError::UnexpectedSubprotocol(quote(name)))
    }
}

/// The value of a header that may be there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, AnswerError> {
    let mut lines = headers.get_all(name).into_iter();
    match (lines.next(), lines.next()) {
        (_, Some(_)) => Err(AnswerError::RepeatedHeader(name.clone())),
        (value, None) => Ok(value.map(|value| list::trim(value.as_bytes()))),
    }
}

fn quote(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(100)]).into_owned()
}

/// Sixteen bytes that nobody can foretell (RFC 6455 §4.1): a keyed hash, under keys
/// that the system's random source gave.
fn nonce() -> [u8; 16] {
    let half = || RandomState::new().build_hasher().finish().to_ne_bytes();
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&half());
    nonce[8..].copy_from_slice(&half());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(protocols: &[&str]) -> Asked {
        let protocols: Vec<_> = protocols.iter().map(|&name| name.to_owned()).collect();
        Asked::new(&protocols, &WsConfig::new())
    }

    fn answer(asked: &Asked) -> HeaderMap {
        let accept = AcceptValue::for_key(asked.key.as_bytes()).unwrap();
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: &str| {
            headers.insert(name, value.parse().unwrap());
        };
        put("upgrade", "WebSocket");
        put("connection", "keep-alive, upgrade");
        put("sec-websocket-accept", accept.as_str());
        headers
    }

    #[test]
    fn what_was_asked_for_is_agreed_on() {
        let asked = asked(&["chat.v2", "chat.v1"]);
        let mut headers = answer(&asked);
        assert_eq!(asked.check(&headers).unwrap().protocol, None);
        headers.insert("sec-websocket-protocol", "chat.v1".parse().unwrap());
        let agreed = asked.check(&headers).unwrap();
        assert_eq!(agreed.protocol.as_deref(), Some("chat.v1"));
        assert_eq!(agreed.extensions, Extensions::default());
    }

    #[test]
    fn two_keys_differ() {
        assert_ne!(asked(&[]).key, asked(&[]).key);
    }

    #[test]
    fn each_wrong_answer_is_an_error_of_its_own() {
        let asked = asked(&["chat.v2"]);
        let check = |change: &dyn Fn(&mut HeaderMap)| {
            let mut headers = answer(&asked);
            change(&mut headers);
            asked.check(&headers).unwrap_err()
        };
        let set = |name: &'static str, value: &'static str| {
            check(&move |headers| {
                headers.insert(name, HeaderValue::from_static(value));
            })
        };
        let add = |name: &'static str, value: &'static str| {
            check(&move |headers| {
                headers.append(name, HeaderValue::from_static(value));
            })
        };
        let remove = |name: &'static str| {
            check(&move |headers| {
                headers.remove(name);
            })
        };
        assert_eq!(set("upgrade", "h2c"), AnswerError::NotUpgraded);
        assert_eq!(remove("upgrade"), AnswerError::NotUpgraded);
        assert_eq!(set("connection", "close"), AnswerError::NotUpgraded);
        assert_eq!(remove("sec-websocket-accept"), AnswerError::WrongAccept);
        assert_eq!(
            set("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            AnswerError::WrongAccept
        );
        assert_eq!(
            add("sec-websocket-accept", "x"),
            AnswerError::RepeatedHeader(header::SEC_WEBSOCKET_ACCEPT)
        );
        for name in ["chat", "CHAT.V2", "", "chat.v2, chat.v2"] {
            assert_eq!(
                set("sec-websocket-protocol", name),
                AnswerError::UnexpectedSubprotocol(name.to_owned())
            );
        }
        assert_eq!(
            set("sec-websocket-extensions", "permessage-deflate"),
            AnswerError::UnexpectedExtension("permessage-deflate".to_owned())
        );
    }
}
