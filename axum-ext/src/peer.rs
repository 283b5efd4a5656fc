use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use http::request::Parts;
use towpath::backpressure::Key;

/// The [`Key`] of the peer's address, for [`BackpressureLayer::by_key`]; none where the
/// app is not served with its peers' addresses.
///
/// Behind a proxy it is the proxy's.
///
/// ```
/// use std::net::SocketAddr;
/// use axum::{Router, routing::get};
/// use towpath_axum::backpressure::{BackpressureLayer, Limits, peer_key};
///
/// let layer = BackpressureLayer::new(Limits::new().max_per_key(20)).by_key(peer_key);
/// let app: Router = Router::new().route("/feed", get(|| async { "…" })).layer(layer);
/// let service = app.into_make_service_with_connect_info::<SocketAddr>();
/// # let _ = service;
/// ```
///
/// [`BackpressureLayer::by_key`]: towpath::backpressure::BackpressureLayer::by_key
#[must_use]
pub fn peer_key(parts: &Parts) -> Option<Key> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(Key::peer(peer.0.ip()))
}
