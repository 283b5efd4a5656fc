use std::fmt;

use super::{error::ProtocolError, message::Text};

/// Why a connection is closed, as a number (RFC 6455 §7.4).
///
/// ```
/// use towpath::ws::CloseCode;
/// assert_eq!(CloseCode::NORMAL.get(), 1000);
/// assert!(CloseCode::new(4001).is_some());
/// assert!(CloseCode::new(1006).is_none(), "never on the wire");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: done.
    pub const NORMAL: Self = Self(1000);
    /// 1001: idle, or leaving for good.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a type of data that is not taken here.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1007: not UTF-8, or not what was declared.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: against a policy: a rate, too many fragments.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: the message is too big.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: a client misses an extension that it asked for.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: the handler failed or panicked.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: drain: come back, another server will serve you.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: overload: come back later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway had no answer from behind it.
    pub const BAD_GATEWAY: Self = Self(1014);
    /// 3000: a credential is missing or has expired.
    pub const UNAUTHORIZED: Self = Self(3000);
    /// 3003: the credential does not allow it.
    pub const FORBIDDEN: Self = Self(3003);

    /// The code, where it may stand in a close frame: 1000–1003, 1007–1014 and
    /// 3000–4999 (RFC 6455 §7.4 and IANA's registry).
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

/// What a close frame says: code and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The code.
    pub code: CloseCode,
    /// The reason, for logs: at most 123 bytes.
    pub reason: Text,
}

impl CloseFrame {
    /// The longest reason: a control frame's payload less the code (RFC 6455 §5.5).
    pub const MAX_REASON: usize = 123;

    /// A close frame. A reason of more than 123 bytes is cut at the last whole
    /// character that fits.
    pub fn new(code: CloseCode, reason: impl Into<Text>) -> Self {
        let reason = reason.into();
        if reason.as_bytes().len() <= Self::MAX_REASON {
            return Self { code, reason };
        }
        let text = reason.as_str();
        let end = (0..=Self::MAX_REASON)
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        Self {
            code,
            reason: text[..end].into(),
        }
    }

    /// Reads the payload of a close frame; an empty one is `None` (RFC 6455 §5.5.1).
    pub(crate) fn parse(payload: &[u8]) -> Result<Option<Self>, ProtocolError> {
        let (code, reason) = match payload {
            [] => return Ok(None),
            [_] => return Err(ProtocolError::ShortClosePayload),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        };
        let code = CloseCode::new(code).ok_or(ProtocolError::InvalidCloseCode(code))?;
        let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
        Ok(Some(Self {
            code,
            reason: reason.into(),
        }))
    }
}
