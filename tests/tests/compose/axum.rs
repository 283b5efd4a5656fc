//! Over axum, with the middleware of tower-http.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use ::axum::{
    Extension, Router, ServiceExt,
    extract::{ConnectInfo, Path, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, Route, get},
    serve::ListenerExt,
};
use futures_util::Stream;
use tokio::{net::TcpListener, time::sleep};
use tower::{Layer, Service};
use tower_http::{
    auth::AsyncRequireAuthorizationLayer, catch_panic::CatchPanicLayer,
    compression::CompressionLayer, cors::CorsLayer, set_header::SetResponseHeaderLayer,
    timeout::TimeoutLayer, validate_request::ValidateRequestHeaderLayer,
};
use towpath_axum::{Event, Sse, WsLayer, WsUpgrade, on_connect, ws};
use towpath_tests::{http, process::Framework, sse::EventStream, ws as client};

use super::{ANN, BOB, House, Server, User};

async fn chat(
    upgrade: WsUpgrade,
    State(house): State<House>,
    Extension(User(user)): Extension<User>,
    Path(room): Path<String>,
) -> Response {
    upgrade.on_upgrade(move |socket| super::visit(house, socket, user, room))
}

async fn feed(
    State(house): State<House>,
    Extension(User(user)): Extension<User>,
    Path(room): Path<String>,
) -> Sse<impl Stream<Item = Event>> {
    let stats = house.stats.clone();
    Sse::new(super::feed(house, &user, &room)).stats(&stats)
}

async fn chat_on_floor(
    upgrade: WsUpgrade,
    State(house): State<House>,
    Extension(User(user)): Extension<User>,
    Path((floor, room)): Path<(u8, String)>,
) -> Response {
    let place = format!("floor {floor}, {room}");
    upgrade.on_upgrade(move |socket| super::visit(house, socket, user, place))
}

async fn feed_on_floor(
    State(house): State<House>,
    Extension(User(user)): Extension<User>,
    Path((floor, room)): Path<(u8, String)>,
) -> Sse<impl Stream<Item = Event>> {
    let stats = house.stats.clone();
    Sse::new(super::feed(house, &user, &format!("floor {floor}, {room}"))).stats(&stats)
}

fn routes() -> Router<House> {
    routes_of(ws(chat), get(feed))
}

fn routes_of(chat: MethodRouter<House>, feed: MethodRouter<House>) -> Router<House> {
    Router::new()
        .route("/rooms/{room}", chat)
        .route("/rooms/{room}/feed", feed)
}

fn with_stats(house: &House) -> WsLayer {
    WsLayer.stats(house.stats.clone())
}

pub(crate) async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

pub(crate) async fn serve(app: Router) -> SocketAddr {
    let listener = listen().await;
    let address = listener.local_addr().expect("bound");
    let serve = ::axum::serve(listener.tap_io(on_connect), app);
    tokio::spawn(serve.into_future());
    address
}

/// A server of an app that is given its house.
async fn server(prefix: &'static str, app: impl FnOnce(&House) -> Router) -> Server {
    let house = House::new("east");
    Server {
        framework: Framework::Axum,
        address: serve(app(&house)).await,
        house,
        prefix,
    }
}

/// Who the bearer of the request's token is, or the answer to one that has none.
#[expect(clippy::result_large_err, reason = "tower-http asks for it")]
fn authenticate(request: &mut Request) -> Result<(), Response> {
    let header = request.headers().get(header::AUTHORIZATION);
    let key = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(user) = key.and_then(User::of_key) else {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        return Err((StatusCode::UNAUTHORIZED, challenge, "a key, please").into_response());
    };
    request.extensions_mut().insert(user);
    Ok(())
}

async fn authenticate_later(mut request: Request) -> Result<Request, Response> {
    tokio::task::yield_now().await;
    authenticate(&mut request).map(|()| request)
}

