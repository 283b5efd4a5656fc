//! Over actix-web, with the middleware of actix-web and actix-web-httpauth.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_web::{
    App, Error, HttpMessage, HttpServer, Resource, Responder, Scope,
    dev::{Service, ServiceRequest},
    middleware::{DefaultHeaders, NormalizePath, from_fn},
    web::{self, Data, ReqData, ServiceConfig},
};
use actix_web_httpauth::{
    extractors::{AuthenticationError, bearer::BearerAuth},
    headers::www_authenticate::bearer::Bearer,
    middleware::HttpAuthentication,
};
use towpath_actix::{Sse, WsLayer, WsUpgrade, on_connect, ws};
use towpath_tests::{http, process::Framework, sse::EventStream, ws as client};

use super::{ANN, House, Server, User};

async fn chat(
    upgrade: WsUpgrade,
    house: Data<House>,
    user: ReqData<User>,
    room: web::Path<String>,
) -> impl Responder {
    let (house, User(user)) = (House::clone(&house), user.into_inner());
    upgrade.on_upgrade(move |socket| super::visit(house, socket, user, room.into_inner()))
}

async fn feed(house: Data<House>, user: ReqData<User>, room: web::Path<String>) -> impl Responder {
    Sse::new(super::feed(House::clone(&house), &user.0, &room)).stats(&house.stats)
}

async fn chat_on_floor(
    upgrade: WsUpgrade,
    house: Data<House>,
    user: ReqData<User>,
    place: web::Path<(u8, String)>,
) -> impl Responder {
    let (house, User(user)) = (House::clone(&house), user.into_inner());
    let (floor, room) = place.into_inner();
    let place = format!("floor {floor}, {room}");
    upgrade.on_upgrade(move |socket| super::visit(house, socket, user, place))
}

async fn feed_on_floor(
    house: Data<House>,
    user: ReqData<User>,
    place: web::Path<(u8, String)>,
) -> impl Responder {
    let (floor, room) = place.into_inner();
    let place = format!("floor {floor}, {room}");
    Sse::new(super::feed(House::clone(&house), &user.0, &place)).stats(&house.stats)
}

fn chat_room() -> Resource {
    web::resource("/rooms/{room}").route(ws(chat))
}

fn feed_room() -> Resource {
    web::resource("/rooms/{room}/feed").route(web::get().to(feed))
}

fn routes(config: &mut ServiceConfig) {
    config.service(chat_room()).service(feed_room());
}

fn with_stats(house: &House) -> WsLayer {
    WsLayer.stats(house.stats.clone())
}

async fn authenticate(
    request: ServiceRequest,
    key: BearerAuth,
) -> Result<ServiceRequest, (Error, ServiceRequest)> {
    let Some(user) = User::of_key(key.token()) else {
        let challenge = AuthenticationError::new(Bearer::default());
        return Err((challenge.into(), request));
    };
    request.extensions_mut().insert(user);
    Ok(request)
}

/// Serves apps as the expression makes them, and is where that is: a function would have
/// to spell out what `HttpServer` asks of them.
macro_rules! serve {
    ($app:expr) => {{
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = HttpServer::new($app)
            // What they share is made outside.
            .workers(2)
            .on_connect(on_connect)
            .h1_allow_half_closed(false)
            .client_disconnect_timeout(Duration::ZERO)
            .disable_signals()
            .listen(listener)
            .expect("it listens");
        tokio::spawn(server.run());
        address
    }};
}

fn server(house: House, address: SocketAddr, prefix: &'static str) -> Server {
    Server {
        framework: Framework::Actix,
        address,
        house,
        prefix,
    }
}

#[tokio::test]
async fn bearer_authentication_of_an_app_composes() {
    let house = House::new("east");
    let shared = house.clone();
    let address = serve!(move || {
        App::new()
            .app_data(Data::new(shared.clone()))
            .configure(routes)
            .wrap(with_stats(&shared))
            .wrap(HttpAuthentication::bearer(authenticate))
    });
    let server = server(house, address, "");
    server.knows_its_visitors("").await;
    server.keeps_strangers_out().await;
}

#[tokio::test]
async fn bearer_authentication_inside_of_our_layer_composes() {
    let house = House::new("east");
    let shared = house.clone();
    let address = serve!(move || {
        App::new()
            .app_data(Data::new(shared.clone()))
            .configure(routes)
            .wrap(HttpAuthentication::bearer(authenticate))
            .wrap(with_stats(&shared))
    });
    let server = server(house, address, "");
    server.knows_its_visitors("").await;
    server.keeps_strangers_out().await;
}

#[tokio::test]
async fn bearer_authentication_of_a_scope_composes() {
    let house = House::new("east");
    let shared = house.clone();
    let address = serve!(move || {
        let chat = web::resource("/rooms/{room}").route(ws(chat_on_floor));
        let feed = web::resource("/rooms/{room}/feed").route(web::get().to(feed_on_floor));
        let floor = web::scope("/floors/{floor}").service(chat).service(feed);
        let floor = floor.wrap(HttpAuthentication::bearer(authenticate));
        App::new()
            .app_data(Data::new(shared.clone()))
            .service(web::scope("/tower").service(floor.wrap(with_stats(&shared))))
    });
    let server = server(house, address, "/tower/floors/3");
    server.knows_its_visitors("floor 3, ").await;
    server.keeps_strangers_out().await;
    let outside = http::get(address, "/floors/3/rooms/red").await;
    assert_eq!(outside.status, 404, "the scope's middleware is its own");
}

