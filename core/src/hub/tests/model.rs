//! A hub against a model of it: any sequence of publishing, subscribing, resuming,
//! reading, leaving and dropping topics.

use std::{collections::HashMap, task::Poll};

use proptest::{prelude::*, sample::Index};

use super::{now, poll};
use crate::{
    Stats,
    hub::{
        Delivery, Ended, EventId, Gap, Hub, MemoryBroker, Overflow, PublishError, SubscribeError,
        Subscription,
    },
};

const TOPICS: [&str; 3] = ["a", "b", "c"];
const MAX_TOPICS: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Publish {
        topic: Index,
        count: u64,
    },
    Live {
        topic: Index,
    },
    Last {
        topic: Index,
        n: usize,
    },
    /// Behind an id that was given out, or one that was not.
    After {
        id: Index,
    },
    Nonsense {
        topic: Index,
    },
    Future {
        topic: Index,
    },
    Read {
        reader: Index,
        count: usize,
    },
    Leave {
        reader: Index,
    },
    Drain {
        reader: Index,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        6 => (index(), 1u64..12).prop_map(|(topic, count)| Step::Publish { topic, count }),
        1 => index().prop_map(|topic| Step::Live { topic }),
        1 => (index(), 0usize..12).prop_map(|(topic, n)| Step::Last { topic, n }),
        3 => index().prop_map(|id| Step::After { id }),
        1 => index().prop_map(|topic| Step::Nonsense { topic }),
        1 => index().prop_map(|topic| Step::Future { topic }),
        6 => (index(), 1usize..20).prop_map(|(reader, count)| Step::Read { reader, count }),
        3 => index().prop_map(|reader| Step::Leave { reader }),
        1 => index().prop_map(|reader| Step::Drain { reader }),
    ]
}

fn name(topic: &Index) -> &'static str {
    TOPICS[topic.index(TOPICS.len())]
}

/// One life of a topic.
#[derive(Clone, Default)]
struct Life {
    number: usize,
    head: u64,
    used: u64,
    readers: usize,
}

struct Reading {
    topic: &'static str,
    subscription: Subscription,
    cursor: u64,
    joined: u64,
    end: u64,
    gap: Option<Gap>,
}

struct World {
    hub: Hub,
    stats: Stats,
    history: u64,
    queue: u64,
    overflow: Overflow,
    lives: HashMap<&'static str, Life>,
    begun: usize,
    clock: u64,
    /// Every id that was given out: topic, life, number.
    ids: Vec<(&'static str, usize, u64, EventId)>,
    readings: Vec<Reading>,
    lagged: u64,
    gaps: u64,
}

impl World {
    fn new(history: usize, queue: usize, overflow: Overflow) -> Self {
        let stats = Stats::new();
        let hub = Hub::builder()
            .history(history)
            .queue(queue)
            .overflow(overflow)
            .stats(stats.clone())
            .broker(MemoryBroker::with_max_topics(MAX_TOPICS).unwrap())
            .build()
            .unwrap();
        Self {
            hub,
            stats,
            history: history as u64,
            queue: queue as u64,
            overflow,
            lives: HashMap::new(),
            begun: 0,
            clock: 0,
            ids: Vec::new(),
            readings: Vec::new(),
            lagged: 0,
            gaps: 0,
        }
    }

    fn before_oldest(&self, topic: &str) -> u64 {
        self.lives[topic].head.saturating_sub(self.history)
    }

    /// The topic's life, or that there is no room for it.
    fn live(&mut self, topic: &'static str) -> Option<&mut Life> {
        self.clock += 1;
        if !self.lives.contains_key(topic) {
            if self.lives.len() == MAX_TOPICS {
                let idle = self.lives.iter().filter(|(_, life)| life.readers == 0);
                let (&oldest, _) = idle.min_by_key(|(_, life)| life.used)?;
                self.lives.remove(oldest);
            }
            self.begun += 1;
            let life = Life {
                number: self.begun,
                ..Life::default()
            };
            self.lives.insert(topic, life);
        }
        let clock = self.clock;
        let life = self.lives.get_mut(topic)?;
        life.used = clock;
        Some(life)
    }

    fn publish(&mut self, topic: &'static str) {
        let life = self.live(topic).map(|life| {
            life.head += 1;
            (life.number, life.head)
        });
        let text = life.map_or_else(String::new, |(number, head)| format!("{number}:{head}"));
        match (life, now(self.hub.publish(topic, text))) {
            (Some((number, head)), Ok(id)) => {
                assert_eq!(id.sequence(), head);
                let known = self
                    .ids
                    .iter()
                    .any(|known| known.0 == topic && known.3 == id);
                assert!(!known, "an id is given out once");
                self.ids.push((topic, number, head, id));
            }
            (None, Err(error)) => assert_eq!(error, PublishError::TooManyTopics),
            (expected, got) => panic!("{expected:?} but {got:?}"),
        }
    }

    /// `begin` says, of life number, head and what is before the oldest kept,
    /// cursor and gap.
    fn subscribe(
        &mut self,
        topic: &'static str,
        id: Option<&str>,
        last: Option<usize>,
        begin: impl FnOnce(usize, u64, u64) -> (u64, Option<Gap>),
    ) {
        let room = self.live(topic).map(|life| life.readers += 1).is_some();
        match now(self.hub.subscribe(topic).resume(id, last)) {
            Ok(subscription) => {
                assert!(room);
                let life = self.lives[topic].clone();
                let (cursor, gap) = begin(life.number, life.head, self.before_oldest(topic));
                self.readings.push(Reading {
                    topic,
                    subscription,
                    cursor,
                    joined: life.head,
                    end: u64::MAX,
                    gap,
                });
            }
            Err(error) => {
                assert!(!room);
                assert_eq!(error, SubscribeError::TooManyTopics);
            }
        }
    }

