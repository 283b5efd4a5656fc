//! The routes in actix-web.

use std::{io, net::TcpListener, process::ExitCode, time::Duration};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, Responder, ResponseError,
    http::{StatusCode, header},
    web::{self, Bytes, Data, Path, PayloadConfig, Query, ServiceConfig, resource},
};
use serde::Deserialize;
use towpath::{Stats, hub::TOWPATH_V1};
use towpath_actix::{LastEventId, Sse, WsLayer, WsUpgrade, on_connect, ws};

use super::{House, Name, Refused, Room, Signals, asset, handlers, topics};

/// Serves `house` on `listener` until a signal ends it.
///
/// # Errors
/// When the server fails.
pub async fn run(listener: TcpListener, house: House, signals: Signals) -> io::Result<ExitCode> {
    let shared = Data::new(house.clone());
    let server = HttpServer::new(move || {
        App::new()
            .wrap(WsLayer::new().drain(shared.drain.clone()))
            .app_data(PayloadConfig::new(topics::LARGEST_BODY))
            .app_data(shared.clone())
            .configure(routes)
    })
    .on_connect(on_connect)
    // Our FIN goes out at once, and a reader's is its end before it is written to.
    .client_disconnect_timeout(Duration::ZERO)
    .h1_allow_half_closed(false)
    .disable_signals()
    .listen(listener)?
    .run();
    let (handle, finished) = (server.handle(), house.drain.finished());
    actix_web::rt::spawn(async move {
        finished.await;
        handle.stop(true).await;
    });
    house.run(server, signals).await
}

fn routes(config: &mut ServiceConfig) {
    // Resources, not `App::route`: a wrong method gets 405 and not 404.
    config
        .service(resource("/rooms/{room}/ws").route(ws(talk)))
        .service(resource("/rooms/{room}/feed").get(feed))
        .service(resource("/echo").route(ws(echo)))
        .service(resource("/topics/{topic}").get(topic).post(publish))
        .service(resource("/topics/{topic}/ws").route(ws(topic_ws)))
        .service(resource("/healthz").get(healthz))
        .service(resource("/stats").get(stats))
        .service(resource(["/", "/{file}"]).get(page).head(page));
}

#[derive(Deserialize)]
struct Entry {
    name: String,
}

async fn talk(
    upgrade: WsUpgrade,
    house: Data<House>,
    room: Path<String>,
    entry: Query<Entry>,
    last: LastEventId,
) -> Result<impl Responder, Refused> {
    let (room, name): (Room, Name) = (room.parse()?, entry.name.parse()?);
    let house = House::clone(&house);
    let serve = handlers::serve(&house.talk, room.talk(), &last).await?;
    Ok(upgrade
        .protocols([TOWPATH_V1])
        .on_upgrade(move |socket| handlers::talk(socket, serve, house, room, name)))
}

async fn feed(
    house: Data<House>,
    room: Path<String>,
    last: LastEventId,
) -> Result<impl Responder, Refused> {
    let room: Room = room.parse()?;
    let serve = handlers::serve(&house.feeds, room.feed(), &last).await?;
    Ok(Sse::from(serve.into_sse()).drain(&house.drain).sse_retry())
}

async fn echo(upgrade: WsUpgrade) -> impl Responder {
    upgrade.on_upgrade(handlers::echo)
}

async fn topic(
    house: Data<House>,
    topic: Path<String>,
    last: LastEventId,
) -> Result<impl Responder, Refused> {
    let serve = handlers::serve(&house.topics, topic.into_inner(), &last).await?;
    Ok(Sse::from(serve.into_sse()).drain(&house.drain))
}

async fn topic_ws(
    upgrade: WsUpgrade,
    house: Data<House>,
    topic: Path<String>,
    last: LastEventId,
) -> Result<impl Responder, Refused> {
    let serve = handlers::serve(&house.topics, topic.into_inner(), &last).await?;
    Ok(upgrade
        .protocols([TOWPATH_V1])
        .on_upgrade(|socket| serve.run(socket)))
}

async fn publish(
    house: Data<House>,
    topic: Path<String>,
    Query(query): Query<topics::PublishQuery>,
    request: HttpRequest,
    body: Bytes,
) -> Result<impl Responder, Refused> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.map(|value| value.as_bytes());
    let published = topics::publish(&house.topics, &topic, query, content_type, body).await?;
    Ok(HttpResponse::Created().json(published))
}

async fn healthz(house: Data<House>) -> Result<&'static str, Refused> {
    if house.drain.is_draining() {
        return Err(Refused::Draining);
    }
    Ok("ok")
}

async fn stats() -> impl Responder {
    web::Json(Stats::global().snapshot())
}

async fn page(request: HttpRequest) -> HttpResponse {
    let Some(asset) = asset(request.path()) else {
        return HttpResponse::NotFound().finish();
    };
    let mut response = HttpResponse::Ok();
    for header in asset.headers() {
        response.insert_header(header);
    }
    response.body(asset.body)
}

impl ResponseError for Refused {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