#[tokio::test]
async fn bearer_authentication_of_a_resource_composes() {
    let house = House::new("east");
    let shared = house.clone();
    let address = serve!(move || {
        let auth = || HttpAuthentication::bearer(authenticate);
        App::new()
            .app_data(Data::new(shared.clone()))
            .service(chat_room().wrap(with_stats(&shared)).wrap(auth()))
            .service(feed_room().wrap(auth()))
    });
    let server = server(house, address, "");
    server.knows_its_visitors("").await;
    server.keeps_strangers_out().await;
}

#[tokio::test]
async fn a_scope_has_app_data_of_its_own() {
    let (east, west) = (House::new("east"), House::new("west"));
    let of_west = west.clone();
    let address = serve!(move || {
        let scope = || -> Scope { web::scope("/west").app_data(Data::new(of_west.clone())) };
        App::new()
            .app_data(Data::new(east.clone()))
            .service(scope().configure(routes))
            .configure(routes)
            .wrap(WsLayer)
            .wrap_fn(|request, app| {
                let user = User("cleo".to_owned());
                request.extensions_mut().insert(user);
                app.call(request)
            })
    });
    for (path, house) in [("/rooms/red", "east"), ("/west/rooms/red", "west")] {
        let mut socket = client::WebSocket::open(address, path).await;
        assert_eq!(socket.text().await, format!("{house}, visitor 1"));
        socket.send("hello").await;
        assert_eq!(socket.text().await, "cleo in red: hello");
        let mut events = EventStream::open(address, &format!("{path}/feed")).await;
        let expected = format!("{house}, visitor 2: cleo in red");
        assert_eq!(events.event().await.data, expected);
    }
    assert_eq!(west.visitors(), 2);
}

async fn echo(upgrade: WsUpgrade) -> impl Responder {
    upgrade.on_upgrade(super::echo)
}

async fn trap(upgrade: WsUpgrade) -> impl Responder {
    upgrade.on_upgrade(super::trap)
}

#[tokio::test]
async fn of_two_layers_the_inner_one_counts() {
    let limit = |bytes| WsLayer.max_message_size(bytes);
    super::the_inner_limit_counts(|outer, inner| async move {
        serve!(move || {
            let app = App::new().service(web::resource("/echo").route(ws(echo)));
            app.wrap(limit(inner)).wrap(limit(outer))
        })
    })
    .await;
    super::the_inner_limit_counts(|outer, inner| async move {
        serve!(move || {
            let scope = web::scope("").route("/echo", ws(echo));
            App::new()
                .service(scope.wrap(limit(inner)))
                .wrap(limit(outer))
        })
    })
    .await;
    super::the_inner_limit_counts(|outer, inner| async move {
        serve!(move || {
            let resource = web::resource("/echo").route(ws(echo)).wrap(limit(inner));
            App::new().service(web::scope("").service(resource).wrap(limit(outer)))
        })
    })
    .await;
}

#[tokio::test]
async fn what_is_around_an_app_keeps_its_headers_on_the_101_and_its_hands_off_the_rest() {
    let house = House::new("east");
    let shared = house.clone();
    let address = serve!(move || {
        App::new()
            .app_data(Data::new(shared.clone()))
            .configure(routes)
            .service(web::resource("/trap").route(ws(trap)))
            .wrap(with_stats(&shared))
            .wrap(HttpAuthentication::bearer(authenticate))
            .wrap(from_fn(async |request: ServiceRequest, next| {
                let mut response = actix_web::middleware::Next::call(&next, request).await?;
                let name = actix_web::http::header::HeaderName::from_static("x-answered-by");
                let value = actix_web::http::header::HeaderValue::from_static("next");
                response.headers_mut().insert(name, value);
                Ok(response)
            }))
            .wrap(NormalizePath::trim())
            .wrap(DefaultHeaders::new().add(("X-Served-By", "east")))
    });
    // With a slash too many: what stands in front of the routing has its say.
    let mut socket = client::WebSocket::open_with(address, "/rooms/red/", &[ANN]).await;
    let mut events = EventStream::open_with(address, "/rooms/red/feed/", &[ANN]).await;
    for head in [socket.head(), events.head()] {
        assert_eq!(head.get("x-served-by"), Some("east"));
        assert_eq!(head.get("x-answered-by"), Some("next"));
    }
    let greetings = [socket.text().await, events.event().await.data];
    assert!(greetings[1].ends_with(": ann in red"), "{greetings:?}");
    socket.send("hello").await;
    assert_eq!(socket.text().await, "ann in red: hello");
    house.bell.notify_one();
    assert_eq!(events.event().await.data, "the bell");

    let mut trapped = client::WebSocket::open_with(address, "/trap", &[ANN]).await;
    trapped.send("step").await;
    assert_eq!(trapped.closed().await.code.get(), 1011);
    socket.send("unharmed").await;
    assert_eq!(socket.text().await, "ann in red: unharmed");
    server(house, address, "").keeps_strangers_out().await;
}
