//! A topic that lingers: what is published waits for more, within its bounds.

use std::{sync::Arc, time::Duration};

use futures_util::task::waker;
use tokio::time::{Instant, advance, sleep};

use super::*;

const LINGER: Duration = Duration::from_millis(5);
const MS: Duration = Duration::from_millis(1);

fn lingering(queue: usize, overflow: Overflow) -> Hub {
    let hub = Hub::builder().queue(queue).overflow(overflow);
    hub.linger(LINGER).build().unwrap()
}

/// When how many events came together, in milliseconds, and how it ended.
type Heard = (Vec<(u128, usize)>, Option<Ended>);

/// Reads in a task of its own.
fn reads(mut subscription: Subscription) -> tokio::task::JoinHandle<Heard> {
    let start = Instant::now();
    tokio::spawn(async move {
        let mut batches = Vec::new();
        loop {
            let mut events = 0;
            let ended = std::future::poll_fn(|cx| {
                loop {
                    match subscription.poll_delivery(cx) {
                        Poll::Ready(Some(Delivery::Event(_))) => events += 1,
                        Poll::Ready(Some(Delivery::Gap(gap))) => panic!("{gap}"),
                        Poll::Ready(None) => return Poll::Ready(true),
                        Poll::Pending if events == 0 => return Poll::Pending,
                        Poll::Pending => return Poll::Ready(false),
                    }
                }
            });
            let ended = ended.await;
            if events > 0 {
                batches.push((start.elapsed().as_millis(), events));
            }
            if ended {
                return (batches, subscription.ended_by());
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn the_first_event_is_delivered_at_once_and_the_rest_together() {
    let hub = lingering(1024, Overflow::Disconnect);
    let readers = [
        reads(hub.subscribe("t").await.unwrap()),
        reads(hub.subscribe("t").await.unwrap()),
    ];
    tokio::task::yield_now().await;
    for n in 0..12 {
        publish(&hub, "t", &n.to_string());
        sleep(MS).await;
    }
    sleep(20 * MS).await;
    publish(&hub, "t", "behind a pause");
    sleep(MS).await;
    drop(hub);
    for reader in readers {
        let (batches, ended) = reader.await.unwrap();
        assert_eq!(batches, [(0, 1), (5, 5), (10, 5), (15, 1), (32, 1)]);
        assert_eq!(ended, Some(Ended::Closed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_waits_for_nothing_and_cuts_nobody_off() {
    let hub = lingering(16, Overflow::Disconnect);
    let reader = reads(hub.subscribe("t").await.unwrap());
    tokio::task::yield_now().await;
    let start = Instant::now();
    for _ in 0..25 {
        fill(&hub, "t", 1..=8);
        tokio::task::yield_now().await;
    }
    assert!(start.elapsed().is_zero());
    drop(hub);
    let (batches, ended) = reader.await.unwrap();
    let events = batches.iter().map(|(_, events)| events).sum::<usize>();
    assert_eq!((events, ended), (200, Some(Ended::Closed)));
}

#[tokio::test(start_paused = true)]
async fn a_drain_and_a_close_have_what_waits_delivered_at_once() {
    for close in [false, true] {
        let hub = lingering(1024, Overflow::Disconnect);
        let count = Arc::new(Wakes::default());
        let waker = waker(Arc::clone(&count));
        let cx = &mut Context::from_waker(&waker);
        let mut subscription = hub.subscribe("t").await.unwrap();
        fill(&hub, "t", 1..=1);
        assert_eq!(read(&mut subscription).0, ["1"]);
        assert!(subscription.poll_delivery(cx).is_pending());
        fill(&hub, "t", 2..=3);
        assert_eq!(count.get(), 0, "it waits");
        if close {
            drop(hub);
        } else {
            subscription.drain();
        }
        assert_eq!(count.get(), 1);
        let ended = if close { Ended::Closed } else { Ended::Drained };
        let said = ["2", "3"].map(str::to_owned).to_vec();
        assert_eq!(read(&mut subscription), (said, Some(ended)));
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_told_of_its_lag_at_once() {
    let hub = lingering(4, Overflow::Disconnect);
    let count = Arc::new(Wakes::default());
    let waker = waker(Arc::clone(&count));
    let mut subscription = hub.subscribe("t").await.unwrap();
    let cx = &mut Context::from_waker(&waker);
    assert!(subscription.poll_overflow(cx).is_pending());
    fill(&hub, "t", 1..=5);
    assert_eq!(count.get(), 1);
    assert!(subscription.poll_overflow(cx).is_ready());
}

#[test]
fn what_waits_is_delivered_when_its_runtime_ends_or_there_is_none() {
    let hub = lingering(1024, Overflow::Block);
    let count = Arc::new(Wakes::default());
    let waker = waker(Arc::clone(&count));
    let cx = &mut Context::from_waker(&waker);
    let mut subscription = now(hub.subscribe("t")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let inside = runtime.enter();
    fill(&hub, "t", 1..=1);
    assert_eq!(read(&mut subscription).0, ["1"]);
    assert!(subscription.poll_delivery(cx).is_pending());
    fill(&hub, "t", 2..=2);
    assert_eq!(count.get(), 0, "it waits");
    drop(inside);
    drop(runtime);
    assert_eq!(count.get(), 1);
    assert_eq!(read(&mut subscription).0, ["2"]);
    assert!(subscription.poll_delivery(cx).is_pending());
    fill(&hub, "t", 3..=3);
    assert_eq!(count.get(), 2);
}

/// What time passes in the readers' favour is never more than the bound.
#[tokio::test(start_paused = true)]
async fn no_event_waits_for_longer_than_it_may() {
    let hub = lingering(1024, Overflow::Disconnect);
    let mut subscription = hub.subscribe("t").await.unwrap();
    let reader = tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        for _ in 0..300 {
            let delivery = std::future::poll_fn(|cx| subscription.poll_delivery(cx)).await;
            let Some(Delivery::Event(event)) = delivery else {
                panic!("{delivery:?}");
            };
            let published = event.message().as_text().unwrap().parse::<u64>().unwrap();
            longest = longest.max(Duration::from_micros(micros() - published));
        }
        longest
    });
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        publish(&hub, "t", &micros().to_string());
        for _ in 0..random.u32(0..12) {
            advance(MS / 2).await;
        }
    }
    sleep(LINGER).await;
    let longest = reader.await.unwrap();
    // The runtime's timer counts whole milliseconds.
    assert!(longest <= LINGER + MS, "{longest:?}");
    assert!(longest >= MS, "nothing lingered: {longest:?}");
}

fn micros() -> u64 {
    thread_local! {
        static START: Instant = Instant::now();
    }
    u64::try_from(START.with(Instant::elapsed).as_micros()).unwrap()
}
