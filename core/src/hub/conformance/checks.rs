//! What holds as long as nothing breaks.

use std::collections::HashSet;

use tokio::task::JoinSet;

use super::{
    Cluster, Outcome, ensure,
    nodes::{Nodes, after, expect, expect_nothing, fill, live, newest, next, publish},
};
use crate::{
    hub::{Delivery, EventId, Hub, Publish, Subscription},
    ws::Message,
};

pub(super) async fn order_and_numbers<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    let (hub, topic) = (nodes.hub("a", 100).await?, nodes.topic("order"));
    let mut subscription = live(&hub, &topic).await?;
    let ids = fill(&hub, &topic, 50).await?;
    for (number, id) in (1..).zip(&ids) {
        ensure!(
            *id == EventId::new(ids[0].epoch(), number),
            "event {number} got the id {id}, the first {}: not dense from 1 in one epoch",
            ids[0],
        );
        let Delivery::Event(event) = next(&mut subscription).await? else {
            return Err(format!("a gap in place of event {number}"));
        };
        ensure!(
            event.id() == *id,
            "{} was delivered in place of {id}",
            event.id()
        );
        let text = event.message().as_text().map(str::to_owned);
        ensure!(text == Some(number.to_string()), "{id} says {text:?}");
    }
    let other = publish(&hub, &nodes.topic("order2"), "x").await?;
    ensure!(other.sequence() == 1, "another topic begins with {other}");
    Ok(true)
}

pub(super) async fn replay<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    let (hub, topic) = (nodes.hub("a", 100).await?, nodes.topic("replay"));
    let ids = fill(&hub, &topic, 20).await?;
    for hub in [&hub, &nodes.hub("b", 100).await?] {
        for seen in [1usize, 7, 19] {
            let mut resumed = after(hub, &topic, ids[seen - 1]).await?;
            expect(&mut resumed, seen + 1..=20).await?;
        }
        let mut resumed = after(hub, &topic, ids[19]).await?;
        expect_nothing(hub, &topic, &mut resumed).await?;
    }
    Ok(true)
}

pub(super) async fn last<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    let (hub, topic) = (nodes.hub("a", 5).await?, nodes.topic("last"));
    fill(&hub, &topic, 8).await?;
    for hub in [&hub, &nodes.hub("b", 5).await?] {
        expect(&mut newest(hub, &topic, 2).await?, 7..=8).await?;
        expect(&mut newest(hub, &topic, 100).await?, 4..=8).await?;
    }
    expect_nothing(&hub, &topic, &mut newest(&hub, &topic, 0).await?).await?;
    Ok(true)
}

pub(super) async fn expired<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    let (hub, topic) = (nodes.hub("a", 4).await?, nodes.topic("expired"));
    let ids = fill(&hub, &topic, 10).await?;
    for hub in [&hub, &nodes.hub("b", 4).await?] {
        let mut resumed = after(hub, &topic, ids[0]).await?;
        expect(&mut resumed, ["expired 5", "7", "8", "9", "10"]).await?;
        let mut resumed = after(hub, &topic, ids[5]).await?;
        expect(&mut resumed, ["7", "8", "9", "10"]).await?;
    }
    Ok(true)
}

pub(super) async fn unknown<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    let (hub, topic) = (nodes.hub("a", 4).await?, nodes.topic("unknown"));
    let newest = fill(&hub, &topic, 3).await?[2];
    let future = EventId::new(newest.epoch(), 4).to_string();
    let other_epoch = EventId::new(newest.epoch() ^ 1, 1).to_string();
    for hub in [&hub, &nodes.hub("b", 4).await?] {
        for id in ["nonsense", &future, &other_epoch] {
            let mut resumed = after(hub, &topic, id).await?;
            expect(&mut resumed, ["unknown", "1", "2", "3"]).await?;
        }
    }
    let never = nodes.topic("never");
    let mut resumed = after(&hub, &never, newest).await?;
    publish(&hub, &never, "x").await?;
    expect(&mut resumed, ["unknown", "x"]).await?;
    Ok(true)
}

pub(super) async fn retention_by_count<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    let topic = nodes.topic("count");
    let hub = nodes.hub("a", 10).await?;
    fill(&hub, &topic, 300).await?;
    let other = nodes.hub("b", 10).await?;
    for hub in [&hub, &other] {
        expect(&mut newest(hub, &topic, 1000).await?, 291..=300).await?;
    }
    Ok(true)
}

