//! A hub against a model of it: any sequence of publishing, subscribing, resuming,
//! reading, leaving and dropping topics.

use std::{collections::HashMap, task::Poll};

use proptest::{prelude::*, sample::Index};

use super::{now, poll};
use crate::{
    Stats,
    hub::{
        Delivery, Ended, EventId, Gap, Hub, MemoryBroker, Overflow, Publish, PublishError,
        SubscribeError, Subscription,
    },
};

const TOPICS: [&str; 3] = ["a", "b", "c"];
const MAX_TOPICS: usize = 2;

const POLICIES: [Overflow; 5] = [
    Overflow::Disconnect,
    Overflow::Block,
    Overflow::DropOldest,
    Overflow::DropNewest,
    Overflow::Conflate,
];

type Key = Option<&'static str>;

#[derive(Clone, Debug)]
enum Step {
    Publish {
        topic: Index,
        keys: Vec<Key>,
    },
    Live {
        topic: Index,
        policy: Index,
    },
    Last {
        topic: Index,
        policy: Index,
        n: usize,
    },
    /// Behind an id that was given out, or one that was not.
    After {
        id: Index,
        policy: Index,
    },
    Nonsense {
        topic: Index,
        policy: Index,
    },
    Future {
        topic: Index,
        policy: Index,
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
    let key = prop::option::weighted(0.8, prop::sample::select(vec!["k", "l", "m"]));
    let keys = prop::collection::vec(key, 1..12);
    prop_oneof![
        6 => (index(), keys).prop_map(|(topic, keys)| Step::Publish { topic, keys }),
        1 => (index(), index()).prop_map(|(topic, policy)| Step::Live { topic, policy }),
        1 => (index(), index(), 0usize..12)
            .prop_map(|(topic, policy, n)| Step::Last { topic, policy, n }),
        3 => (index(), index()).prop_map(|(id, policy)| Step::After { id, policy }),
        1 => (index(), index()).prop_map(|(topic, policy)| Step::Nonsense { topic, policy }),
        1 => (index(), index()).prop_map(|(topic, policy)| Step::Future { topic, policy }),
        6 => (index(), 1usize..20).prop_map(|(reader, count)| Step::Read { reader, count }),
        3 => index().prop_map(|reader| Step::Leave { reader }),
        1 => index().prop_map(|reader| Step::Drain { reader }),
    ]
}

fn policy(index: &Index) -> Overflow {
    POLICIES[index.index(POLICIES.len())]
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
    /// Those of them that conflate.
    conflating: usize,
    /// The keys of all its events.
    keys: Vec<Key>,
    /// While somebody conflates: up to where it is not known any more what nothing has
    /// replaced.
    forgotten: u64,
}

impl Life {
    /// Whether an event up to `until` has the key of this one, which is older.
    fn is_replaced(&self, event: u64, until: u64) -> bool {
        let at = |number: u64| self.keys[usize::try_from(number).unwrap() - 1];
        at(event).is_some() && (event + 1..=until).any(|newer| at(newer) == at(event))
    }

    /// What is left of the events behind `cursor` when those up to `until` are conflated.
    fn standing(&self, cursor: u64, until: u64) -> Vec<u64> {
        (cursor + 1..=until)
            .filter(|&event| !self.is_replaced(event, until))
            .collect()
    }

    fn forget(&mut self, history: u64) {
        let expired = self.forgotten + 1..=self.head.saturating_sub(history);
        let lost: Vec<_> = expired
            .filter(|&event| !self.is_replaced(event, self.head))
            .collect();
        if let Some(more) = lost
            .len()
            .checked_sub(usize::try_from(history).unwrap() + 1)
        {
            self.forgotten = lost[more];
        }
    }

    /// How many of the events behind `cursor`, which are no longer kept up to `last`, one
    /// who reads up to `end` misses.
    fn missed(&self, cursor: u64, last: u64, end: u64) -> u64 {
        let is_missed = |event: u64| {
            end < self.head || event <= self.forgotten || !self.is_replaced(event, self.head)
        };
        (cursor + 1..=last)
            .filter(|&event| is_missed(event))
            .count() as u64
    }
}

struct Reading {
    topic: &'static str,
    policy: Overflow,
    subscription: Subscription,
    cursor: u64,
    joined: u64,
    end: u64,
    gap: Option<Gap>,
    /// `DropNewest`: the last event in front of the gap. `Conflate`: what is up to here
    /// is conflated.
    until: Option<u64>,
}

/// What a reader gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    Event(u64),
    Gap(Gap),
    Ended(Ended),
    Nothing,
}

/// What a reader is to get, and where its cursor is then.
struct Due {
    got: Got,
    cursor: u64,
}

impl Due {
    const fn new(got: Got, cursor: u64) -> Self {
        Self { got, cursor }
    }
}

impl Reading {
    fn newest(&self, life: &Life) -> u64 {
        life.head.min(self.end)
    }

