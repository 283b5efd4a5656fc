//! The routes in axum.

use std::{future::IntoFuture, io, net::TcpListener, process::ExitCode};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
    serve::ListenerExt,
};
use serde::Deserialize;
use towpath::hub::TOWPATH_V1;
use towpath_axum::{LastEventId, Snapshot, Sse, Stats, WsLayer, WsUpgrade, on_connect, ws};

use super::{House, Name, Refused, Room, Signals, asset, handlers, topics};

/// Serves `house` on `listener` until a signal ends it.
///
/// # Errors
/// When the server fails.
pub async fn run(listener: TcpListener, house: House, signals: Signals) -> io::Result<ExitCode> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let server = axum::serve(listener.tap_io(on_connect), router(house.clone()))
        .with_graceful_shutdown(house.drain.finished());
    house.run(server.into_future(), signals).await
}

fn router(house: House) -> Router {
    Router::new()
        .route("/rooms/{room}/ws", ws(talk))
        .route("/rooms/{room}/feed", get(feed))
        .route("/echo", ws(echo))
        .route("/topics/{topic}", get(topic).post(publish))
        .route("/topics/{topic}/ws", ws(topic_ws))
        .route("/healthz", get(healthz))
        .route("/stats", get(stats))
        .fallback_service(get(page))
        .layer(DefaultBodyLimit::max(topics::LARGEST_BODY))
        .layer(WsLayer::new().drain(house.drain.clone()))
        .with_state(house)
}

#[derive(Deserialize)]
struct Entry {
    name: String,
}

async fn talk(
    upgrade: WsUpgrade,
    State(house): State<House>,
    Path(room): Path<String>,
    Query(entry): Query<Entry>,
    last: LastEventId,
) -> Result<Response, Refused> {
    let (room, name): (Room, Name) = (room.parse()?, entry.name.parse()?);
    let serve = handlers::serve(&house.talk, room.talk(), &last).await?;
    Ok(upgrade
        .protocols([TOWPATH_V1])
        .on_upgrade(move |socket| handlers::talk(socket, serve, house, room, name)))
}

async fn feed(
    State(house): State<House>,
    Path(room): Path<String>,
    last: LastEventId,
) -> Result<impl IntoResponse, Refused> {
    let room: Room = room.parse()?;
    let serve = handlers::serve(&house.feeds, room.feed(), &last).await?;
    Ok(Sse::from(serve.into_sse()).drain(&house.drain).sse_retry())
}

async fn echo(upgrade: WsUpgrade) -> Response {
    upgrade.on_upgrade(handlers::echo)
}

async fn topic(
    State(house): State<House>,
    Path(topic): Path<String>,
    last: LastEventId,
) -> Result<impl IntoResponse, Refused> {
    let serve = handlers::serve(&house.topics, topic, &last).await?;
    Ok(Sse::from(serve.into_sse()).drain(&house.drain))
}

async fn topic_ws(
    upgrade: WsUpgrade,
    State(house): State<House>,
    Path(topic): Path<String>,
    last: LastEventId,
) -> Result<Response, Refused> {
    let serve = handlers::serve(&house.topics, topic, &last).await?;
    Ok(upgrade
        .protocols([TOWPATH_V1])
        .on_upgrade(|socket| serve.run(socket)))
}

async fn publish(
    State(house): State<House>,
    Path(topic): Path<String>,
    Query(query): Query<topics::PublishQuery>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<impl IntoResponse, Refused> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.as_bytes());
    let published = topics::publish(&house.topics, &topic, query, content_type, body).await?;
    Ok((StatusCode::CREATED, Json(published)))
}

async fn healthz(State(house): State<House>) -> Result<&'static str, Refused> {
    if house.drain.is_draining() {
        return Err(Refused::Draining);
    }
    Ok("ok")
}

async fn stats() -> Json<Snapshot> {
    Json(Stats::global().snapshot())
}

async fn page(uri: Uri) -> Response {
    match asset(uri.path()) {
        Some(asset) => (asset.headers(), asset.body).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, self.to_string()).into_response()
    }
}
