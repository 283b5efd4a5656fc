//! What holds when the server, or the way to it, breaks.

use std::{collections::HashMap, time::Duration};

use tokio::{task::JoinSet, time::sleep};

use super::{
    Cluster, Outcome, ensure,
    nodes::{Nodes, after, expect, fill, live, newest, next, publish, publish_again, said},
};
use crate::hub::{Delivery, EventId};

/// What was acknowledged before is there, and numbers go on.
pub(super) async fn restart<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    let topic = nodes.topic("restart");
    let (a, b) = (nodes.hub("a", 100).await?, nodes.hub("b", 100).await?);
    let mut subscription = live(&b, &topic).await?;
    let ids = fill(&a, &topic, 10).await?;
    if !nodes.cluster.restart().await {
        return Ok(false);
    }
    let id = publish_again(&a, &topic, "after").await?;
    ensure!(
        id.epoch() == ids[0].epoch() && id.sequence() >= 11,
        "after the restart {id} follows {}",
        ids[9],
    );
    expect(&mut subscription, 1..=10).await?;
    expect(&mut subscription, ["after"]).await?;
    for hub in [&a, &b] {
        let mut resumed = after(hub, &topic, ids[4]).await?;
        expect(&mut resumed, 6..=10).await?;
        expect(&mut resumed, ["after"]).await?;
    }
    Ok(true)
}

/// A server that lost what it had is told as a gap, to who reads and to who resumes.
pub(super) async fn wipe<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    let topic = nodes.topic("wipe");
    let (a, b) = (nodes.hub("a", 100).await?, nodes.hub("b", 100).await?);
    let mut subscription = live(&b, &topic).await?;
    let ids = fill(&a, &topic, 10).await?;
    expect(&mut subscription, 1..=10).await?;
    if !nodes.cluster.wipe().await {
        return Ok(false);
    }
    let id = publish_again(&a, &topic, "new").await?;
    ensure!(
        id.epoch() != ids[0].epoch(),
        "an id of before the loss may come again"
    );
    expect(&mut subscription, ["unknown", "new"]).await?;
    publish(&a, &topic, "newer").await?;
    expect(&mut subscription, ["newer"]).await?;
    // A node that knows nothing of what was.
    let fresh = nodes.hub("c", 100).await?;
    let mut resumed = after(&fresh, &topic, ids[9]).await?;
    expect(&mut resumed, ["unknown", "new", "newer"]).await?;
    Ok(true)
}

/// What went while a node could not read is told with its number.
pub(super) async fn trimmed_while_cut<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    let topic = nodes.topic("trimmed");
    let (a, b) = (nodes.hub("a", 5).await?, nodes.hub("b", 5).await?);
    let mut subscription = live(&b, &topic).await?;
    publish(&a, &topic, "first").await?;
    expect(&mut subscription, ["first"]).await?;
    if !nodes.cluster.cut("b").await {
        return Ok(false);
    }
    fill(&a, &topic, 20).await?;
    nodes.cluster.mend("b").await;
    expect(
        &mut subscription,
        ["lagged 15", "16", "17", "18", "19", "20"],
    )
    .await?;
    // Short enough to be kept.
    ensure!(nodes.cluster.cut("b").await, "the link cannot be cut again");
    fill(&a, &topic, 4).await?;
    nodes.cluster.mend("b").await;
    expect(&mut subscription, 1..=4).await?;
    expect(&mut newest(&b, &topic, 2).await?, 3..=4).await?;
    Ok(true)
}

/// Each message that is published while the link comes and goes is there once if it was
/// acknowledged, and at most once if it was not.
pub(super) async fn publish_while_cut<C: Cluster>(nodes: &Nodes<'_, C>) -> Outcome {
    const EACH: usize = 40;
    const LANES: usize = 16;
    let topic = nodes.topic("idempotent");
    let (a, b) = (nodes.hub("a", 10_000).await?, nodes.hub("b", 10_000).await?);
    let mut at_a = live(&a, &topic).await?;
    let mut at_b = live(&b, &topic).await?;
    if !nodes.cluster.cut("b").await {
        return Ok(false);
    }
    nodes.cluster.mend("b").await;
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let (hub, topic) = (b.clone(), topic.clone());
        lanes.spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 0..EACH {
                let text = format!("{lane}:{n}");
                if let Ok(id) = publish(&hub, &topic, text.as_str()).await {
                    acknowledged.push((text, id));
                }
                sleep(Duration::from_millis(5)).await;
            }
            acknowledged
        });
    }
    for _ in 0..5 {
        sleep(Duration::from_millis(40)).await;
        ensure!(nodes.cluster.cut("b").await, "the link cannot be cut again");
        sleep(Duration::from_millis(10)).await;
        nodes.cluster.mend("b").await;
    }
    let mut acknowledged: HashMap<String, EventId> = HashMap::new();
    while let Some(lane) = lanes.join_next().await {
        acknowledged.extend(lane.map_err(|error| error.to_string())?);
    }
    ensure!(!acknowledged.is_empty(), "nothing was acknowledged");
    let end = publish_again(&b, &topic, "end").await?;
    let mut got: HashMap<String, EventId> = HashMap::new();
    loop {
        let Delivery::Event(event) = next(&mut at_a).await? else {
            return Err("a gap, though nothing was trimmed".to_owned());
        };
        let text = event.message().as_text().unwrap_or_default().to_owned();
        if event.id() == end {
            break;
        }
        if let Some(before) = got.insert(text.clone(), event.id()) {
            return Err(format!(
                "{text} was stored twice, as {before} and {}",
                event.id()
            ));
        }
    }
    for (text, id) in &acknowledged {
        let stored = got.get(text);
        ensure!(
            stored == Some(id),
            "{text}, acknowledged as {id}, is stored as {stored:?}"
        );
    }
    for number in 1..=got.len() {
        said(&mut at_b)
            .await
            .map_err(|why| format!("{why} at the node that was cut, of number {number}"))?;
    }
    expect(&mut at_b, ["end"]).await?;
    Ok(true)
}