    fn lag(&self, life: &Life) -> u64 {
        let seen = self.cursor.max(self.joined);
        self.newest(life).saturating_sub(seen)
    }

    fn lost(missed: u64, cursor: u64) -> Option<Due> {
        let got = Got::Gap(Gap::Lagged { missed });
        (missed > 0).then_some(Due { got, cursor })
    }

    /// What the lag comes to, before anything is taken.
    fn judge(&mut self, life: &Life, queue: u64) {
        // What was to be told first is told in front of it.
        if self.gap.is_some() || self.lag(life) <= queue {
            return;
        }
        match self.policy {
            Overflow::DropNewest => {
                let queued = self.cursor.max(self.joined) + queue;
                self.until.get_or_insert(queued);
            }
            Overflow::Conflate => self.until = Some(self.newest(life)),
            _ => {}
        }
    }

    /// What the design says of the next take. A gap is always exactly what the reader
    /// lacks, at the moment when it is told.
    fn due(&mut self, life: &Life, history: u64, queue: u64) -> Due {
        let newest = self.newest(life);
        let lags = self.lag(life) > queue;
        let before_oldest = life.head.saturating_sub(history).min(newest);
        let cursor = self.cursor;
        if self.policy == Overflow::Disconnect && lags {
            return Due::new(Got::Ended(Ended::Overflow), newest);
        }
        if let Some(gap) = self.gap.take() {
            return Due::new(Got::Gap(gap), cursor);
        }
        match self.policy {
            Overflow::DropOldest if lags => {
                let to = before_oldest.max(newest - queue);
                return Self::lost(to - cursor, to).unwrap();
            }
            Overflow::DropNewest => {
                let gone = cursor.max(before_oldest);
                if self.until.is_some_and(|until| until <= gone) {
                    self.until = None;
                    return Self::lost(newest - cursor, newest).unwrap();
                }
            }
            Overflow::Conflate => {
                let until = self.until.filter(|until| *until > cursor);
                let from = cursor.max(before_oldest);
                let missed = life.missed(cursor, from, self.end);
                let left = life.standing(from, until.unwrap_or(from));
                let excess = left.len().saturating_sub(usize::try_from(queue).unwrap());
                let cut = left[..excess].last().copied().unwrap_or(from);
                if let Some(due) = Self::lost(missed + excess as u64, cut) {
                    return due;
                }
                let plain = (from < newest).then_some(from + 1);
                if let Some(number) = left.first().copied().or(plain) {
                    return Due::new(Got::Event(number), number);
                }
                return self.idle(newest);
            }
            _ => {}
        }
        if let Some(due) = Self::lost(before_oldest.saturating_sub(cursor), before_oldest) {
            return due;
        }
        if cursor < newest {
            return Due::new(Got::Event(cursor + 1), cursor + 1);
        }
        self.idle(newest)
    }

    fn idle(&self, newest: u64) -> Due {
        let got = match self.end {
            u64::MAX => Got::Nothing,
            _ => Got::Ended(Ended::Drained),
        };
        Due::new(got, newest.max(self.cursor))
    }

    /// How many events its policy has taken from it.
    fn taken_away(&self, life: &Life, history: u64, queue: u64) -> u64 {
        let newest = self.newest(life);
        let lag = self.lag(life);
        if let (Overflow::DropNewest, Some(until)) = (self.policy, self.until) {
            return newest - until;
        }
        if lag <= queue {
            return 0;
        }
        let before_oldest = life.head.saturating_sub(history).min(newest);
        match self.policy {
            Overflow::Block => 0,
            Overflow::Disconnect => newest - self.cursor,
            Overflow::DropOldest => before_oldest.max(newest - queue) - self.cursor,
            Overflow::DropNewest => lag - queue,
            Overflow::Conflate => {
                let left = life.standing(self.cursor.max(before_oldest), newest);
                newest - self.cursor - queue.min(left.len() as u64)
            }
        }
    }
}

