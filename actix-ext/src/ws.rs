use std::{
    fmt,
    future::{Future, Ready, ready},
};

use actix_web::{
    FromRequest, Handler, HttpMessage, HttpRequest, HttpResponse, Responder, Route,
    dev::Payload,
    http::{Version, header::HeaderMap},
    web,
};
use bytes::Bytes;
use towpath::{
    Expiry,
    backpressure::PermitSlots,
    ws::{
        HandlerError, Negotiation, WebSocket, WsConfig, WsSettings, drive,
        handshake::{self, HeaderLines, HttpVersion, RequestHead},
    },
};

use crate::{UpgradeRejection, pump::pump, socket::Socket};

/// Routes the handshakes of WebSockets, which are GETs, to `handler`.
///
/// In a `web::resource` other methods get actix's 405, in `App::route`, as for every
/// route of its own there, 404.
///
/// HTTP/2's handshake is an extended CONNECT (RFC 8441), which actix-web does not speak:
/// browsers then open a connection of HTTP/1.1 for it.
///
/// ```
/// use actix_web::{App, HttpResponse};
/// use towpath::ws::{HandlerError, WebSocket};
/// use towpath_actix::{WsUpgrade, ws};
///
/// async fn echo(mut socket: WebSocket) -> Result<(), HandlerError> {
///     while let Some(message) = socket.recv().await? {
///         socket.send(message).await?;
///     }
///     Ok(())
/// }
/// async fn upgrade(upgrade: WsUpgrade) -> HttpResponse { upgrade.on_upgrade(echo) }
///
/// let app = App::new().route("/echo", ws(upgrade));
/// # let _ = app;
/// ```
pub fn ws<F, Args>(handler: F) -> Route
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::get().to(handler)
}

/// A request that asks for a WebSocket, checked, and not yet answered (RFC 6455 §4.2).
///
/// As an argument of a handler it refuses every other request with what
/// [`UpgradeRejection`] says; `Option<WsUpgrade>` and `Result<WsUpgrade, _>` leave that
/// to the handler. Its settings are those of the innermost
/// [`WsLayer`](struct@crate::WsLayer), or the defaults.
///
/// Give [`on_connect`](crate::on_connect) to the server, too: it says why.
///
/// ```
/// use actix_web::Responder;
/// use towpath_actix::WsUpgrade;
///
/// async fn chat(upgrade: WsUpgrade) -> impl Responder {
///     upgrade.protocols(["chat.v2", "chat.v1"]).on_upgrade(|mut socket| async move {
///         socket.send("welcome").await?;
///         Ok(())
///     })
/// }
/// # let _ = actix_web::web::get().to(chat);
/// ```
#[must_use = "nothing is upgraded until `on_upgrade` is called and its response returned"]
pub struct WsUpgrade {
    negotiation: Negotiation,
    payload: Payload,
    socket: Option<Socket>,
}

impl WsUpgrade {
    fn new(request: &HttpRequest, payload: &mut Payload) -> Result<Self, UpgradeRejection> {
        let settings = request.extensions().get::<WsSettings>().cloned();
        let settings = settings.unwrap_or_default();
        let stats = settings.counters();
        let http = version(request.version());
        let head = RequestHead {
            method: request.method().as_str(),
            version: http,
            authority: request
                .uri()
                .authority()
                .map(|authority| authority.as_str()),
            protocol: None,
            lines: &Lines(request.headers()),
        };
        let negotiation = Negotiation::new(&head, settings)?;
        if let Payload::None = payload {
            stats.count_rejected();
            return Err(handshake::UpgradeRejection::NotUpgradable { http }.into());
        }
        let permits = request.extensions().get::<PermitSlots>().cloned();
        let expiry = request.extensions().get::<Expiry>().cloned();
        let mut negotiation = negotiation
            .permits(permits.unwrap_or_default())
            .expires_at(expiry);
        if negotiation.is_traced() {
            if let Some(peer) = request.peer_addr() {
                negotiation = negotiation.peer(peer);
            }
            if let Some(route) = request.match_pattern() {
                negotiation = negotiation.route(&route);
            }
        }
        Ok(Self {
            negotiation,
            payload: payload.take(),
            socket: request.conn_data::<Socket>().cloned(),
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

    /// Who the user is, for the connection's span. A handler that learns it later records
    /// it: `tracing::Span::current().record("user", …)`.
    pub fn user(mut self, user: impl fmt::Display) -> Self {
        self.negotiation = self.negotiation.user(user);
        self
    }

    /// Closes the socket with 3000, "credential expired", at that time, unless the
    /// [`Expiry`] is refreshed; in place of the one in the request's extensions, where
    /// whoever authenticated may have put it.
    pub fn expires_at(mut self, expiry: impl Into<Expiry>) -> Self {
        self.negotiation = self.negotiation.expires_at(expiry.into());
        self
    }

    /// The response that accepts; `handler` is given the socket.
    ///
    /// The handler runs in a task of the worker's thread, for as long as it likes, and
    /// need not be [`Send`]. Its end closes the socket with 1000, its error or panic
    /// with 1011.
    ///
    /// # Panics
    /// Outside of a worker of actix.
    pub fn on_upgrade<H, F>(self, handler: H) -> HttpResponse
    where
        H: FnOnce(WebSocket) -> F + 'static,
        F: Future<Output = Result<(), HandlerError>> + 'static,
    {
        let mut response = HttpResponse::SwitchingProtocols();
        // Sets `Connection` too, which actix writes by itself.
        response.upgrade("websocket");
        for (name, value) in self.negotiation.answer().headers() {
            if !matches!(name, "Connection" | "Upgrade") {
                response.insert_header((name, value));
            }
        }
        let (mut body, transport) = pump(self.payload, self.socket);
        let accepted = self.negotiation.accept(Bytes::new());
        body.run(drive(transport, accepted, handler));
        response.body(body)
    }

    /// As [`on_upgrade`](Self::on_upgrade), for a handler that returns nothing.
    ///
    /// # Panics
    /// Outside of a worker of actix.
    pub fn on_upgrade_infallible<H, F>(self, handler: H) -> HttpResponse
    where
        H: FnOnce(WebSocket) -> F + 'static,
        F: Future<Output = ()> + 'static,
    {
        self.on_upgrade(|socket| async move {
            handler(socket).await;
            Ok(())
        })
    }
}

impl fmt::Debug for WsUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsUpgrade")
            .field("negotiation", &self.negotiation)
            .finish_non_exhaustive()
    }
}

impl FromRequest for WsUpgrade {
    type Error = UpgradeRejection;
    type Future = Ready<Result<Self, UpgradeRejection>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Self::new(request, payload))
    }
}

struct Lines<'a>(&'a HeaderMap);

impl HeaderLines for Lines<'_> {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        self.0.get_all(name).map(|value| value.as_bytes())
    }
}

fn version(version: Version) -> HttpVersion {
    match version {
        Version::HTTP_10 => HttpVersion::Http10,
        Version::HTTP_11 => HttpVersion::Http11,
        Version::HTTP_2 => HttpVersion::Http2,
        Version::HTTP_3 => HttpVersion::Http3,
        // The type is open; what is not known is not upgraded.
        _ => HttpVersion::Http09,
    }
}
