// Compiled once against each extension crate, as `ext`: what differs between
// the frameworks is `Response`, `State` and how a path is extracted.

use std::{convert::Infallible, time::Duration};

use futures_util::{Stream, stream};
use towpath::sse;

/// Every name that both crates have.
#[expect(unused_imports, reason = "that they are there is what is tested")]
pub(crate) use ext::{
    AllowedOrigin, CloseCode, CloseFrame, ConfigError, Deflate, Drain, DrainGuard, DrainOutcome, Draining,
    Error, Event, EventError, EventId, ExpiresAt, Expiry, HandlerError, Hub, KeepAlive, LastEventId, Message, OnDrain,
    OriginPolicy, Permit, ProtocolError, Receiver, Sender, Snapshot, Sse, Stats, Subscription,
    Text, UpgradeRejection, WebSocket, WsConfig, WsLayer, WsUpgrade, hub, on_connect,
    on_connect_with, ws,
};

pub(crate) async fn echo(mut socket: WebSocket) -> Result<(), HandlerError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

pub(crate) async fn upgrade(upgrade: WsUpgrade) -> Response {
    upgrade
        .configure(|config| config.max_message_size(1 << 16))
        .protocols(["chat.v2", "chat.v1"])
        .expires_at(Duration::from_secs(3600))
        .on_upgrade(echo)
}

pub(crate) async fn infallible(upgrade: WsUpgrade) -> Response {
    let greeting = format!(
        "{} of {:?}",
        upgrade.protocol().unwrap_or("none"),
        upgrade.offered().collect::<Vec<_>>()
    );
    upgrade.on_upgrade_infallible(async move |mut socket: WebSocket| {
        // The socket may be gone before.
        let _ = socket.send(greeting).await;
    })
}

pub(crate) async fn count(last: LastEventId) -> Sse<impl Stream<Item = Event>> {
    let seen = last.id().and_then(|id| id.parse().ok()).unwrap_or(0);
    Sse::new(stream::iter((seen + 1..=10_u64).map(|n| Event::new().id(n).data("…"))))
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(5)))
        .on_drain(OnDrain::Finish)
        .expires_at(ExpiresAt::unix(4_102_444_800))
}

pub(crate) async fn fallible() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(stream::iter([Ok(Event::new().data("a"))]))
}

pub(crate) async fn topic(hub: Hub, drain: Drain, last: LastEventId) -> Option<Sse<hub::Events>> {
    let last: sse::LastEventId = last.into();
    let subscription = hub
        .subscribe("topic")
        .resume(last.id(), last.newest())
        .await
        .ok()?;
    Some(Sse::from(subscription).drain(&drain).sse_retry())
}

pub(crate) fn reason(rejection: &UpgradeRejection) -> String {
    format!(
        "{} {} {}",
        rejection.status(),
        rejection.reason().status(),
        rejection
    )
}

/// One name, a constant and a type.
pub(crate) fn layers() -> [WsLayer; 4] {
    [
        WsLayer,
        WsLayer::new().max_message_size(64 << 10),
        WsLayer::new().deflate(Deflate::new().context_takeover(true)),
        WsLayer::from(WsConfig::new().heartbeat(None)),
    ]
}