pub(super) async fn retention_by_bytes<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    let topic = nodes.topic("bytes");
    let builder = || Hub::builder().history(100).history_bytes(1000);
    let hub = nodes.hub_with("a", builder()).await?;
    for n in 10..20 {
        publish(&hub, &topic, format!("{n}{}", "x".repeat(298))).await?;
    }
    let other = nodes.hub_with("b", builder()).await?;
    for hub in [&hub, &other] {
        let kept = (17..20).map(|n| format!("{n}{}", "x".repeat(298)));
        expect(&mut newest(hub, &topic, 1000).await?, kept).await?;
    }
    publish(&hub, &topic, "y".repeat(5000)).await?;
    let kept = ["y".repeat(5000)];
    for hub in [&hub, &nodes.hub_with("c", builder()).await?] {
        expect(&mut newest(hub, &topic, 1000).await?, &kept).await?;
    }
    Ok(true)
}

pub(super) async fn payloads<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    let topic = nodes.topic("payloads");
    let hub = nodes.hub("a", 100).await?;
    let mut subscription = live(&hub, &topic).await?;
    let published = [
        Publish::from(""),
        Publish::from("é\r\n\0 \u{1F600}"),
        Publish::new(Message::binary(Vec::new())),
        Publish::new(Message::binary((0..=255).collect::<Vec<u8>>())).key("k é"),
        Publish::from("keyed").key("").uncompressed(),
        Publish::new(Message::binary(vec![7u8; 1 << 20])),
    ];
    for publish in &published {
        self::publish(&hub, &topic, publish.clone()).await?;
    }
    let other = nodes.hub("b", 100).await?;
    let mut replayed = newest(&other, &topic, 100).await?;
    for (n, publish) in published.iter().enumerate() {
        for (node, subscription) in [("a", &mut subscription), ("b", &mut replayed)] {
            let Delivery::Event(event) = next(subscription).await? else {
                return Err(format!("a gap in place of payload {n} at {node}"));
            };
            ensure!(
                event.message() == *publish.message(),
                "payload {n} at {node} is {:.80?}",
                event.message(),
            );
            ensure!(
                event.key() == publish.conflation_key(),
                "payload {n} at {node} has the key {:?}",
                event.key(),
            );
            ensure!(
                event.encoded().broadcast().may_compress() == publish.may_compress(),
                "payload {n} at {node} may be compressed, or may not any more",
            );
        }
    }
    Ok(true)
}

/// Publishes so many messages `NAME:N`, several at a time.
async fn publish_many(
    hub: Hub,
    topic: String,
    name: &'static str,
    count: u64,
) -> Result<(), String> {
    let mut tasks = JoinSet::new();
    for lane in 0..4 {
        let (hub, topic) = (hub.clone(), topic.clone());
        tasks.spawn(async move {
            for n in (lane..count).step_by(4) {
                publish(&hub, &topic, format!("{name}:{n}")).await?;
            }
            Ok(())
        });
    }
    join(tasks).await
}

async fn join(mut tasks: JoinSet<Result<(), String>>) -> Result<(), String> {
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| error.to_string())??;
    }
    Ok(())
}

/// Takes so many events, which must be dense from `from + 1` on.
async fn collect(
    subscription: &mut Subscription,
    from: u64,
    count: u64,
) -> Result<Vec<(EventId, Message)>, String> {
    let mut events = Vec::new();
    for number in from + 1..=from + count {
        match next(subscription).await? {
            Delivery::Event(event) => {
                ensure!(
                    event.id().sequence() == number,
                    "{} came where number {number} was due",
                    event.id(),
                );
                events.push((event.id(), event.message()));
            }
            Delivery::Gap(gap) => {
                return Err(format!("a gap ({gap}) where number {number} was due"));
            }
        }
    }
    Ok(events)
}

pub(super) async fn two_nodes_one_order<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    const EACH: u64 = 500;
    let topic = nodes.topic("two");
    let (a, b) = (nodes.hub("a", 2000).await?, nodes.hub("b", 2000).await?);
    let (mut at_a, mut at_b) = (live(&a, &topic).await?, live(&b, &topic).await?);
    let mut tasks = JoinSet::new();
    tasks.spawn(publish_many(a.clone(), topic.clone(), "a", EACH));
    tasks.spawn(publish_many(b.clone(), topic.clone(), "b", EACH));
    let got_a = collect(&mut at_a, 0, 2 * EACH).await?;
    let got_b = collect(&mut at_b, 0, 2 * EACH).await?;
    join(tasks).await?;
    ensure!(got_a == got_b, "the nodes deliver in different orders");
    let texts: HashSet<_> = got_a
        .iter()
        .map(|(_, message)| message.as_bytes())
        .collect();
    ensure!(
        texts.len() as u64 == 2 * EACH,
        "only {} different messages",
        texts.len()
    );
    Ok(true)
}

