//! What a hub promises, seen from outside.

mod fan_out;
mod fed;
mod linger;
mod model;
mod overflow;
mod threads;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{FutureExt, task::ArcWake};

use super::*;

/// With the embedded broker nothing has to be waited for.
pub(super) fn now<T>(future: impl IntoFuture<Output = T>) -> T {
    future.into_future().now_or_never().expect("is ready")
}

pub(super) fn publish(hub: &Hub, topic: &str, message: &str) -> EventId {
    now(hub.publish(topic, message)).expect("published")
}

pub(super) fn poll(subscription: &mut Subscription) -> Poll<Option<Delivery>> {
    subscription.poll_delivery(&mut Context::from_waker(Waker::noop()))
}

/// What there is to read now, and whether that was the end: texts, or gaps.
fn read(subscription: &mut Subscription) -> (Vec<String>, Option<Ended>) {
    let mut said = Vec::new();
    while let Poll::Ready(Some(delivery)) = poll(subscription) {
        said.push(match delivery {
            Delivery::Event(event) => event.message().as_text().unwrap().to_owned(),
            Delivery::Gap(gap) => gap.to_string(),
        });
    }
    (said, subscription.ended_by())
}

fn hub(history: usize, queue: usize, overflow: Overflow) -> (Hub, Stats) {
    let stats = Stats::new();
    let hub = Hub::builder()
        .history(history)
        .queue(queue)
        .overflow(overflow)
        .stats(stats.clone())
        .build()
        .unwrap();
    (hub, stats)
}

fn fill(hub: &Hub, topic: &str, numbers: impl IntoIterator<Item = u64>) -> Vec<EventId> {
    let publish_one = |n: u64| publish(hub, topic, &n.to_string());
    numbers.into_iter().map(publish_one).collect()
}

#[test]
fn ids_are_dense_per_topic_and_of_one_epoch() {
    let hub = Hub::new();
    let (a, b) = (fill(&hub, "a", 1..=3), fill(&hub, "b", 1..=2));
    let sequences = |ids: &[EventId]| ids.iter().map(|id| id.sequence()).collect::<Vec<_>>();
    assert_eq!(sequences(&a), [1, 2, 3]);
    assert_eq!(sequences(&b), [1, 2]);
    assert_eq!(a[0].epoch(), b[0].epoch());
    assert_ne!(a[0].epoch(), publish(&Hub::new(), "a", "x").epoch());
}

#[test]
fn a_subscription_begins_where_it_was_asked_to() {
    let (hub, stats) = hub(4, 4, Overflow::Disconnect);
    let ids = fill(&hub, "t", 1..=6);
    let from = |id: Option<&str>, last| {
        let (said, ended) = read(&mut now(hub.subscribe("t").resume(id, last)).unwrap());
        assert_eq!(ended, None);
        said.join(" ")
    };
    let id = |n: usize| ids[n - 1].to_string();
    assert_eq!(from(None, None), "");
    assert_eq!(from(Some(""), None), "", "an empty id is none");
    assert_eq!(from(Some(""), Some(1)), "6");
    assert_eq!(from(None, Some(2)), "5 6");
    assert_eq!(from(None, Some(100)), "3 4 5 6");
    assert_eq!(from(Some(&id(6)), None), "");
    assert_eq!(from(Some(&id(4)), Some(1)), "5 6", "an id wins");
    assert_eq!(from(Some(&id(2)), None), "3 4 5 6", "nothing is missing");
    assert_eq!(stats.snapshot().gaps_total, 0);

    let expired = r#"{"reason":"expired","missed":1} 3 4 5 6"#;
    assert_eq!(from(Some(&id(1)), None), expired);
    let unknown = r#"{"reason":"unknown","missed":null} 3 4 5 6"#;
    for text in ["nonsense", &EventId::new(ids[0].epoch(), 7).to_string()] {
        assert_eq!(from(Some(text), Some(1)), unknown);
    }
    assert_eq!(stats.snapshot().gaps_total, 3);
    assert_eq!(stats.snapshot().lagged_total, 0);
}

