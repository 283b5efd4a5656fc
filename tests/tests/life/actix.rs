//! The app over actix-web.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_web::{
    App, Error, HttpMessage, HttpRequest, HttpResponse, HttpServer, Responder,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error::ErrorUnauthorized,
    middleware::{Next, from_fn},
    web::{self, Data, ReqData},
};
use towpath_actix::{Expiry, Sse, WsLayer, WsUpgrade, on_connect, ws};
use towpath_tests::routes;

use tracing::Instrument;

use super::House;

#[derive(Clone)]
struct User(String);

async fn authenticate(
    house: Data<House>,
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let unauthorized = || ErrorUnauthorized("who are you?");
    let user = routes::user(request.uri().query()).ok_or_else(unauthorized)?;
    let session = house.session(&user).ok_or_else(unauthorized)?;
    request.extensions_mut().insert(session);
    request.extensions_mut().insert(User(user));
    next.call(request).await
}

/// What `tracing-actix-web` does.
async fn trace(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let span = tracing::info_span!("request");
    next.call(request).instrument(span).await
}

async fn echo(upgrade: WsUpgrade, house: Data<House>, user: ReqData<User>) -> impl Responder {
    let house = House::clone(&house);
    let User(user) = user.into_inner();
    let upgrade = upgrade.user(&user);
    upgrade.on_upgrade(move |socket| house.echo(user, socket))
}

async fn stuck(upgrade: WsUpgrade, house: Data<House>, user: ReqData<User>) -> impl Responder {
    let house = House::clone(&house);
    let User(user) = user.into_inner();
    let upgrade = upgrade.configure(super::stuck);
    upgrade.on_upgrade(move |socket| house.stuck(user, socket))
}

async fn chat(upgrade: WsUpgrade, house: Data<House>, user: ReqData<User>) -> impl Responder {
    let house = House::clone(&house);
    let User(user) = user.into_inner();
    let upgrade = upgrade.protocols(["chat.v2"]).configure(super::compressed);
    let upgrade = upgrade.user(&user);
    upgrade.on_upgrade(move |socket| house.echo(user, socket))
}

async fn flood(upgrade: WsUpgrade, house: Data<House>, user: ReqData<User>) -> impl Responder {
    let house = House::clone(&house);
    let upgrade = upgrade.user(user.into_inner().0);
    upgrade.on_upgrade(move |socket| house.flood(socket))
}

async fn lag(
    upgrade: WsUpgrade,
    request: HttpRequest,
    house: Data<House>,
    user: ReqData<User>,
) -> impl Responder {
    let house = House::clone(&house);
    let User(user) = user.into_inner();
    let subscription = house.behind(&user, request.uri().query()).await;
    let upgrade = upgrade.user(&user);
    upgrade.on_upgrade(move |socket| house.lag(user, subscription, socket))
}

async fn lagging_feed(
    request: HttpRequest,
    house: Data<House>,
    user: ReqData<User>,
) -> impl Responder {
    let User(user) = user.into_inner();
    let subscription = house.behind(&user, request.uri().query()).await;
    Sse::from(subscription).user(user).stats(&house.stats)
}

async fn feed(house: Data<House>, user: ReqData<User>, expiry: ReqData<Expiry>) -> impl Responder {
    Sse::new(super::feed())
        .user(user.into_inner().0)
        .expires_at(expiry.into_inner())
        .stats(&house.stats)
}

async fn trap(house: Data<House>, user: ReqData<User>) -> impl Responder {
    Sse::new(super::trap())
        .user(user.into_inner().0)
        .stats(&house.stats)
}

async fn refresh(house: Data<House>, user: ReqData<User>) -> HttpResponse {
    match house.refresh(&user.into_inner().0) {
        true => HttpResponse::NoContent().finish(),
        false => HttpResponse::Unauthorized().finish(),
    }
}

pub(crate) fn serve(house: House) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let app = move || {
        App::new()
            .app_data(Data::new(house.clone()))
            .route("/echo", ws(echo))
            .route("/stuck", ws(stuck))
            .route("/chat", ws(chat))
            .route("/flood", ws(flood))
            .route("/lag", ws(lag))
            .route("/lag/feed", web::get().to(lagging_feed))
            .route("/feed", web::get().to(feed))
            .route("/trap", web::get().to(trap))
            .route("/refresh", web::post().to(refresh))
            .wrap(WsLayer.stats(house.stats.clone()))
            .wrap(from_fn(authenticate))
            .wrap(from_fn(trace))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .on_connect(on_connect)
        .h1_allow_half_closed(false)
        .client_disconnect_timeout(Duration::ZERO)
        .disable_signals()
        .listen(listener)
        .expect("it listens");
    tokio::spawn(server.run());
    address
}
