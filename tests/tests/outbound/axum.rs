//! The app over axum.

use std::net::SocketAddr;

use ::axum::{Router, extract::State, response::Response, routing::get, serve::ListenerExt};
use tokio::net::TcpListener;
use towpath::hub::Events;
use towpath_axum::{
    Sse, WsLayer, WsUpgrade,
    backpressure::{BackpressureLayer, Overflow},
    on_connect, ws,
};

use super::House;

async fn count(upgrade: WsUpgrade, State(house): State<House>) -> Response {
    upgrade.on_upgrade(move |socket| house.count(socket))
}

async fn configured(upgrade: WsUpgrade, State(house): State<House>) -> Response {
    let upgrade = upgrade.configure(|config| config.outbound_messages(5));
    upgrade.on_upgrade(move |socket| house.count(socket))
}

async fn stuck(upgrade: WsUpgrade, State(house): State<House>) -> Response {
    upgrade.on_upgrade(move |socket| house.stuck(socket))
}

async fn lag(upgrade: WsUpgrade, State(house): State<House>) -> Response {
    let subscription = house.behind(None).await;
    upgrade.on_upgrade(move |socket| house.forward(subscription, socket))
}

async fn own(upgrade: WsUpgrade, State(house): State<House>) -> Response {
    let subscription = house.behind(Some(Overflow::Block)).await;
    upgrade.on_upgrade(move |socket| house.forward(subscription, socket))
}

async fn feed(State(house): State<House>) -> Sse<Events> {
    Sse::from(house.behind(None).await).stats(&house.stats)
}

async fn own_feed(State(house): State<House>) -> Sse<Events> {
    Sse::from(house.behind(Some(Overflow::Block)).await).stats(&house.stats)
}

pub(crate) async fn serve(house: House) -> SocketAddr {
    let routes = Router::new()
        .route("/count", ws(count))
        .route("/stuck", ws(stuck))
        .route("/lag", ws(lag))
        .route("/own", ws(own))
        .route("/feed", get(feed))
        .route("/own/feed", get(own_feed));
    let outer = BackpressureLayer::new(super::outer());
    let inner = BackpressureLayer::new(super::inner());
    let limited = Router::new()
        .nest("/layer", routes.clone())
        .nest("/nested", routes.clone().layer(inner))
        .nest("/ws", routes.clone().layer(WsLayer.outbound_messages(4)))
        .route("/configured/count", ws(configured))
        .layer(outer);
    let app = Router::new()
        .nest("/plain", routes)
        .merge(limited)
        .with_state(house.clone())
        // Around all of it: it says nothing of what waits.
        .layer(WsLayer.stats(house.stats));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let serve = ::axum::serve(listener.tap_io(on_connect), app);
    tokio::spawn(serve.into_future());
    address
}
