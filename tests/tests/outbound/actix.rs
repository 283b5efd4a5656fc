//! The app over actix-web.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_web::{
    App, HttpServer, Responder,
    web::{self, Data, ServiceConfig},
};
use towpath_actix::{
    Sse, WsLayer, WsUpgrade,
    backpressure::{BackpressureLayer, Overflow},
    on_connect, ws,
};

use super::House;

async fn count(upgrade: WsUpgrade, house: Data<House>) -> impl Responder {
    let house = House::clone(&house);
    upgrade.on_upgrade(move |socket| house.count(socket))
}

async fn configured(upgrade: WsUpgrade, house: Data<House>) -> impl Responder {
    let house = House::clone(&house);
    let upgrade = upgrade.configure(|config| config.outbound_messages(5));
    upgrade.on_upgrade(move |socket| house.count(socket))
}

async fn stuck(upgrade: WsUpgrade, house: Data<House>) -> impl Responder {
    let house = House::clone(&house);
    upgrade.on_upgrade(move |socket| house.stuck(socket))
}

async fn lag(upgrade: WsUpgrade, house: Data<House>) -> impl Responder {
    let house = House::clone(&house);
    let subscription = house.behind(None).await;
    upgrade.on_upgrade(move |socket| house.forward(subscription, socket))
}

async fn own(upgrade: WsUpgrade, house: Data<House>) -> impl Responder {
    let house = House::clone(&house);
    let subscription = house.behind(Some(Overflow::Block)).await;
    upgrade.on_upgrade(move |socket| house.forward(subscription, socket))
}

async fn feed(house: Data<House>) -> impl Responder {
    Sse::from(house.behind(None).await).stats(&house.stats)
}

async fn own_feed(house: Data<House>) -> impl Responder {
    Sse::from(house.behind(Some(Overflow::Block)).await).stats(&house.stats)
}

fn routes(app: &mut ServiceConfig) {
    app.route("/count", ws(count))
        .route("/stuck", ws(stuck))
        .route("/lag", ws(lag))
        .route("/own", ws(own))
        .route("/feed", web::get().to(feed))
        .route("/own/feed", web::get().to(own_feed));
}

pub(crate) fn serve(house: House) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let outer = BackpressureLayer::new(super::outer());
    let inner = BackpressureLayer::new(super::inner());
    let app = move || {
        let four = WsLayer.outbound_messages(4).stats(house.stats.clone());
        let limited = web::scope("")
            .service(web::scope("/layer").configure(routes))
            .service(web::scope("/nested").configure(routes).wrap(inner.clone()))
            .service(web::scope("/ws").configure(routes).wrap(four))
            .route("/configured/count", ws(configured))
            .wrap(outer.clone());
        App::new()
            .app_data(Data::new(house.clone()))
            .service(web::scope("/plain").configure(routes))
            .service(limited)
            // Around all of it: it says nothing of what waits.
            .wrap(WsLayer.stats(house.stats.clone()))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .on_connect(on_connect)
        .client_disconnect_timeout(Duration::ZERO)
        .disable_signals()
        .listen(listener)
        .expect("it listens");
    tokio::spawn(server.run());
    address
}
