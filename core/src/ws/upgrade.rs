use std::{fmt::Display, future::Future, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::HeaderName, request::Parts};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{
    Accepted, HandlerError, IoTransport, TcpTransport, WebSocket, WsConfig, WsSettings,
    driver::drive,
    handshake::{HttpVersion, UpgradeRejection},
    http2::{Http2Transport, StreamWriter},
    negotiation::Negotiation,
    span,
};
use crate::{Expiry, backpressure::PermitSlots};

/// A request that asks for a WebSocket, checked, and not yet answered
/// (RFC 6455 §4.2, RFC 8441).
///
/// Dropped, it has cost nothing: whatever else is answered goes to the client.
///
/// ```
/// use http::{Request, Response};
/// use towpath::ws::{WebSocket, WsUpgrade, handshake::UpgradeRejection};
///
/// fn chat<B>(request: Request<B>) -> Result<Response<String>, UpgradeRejection> {
///     let (mut parts, _) = request.into_parts();
///     let upgrade = WsUpgrade::from_parts(&mut parts)?.protocols(["chat.v2", "chat.v1"]);
///     Ok(upgrade.on_upgrade(|mut socket: WebSocket| async move {
///         socket.send("welcome").await?;
///         Ok(())
///     }))
/// }
/// ```
#[derive(Debug)]
#[must_use = "nothing is upgraded until `on_upgrade` is called and its response returned"]
pub struct WsUpgrade {
    negotiation: Negotiation,
    on_upgrade: OnUpgrade,
    peer_is_known: bool,
}

impl WsUpgrade {
    /// Checks `parts`, with the settings that a [`WsLayer`](struct@super::WsLayer)
    /// left there, and takes the connection's upgrade out of them.
    ///
    /// # Errors
    /// Why there is no upgrade; it is counted as rejected.
    pub fn from_parts(parts: &mut Parts) -> Result<Self, UpgradeRejection> {
        let settings = WsSettings::of(&parts.extensions);
        let stats = settings.counters();
        let negotiation = Negotiation::of_parts(parts, settings)?;
        let Some(on_upgrade) = parts.extensions.remove::<OnUpgrade>() else {
            stats.count_rejected();
            let http = HttpVersion::from(parts.version);
            return Err(UpgradeRejection::NotUpgradable { http });
        };
        let permits = parts.extensions.get::<PermitSlots>().cloned();
        Ok(Self {
            negotiation: negotiation
                .permits(permits.unwrap_or_default())
                .expires_at(parts.extensions.get::<Expiry>().cloned()),
            on_upgrade,
            peer_is_known: false,
        })
    }

    /// Chooses the first of `supported`, in this order, that the client offers
    /// (RFC 6455 §1.9); where it offers none of them the socket has none.
    pub fn protocols<S: AsRef<str>>(mut self, supported: impl IntoIterator<Item = S>) -> Self {
        self.negotiation = self.negotiation.protocols(supported);
        self
    }

