//! The span that lives as long as a connection.
//!
//! It is a child of the request's, made where the handshake is checked, and costs
//! nothing where nobody listens: then there is none.

use std::net::SocketAddr;

use tokio::time::Instant;
use tracing::{Span, debug, debug_span, field::Empty};

use super::{protocol::CloseCode, slow::SlowPeer};

/// The span of a socket, in that of the request.
pub(super) fn begin(is_extended_connect: bool) -> Span {
    debug_span!(
        target: "towpath::connection",
        "websocket",
        peer = Empty,
        route = Empty,
        protocol = if is_extended_connect { "HTTP/2" } else { "HTTP/1.1" },
        subprotocol = Empty,
        extensions = Empty,
        user = Empty,
    )
}

pub(super) fn record_peer(span: &Span, peer: SocketAddr) {
    span.record("peer", tracing::field::display(peer));
}

/// What of a connection its span tells at the end; only where somebody listens.
#[derive(Debug)]
pub(super) struct Trace {
    span: Span,
    began: Instant,
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    end: Option<(&'static str, Option<CloseCode>)>,
}

impl Trace {
    /// `None` where nobody listens.
    pub(super) fn open(span: Span, read_ahead: usize, now: Instant) -> Option<Box<Self>> {
        if span.is_disabled() {
            return None;
        }
        span.in_scope(|| debug!(target: "towpath::connection", "WebSocket open"));
        Some(Box::new(Self {
            span,
            began: now,
            messages_in: 0,
            messages_out: 0,
            bytes_in: read_ahead as u64,
            bytes_out: 0,
            end: None,
        }))
    }

    pub(super) const fn span(&self) -> &Span {
        &self.span
    }

    /// The peer takes less than it is sent: see `WsConfig::slow_at`.
    pub(super) fn slow(&self, peer: &SlowPeer) {
        self.span.in_scope(|| {
            debug!(
                target: "towpath::connection",
                buffered_messages = peer.buffered_messages,
                buffered_bytes = peer.buffered_bytes,
                "slow consumer",
            );
        });
    }

    /// Why it ends; the first reason is the reason.
    pub(super) const fn ends(&mut self, cause: &'static str, code: Option<CloseCode>) {
        if self.end.is_none() {
            self.end = Some((cause, code));
        }
    }

    /// Another reason than it had: what that said of the end did not come true.
    pub(super) const fn ends_instead(&mut self, cause: &'static str, code: CloseCode) {
        self.end = Some((cause, Some(code)));
    }

    /// The one event of its end. Without a close frame the code is 1006
    /// (RFC 6455 §7.4.1).
    pub(super) fn closed(&self, otherwise: &'static str) {
        let (cause, code) = match self.end {
            Some((cause, code)) => (cause, code.map_or(1005, CloseCode::get)),
            None => (otherwise, 1006),
        };
        self.span.in_scope(|| {
            debug!(
                target: "towpath::connection",
                cause,
                code,
                messages_in = self.messages_in,
                messages_out = self.messages_out,
                bytes_in = self.bytes_in,
                bytes_out = self.bytes_out,
                duration = ?self.began.elapsed(),
                "WebSocket closed",
            );
        });
    }
}
