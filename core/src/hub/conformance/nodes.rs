use std::time::Duration;

use futures_core::Stream;
use tokio::time::{Instant, sleep, timeout};

use super::Cluster;
use crate::{
    Stats,
    hub::{Delivery, EventId, Gap, Hub, HubBuilder, Overflow, Publish, Subscription},
};

/// For what is to come: generous, since it may be a slow machine.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// The cluster's nodes as hubs.
pub(super) struct Nodes<'a, C> {
    pub(super) cluster: &'a C,
    /// So that topics have names of their own.
    run: u64,
}

impl<'a, C: Cluster> Nodes<'a, C> {
    pub(super) fn new(cluster: &'a C) -> Self {
        let run = fastrand::u64(..);
        Self { cluster, run }
    }

    pub(super) fn topic(&self, check: &str) -> String {
        format!("{check}:{:016x}", self.run)
    }

    pub(super) async fn hub(&self, link: &'static str, history: usize) -> Result<Hub, String> {
        self.hub_with(link, Hub::builder().history(history)).await
    }

    pub(super) async fn hub_with(
        &self,
        link: &'static str,
        builder: HubBuilder,
    ) -> Result<Hub, String> {
        let broker = self.cluster.node(link).await;
        builder
            .overflow(Overflow::Block)
            .stats(Stats::new())
            .broker(broker)
            .build()
            .map_err(|error| error.to_string())
    }
}

pub(super) async fn publish(
    hub: &Hub,
    topic: &str,
    message: impl Into<Publish>,
) -> Result<EventId, String> {
    timeout(LONG, hub.publish(topic, message))
        .await
        .map_err(|_| "publishing did not end".to_owned())?
        .map_err(|error| format!("not published: {error}"))
}

/// Publishes so many numbered messages, `1` and so on.
pub(super) async fn fill(hub: &Hub, topic: &str, count: u64) -> Result<Vec<EventId>, String> {
    let mut ids = Vec::new();
    for n in 1..=count {
        ids.push(publish(hub, topic, n.to_string()).await?);
    }
    Ok(ids)
}

/// Publishes once the broker can be reached again.
pub(super) async fn publish_again(hub: &Hub, topic: &str, text: &str) -> Result<EventId, String> {
    let deadline = Instant::now() + LONG;
    loop {
        match publish(hub, topic, text).await {
            Ok(id) => return Ok(id),
            Err(why) if Instant::now() > deadline => return Err(why),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

pub(super) async fn live(hub: &Hub, topic: &str) -> Result<Subscription, String> {
    subscribe(hub, topic, None, None).await
}

pub(super) async fn after(
    hub: &Hub,
    topic: &str,
    id: impl Into<String>,
) -> Result<Subscription, String> {
    subscribe(hub, topic, Some(&id.into()), None).await
}

pub(super) async fn newest(hub: &Hub, topic: &str, n: usize) -> Result<Subscription, String> {
    subscribe(hub, topic, None, Some(n)).await
}

async fn subscribe(
    hub: &Hub,
    topic: &str,
    id: Option<&str>,
    last: Option<usize>,
) -> Result<Subscription, String> {
    timeout(LONG, hub.subscribe(topic).resume(id, last).into_future())
        .await
        .map_err(|_| "subscribing did not end".to_owned())?
        .map_err(|error| format!("not subscribed: {error}"))
}

pub(super) async fn next(subscription: &mut Subscription) -> Result<Delivery, String> {
    let next = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *subscription).poll_next(cx));
    match timeout(LONG, next).await {
        Ok(Some(delivery)) => Ok(delivery),
        Ok(None) => Err("the subscription ended".to_owned()),
        Err(_) => Err("nothing came".to_owned()),
    }
}

/// What comes next, in the words of [`expect`].
pub(super) async fn said(subscription: &mut Subscription) -> Result<String, String> {
    Ok(match next(subscription).await? {
        Delivery::Event(event) => match event.message().as_text() {
            Some(text) => text.to_owned(),
            None => format!("{:?}", event.message()),
        },
        Delivery::Gap(gap) => say(gap),
    })
}

pub(super) fn say(gap: Gap) -> String {
    match gap.missed() {
        Some(missed) => format!("{} {missed}", gap.reason()),
        None => gap.reason().to_owned(),
    }
}

/// Has exactly these come next: texts, and gaps as `lagged 3` or `unknown`.
pub(super) async fn expect<T: ToString>(
    subscription: &mut Subscription,
    expected: impl IntoIterator<Item = T>,
) -> Result<(), String> {
    for (n, expected) in expected.into_iter().enumerate() {
        let expected = expected.to_string();
        let got = said(subscription)
            .await
            .map_err(|why| format!("{why}, where {expected:?} was due (item {n})"))?;
        if got != expected {
            return Err(format!(
                "{got:?} came, where {expected:?} was due (item {n})"
            ));
        }
    }
    Ok(())
}

/// Has nothing come before what is published now.
pub(super) async fn expect_nothing(
    hub: &Hub,
    topic: &str,
    subscription: &mut Subscription,
) -> Result<(), String> {
    publish(hub, topic, "nothing before this").await?;
    expect(subscription, ["nothing before this"]).await
}
