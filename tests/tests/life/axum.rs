//! The app over axum.

use std::net::SocketAddr;

use ::axum::{
    Extension, Router,
    extract::{RawQuery, Request, State},
    http::StatusCode,
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::{get, post},
    serve::ListenerExt,
};
use futures_util::Stream;
use tokio::net::TcpListener;
use tower_http::trace::TraceLayer;
use towpath::hub::Events;
use towpath_axum::{Event, Expiry, Sse, WsLayer, WsUpgrade, on_connect, ws};
use towpath_tests::routes;

use super::House;

#[derive(Clone)]
struct User(String);

async fn authenticate(
    State(house): State<House>,
    mut request: Request,
    next: Next,
) -> Result<Response, StatusCode> {
    let user = routes::user(request.uri().query()).ok_or(StatusCode::UNAUTHORIZED)?;
    let session = house.session(&user).ok_or(StatusCode::UNAUTHORIZED)?;
    request.extensions_mut().insert(session);
    request.extensions_mut().insert(User(user));
    Ok(next.run(request).await)
}

async fn echo(
    upgrade: WsUpgrade,
    State(house): State<House>,
    Extension(User(user)): Extension<User>,
) -> Response {
    let upgrade = upgrade.user(&user);
    upgrade.on_upgrade(move |socket| house.echo(user, socket))
}

async fn stuck(
    upgrade: WsUpgrade,
    State(house): State<House>,
    Extension(User(user)): Extension<User>,
) -> Response {
    let upgrade = upgrade.configure(super::stuck);
    upgrade.on_upgrade(move |socket| house.stuck(user, socket))
}

async fn chat(
    upgrade: WsUpgrade,
    State(house): State<House>,
    Extension(User(user)): Extension<User>,
) -> Response {
    let upgrade = upgrade.protocols(["chat.v2"]).configure(super::compressed);
    let upgrade = upgrade.user(&user);
    upgrade.on_upgrade(move |socket| house.echo(user, socket))
}

async fn flood(
    upgrade: WsUpgrade,
    State(house): State<House>,
    Extension(User(user)): Extension<User>,
) -> Response {
    let upgrade = upgrade.user(&user);
    upgrade.on_upgrade(move |socket| house.flood(socket))
}

async fn lag(
    upgrade: WsUpgrade,
    State(house): State<House>,
    Extension(User(user)): Extension<User>,
    RawQuery(query): RawQuery,
) -> Response {
    let subscription = house.behind(&user, query.as_deref()).await;
    let upgrade = upgrade.user(&user);
    upgrade.on_upgrade(move |socket| house.lag(user, subscription, socket))
}

async fn lagging_feed(
    State(house): State<House>,
    Extension(User(user)): Extension<User>,
    RawQuery(query): RawQuery,
) -> Sse<Events> {
    let subscription = house.behind(&user, query.as_deref()).await;
    Sse::from(subscription).user(user).stats(&house.stats)
}

async fn feed(
    State(house): State<House>,
    Extension(User(user)): Extension<User>,
    Extension(expiry): Extension<Expiry>,
) -> Sse<impl Stream<Item = Event>> {
    Sse::new(super::feed())
        .user(user)
        .expires_at(expiry)
        .stats(&house.stats)
}

async fn trap(
    State(house): State<House>,
    Extension(User(user)): Extension<User>,
) -> Sse<impl Stream<Item = Event>> {
    Sse::new(super::trap()).user(user).stats(&house.stats)
}

async fn refresh(State(house): State<House>, Extension(User(user)): Extension<User>) -> StatusCode {
    match house.refresh(&user) {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::UNAUTHORIZED,
    }
}

pub(crate) async fn serve(house: House) -> SocketAddr {
    let app = Router::new()
        .route("/echo", ws(echo))
        .route("/stuck", ws(stuck))
        .route("/chat", ws(chat))
        .route("/flood", ws(flood))
        .route("/lag", ws(lag))
        .route("/lag/feed", get(lagging_feed))
        .route("/feed", get(feed))
        .route("/trap", get(trap))
        .route("/refresh", post(refresh))
        .layer(WsLayer.stats(house.stats.clone()))
        .layer(from_fn_with_state(house.clone(), authenticate))
        .layer(
            TraceLayer::new_for_http().make_span_with(|_: &Request| tracing::info_span!("request")),
        )
        .with_state(house);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    // Over HTTP/2 nothing else knows the peer.
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let serve = ::axum::serve(listener.tap_io(on_connect), app);
    tokio::spawn(serve.into_future());
    address
}
