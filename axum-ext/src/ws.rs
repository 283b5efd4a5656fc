#[cfg(test)]
mod tests;

use std::{fmt::Display, future::Future, net::SocketAddr};

use axum::{
    extract::{ConnectInfo, FromRequestParts, MatchedPath, OptionalFromRequestParts},
    response::Response,
};
use http::request::Parts;
use towpath::{
    Expiry,
    ws::{HandlerError, WebSocket, WsConfig, WsSettings, handshake::check_parts},
};

use crate::UpgradeRejection;

/// A request that asks for a WebSocket, checked, and not yet answered.
///
/// It works with and without a [`WsLayer`](struct@crate::WsLayer), which only changes
/// its settings, and is routed by [`ws`](crate::ws()). `Option<WsUpgrade>` is `None` only
/// where no upgrade was asked for; one that may not be is refused there too. Dropped,
/// it has cost nothing: whatever else the handler answers goes to the client.
///
/// ```
/// use axum::{Extension, Router, response::Response};
/// use towpath_axum::{WsLayer, WsUpgrade, ws};
///
/// #[derive(Clone)]
/// struct User(String);
///
/// async fn chat(upgrade: WsUpgrade, Extension(user): Extension<User>) -> Response {
///     upgrade.protocols(["chat.v2"]).on_upgrade(move |mut socket| async move {
///         socket.send(format!("welcome, {}", user.0)).await?;
///         while let Some(message) = socket.recv().await? {
///             socket.send(message).await?;
///         }
///         Ok(())
///     })
/// }
///
/// let app: Router = Router::new()
///     .route("/chat", ws(chat))
///     .layer(WsLayer)
///     .layer(Extension(User("ann".into())));
/// ```
#[derive(Debug)]
#[must_use = "nothing is upgraded until `on_upgrade` is called and its response returned"]
pub struct WsUpgrade(towpath::ws::WsUpgrade);

impl WsUpgrade {
    /// Chooses the first of `supported`, in this order, that the client offers
    /// (RFC 6455 §1.9); where it offers none of them the socket has none.
    pub fn protocols<P: AsRef<str>>(self, supported: impl IntoIterator<Item = P>) -> Self {
        Self(self.0.protocols(supported))
    }

    /// The subprotocol that was chosen.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.0.protocol()
    }

    /// The subprotocols that the client offers, in its order.
    pub fn offered(&self) -> impl Iterator<Item = &str> {
        self.0.offered()
    }

    /// Changes the settings for this socket alone.
    pub fn configure(self, change: impl FnOnce(WsConfig) -> WsConfig) -> Self {
        Self(self.0.configure(change))
    }

    /// Who the user is, for the connection's span. A handler that learns it later records
    /// it: `tracing::Span::current().record("user", …)`.
    pub fn user(self, user: impl Display) -> Self {
        Self(self.0.user(user))
    }

    /// Closes the socket with 3000, "credential expired", at that time, unless the
    /// [`Expiry`] is refreshed; in place of the one in the request's extensions, where
    /// whoever authenticated may have put it.
    pub fn expires_at(self, expiry: impl Into<Expiry>) -> Self {
        Self(self.0.expires_at(expiry))
    }

    /// The response that accepts; once it is sent, `handler` is given the socket.
    ///
    /// The handler runs in the connection's own task, for as long as it likes. Its end
    /// closes the socket with 1000, its error or panic with 1011. What it takes along of
    /// the request's headers or URI keeps eight kilobytes of hyper's read buffer alive:
    /// better a copy of what it needs.
    pub fn on_upgrade<H, F>(self, handler: H) -> Response
    where
        H: FnOnce(WebSocket) -> F + Send + 'static,
        F: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        self.0.on_upgrade(handler)
    }

    /// As [`on_upgrade`](Self::on_upgrade), for a handler that returns nothing.
    pub fn on_upgrade_infallible<H, F>(self, handler: H) -> Response
    where
        H: FnOnce(WebSocket) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.on_upgrade_infallible(handler)
    }
}

impl<S: Sync> FromRequestParts<S> for WsUpgrade {
    type Rejection = UpgradeRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let mut upgrade = towpath::ws::WsUpgrade::from_parts(parts)?;
        if let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() {
            upgrade = upgrade.peer(*peer);
        }
        if let Some(route) = parts.extensions.get::<MatchedPath>() {
            upgrade = upgrade.route(route.as_str());
        }
        Ok(Self(upgrade))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for WsUpgrade {
    type Rejection = UpgradeRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> Result<Option<Self>, Self::Rejection> {
        // Looked at beforehand: an ordinary request is not counted as refused.
        let settings = WsSettings::of(&parts.extensions);
        if check_parts(parts, &settings).is_err_and(|reason| reason.is_upgrade_required()) {
            return Ok(None);
        }
        <Self as FromRequestParts<S>>::from_request_parts(parts, state)
            .await
            .map(Some)
    }
}