    fn leave(&mut self, reader: &Index) {
        if self.readings.is_empty() {
            return;
        }
        let reading = self.readings.swap_remove(reader.index(self.readings.len()));
        self.clock += 1;
        let clock = self.clock;
        let life = self.lives.get_mut(reading.topic).unwrap();
        life.readers -= 1;
        if life.readers == 0 {
            life.used = clock;
            if life.head == 0 {
                self.lives.remove(reading.topic);
            }
        }
    }

    /// Reads once; whether there was something.
    fn read(&mut self, at: usize) -> bool {
        let topic = self.readings[at].topic;
        let life = self.lives[topic].clone();
        let before_oldest = self.before_oldest(topic);
        let reading = &mut self.readings[at];
        let newest = life.head.min(reading.end);
        let was_over = reading.subscription.ended_by();
        let lag = newest.saturating_sub(reading.cursor.max(reading.joined));
        let got = poll(&mut reading.subscription);
        let ended = reading.subscription.ended_by();
        if was_over.is_some() {
            assert!(matches!(got, Poll::Ready(None)));
            return false;
        }
        if self.overflow == Overflow::Disconnect && lag > self.queue {
            assert!(matches!(got, Poll::Ready(None)));
            assert_eq!(ended, Some(Ended::Overflow));
            self.lagged += newest - reading.cursor;
            return false;
        }
        if let Some(expected) = reading.gap.take() {
            self.gaps += 1;
            assert!(matches!(got, Poll::Ready(Some(Delivery::Gap(gap))) if gap == expected));
            return true;
        }
        match got {
            Poll::Pending => {
                assert_eq!(reading.cursor, life.head);
                assert_eq!(reading.end, u64::MAX);
                false
            }
            Poll::Ready(None) => {
                assert_eq!(ended, Some(Ended::Drained));
                assert!(reading.cursor >= reading.end);
                false
            }
            Poll::Ready(Some(Delivery::Event(event))) => {
                reading.cursor += 1;
                assert!(reading.cursor <= newest);
                let text = format!("{}:{}", life.number, reading.cursor);
                assert_eq!(event.message().as_text(), Some(text.as_str()));
                assert_eq!(event.id().sequence(), reading.cursor);
                true
            }
            Poll::Ready(Some(Delivery::Gap(gap))) => {
                // Exactly what is no longer kept, and only then.
                let missed = before_oldest.min(newest) - reading.cursor;
                assert!(missed > 0);
                assert_eq!(gap, Gap::Lagged { missed });
                reading.cursor += missed;
                self.lagged += missed;
                self.gaps += 1;
                true
            }
        }
    }

    fn take(&mut self, step: &Step) {
        let unknown = |_: usize, _: u64, before| (before, Some(Gap::Unknown));
        match step {
            Step::Publish { topic, count } => {
                for _ in 0..*count {
                    self.publish(name(topic));
                }
            }
            Step::Live { topic } => {
                self.subscribe(name(topic), None, None, |_, head, _| (head, None));
            }
            Step::Last { topic, n } => {
                let begin = |_: usize, head: u64, before: u64| {
                    (before.max(head.saturating_sub(*n as u64)), None)
                };
                self.subscribe(name(topic), None, Some(*n), begin);
            }
            Step::After { id } if !self.ids.is_empty() => {
                let (topic, number, sequence, id) = *id.get(&self.ids);
                let begin = |life: usize, _: u64, before: u64| {
                    if life != number {
                        (before, Some(Gap::Unknown))
                    } else if sequence >= before {
                        (sequence, None)
                    } else {
                        let missed = before - sequence;
                        (before, Some(Gap::Expired { missed }))
                    }
                };
                self.subscribe(topic, Some(&id.to_string()), Some(1), begin);
            }
            Step::After { .. } => {}
            Step::Nonsense { topic } => {
                self.subscribe(name(topic), Some("7"), None, unknown);
            }
            Step::Future { topic } => {
                let newest = self.ids.iter().rev().find(|id| id.0 == name(topic));
                if let Some(&(topic, _, sequence, id)) = newest {
                    let future = EventId::new(id.epoch(), sequence + 1).to_string();
                    self.subscribe(topic, Some(&future), None, unknown);
                }
            }
            Step::Read { reader, count } => {
                if !self.readings.is_empty() {
                    let at = reader.index(self.readings.len());
                    for _ in 0..*count {
                        self.read(at);
                    }
                }
            }
            Step::Leave { reader } => self.leave(reader),
            Step::Drain { reader } => {
                if !self.readings.is_empty() {
                    let at = reader.index(self.readings.len());
                    let head = self.lives[self.readings[at].topic].head;
                    let reading = &mut self.readings[at];
                    reading.end = reading.end.min(head);
                    reading.subscription.drain();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn hub_does_what_its_model_does(
        history in 1usize..20,
        queue in any::<Index>(),
        block: bool,
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let queue = 1 + queue.index(history);
        let overflow = if block { Overflow::Block } else { Overflow::Disconnect };
        let mut world = World::new(history, queue, overflow);
        for step in &steps {
            world.take(step);
        }
        for at in 0..world.readings.len() {
            while world.read(at) {}
        }
        prop_assert_eq!(world.stats.snapshot().lagged_total, world.lagged);
        prop_assert_eq!(world.stats.snapshot().gaps_total, world.gaps);
    }
}