pub(super) async fn resume_at_another_node<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    let topic = nodes.topic("move");
    let (a, b) = (nodes.hub("a", 100).await?, nodes.hub("b", 100).await?);
    let mut here = live(&a, &topic).await?;
    fill(&b, &topic, 20).await?;
    let seen = collect(&mut here, 0, 12).await?[11].0;
    drop(here);
    let mut there = after(&b, &topic, seen).await?;
    expect(&mut there, 13..=20).await?;
    expect_nothing(&a, &topic, &mut there).await?;
    Ok(true)
}

/// A client may come with an id that its new node has yet to read.
pub(super) async fn seen_elsewhere<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    let topic = nodes.topic("seen");
    let (a, b) = (nodes.hub("a", 1000).await?, nodes.hub("b", 1000).await?);
    let mut at_b = live(&b, &topic).await?;
    for round in 1..=200u64 {
        let seen = publish(&a, &topic, round.to_string()).await?;
        let mut resumed = after(&b, &topic, seen).await?;
        let then = publish(&a, &topic, "then").await?;
        let events = collect(&mut resumed, seen.sequence(), 1)
            .await
            .map_err(|why| format!("round {round}: {why}"))?;
        ensure!(events[0].0 == then, "{} in place of {then}", events[0].0);
    }
    collect(&mut at_b, 0, 400).await?;
    Ok(true)
}

pub(super) async fn resume_while_publishing<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    const COUNT: u64 = 3000;
    let topic = nodes.topic("resume");
    let (a, b) = (nodes.hub("a", 5000).await?, nodes.hub("b", 5000).await?);
    let mut tasks = JoinSet::new();
    for reader in 0..6u64 {
        let (hubs, topic) = ([a.clone(), b.clone()], topic.clone());
        let mut subscription = live(&hubs[0], &topic).await?;
        tasks.spawn(async move {
            let mut seen = 0;
            for turn in 0.. {
                let count = (40 + 30 * reader).min(COUNT - seen);
                let events = collect(&mut subscription, seen, count).await?;
                seen += count;
                let Some((id, _)) = events.last().filter(|_| seen < COUNT) else {
                    break;
                };
                // The old one goes first: now and then the topic has no reader.
                drop(subscription);
                subscription = after(&hubs[turn % 2], &topic, *id).await?;
            }
            Ok(())
        });
    }
    tasks.spawn(publish_many(a, topic.clone(), "a", COUNT / 2));
    tasks.spawn(publish_many(b, topic, "b", COUNT / 2));
    join(tasks).await?;
    Ok(true)
}

pub(super) async fn leave_and_come_back<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    let topic = nodes.topic("leave");
    let hub = nodes.hub("a", 100).await?;
    for round in 0..20 {
        let mut subscription = live(&hub, &topic).await?;
        let seen = publish(&hub, &topic, "seen").await?;
        expect(&mut subscription, ["seen"]).await?;
        drop(subscription);
        publish(&hub, &topic, "missed").await?;
        let mut resumed = after(&hub, &topic, seen).await?;
        let mut fresh = live(&hub, &topic).await?;
        publish(&hub, &topic, "new").await?;
        let told = |why| format!("round {round}: {why}");
        expect(&mut resumed, ["missed", "new"])
            .await
            .map_err(told)?;
        expect(&mut fresh, ["new"]).await.map_err(told)?;
    }
    Ok(true)
}

pub(super) async fn many_topics<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    const TOPICS: usize = 1200;
    let (a, b) = (nodes.hub("a", 10).await?, nodes.hub("b", 10).await?);
    let name = |n: usize| nodes.topic(&format!("many{n}"));
    let mut opening = JoinSet::new();
    for n in 0..TOPICS {
        let (hub, topic) = (b.clone(), name(n));
        opening.spawn(async move { Ok::<_, String>((n, live(&hub, &topic).await?)) });
    }
    let mut subscriptions = Vec::new();
    while let Some(opened) = opening.join_next().await {
        subscriptions.push(opened.map_err(|error| error.to_string())??);
    }
    for round in 0..2 {
        let mut publishing = JoinSet::new();
        for n in 0..TOPICS {
            let (hub, topic) = (a.clone(), name(n));
            let text = format!("{round}:{n}");
            publishing.spawn(async move { publish(&hub, &topic, text).await.map(drop) });
        }
        join(publishing).await?;
    }
    for (n, subscription) in &mut subscriptions {
        let told = |why| format!("topic {n}: {why}");
        let texts = [format!("0:{n}"), format!("1:{n}")];
        expect(subscription, texts).await.map_err(told)?;
    }
    Ok(true)
}