/// In each place that axum has for a layer, inside and outside of ours.
async fn authentication_composes<L>(layer: L)
where
    L: Layer<Route> + Clone + Send + Sync + 'static,
    L::Service: Service<Request, Response: IntoResponse, Error: Into<Infallible>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type App<'a> = &'a dyn Fn(&House) -> Router;
    let auth = || layer.clone();
    let places: [(&str, &str, App<'_>); 6] = [
        ("", "", &|house| {
            let routes = routes().layer(with_stats(house)).layer(auth());
            routes.with_state(house.clone())
        }),
        ("", "", &|house| {
            let routes = routes().layer(auth()).layer(with_stats(house));
            routes.with_state(house.clone())
        }),
        ("", "", &|house| {
            let routes = routes().route_layer(auth()).layer(with_stats(house));
            routes.with_state(house.clone())
        }),
        ("", "", &|house| {
            let routes = routes_of(ws(chat).layer(auth()), get(feed).layer(auth()));
            routes.layer(with_stats(house)).with_state(house.clone())
        }),
        ("/west/wing", "", &|house| {
            let routes = routes().layer(auth()).layer(with_stats(house));
            let wing = Router::new().nest("/wing", routes);
            let app = Router::new().nest("/west", wing);
            app.with_state(house.clone())
        }),
        ("/floors/3", "floor 3, ", &|house| {
            let routes = routes_of(ws(chat_on_floor), get(feed_on_floor));
            let app = Router::new().nest("/floors/{floor}", routes);
            let app = app.layer(with_stats(house)).layer(auth());
            app.with_state(house.clone())
        }),
    ];
    for (prefix, place, app) in places {
        let server = server(prefix, app).await;
        server.knows_its_visitors(place).await;
        server.keeps_strangers_out().await;
    }
}

#[tokio::test]
async fn validate_request_header_composes() {
    authentication_composes(ValidateRequestHeaderLayer::custom(authenticate)).await;
}

#[tokio::test]
async fn async_require_authorization_composes() {
    authentication_composes(AsyncRequireAuthorizationLayer::new(authenticate_later)).await;
}

#[tokio::test]
async fn an_unknown_path_is_404_in_front_of_a_route_layer() {
    let server = server("", |house| {
        let auth = ValidateRequestHeaderLayer::custom(authenticate);
        let routes = routes().layer(with_stats(house)).route_layer(auth);
        routes.with_state(house.clone())
    });
    let server = server.await;
    let unknown = http::get(server.address, "/halls/red").await;
    assert_eq!(unknown.status, 404);
    server.keeps_strangers_out().await;
}