    /// The subprotocol that was chosen.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.negotiation.protocol()
    }

    /// The subprotocols that the client offers, in its order.
    pub fn offered(&self) -> impl Iterator<Item = &str> {
        self.negotiation.offered()
    }

    /// Changes the settings for this socket alone.
    pub fn configure(mut self, change: impl FnOnce(WsConfig) -> WsConfig) -> Self {
        self.negotiation = self.negotiation.configure(change);
        self
    }

    /// Who the peer is, for the connection's span: over TCP it
    /// is found by itself.
    pub fn peer(mut self, peer: SocketAddr) -> Self {
        self.peer_is_known = true;
        self.negotiation = self.negotiation.peer(peer);
        self
    }

    /// The pattern of the route, for the connection's span.
    pub fn route(mut self, route: &str) -> Self {
        self.negotiation = self.negotiation.route(route);
        self
    }

    /// Who the user is, for the connection's span. A handler that learns it later records
    /// it: `tracing::Span::current().record("user", …)`.
    pub fn user(mut self, user: impl Display) -> Self {
        self.negotiation = self.negotiation.user(user);
        self
    }

    /// Closes the socket with 3000, "credential expired", at that time, unless the
    /// [`Expiry`] is refreshed; in place of the one in the request's extensions.
    pub fn expires_at(mut self, expiry: impl Into<Expiry>) -> Self {
        self.negotiation = self.negotiation.expires_at(expiry.into());
        self
    }

    /// The response that accepts; once it is sent, `handler` is given the socket.
    ///
    /// The handler runs in the driver's own task, for as long as it likes. Its
    /// end closes the socket with 1000, its error or panic with 1011.
    pub fn on_upgrade<H, F, B>(self, handler: H) -> Response<B>
    where
        H: FnOnce(WebSocket) -> F + Send + 'static,
        F: Future<Output = Result<(), HandlerError>> + Send + 'static,
        B: Default,
    {
        let mut response = Response::new(B::default());
        let answer = self.negotiation.answer();
        *response.status_mut() =
            StatusCode::from_u16(answer.status()).unwrap_or(StatusCode::SWITCHING_PROTOCOLS);
        for (name, value) in answer.headers() {
            // Tokens and base64, all of them.
            if let (Ok(name), Ok(value)) =
                (name.parse::<HeaderName>(), HeaderValue::from_str(value))
            {
                response.headers_mut().insert(name, value);
            }
        }
        let stream = self
            .negotiation
            .is_extended_connect()
            .then(StreamWriter::ask_for);
        let (on_upgrade, finds_peer) = (self.on_upgrade, !self.peer_is_known);
        let accepted = self.negotiation.accept(Bytes::new());
        // A small task awaits the upgrade and ends; it keeps nothing of the
        // request, which would pin the connection's read buffer.
        tokio::spawn(async move {
            match on_upgrade.await {
                Ok(upgraded) => match stream {
                    None => start(upgraded, accepted, finds_peer, handler),
                    Some(writer) => {
                        let transport = Http2Transport::new(TokioIo::new(upgraded), writer);
                        tokio::spawn(drive(transport, accepted, handler));
                    }
                },
                Err(error) => tracing::debug!(%error, "the WebSocket upgrade failed"),
            }
        });
        response
    }

    /// As [`on_upgrade`](Self::on_upgrade), for a handler that returns nothing.
    pub fn on_upgrade_infallible<H, F, B>(self, handler: H) -> Response<B>
    where
        H: FnOnce(WebSocket) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
        B: Default,
    {
        self.on_upgrade(|socket| async move {
            handler(socket).await;
            Ok(())
        })
    }
}

/// Spawns the driver over the barest stream that can be had: below TCP there
/// is no need for hyper's wrapper.
fn start<H, F>(upgraded: Upgraded, mut accepted: Accepted, finds_peer: bool, handler: H)
where
    H: FnOnce(WebSocket) -> F + Send + 'static,
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    type Tcp = TokioIo<TcpStream>;
    let parts = hyper_util::server::conn::auto::upgrade::downcast::<Tcp>(upgraded)
        .map(|parts| (parts.io, parts.read_buf))
        .or_else(|upgraded| {
            let parts = upgraded.downcast::<Tcp>()?;
            Ok::<_, Upgraded>((parts.io, parts.read_buf))
        });
    match parts {
        Ok((io, read_ahead)) => {
            // A copy of its own: the rest of hyper's buffer goes.
            accepted.read_ahead = Bytes::copy_from_slice(&read_ahead);
            let stream = io.into_inner();
            if finds_peer
                && !accepted.span.is_disabled()
                && let Ok(peer) = stream.peer_addr()
            {
                span::record_peer(&accepted.span, peer);
            }
            let transport = TcpTransport::new(stream);
            tokio::spawn(drive(transport, accepted, handler));
        }
        Err(upgraded) => {
            let transport = IoTransport::new(TokioIo::new(upgraded));
            tokio::spawn(drive(transport, accepted, handler));
        }
    }
}
