use super::{
    extensions::{Agreement, Offered},
    key::AcceptValue,
    subprotocol::Subprotocols,
};
use crate::ws::WsConfig;

/// A handshake that may be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// `None` for an extended CONNECT, which has no key.
    accept: Option<AcceptValue>,
    offered: Subprotocols,
    extensions: Offered,
}

impl Handshake {
    pub(super) const fn new(
        accept: Option<AcceptValue>,
        offered: Subprotocols,
        extensions: Offered,
    ) -> Self {
        Self {
            accept,
            offered,
            extensions,
        }
    }

    /// What of the extensions that the client offers `config` agrees to.
    pub(crate) fn agree(&self, config: &WsConfig) -> Agreement {
        self.extensions.agree(config)
    }

    /// The subprotocols that the client offers.
    #[must_use]
    pub const fn offered(&self) -> &Subprotocols {
        &self.offered
    }

    /// Whether it came as an extended CONNECT of HTTP/2 or later (RFC 8441).
    #[must_use]
    pub const fn is_extended_connect(&self) -> bool {
        self.accept.is_none()
    }

    /// The answer that accepts it, with the subprotocol that was chosen among those
    /// [`offered`](Self::offered); one that was not offered is left out, since the
    /// client would fail the connection for it (RFC 6455 §4.1).
    #[must_use]
    pub fn answer<'a>(&'a self, subprotocol: Option<&'a str>) -> Answer<'a> {
        Answer {
            accept: self.accept.as_ref(),
            subprotocol: subprotocol.and_then(|name| self.offered.choose([name])),
            extensions: None,
        }
    }
}

/// The head of the response that accepts a handshake (RFC 6455 §4.2.2, RFC 8441 §5).
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    accept: Option<&'a AcceptValue>,
    subprotocol: Option<&'a str>,
    extensions: Option<&'a str>,
}

impl<'a> Answer<'a> {
    /// With the value of `Sec-WebSocket-Extensions`.
    pub(crate) const fn with_extensions(mut self, value: Option<&'a str>) -> Self {
        self.extensions = value;
        self
    }

    /// 101, or 200 to an extended CONNECT.
    #[must_use]
    pub const fn status(&self) -> u16 {
        if self.accept.is_some() { 101 } else { 200 }
    }

    /// The headers. Each value is one that a header may have.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &'a str)> + use<'a> {
        [
            self.accept.map(|_| ("Upgrade", "websocket")),
            self.accept.map(|_| ("Connection", "Upgrade")),
            self.accept
                .map(|accept| ("Sec-WebSocket-Accept", accept.as_str())),
            self.subprotocol
                .map(|name| ("Sec-WebSocket-Protocol", name)),
            self.extensions
                .map(|value| ("Sec-WebSocket-Extensions", value)),
        ]
        .into_iter()
        .flatten()
    }
}