struct World {
    hub: Hub,
    stats: Stats,
    history: u64,
    queue: u64,
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
    fn new(history: usize, queue: usize) -> Self {
        let stats = Stats::new();
        let hub = Hub::builder()
            .history(history)
            .queue(queue)
            .stats(stats.clone())
            .broker(MemoryBroker::with_max_topics(MAX_TOPICS).unwrap())
            .build()
            .unwrap();
        Self {
            hub,
            stats,
            history: history as u64,
            queue: queue as u64,
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

    fn publish(&mut self, topic: &'static str, key: Key) {
        let history = self.history;
        let life = self.live(topic).map(|life| {
            life.head += 1;
            life.keys.push(key);
            life.forget(history);
            (life.number, life.head)
        });
        let text = life.map_or_else(String::new, |(number, head)| format!("{number}:{head}"));
        let publish = Publish::from(text);
        let publish = match key {
            Some(key) => publish.key(key),
            None => publish,
        };
        match (life, now(self.hub.publish(topic, publish))) {
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
        policy: &Index,
        id: Option<&str>,
        last: Option<usize>,
        begin: impl FnOnce(usize, u64, u64) -> (u64, Option<Gap>),
    ) {
        let policy = self::policy(policy);
        let history = self.history;
        let begin_life = |life: &mut Life| {
            life.readers += 1;
            if policy == Overflow::Conflate {
                if life.conflating == 0 {
                    life.forgotten = life.head.saturating_sub(history);
                }
                life.conflating += 1;
            }
        };
        let room = self.live(topic).map(begin_life).is_some();
        let subscribe = self.hub.subscribe(topic).resume(id, last);
        match now(subscribe.overflow(policy)) {
            Ok(subscription) => {
                assert!(room);
                let life = self.lives[topic].clone();
                let (cursor, gap) = begin(life.number, life.head, self.before_oldest(topic));
                self.readings.push(Reading {
                    topic,
                    policy,
                    subscription,
                    cursor,
                    joined: life.head,
                    end: u64::MAX,
                    gap,
                    until: None,
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
        if reading.subscription.ended_by().is_none() {
            self.lagged += reading.taken_away(life, self.history, self.queue);
        }
        life.readers -= 1;
        life.conflating -= usize::from(reading.policy == Overflow::Conflate);
        if life.readers == 0 {
            life.used = clock;
            if life.head == 0 {
                self.lives.remove(reading.topic);
            }
        }
    }

    /// Reads once; whether there was something.
    fn read(&mut self, at: usize) -> bool {
        let reading = &mut self.readings[at];
        let life = self.lives[reading.topic].clone();
        let was_over = reading.subscription.ended_by();
        let polled = poll(&mut reading.subscription);
        if was_over.is_some() {
            assert!(matches!(polled, Poll::Ready(None)));
            return false;
        }
        let got = match polled {
            Poll::Pending => Got::Nothing,
            Poll::Ready(None) => Got::Ended(reading.subscription.ended_by().unwrap()),
            Poll::Ready(Some(Delivery::Gap(gap))) => Got::Gap(gap),
            Poll::Ready(Some(Delivery::Event(event))) => {
                let number = event.id().sequence();
                let text = format!("{}:{number}", life.number);
                assert_eq!(event.message().as_text(), Some(text.as_str()));
                Got::Event(number)
            }
        };
        let policy = reading.policy;
        let before = reading.cursor;
        reading.judge(&life, self.queue);
        let until = reading.until;
        let due = reading.due(&life, self.history, self.queue);
        let mut cursor = due.cursor;
        if got != due.got {
            // What it took from the log when it was still kept it may give on.
            let Got::Event(number) = got else {
                panic!("{policy:?}: {got:?}, not {:?}", due.got);
            };
            let expired = life.head.saturating_sub(self.history);
            // What was left of a conflation replaces what has expired since, drained or not.
            let conflated = policy == Overflow::Conflate && until >= Some(number);
            assert!(
                before < number && (number <= expired || conflated),
                "{policy:?}"
            );
            let is_gap = matches!(due.got, Got::Gap(Gap::Lagged { .. }));
            // A gap, unless what is gone was replaced.
            assert!(is_gap && number == before + 1 || policy == Overflow::Conflate);
            cursor = number;
            reading.until = until;
        }
        reading.cursor = cursor;
        self.lagged += cursor - before - u64::from(matches!(got, Got::Event(_)));
        self.gaps += u64::from(matches!(got, Got::Gap(_)));
        matches!(got, Got::Event(_) | Got::Gap(_))
    }

    fn take(&mut self, step: &Step) {
        let unknown = |_: usize, _: u64, before| (before, Some(Gap::Unknown));
        match step {
            Step::Publish { topic, keys } => {
                for key in keys {
                    self.publish(name(topic), *key);
                }
            }
            Step::Live { topic, policy } => {
                self.subscribe(name(topic), policy, None, None, |_, head, _| (head, None));
            }
            Step::Last { topic, policy, n } => {
                let begin = |_: usize, head: u64, before: u64| {
                    (before.max(head.saturating_sub(*n as u64)), None)
                };
                self.subscribe(name(topic), policy, None, Some(*n), begin);
            }
            Step::After { id, policy } if !self.ids.is_empty() => {
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
                self.subscribe(topic, policy, Some(&id.to_string()), Some(1), begin);
            }
            Step::After { .. } => {}
            Step::Nonsense { topic, policy } => {
                self.subscribe(name(topic), policy, Some("7"), None, unknown);
            }
            Step::Future { topic, policy } => {
                let newest = self.ids.iter().rev().find(|id| id.0 == name(topic));
                if let Some(&(topic, _, sequence, id)) = newest {
                    let future = EventId::new(id.epoch(), sequence + 1).to_string();
                    self.subscribe(topic, policy, Some(&future), None, unknown);
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
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let queue = 1 + queue.index(history);
        let mut world = World::new(history, queue);
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
