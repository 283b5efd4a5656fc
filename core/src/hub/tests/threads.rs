//! The hub on real threads.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use tokio::time::timeout;

use crate::{
    Stats,
    hub::{Delivery, EventId, Gap, Hub, MemoryBroker, Overflow, Subscription},
};

const LONG: Duration = Duration::from_secs(60);

async fn next(subscription: &mut Subscription) -> Delivery {
    timeout(LONG, subscription.next())
        .await
        .expect("woken")
        .expect("not ended")
}

fn hub(history: usize) -> Hub {
    Hub::builder()
        .history(history)
        .overflow(Overflow::Block)
        .stats(Stats::new())
        .build()
        .unwrap()
}

/// Publishes `count` numbered messages on a thread of its own.
fn publisher(hub: &Hub, name: u64, count: u64) -> std::thread::JoinHandle<()> {
    let hub = hub.clone();
    std::thread::spawn(move || {
        for n in 0..count {
            let message = (name * count + n).to_string();
            super::now(hub.publish("t", message)).expect("published");
            if n % 64 == 0 {
                std::thread::yield_now();
            }
        }
    })
}

fn number(id: EventId) -> u64 {
    id.sequence()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everyone_gets_everything_once_in_one_order_also_who_resumes() {
    const PUBLISHERS: u64 = 3;
    const EACH: u64 = 3000;
    let hub = hub(usize::try_from(PUBLISHERS * EACH).unwrap());
    let mut readers = Vec::new();
    for reader in 0..8u64 {
        let hub = hub.clone();
        let mut subscription = hub.subscribe("t").await.unwrap();
        readers.push(tokio::spawn(async move {
            let mut order = Vec::new();
            while (order.len() as u64) < PUBLISHERS * EACH {
                let Delivery::Event(event) = next(&mut subscription).await else {
                    panic!("a gap, though all is kept");
                };
                let expected = order.len() as u64 + 1;
                assert_eq!(number(event.id()), expected, "no gap, no duplicate");
                order.push(event.message());
                if reader > 3 && expected.is_multiple_of(40 * reader) {
                    // While publishing goes on at full speed.
                    subscription = hub.subscribe("t").after(event.id()).await.unwrap();
                }
            }
            order
        }));
    }
    let publishers: Vec<_> = (0..PUBLISHERS).map(|p| publisher(&hub, p, EACH)).collect();
    let mut orders = Vec::new();
    for reader in readers {
        orders.push(reader.await.unwrap());
    }
    for publisher in publishers {
        publisher.join().unwrap();
    }
    assert!(orders.iter().all(|order| order == &orders[0]), "one order");
    let mut newest = HashMap::new();
    for message in &orders[0] {
        let n: u64 = message.as_text().unwrap().parse().unwrap();
        let before = newest.insert(n / EACH, n);
        assert!(before.is_none_or(|before| before < n), "each in its order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_too_slow_misses_exactly_what_it_is_told() {
    const COUNT: u64 = 20_000;
    let hub = hub(16);
    let mut readers = Vec::new();
    for reader in 0..4u64 {
        let mut subscription = hub.subscribe("t").await.unwrap();
        readers.push(tokio::spawn(async move {
            let mut cursor = 0;
            while cursor < COUNT {
                match next(&mut subscription).await {
                    Delivery::Event(event) => {
                        cursor += 1;
                        assert_eq!(number(event.id()), cursor);
                    }
                    Delivery::Gap(Gap::Lagged { missed }) => cursor += missed,
                    Delivery::Gap(gap) => panic!("{gap}"),
                }
                if cursor % 100 < reader * 20 {
                    tokio::task::yield_now().await;
                }
            }
            assert_eq!(cursor, COUNT);
        }));
    }
    publisher(&hub, 0, COUNT).join().unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
}

/// Each event is published while the reader is about to wait: one wake lost, and
/// both wait for ever. (The log's own tests show without luck that an event which
/// is already there is not waited for.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_is_lost() {
    const ROUNDS: u64 = 10_000;
    let hub = hub(4);
    let seen = Arc::new(AtomicU64::new(0));
    let given_up = Arc::new(AtomicBool::new(false));
    let mut subscription = hub.subscribe("t").await.unwrap();
    let publisher = {
        let (hub, seen, given_up) = (hub.clone(), Arc::clone(&seen), Arc::clone(&given_up));
        std::thread::spawn(move || {
            for round in 1..=ROUNDS {
                // Not always at the same point of the reader's way to its wait.
                for _ in 0..fastrand::u32(..300) {
                    std::hint::spin_loop();
                }
                super::publish(&hub, "t", "x");
                while seen.load(Ordering::Acquire) < round {
                    if given_up.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::yield_now();
                }
            }
        })
    };
    let reader = tokio::spawn(async move {
        for round in 1..=ROUNDS {
            match timeout(LONG, subscription.next()).await {
                Ok(Some(Delivery::Event(event))) => assert_eq!(number(event.id()), round),
                other => {
                    given_up.store(true, Ordering::Relaxed);
                    panic!("round {round}: {other:?}");
                }
            }
            seen.store(round, Ordering::Release);
        }
    });
    reader.await.unwrap();
    publisher.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_published_after_subscribing_arrives_whatever_comes_and_goes() {
    // Few topics, so that they are made and dropped all the time: at most four
    // are held at once, and one more is being made.
    let hub = Hub::builder()
        .history(10_000)
        .overflow(Overflow::Block)
        .broker(MemoryBroker::with_max_topics(5).unwrap())
        .build()
        .unwrap();
    let mut tasks = Vec::new();
    for task in 0..4 {
        let hub = hub.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..1500 {
                let topic = format!("t{}", round % 9);
                let mut subscription = hub.subscribe(topic.as_str()).await.unwrap();
                let mine = format!("{task}:{round}");
                hub.publish(&topic, mine.as_str()).await.unwrap();
                loop {
                    match next(&mut subscription).await {
                        Delivery::Event(event) if event.message() == mine.as_str().into() => break,
                        Delivery::Event(_) => {}
                        Delivery::Gap(gap) => panic!("{gap}"),
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}
