//! The service under test.

use std::{convert::Infallible, future, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};
use tower::service_fn;
use tower_layer::Layer;
use towpath::{
    Drain, Stats,
    sse::{Event, HEADERS, LastEventId, Sse},
    testing::{TestRequest, TestServer},
    ws::{CloseCode, Error, WebSocket, WsLayer, WsUpgrade},
};

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Ends = UnboundedSender<Result<(), Error>>;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A server, and what it says of its sockets.
pub(crate) struct Site {
    pub(crate) server: TestServer,
    pub(crate) stats: Stats,
    pub(crate) drain: Drain,
    ends: UnboundedReceiver<Result<(), Error>>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(WsLayer)
    }

    pub(crate) fn with(layer: WsLayer) -> Self {
        let (sender, ends) = unbounded_channel();
        let stats = Stats::new();
        let drain = Drain::new(5 * SECOND);
        let layer = layer.stats(stats.clone()).drain(drain.clone());
        let service = {
            let (stats, drain) = (stats.clone(), drain.clone());
            service_fn(move |request| answer(request, sender.clone(), stats.clone(), drain.clone()))
        };
        Self {
            server: TestServer::new(layer.layer(service)),
            stats,
            drain,
            ends,
        }
    }

    /// A request over HTTP/1.1, and the same over HTTP/2.
    pub(crate) fn both(&self, path: &str) -> [TestRequest; 2] {
        [self.server.get(path), self.server.get(path).http2()]
    }

    /// How the next handler ended.
    pub(crate) async fn handler_end(&mut self) -> Result<(), Error> {
        timeout(600 * SECOND, self.ends.recv())
            .await
            .expect("the handler ends")
            .expect("a handler")
    }

    /// The driver ends behind its handler.
    pub(crate) async fn nothing_is_left(&self) {
        tokio::time::sleep(SECOND).await;
        let now = self.stats.snapshot();
        assert_eq!((now.websockets, now.sse_streams), (0, 0));
    }
}

async fn answer(
    request: Request<Incoming>,
    ends: Ends,
    stats: Stats,
    drain: Drain,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/ticks" | "/count" => events(&request, &path, &stats, &drain),
        "/plain" => plain(request).await,
        "/declined" => {
            let (mut parts, _) = request.into_parts();
            let upgrade = WsUpgrade::from_parts(&mut parts).expect("an upgrade");
            drop(upgrade);
            let mut response = text("not today");
            *response.status_mut() = StatusCode::FORBIDDEN;
            response
        }
        _ => upgrade(request, &path, ends),
    })
}

fn upgrade(request: Request<Incoming>, path: &str, ends: Ends) -> Response<Body> {
    let (mut parts, _) = request.into_parts();
    let upgrade = match WsUpgrade::from_parts(&mut parts) {
        Ok(upgrade) => upgrade.protocols(["chat.v2", "chat.v1"]),
        Err(rejection) => return Response::<String>::from(&rejection).map(BodyExt::boxed_unsync),
    };
    let path = path.to_owned();
    upgrade.on_upgrade(move |socket| async move {
        let end = match path.as_str() {
            "/echo" => echo(socket).await,
            "/flood" => flood(socket).await,
            "/bye" => bye(socket).await,
            other => unreachable!("{other}"),
        };
        // A test may not ask.
        let _ = ends.send(end);
        Ok(())
    })
}

async fn echo(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

async fn flood(mut socket: WebSocket) -> Result<(), Error> {
    loop {
        socket.send(vec![0; 16 * 1024]).await?;
    }
}

async fn bye(mut socket: WebSocket) -> Result<(), Error> {
    socket
        .close(CloseCode::new(4001).expect("valid"), "bye")
        .await?;
    while socket.recv().await?.is_some() {}
    Ok(())
}

/// Says everything that it was asked.
async fn plain(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let headers = &parts.headers;
    text(format!(
        "{} {} {headers:?} {body:?}",
        parts.method,
        parts.uri.path()
    ))
}

fn text(text: impl Into<String>) -> Response<Body> {
    Response::new(text.into().boxed_unsync())
}

/// `/count`: the numbers to five behind the last that was seen; `/ticks`: the
/// same and then silence.
fn events(request: &Request<Incoming>, path: &str, stats: &Stats, drain: &Drain) -> Response<Body> {
    let header = request.headers().get("last-event-id");
    let last = LastEventId::new(
        header.map(http::HeaderValue::as_bytes),
        request.uri().query(),
    );
    let seen: u64 = last.id().map_or(0, |id| id.parse().expect("a number"));
    let numbers = stream::iter(seen + 1..=5).map(|n| Event::new().id(n).data(n.to_string()));
    let silence = stream::once(future::pending());
    let sse = match path {
        "/ticks" => Sse::new(numbers.chain(silence).boxed()),
        _ => Sse::new(numbers.boxed()),
    };
    match sse.stats(stats).drain(drain).into_body() {
        Ok(body) => {
            let mut response = Response::builder();
            for (name, value) in HEADERS {
                response = response.header(name, value);
            }
            response.body(body.boxed_unsync()).expect("valid")
        }
        Err(draining) => Response::builder()
            .status(StatusCode::from_u16(draining.status()).expect("a status"))
            .header("retry-after", draining.retry_after())
            .body(draining.to_string().boxed_unsync())
            .expect("valid"),
    }
}
