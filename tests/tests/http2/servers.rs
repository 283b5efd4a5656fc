//! The same handler behind every server that hyper makes.

use std::convert::Infallible;

use axum::{Router, ServiceExt, response::Response, routing::get, serve::ListenerExt};
use http::Request;
use hyper::{body::Incoming as Body, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;
use tower::Layer;
use towpath::ws::{HandlerError, WebSocket};
use towpath_axum::{WsExecutor, WsLayer, WsUpgrade, on_connect, ws};
use towpath_tests::{
    http2::{Client, HANDSHAKE, connect, settings},
    process::SOON,
    tls::{Identity, server_config},
    ws::Incoming,
};

use super::{ends, works};

async fn echo(mut socket: WebSocket) -> Result<(), HandlerError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

async fn upgrade(upgrade: WsUpgrade) -> Response {
    upgrade.on_upgrade(echo)
}

async fn listener() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// `axum::serve` with this app.
async fn serve(app: Router) -> (Client, JoinHandle<()>) {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let served = axum::serve(listener.tap_io(on_connect), app).await;
        served.expect("served");
    });
    (Client::open(address).await, server)
}

async fn round(client: &mut Client) {
    assert!(client.extended_connect());
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(client.socket("/echo", &[]).await);
    }
    for mut socket in sockets {
        socket.send(vec![5; 1 << 20]).await;
        assert_eq!(socket.message().await.len(), 1 << 20);
        ends(socket, 1000).await;
    }
    // Without a close frame, and the server's own end.
    let mut socket = client.socket("/echo", &[]).await;
    socket.shutdown().await;
    assert_eq!(socket.next().await, Incoming::Fin);
    works(client).await;
}

#[tokio::test]
async fn axum_serve_routes_connect_by_ws() {
    let app = Router::new().route("/echo", ws(upgrade)).layer(WsLayer);
    let (mut client, server) = serve(app).await;
    round(&mut client).await;
    server.abort();
}

#[tokio::test]
async fn axum_serve_without_a_layer_is_the_same() {
    let (mut client, server) = serve(Router::new().route("/echo", ws(upgrade))).await;
    round(&mut client).await;
    server.abort();
}

#[tokio::test]
async fn a_route_of_get_alone_refuses_connect() {
    let app = Router::new().route("/echo", get(upgrade)).layer(WsLayer);
    let (mut client, server) = serve(app).await;
    let request = connect("websocket", "/echo", &HANDSHAKE);
    let (head, _stream) = client.send(request, false).await;
    assert_eq!(head.status, 405);
    server.abort();
}

#[tokio::test]
async fn connect_as_get_around_a_whole_app_reaches_a_route_of_get() {
    let app = Router::new().route("/echo", get(upgrade));
    let app = WsLayer::new()
        .max_message_size(2 << 20)
        .connect_as_get()
        .layer(app);
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let make = ServiceExt::<Request<axum::body::Body>>::into_make_service(app);
        axum::serve(listener.tap_io(on_connect), make)
            .await
            .expect("served");
    });
    let mut client = Client::open(address).await;
    round(&mut client).await;
    // Its settings count.
    let mut socket = client.socket("/echo", &[]).await;
    socket.send(vec![5; (2 << 20) + 1]).await;
    assert_eq!(socket.close_frame().await.code.get(), 1009);
    assert_eq!(socket.next().await, Incoming::Fin);
    // What is no handshake is left as it is, and refused by the router.
    for protocol in ["connect-udp", "websocket2"] {
        let request = connect(protocol, "/echo", &HANDSHAKE);
        let (head, _stream) = client.send(request, false).await;
        assert_eq!(head.status, 405, "{protocol}");
    }
    server.abort();
}

async fn plain(request: Request<Body>) -> Result<Response<String>, Infallible> {
    let (mut parts, _) = request.into_parts();
    Ok(match towpath::ws::WsUpgrade::from_parts(&mut parts) {
        Ok(upgrade) => upgrade.on_upgrade(echo),
        Err(rejection) => (&rejection).into(),
    })
}

#[tokio::test]
async fn plain_hyper_serves_it_with_either_executor() {
    for of_ours in [true, false] {
        let (listener, address) = listener().await;
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("accepted");
            let (io, service) = (TokioIo::new(stream), service_fn(plain));
            if of_ours {
                let mut builder = hyper::server::conn::http2::Builder::new(WsExecutor);
                builder.enable_connect_protocol();
                builder.serve_connection(io, service).await
            } else {
                let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                builder.enable_connect_protocol();
                builder.serve_connection(io, service).await
            }
        });
        let mut client = Client::open(address).await;
        round(&mut client).await;
        client.ended().await.expect("in order");
        let served = tokio::time::timeout(SOON, server).await.expect("it ends");
        served.expect("no panic").expect("in order");
    }
}

#[tokio::test]
async fn a_server_over_tls_speaks_what_alpn_says() {
    let identity = Identity::new();
    let config = server_config(identity.certificate().as_ref(), identity.key().as_ref());
    let acceptor = TlsAcceptor::from(std::sync::Arc::new(config.expect("a certificate")));
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepted");
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.expect("TLS");
                let mut builder = hyper_util::server::conn::auto::Builder::new(WsExecutor);
                builder.http2().enable_connect_protocol();
                let io = TokioIo::new(stream);
                let _ = builder
                    .serve_connection_with_upgrades(io, service_fn(plain))
                    .await;
            });
        }
    });
    let stream = identity.connect(address, &[b"h2"]).await;
    round(&mut Client::over(stream, &settings()).await).await;
    let stream = identity.connect(address, &[b"http/1.1"]).await;
    let connection = towpath_tests::http::Connection::from(stream);
    let mut socket = towpath_tests::ws::WebSocket::upgrade(connection, "/echo", &[]).await;
    socket.send("over HTTP/1.1").await;
    assert_eq!(socket.text().await, "over HTTP/1.1");
    socket.close(1000).await;
    assert_eq!(socket.closed().await.code.get(), 1000);
    server.abort();
}
