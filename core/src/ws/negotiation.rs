use std::{fmt, net::SocketAddr};

use bytes::Bytes;
use http::request::Parts;
use tracing::Span;

use super::{
    Accepted, WsSettings,
    config::WsConfig,
    handshake::{self, Agreement, Answer, Handshake, HeaderLines, RequestHead, UpgradeRejection},
    protocol::{Role, Text},
    span,
};
use crate::{DrainGuard, Expiry, backpressure::PermitSlots};

/// A checked handshake, before its answer: what both frameworks' `WsUpgrade`
/// stand on. Made, it counts for the drain; dropped, nothing has happened.
#[derive(Debug)]
pub struct Negotiation {
    handshake: Handshake,
    settings: WsSettings,
    protocol: Option<Text>,
    agreement: Agreement,
    guard: Option<DrainGuard>,
    slots: PermitSlots,
    expiry: Option<Expiry>,
    span: Span,
}

impl Negotiation {
    /// Checks the request's head.
    ///
    /// # Errors
    /// Why there is no upgrade; it is counted as rejected.
    pub fn new<L: HeaderLines + ?Sized>(
        head: &RequestHead<'_, L>,
        settings: WsSettings,
    ) -> Result<Self, UpgradeRejection> {
        let checked = handshake::check(head, settings.origin_policy());
        Self::admit(checked, settings)
    }

    /// Checks a request of `http` 1.
    pub(crate) fn of_parts(parts: &Parts, settings: WsSettings) -> Result<Self, UpgradeRejection> {
        let checked = handshake::check_parts(parts, &settings);
        Self::admit(checked, settings)
    }

    fn admit(
        checked: Result<Handshake, UpgradeRejection>,
        settings: WsSettings,
    ) -> Result<Self, UpgradeRejection> {
        let admitted = checked.and_then(|handshake| {
            let guard = match settings.drain_handle() {
                Some(drain) => Some(drain.guard()?),
                None => None,
            };
            let span = span::begin(handshake.is_extended_connect());
            Ok((handshake, guard, span))
        });
        match admitted {
            Ok((handshake, guard, span)) => Ok(Self {
                agreement: handshake.agree(&settings),
                handshake,
                settings,
                protocol: None,
                guard,
                slots: PermitSlots::default(),
                expiry: None,
                span,
            }),
            Err(rejection) => {
                if rejection.status() != 405 {
                    settings.counters().count_rejected();
                }
                Err(rejection)
            }
        }
    }

    /// Chooses the first of `supported`, in this order, that the client offers
    /// (RFC 6455 §1.9).
    #[must_use]
    pub fn protocols<S: AsRef<str>>(mut self, supported: impl IntoIterator<Item = S>) -> Self {
        let chosen = self.handshake.offered().choose(supported);
        self.protocol = chosen.map(|name| name.as_ref().into());
        self
    }

    /// The subprotocol that was chosen.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The subprotocols that the client offers, in its order.
    pub fn offered(&self) -> impl Iterator<Item = &str> {
        self.handshake.offered().iter()
    }

    pub(crate) const fn is_extended_connect(&self) -> bool {
        self.handshake.is_extended_connect()
    }

    /// Changes the settings for this socket.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(WsConfig) -> WsConfig) -> Self {
        self.settings = change(WsConfig::clone(&self.settings)).into();
        self.agreement = self.handshake.agree(&self.settings);
        self
    }

    /// The permits of the layers that the request came through: the socket takes them
    /// when it is accepted. What these layers say of each connection counts where its
    /// settings say nothing.
    #[must_use]
    pub fn permits(mut self, slots: PermitSlots) -> Self {
        self.settings = self.settings.under(slots.outbound());
        self.slots = slots;
        self
    }

    /// Whether somebody listens to the connection's span.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        !self.span.is_disabled()
    }

    /// Who the peer is, for the connection's span.
    #[must_use]
    pub fn peer(self, peer: SocketAddr) -> Self {
        span::record_peer(&self.span, peer);
        self
    }

    /// The pattern of the route, for the connection's span.
    #[must_use]
    pub fn route(self, route: &str) -> Self {
        self.span.record("route", route);
        self
    }

    /// Who the user is, for the connection's span.
    #[must_use]
    pub fn user(self, user: impl fmt::Display) -> Self {
        self.span.record("user", tracing::field::display(user));
        self
    }

    /// When what the client was let in with expires.
    #[must_use]
    pub fn expires_at(mut self, expiry: impl Into<Option<Expiry>>) -> Self {
        self.expiry = expiry.into();
        self
    }

    /// The head of the response.
    #[must_use]
    pub fn answer(&self) -> Answer<'_> {
        self.handshake
            .answer(self.protocol())
            .with_extensions(self.agreement.header.as_deref())
    }

    /// What the driver begins with, and the bytes that came behind the handshake.
    #[must_use]
    pub fn accept(self, read_ahead: Bytes) -> Accepted {
        if let Some(protocol) = self.protocol() {
            self.span.record("subprotocol", protocol);
        }
        if let Some(extensions) = self.agreement.header.as_deref() {
            self.span.record("extensions", extensions);
        }
        Accepted {
            settings: self.settings,
            protocol: self.protocol,
            extensions: self.agreement.extensions,
            read_ahead,
            guard: self.guard,
            expiry: self.expiry,
            role: Role::Server,
            permits: self.slots.take(),
            span: self.span,
        }
    }
}