#[test]
fn an_id_of_before_a_restart_is_unknown() {
    let old = publish(&Hub::new(), "t", "x");
    let hub = Hub::new();
    fill(&hub, "t", 1..=2);
    let (said, _) = read(&mut now(hub.subscribe("t").after(old)).unwrap());
    assert_eq!(said, [r#"{"reason":"unknown","missed":null}"#, "1", "2"]);
}

#[test]
fn after_wins_over_last_in_any_order() {
    let hub = Hub::new();
    let ids = fill(&hub, "t", 1..=5);
    for subscribe in [
        hub.subscribe("t").after(ids[2]).last(1),
        hub.subscribe("t").last(1).after(ids[2]),
    ] {
        assert_eq!(read(&mut now(subscribe).unwrap()).0, ["4", "5"]);
    }
}

#[test]
fn names_are_checked() {
    let hub = Hub::new();
    let error = now(hub.publish("a b", "x"));
    assert_eq!(error, Err(TopicError::InvalidCharacter(' ').into()));
    let error = now(hub.subscribe("")).err();
    assert_eq!(error, Some(TopicError::Empty.into()));
}

#[test]
fn message_and_key_arrive() {
    let hub = Hub::new();
    let mut subscription = now(hub.subscribe("t")).unwrap();
    let id = now(hub.publish("t", Publish::new(vec![1, 2]).key("k"))).unwrap();
    let Poll::Ready(Some(Delivery::Event(event))) = poll(&mut subscription) else {
        panic!("no event");
    };
    assert_eq!(event.message(), vec![1, 2].into());
    assert_eq!((event.key(), event.id()), (Some("k"), id));
}

#[test]
fn who_lags_behind_the_queue_is_disconnected() {
    let (hub, stats) = hub(10, 3, Overflow::Disconnect);
    let mut subscription = now(hub.subscribe("t")).unwrap();
    fill(&hub, "t", 1..=3);
    assert_eq!(read(&mut subscription), (vec_of(1..=3), None));
    fill(&hub, "t", 4..=6);
    assert!(matches!(
        poll(&mut subscription),
        Poll::Ready(Some(Delivery::Event(_)))
    ));
    fill(&hub, "t", 7..=8);
    assert_eq!(read(&mut subscription), (vec![], Some(Ended::Overflow)));
    assert_eq!(stats.snapshot().lagged_total, 4, "5, 6, 7 and 8");
    assert_eq!(stats.snapshot().gaps_total, 0);
}

#[test]
fn who_resumes_far_behind_is_not_late() {
    let (hub, _) = hub(1000, 3, Overflow::Disconnect);
    let ids = fill(&hub, "t", 1..=900);
    let mut resumed = now(hub.subscribe("t").after(ids[0])).unwrap();
    fill(&hub, "t", 901..=903);
    assert_eq!(read(&mut resumed), (vec_of(2..=903), None));

    let mut late = now(hub.subscribe("t").last(500)).unwrap();
    fill(&hub, "t", 904..=907);
    assert_eq!(read(&mut late), (vec![], Some(Ended::Overflow)));
}

#[test]
fn who_may_fall_behind_is_told_what_was_lost() {
    let (hub, stats) = hub(4, 1, Overflow::Block);
    let mut subscription = now(hub.subscribe("t")).unwrap();
    fill(&hub, "t", 1..=10);
    let mut expected = vec![r#"{"reason":"lagged","missed":6}"#.to_owned()];
    expected.extend(vec_of(7..=10));
    assert_eq!(read(&mut subscription), (expected, None));
    assert_eq!(stats.snapshot().lagged_total, 6);
    assert_eq!(stats.snapshot().gaps_total, 1);
}

fn vec_of(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(|n| n.to_string()).collect()
}

#[test]
fn draining_delivers_what_was_published_and_ends() {
    let (hub, _) = hub(10, 10, Overflow::Disconnect);
    let mut subscription = now(hub.subscribe("t")).unwrap();
    fill(&hub, "t", 1..=2);
    subscription.drain();
    fill(&hub, "t", 3..=30);
    subscription.drain();
    // What was to be delivered is past the history of 10 by now.
    let expected = vec![r#"{"reason":"lagged","missed":2}"#.to_owned()];
    assert_eq!(read(&mut subscription), (expected, Some(Ended::Drained)));

    let mut subscription = now(hub.subscribe("t").last(2)).unwrap();
    subscription.drain();
    fill(&hub, "t", 31..=32);
    let expected = vec_of(29..=30);
    assert_eq!(read(&mut subscription), (expected, Some(Ended::Drained)));
}

#[test]
fn draining_ends_one_that_waits() {
    let hub = Hub::new();
    let mut subscription = now(hub.subscribe("t")).unwrap();
    let count = Arc::new(Wakes::default());
    let waker = futures_util::task::waker(Arc::clone(&count));
    let cx = &mut Context::from_waker(&waker);
    assert!(subscription.poll_delivery(cx).is_pending());
    subscription.drain();
    assert_eq!(count.get(), 1);
    assert!(matches!(subscription.poll_delivery(cx), Poll::Ready(None)));
    assert_eq!(subscription.ended_by(), Some(Ended::Drained));
}

#[tokio::test]
async fn publishing_ends_with_the_drain() {
    let drain = Drain::new(Duration::from_secs(1));
    let hub = Hub::builder().drain(drain.clone()).build().unwrap();
    assert!(hub.publish("t", "x").await.is_ok());
    drain.start();
    assert_eq!(hub.publish("t", "x").await, Err(PublishError::Draining));
}

#[test]
fn subscriptions_end_with_the_hub() {
    let hub = Hub::new();
    let mut subscription = now(hub.subscribe("t")).unwrap();
    let count = Arc::new(Wakes::default());
    let waker = futures_util::task::waker(Arc::clone(&count));
    let cx = &mut Context::from_waker(&waker);
    assert!(subscription.poll_delivery(cx).is_pending());
    publish(&hub, "t", "last");
    assert_eq!(count.get(), 1);
    drop(hub);
    assert_eq!(
        read(&mut subscription),
        (vec!["last".into()], Some(Ended::Closed)),
    );

    let hub = Hub::new();
    let mut subscription = now(hub.subscribe("t")).unwrap();
    assert!(subscription.poll_delivery(cx).is_pending());
    drop(hub);
    assert_eq!(count.get(), 2);
    assert_eq!(read(&mut subscription), (vec![], Some(Ended::Closed)));
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl ArcWake for Wakes {
    fn wake_by_ref(arc_self: &Arc<Self>) {
        arc_self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn who_waits_is_woken_once_for_many_events() {
    let hub = Hub::new();
    let mut subscription = now(hub.subscribe("t")).unwrap();
    let count = Arc::new(Wakes::default());
    let waker = futures_util::task::waker(Arc::clone(&count));
    let cx = &mut Context::from_waker(&waker);
    for _ in 0..3 {
        assert!(subscription.poll_delivery(cx).is_pending());
    }
    fill(&hub, "t", 1..=5);
    assert_eq!(count.get(), 1);
    assert_eq!(read(&mut subscription).0.len(), 5);
}

#[test]
fn who_cannot_take_finds_out_about_its_lag_and_nothing_else() {
    let (hub, _) = hub(10, 3, Overflow::Disconnect);
    let mut subscription = now(hub.subscribe("t")).unwrap();
    let count = Arc::new(Wakes::default());
    let waker = futures_util::task::waker(Arc::clone(&count));
    let cx = &mut Context::from_waker(&waker);
    assert!(subscription.poll_overflow(cx).is_pending());
    fill(&hub, "t", 1..=3);
    assert_eq!(count.get(), 0);
    assert!(subscription.poll_overflow(cx).is_pending());
    fill(&hub, "t", 4..=4);
    assert_eq!(count.get(), 1);
    assert!(subscription.poll_overflow(cx).is_ready());
    assert_eq!(read(&mut subscription), (vec![], Some(Ended::Overflow)));
    assert!(subscription.poll_overflow(cx).is_ready());
}

#[test]
fn fan_out_allocates_nothing_per_subscriber() {
    let hub = Hub::new();
    let mut subscriptions: Vec<_> = (0..1000)
        .map(|_| now(hub.subscribe("t")).unwrap())
        .collect();
    let mut deliver_one = || {
        publish(&hub, "t", "x");
        for subscription in &mut subscriptions {
            assert!(matches!(
                poll(subscription),
                Poll::Ready(Some(Delivery::Event(_)))
            ));
            assert!(poll(subscription).is_pending());
        }
    };
    // The log and both rooms for wakers grow first.
    for _ in 0..5 {
        deliver_one();
    }
    let count = allocation_counter::measure(deliver_one).count_total;
    assert!(count <= 6, "{count} allocations for one event");
}

#[test]
fn topics_cost_nothing_when_they_have_neither_readers_nor_events() {
    let (broker, hub) = observed(MemoryBroker::new());
    for n in 0..50 {
        let subscriptions = [(); 3].map(|()| now(hub.subscribe(format!("t{n}"))).unwrap());
        assert_eq!(broker(), 1);
        drop(subscriptions);
        assert_eq!(broker(), 0);
    }
}

#[test]
fn number_of_topics_is_bounded() {
    let (topics, hub) = observed(MemoryBroker::with_max_topics(3).unwrap());
    let ids: Vec<_> = (0..100)
        .map(|n| publish(&hub, &format!("t{n}"), "x"))
        .collect();
    assert_eq!(topics(), 3);

    // The one used least recently has gone; when it comes back its numbers begin
    // again, and its old id is not taken for a new one's.
    assert_eq!(publish(&hub, "t97", "y").sequence(), 2);
    publish(&hub, "new", "x");
    assert_eq!(publish(&hub, "t97", "z").sequence(), 3);
    let again = publish(&hub, "t98", "x");
    assert_eq!(again.sequence(), 1);
    assert_ne!(again, ids[98]);
    let (said, _) = read(&mut now(hub.subscribe("t98").after(ids[98])).unwrap());
    assert_eq!(said, [r#"{"reason":"unknown","missed":null}"#, "x"]);
}

#[test]
fn topics_with_subscribers_stay() {
    let (topics, hub) = observed(MemoryBroker::with_max_topics(2).unwrap());
    let held = ["a", "b"].map(|topic| now(hub.subscribe(topic)).unwrap());
    assert_eq!(now(hub.publish("c", "x")), Err(PublishError::TooManyTopics));
    let error = now(hub.subscribe("c")).err();
    assert_eq!(error, Some(SubscribeError::TooManyTopics));
    publish(&hub, "a", "x");
    publish(&hub, "b", "x");
    assert_eq!(topics(), 2);
    drop(held);
    publish(&hub, "c", "x");
    assert_eq!(topics(), 2);
}

/// A hub, and how many topics its broker has.
fn observed(broker: MemoryBroker) -> (impl Fn() -> usize, Hub) {
    let broker = Arc::new(broker);
    let hub = Hub::builder().broker(Shared(Arc::clone(&broker)));
    (move || broker.topics(), hub.build().unwrap())
}

#[derive(Debug)]
struct Shared(Arc<MemoryBroker>);

impl Broker for Shared {
    fn publish<'a>(
        &'a self,
        topic: Topic<'a>,
        retention: Retention,
        message: Publish,
    ) -> BoxFuture<'a, Result<EventId, PublishError>> {
        self.0.publish(topic, retention, message)
    }

    fn open<'a>(
        &'a self,
        topic: Topic<'a>,
        retention: Retention,
        seen: Option<EventId>,
    ) -> BoxFuture<'a, Result<Reader, SubscribeError>> {
        self.0.open(topic, retention, seen)
    }

    fn is_embedded(&self) -> bool {
        self.0.is_embedded()
    }
}

/// The nodes of an embedded broker are hubs that share it.
#[cfg(feature = "testing")]
mod embedded {
    use super::*;

    struct Embedded(Arc<MemoryBroker>);

    impl conformance::Cluster for Embedded {
        type Broker = Arc<MemoryBroker>;

        async fn node(&self, _link: &'static str) -> Self::Broker {
            Arc::clone(&self.0)
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn memory_conforms() {
        let report = conformance::run(&Embedded(Arc::new(MemoryBroker::new()))).await;
        assert_eq!(report.failed(), [], "{report}");
        assert_eq!(report.passed().len(), 14);
    }
}
