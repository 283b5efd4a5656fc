use std::borrow::Cow;

use super::request::HttpVersion;
use crate::Draining;

/// Why a request is not upgraded. Its `Display` is the body of the answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeRejection {
    /// No upgrade was asked for.
    #[error("{}", .http.how_to_upgrade())]
    UpgradeRequired {
        /// The request's version.
        http: HttpVersion,
    },
    /// An upgrade of HTTP/1.1 with another method than GET (RFC 6455 §4.2.1).
    #[error("a WebSocket handshake is a GET, not {method}")]
    MethodNotAllowed {
        /// The request's method.
        method: String,
    },
    /// A CONNECT that asks for a tunnel, not for a WebSocket (RFC 8441 §4).
    #[error("CONNECT is answered only with :protocol websocket")]
    PlainConnect,
    /// A CONNECT with a `:protocol` that is not spoken here (RFC 9220 §3).
    #[error("CONNECT with :protocol {protocol}, where only websocket is spoken")]
    UnsupportedProtocol {
        /// The request's `:protocol`.
        protocol: String,
    },
    /// `Upgrade` without a `Connection` that names it (RFC 9110 §7.8).
    #[error("the Connection header does not have the token Upgrade")]
    MissingConnectionUpgrade,
    /// A header that must be there is not.
    #[error("the {name} header is missing")]
    MissingHeader {
        /// The header's name.
        name: &'static str,
    },
    /// A header that must be there once is there several times.
    #[error("there is more than one {name} header")]
    RepeatedHeader {
        /// The header's name.
        name: &'static str,
    },
    /// The host is not `host[:port]` (RFC 9110 §7.2).
    #[error("the host {found} is malformed")]
    InvalidHost {
        /// What `Host` or `:authority` says.
        found: String,
    },
    /// `Host` and `:authority` name different servers (RFC 9113 §8.3.1).
    #[error("the Host header names {host}, :authority {authority}")]
    ConflictingHost {
        /// What `Host` says.
        host: String,
        /// What `:authority` says.
        authority: String,
    },
    /// A handshake has no content (RFC 6455 §4.2.1).
    #[error("a WebSocket handshake has no content, but there is {name}")]
    UnexpectedContent {
        /// The header that announces it.
        name: &'static str,
    },
    /// The key is not the base64 of 16 bytes (RFC 6455 §4.2.1).
    #[error("Sec-WebSocket-Key is not the base64 of 16 bytes")]
    InvalidKey,
    /// A version of the protocol other than 13 (RFC 6455 §4.4).
    #[error("Sec-WebSocket-Version must be 13, it is {found}")]
    UnsupportedVersion {
        /// What was asked for.
        found: String,
        /// The request's version of HTTP.
        http: HttpVersion,
    },
    /// The offer of subprotocols is not a list of tokens (RFC 6455 §4.1).
    #[error("Sec-WebSocket-Protocol: {found} is not a token")]
    InvalidSubprotocol {
        /// The element that is none.
        found: String,
    },
    /// A subprotocol is offered twice (RFC 6455 §4.1).
    #[error("Sec-WebSocket-Protocol: {name} is offered more than once")]
    RepeatedSubprotocol {
        /// Its name.
        name: String,
    },
    /// The origin may not open a socket here (RFC 6455 §10.2).
    #[error("the origin {origin} is not allowed here, only {expected}")]
    OriginNotAllowed {
        /// The request's `Origin`.
        origin: String,
        /// What is allowed.
        expected: String,
    },
    /// The server in front of the handler cannot hand over its connection: upgrades
    /// are not enabled there, or there is none, as in a test without a server.
    #[error("this connection cannot be upgraded")]
    NotUpgradable {
        /// The request's version.
        http: HttpVersion,
    },
    /// The server is draining.
    #[error(transparent)]
    Draining(#[from] Draining),
}

/// The most characters of a peer's value that a refusal repeats.
const QUOTED: usize = 128;

/// A peer's value for a message: printable, and of bounded length.
pub(super) fn quote(value: &[u8]) -> String {
    let mut text = value[..value.len().min(QUOTED)].escape_ascii().to_string();
    if value.len() > QUOTED {
        text.push('…');
    }
    text
}

impl UpgradeRejection {
    pub(super) fn invalid_subprotocol(element: &[u8]) -> Self {
        let found = match element {
            b"" => "an empty list".to_owned(),
            element => format!("\"{}\"", quote(element)),
        };
        Self::InvalidSubprotocol { found }
    }

    pub(super) fn repeated_subprotocol(name: &str) -> Self {
        Self::RepeatedSubprotocol {
            name: quote(name.as_bytes()),
        }
    }

    /// The answer's status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::UpgradeRequired { .. }
            | Self::UnsupportedVersion { .. }
            | Self::NotUpgradable { .. } => 426,
            Self::MethodNotAllowed { .. } => 405,
            Self::PlainConnect
            | Self::MissingConnectionUpgrade
            | Self::MissingHeader { .. }
            | Self::RepeatedHeader { .. }
            | Self::InvalidHost { .. }
            | Self::ConflictingHost { .. }
            | Self::UnexpectedContent { .. }
            | Self::InvalidKey
            | Self::InvalidSubprotocol { .. }
            | Self::RepeatedSubprotocol { .. } => 400,
            // RFC 9220 §3
            Self::UnsupportedProtocol { .. } => 501,
            Self::OriginNotAllowed { .. } => 403,
            Self::Draining(_) => 503,
        }
    }

    /// The answer's headers, without those of its content: `Sec-WebSocket-Version`
    /// always (RFC 6455 §4.4), and what the status asks for besides.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, Cow<'static, str>)> + use<> {
        let (upgrade, allow, retry_after) = match self {
            Self::UpgradeRequired { http }
            | Self::UnsupportedVersion { http, .. }
            | Self::NotUpgradable { http } => (http.has_upgrade_header(), false, None),
            Self::MethodNotAllowed { .. } => (false, true, None),
            Self::Draining(draining) => (false, false, Some(draining.retry_after())),
            Self::PlainConnect
            | Self::UnsupportedProtocol { .. }
            | Self::MissingConnectionUpgrade
            | Self::MissingHeader { .. }
            | Self::RepeatedHeader { .. }
            | Self::InvalidHost { .. }
            | Self::ConflictingHost { .. }
            | Self::UnexpectedContent { .. }
            | Self::InvalidKey
            | Self::InvalidSubprotocol { .. }
            | Self::RepeatedSubprotocol { .. }
            | Self::OriginNotAllowed { .. } => (false, false, None),
        };
        [
            Some(("Sec-WebSocket-Version", "13".into())),
            upgrade.then_some(("Upgrade", "websocket".into())),
            // RFC 9110 §7.8: who sends Upgrade names it in Connection.
            upgrade.then_some(("Connection", "Upgrade".into())),
            allow.then_some(("Allow", "GET".into())),
            retry_after.map(|seconds| ("Retry-After", seconds.to_string().into())),
        ]
        .into_iter()
        .flatten()
    }

    /// Whether the request is an ordinary one, which a handler for both may answer.
    #[must_use]
    pub const fn is_upgrade_required(&self) -> bool {
        matches!(self, Self::UpgradeRequired { .. })
    }
}
