//! A log that a broker feeds: whatever it loses or trims, wherever readers begin, they
//! get or are told everything, in order.

use std::{sync::Arc, task::Poll};

use proptest::{prelude::*, sample::Index};

use super::{now, poll};
use crate::{
    Stats,
    hub::{
        BoxFuture, Broker, Delivery, EventId, Gap, Hub, Overflow, Publish, PublishError, Reader,
        Retention, SubscribeError, Subscription, Topic, TopicLog,
    },
};

/// Gives out one log, which the test feeds.
#[derive(Debug)]
struct Fed(TopicLog);

impl Broker for Fed {
    fn publish<'a>(
        &'a self,
        _: Topic<'a>,
        _: Retention,
        _: Publish,
    ) -> BoxFuture<'a, Result<EventId, PublishError>> {
        unreachable!("the test publishes")
    }

    fn open<'a>(
        &'a self,
        _: Topic<'a>,
        _: Retention,
        _: Option<EventId>,
    ) -> BoxFuture<'a, Result<Reader, SubscribeError>> {
        Box::pin(std::future::ready(Ok(self.0.reader())))
    }

    fn is_embedded(&self) -> bool {
        false
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// So many events arrive.
    Feed(u64),
    /// They arrive again, as after a lost connection.
    Again(u64),
    /// So many never arrive.
    Lose(u64),
    /// So many never arrive, and this is told before the next event.
    Skip(u64),
    /// The broker begins anew.
    NewEpoch {
        tell: bool,
    },
    Live(Index),
    After(Index, Index),
    Read(Index, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        6 => (1..6u64).prop_map(Step::Feed),
        2 => (1..6u64).prop_map(Step::Again),
        2 => (1..9u64).prop_map(Step::Lose),
        1 => (1..9u64).prop_map(Step::Skip),
        1 => any::<bool>().prop_map(|tell| Step::NewEpoch { tell }),
        2 => index().prop_map(Step::Live),
        3 => (index(), index()).prop_map(|(id, policy)| Step::After(id, policy)),
        5 => (index(), 1..9usize).prop_map(|(reader, n)| Step::Read(reader, n)),
    ]
}

const POLICIES: [Overflow; 4] = [
    Overflow::Block,
    Overflow::DropOldest,
    Overflow::DropNewest,
    Overflow::Conflate,
];

struct Reading {
    policy: Overflow,
    subscription: Subscription,
    /// The last event that it got, or begins behind; what it was told since.
    seen: Option<EventId>,
    missed: Option<u64>,
}

impl Reading {
    /// Takes one item. No event has a key, so conflation loses nothing in silence.
    fn read(&mut self) -> bool {
        let policy = self.policy;
        match poll(&mut self.subscription) {
            Poll::Ready(Some(Delivery::Gap(gap))) => {
                let more = match gap {
                    Gap::Unknown => None,
                    gap => gap.missed(),
                };
                assert_ne!(more, Some(0), "{policy:?}: a gap of nothing");
                self.missed = self.missed.zip(more).map(|(a, b)| a + b);
                true
            }
            Poll::Ready(Some(Delivery::Event(event))) => {
                let id = event.id();
                let text = format!("{id}");
                assert_eq!(event.message().as_text(), Some(text.as_str()));
                if let Some(seen) = self.seen {
                    if id.epoch() == seen.epoch() && self.missed.is_some() {
                        let missed = id.sequence().checked_sub(seen.sequence() + 1);
                        assert_eq!(self.missed, missed, "{policy:?}: {seen} to {id}");
                    } else {
                        let unknown = self.missed.is_none();
                        assert!(unknown, "{policy:?}: {seen} to {id}, and no gap");
                    }
                }
                (self.seen, self.missed) = (Some(id), Some(0));
                true
            }
            Poll::Ready(None) => panic!("{policy:?}: ended"),
            Poll::Pending => false,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_event_is_got_or_told(
        history in 1..12usize,
        begins in prop::option::of(1..20u64),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut epoch = 1;
        let mut newest = begins.unwrap_or(0);
        let begin = begins.map(|number| EventId::new(epoch, number));
        let log = TopicLog::new(begin, Retention::events(history), || ());
        let hub = Hub::builder().history(history).stats(Stats::new());
        let hub = hub.broker(Arc::new(Fed(log.clone()))).build().unwrap();
        let mut ids = Vec::from_iter(begin);
        let mut readings: Vec<Reading> = Vec::new();
        let publish = |epoch, number| {
            let id = EventId::new(epoch, number);
            log.append(id, &Publish::from(id.to_string()))
        };
        for step in &steps {
            match step {
                Step::Feed(count) => {
                    for _ in 0..*count {
                        newest += 1;
                        prop_assert!(publish(epoch, newest));
                        ids.push(EventId::new(epoch, newest));
                        prop_assert_eq!(log.newest(), ids.last().copied());
                    }
                }
                Step::Again(count) => {
                    if log.newest().is_some_and(|id| id.epoch() == epoch) {
                        let read = log.newest().unwrap().sequence();
                        for number in read.saturating_sub(*count).max(1)..=read {
                            prop_assert!(!publish(epoch, number));
                        }
                    }
                }
                Step::Lose(count) => {
                    for _ in 0..*count {
                        newest += 1;
                        ids.push(EventId::new(epoch, newest));
                    }
                }
                Step::Skip(count) => {
                    newest += count;
                    log.skip_to(EventId::new(epoch, newest));
                    prop_assert_eq!(log.newest(), Some(EventId::new(epoch, newest)));
                }
                Step::NewEpoch { tell } => {
                    epoch += 1;
                    newest = 0;
                    if *tell {
                        log.skip_to(EventId::new(epoch, 0));
                    }
                }
                Step::Live(policy) => {
                    let policy = POLICIES[policy.index(POLICIES.len())];
                    let subscription = now(hub.subscribe("t").overflow(policy)).unwrap();
                    let seen = log.newest();
                    readings.push(Reading { policy, subscription, seen, missed: Some(0) });
                }
                Step::After(id, policy) if !ids.is_empty() => {
                    let policy = POLICIES[policy.index(POLICIES.len())];
                    let id = *id.get(&ids);
                    let subscribe = hub.subscribe("t").after(id).overflow(policy);
                    let subscription = now(subscribe).unwrap();
                    let seen = Some(id);
                    readings.push(Reading { policy, subscription, seen, missed: Some(0) });
                }
                Step::After(..) => {}
                Step::Read(reader, count) if !readings.is_empty() => {
                    let reader = reader.index(readings.len());
                    for _ in 0..*count {
                        readings[reader].read();
                    }
                }
                Step::Read(..) => {}
            }
        }
        for reading in &mut readings {
            while reading.read() {}
        }
    }
}