#[tokio::test]
async fn a_nested_router_has_a_state_of_its_own() {
    let (east, west) = (House::new("east"), House::new("west"));
    let nested = routes().with_state(west.clone());
    let app = routes()
        .with_state(east)
        .nest("/west", nested)
        .layer(WsLayer)
        .layer(Extension(User("cleo".to_owned())));
    let address = serve(app).await;
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

#[tokio::test]
async fn make_services_serve_and_tell_the_peers_address() {
    async fn who(upgrade: WsUpgrade, ConnectInfo(peer): ConnectInfo<SocketAddr>) -> Response {
        upgrade.on_upgrade(async move |mut socket| Ok(socket.send(peer.to_string()).await?))
    }
    let house = House::new("east");
    let app = || {
        let routes = routes().layer(Extension(User("cleo".to_owned())));
        let routes = routes.route("/who", ws(who)).layer(WsLayer);
        routes.with_state(house.clone())
    };

    let plain = listen().await;
    let address = plain.local_addr().expect("bound");
    let serve = ::axum::serve(plain.tap_io(on_connect), app().into_make_service());
    tokio::spawn(serve.into_future());
    let mut socket = client::WebSocket::open(address, "/rooms/red").await;
    assert_eq!(socket.text().await, "east, visitor 1");

    let informed = listen().await;
    let address = informed.local_addr().expect("bound");
    let service = app().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(::axum::serve(informed.tap_io(on_connect), service).into_future());
    let mut socket = client::WebSocket::open(address, "/who").await;
    let ours = socket.stream().local_addr().expect("connected");
    assert_eq!(socket.text().await, ours.to_string());
}

#[tokio::test]
async fn of_two_layers_the_inner_one_counts() {
    let echo = || ws(|upgrade: WsUpgrade| async { upgrade.on_upgrade(super::echo) });
    let limit = |bytes| WsLayer.max_message_size(bytes);
    super::the_inner_limit_counts(|outer, inner| {
        let app = Router::new().route("/echo", echo());
        serve(app.layer(limit(inner)).layer(limit(outer)))
    })
    .await;
    super::the_inner_limit_counts(|outer, inner| {
        let app = Router::new().route("/echo", echo().layer(limit(inner)));
        serve(app.layer(limit(outer)))
    })
    .await;
    super::the_inner_limit_counts(|outer, inner| {
        let nested = Router::new().route("/echo", echo()).layer(limit(inner));
        serve(Router::new().merge(nested).layer(limit(outer)))
    })
    .await;
}

/// Shorter than what it is around lives.
const TIMEOUT: Duration = Duration::from_millis(200);

/// Everything of tower-http that one may have around an app.
#[expect(clippy::panic, reason = "that is what is caught")]
fn wrapped(house: &House) -> Router {
    let served_by = HeaderName::from_static("x-served-by");
    let trap = ws(|upgrade: WsUpgrade| async { upgrade.on_upgrade(super::trap) });
    let falls = get(|| async { panic!("as wanted") as &'static str });
    routes()
        .route("/trap", trap)
        .route("/falls", falls)
        .route("/page", get(|| async { "a text to compress ".repeat(100) }))
        .route("/slow", get(std::future::pending::<()>))
        .layer(with_stats(house))
        .layer(ValidateRequestHeaderLayer::custom(authenticate))
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            TIMEOUT,
        ))
        .layer(CompressionLayer::new())
        .layer(CorsLayer::permissive())
        .layer(SetResponseHeaderLayer::overriding(
            served_by,
            HeaderValue::from_static("east"),
        ))
        .with_state(house.clone())
}

/// What a browser would send along; the origin is that of the request's own host.
const BROWSER: [(&str, &str); 3] = [
    ANN,
    ("Accept-Encoding", "gzip"),
    ("Origin", "http://testbed.example"),
];

fn assert_wrapped(header: impl Fn(&'static str) -> Option<String>, encoding: Option<&str>) {
    assert_eq!(header("x-served-by").as_deref(), Some("east"));
    assert_eq!(header("access-control-allow-origin").as_deref(), Some("*"));
    assert_eq!(header("content-encoding").as_deref(), encoding);
}

#[tokio::test]
async fn what_is_around_an_app_keeps_its_headers_on_the_101_and_its_hands_off_the_rest() {
    let server = server("", wrapped).await;
    let address = server.address;
    // All of it is at work.
    let page = http::request(address, "GET", "/page", &BROWSER, b"").await;
    assert_wrapped(|name| page.get(name).map(str::to_owned), Some("gzip"));
    for (path, status) in [("/slow", 504), ("/falls", 500)] {
        let response = http::request(address, "GET", path, &BROWSER, b"").await;
        assert_eq!(response.status, status, "{path}");
        assert_wrapped(|name| response.get(name).map(str::to_owned), None);
    }

    let mut socket = client::WebSocket::open_with(address, "/rooms/red", &BROWSER).await;
    let head = socket.head().clone();
    assert_wrapped(|name| head.get(name).map(str::to_owned), None);
    let mut events = EventStream::open_with(address, "/rooms/red/feed", &BROWSER).await;
    let head = events.head().clone();
    assert_wrapped(|name| head.get(name).map(str::to_owned), None);
    let greetings = [socket.text().await, events.event().await.data];
    assert!(greetings[1].ends_with(": ann in red"), "{greetings:?}");

    // The time-out is one for an answer's head.
    sleep(TIMEOUT * 2).await;
    socket.send("still here").await;
    assert_eq!(socket.text().await, "ann in red: still here");
    server.house.bell.notify_one();
    assert_eq!(events.event().await.data, "the bell");

    let mut trapped = client::WebSocket::open_with(address, "/trap", &BROWSER).await;
    trapped.send("step").await;
    assert_eq!(trapped.closed().await.code.get(), 1011);
    socket.send("unharmed").await;
    assert_eq!(socket.text().await, "ann in red: unharmed");
    server.keeps_strangers_out().await;
}

/// Layers of tower, not of a router, and ours among them.
#[tokio::test]
async fn the_same_holds_around_a_finished_app() {
    let house = House::new("east");
    let app = tower::ServiceBuilder::new()
        .layer(SetResponseHeaderLayer::overriding(
            HeaderName::from_static("x-served-by"),
            HeaderValue::from_static("east"),
        ))
        .layer(ValidateRequestHeaderLayer::custom(authenticate))
        .layer(with_stats(&house).connect_as_get())
        .service(routes().with_state(house.clone()));
    let listener = listen().await;
    let address = listener.local_addr().expect("bound");
    let app = ServiceExt::<Request>::into_make_service(app);
    tokio::spawn(::axum::serve(listener.tap_io(on_connect), app).into_future());
    let mut socket = client::WebSocket::open_with(address, "/rooms/red", &[BOB]).await;
    assert_eq!(socket.head().get("x-served-by"), Some("east"));
    assert_eq!(socket.text().await, "east, visitor 1");
    let server = Server {
        framework: Framework::Axum,
        address,
        house,
        prefix: "",
    };
    server.knows_its_visitors("").await;
    server.keeps_strangers_out().await;
}
