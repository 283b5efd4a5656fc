use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    fmt,
    future::ready,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    super::{
        ConfigError, EventId, Publish, PublishError, Reader, Retention, SubscribeError, Topic,
        log::Log,
    },
    BoxFuture, Broker,
};
use crate::encoded::Draft;

/// The embedded broker: topics in this process's memory, which are gone with it.
///
/// A topic without subscribers and events is dropped at once. One with events is
/// kept, until there are [`max_topics`](Self::with_max_topics) and another is
/// needed: then the one that was used least recently, among those without
/// subscribers, is dropped.
///
/// Ids are `epoch-sequence`, dense per topic from 1. The epoch is random at each
/// start, so that an id from before it is told as a gap and not misread. When a
/// topic with events is dropped, topics that are made from then on have the next
/// epoch: should the dropped one come back, its numbers begin again, but never
/// those of an id that is still around.
pub struct MemoryBroker(Arc<Topics>);

struct Topics {
    max: usize,
    /// A moment for [`Kept::used`]: counts uses.
    clock: AtomicU64,
    map: RwLock<Map>,
}

struct Map {
    epoch: u64,
    kept: HashMap<Arc<str>, Kept>,
    /// Candidates for being dropped, those used least recently first. Each topic
    /// without readers stands here exactly once, perhaps with an older moment
    /// than that of its last use; one that has got readers is taken out when it
    /// is met.
    idle: BinaryHeap<Reverse<(u64, Arc<str>)>>,
}

struct Kept {
    log: Arc<Log>,
    used: AtomicU64,
    is_in_idle: bool,
}

/// As many topics as there may be have readers.
struct Full;

impl MemoryBroker {
    /// The most topics, where it is not said.
    pub const MAX_TOPICS: usize = 100_000;

    /// A broker without topics.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limit(Self::MAX_TOPICS)
    }

    /// A broker that has at most so many topics at a time.
    ///
    /// # Errors
    /// Where it is zero.
    pub fn with_max_topics(max_topics: usize) -> Result<Self, ConfigError> {
        if max_topics == 0 {
            return Err(ConfigError::Zero("max_topics"));
        }
        Ok(Self::with_limit(max_topics))
    }

    fn with_limit(max: usize) -> Self {
        Self(Arc::new(Topics {
            max,
            clock: AtomicU64::new(0),
            map: RwLock::new(Map {
                epoch: fastrand::u64(..),
                kept: HashMap::new(),
                idle: BinaryHeap::new(),
            }),
        }))
    }

    /// How many topics there are.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.0.read().kept.len()
    }
}

impl Topics {
    fn read(&self) -> RwLockReadGuard<'_, Map> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Map> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    fn publish(
        self: &Arc<Self>,
        topic: Topic<'_>,
        retention: Retention,
        message: &Publish,
    ) -> Result<EventId, PublishError> {
        let draft = Draft::new(message);
        let map = self.read();
        // Appending under the map's lock: a topic that is being dropped would
        // swallow what was acknowledged.
        if let Some(kept) = map.kept.get(topic.as_str()) {
            kept.used.store(self.now(), Ordering::Relaxed);
            let log = Arc::clone(&kept.log);
            let appended = log.append(draft);
            drop(map);
            return Ok(appended.finish());
        }
        drop(map);
        let mut map = self.write();
        let (log, dropped) = self
            .ensure(&mut map, topic, retention)
            .map_err(|Full| PublishError::TooManyTopics)?;
        map.enlist(topic.as_str());
        let appended = log.append(draft);
        drop(map);
        drop(dropped);
        Ok(appended.finish())
    }

    fn open(
        self: &Arc<Self>,
        topic: Topic<'_>,
        retention: Retention,
    ) -> Result<Reader, SubscribeError> {
        // The place is taken under the map's lock, so that a topic is not dropped
        // between the two.
        if let Some(kept) = self.read().kept.get(topic.as_str()) {
            kept.used.store(self.now(), Ordering::Relaxed);
            return Ok(Reader::new(Arc::clone(&kept.log)));
        }
        let mut map = self.write();
        let (log, dropped) = self
            .ensure(&mut map, topic, retention)
            .map_err(|Full| SubscribeError::TooManyTopics)?;
        let reader = Reader::new(log);
        drop(map);
        drop(dropped);
        Ok(reader)
    }

    /// Makes the topic, if it is not there. The log that had to go for it is to
    /// be dropped without the lock.
    fn ensure(
        self: &Arc<Self>,
        map: &mut Map,
        topic: Topic<'_>,
        retention: Retention,
    ) -> Result<(Arc<Log>, Option<Arc<Log>>), Full> {
        if let Some(kept) = map.kept.get(topic.as_str()) {
            return Ok((Arc::clone(&kept.log), None));
        }
        let dropped = if map.kept.len() >= self.max {
            Some(map.drop_least_recently_used().ok_or(Full)?)
        } else {
            None
        };
        let name: Arc<str> = topic.as_str().into();
        let on_idle = {
            let (topics, name) = (Arc::downgrade(self), Arc::clone(&name));
            move || {
                if let Some(topics) = topics.upgrade() {
                    topics.released(&name);
                }
            }
        };
        let log = Arc::new(Log::new(
            Some(EventId::new(map.epoch, 0)),
            retention,
            on_idle,
        ));
        let kept = Kept {
            log: Arc::clone(&log),
            used: AtomicU64::new(self.now()),
            is_in_idle: false,
        };
        map.kept.insert(name, kept);
        Ok((log, dropped))
    }

    /// A topic's last reader has gone.
    fn released(&self, name: &str) {
        let dropped = {
            let mut map = self.write();
            match map.kept.get(name) {
                Some(kept) if kept.log.readers() > 0 => return,
                Some(kept) if kept.log.head() == 0 => map.kept.remove(name),
                Some(kept) => {
                    kept.used.store(self.now(), Ordering::Relaxed);
                    map.enlist(name);
                    None
                }
                None => None,
            }
        };
        drop(dropped);
    }
}

impl Map {
    /// Sees to it that the topic is a candidate.
    fn enlist(&mut self, name: &str) {
        let name = self
            .kept
            .get_key_value(name)
            .map(|(name, _)| Arc::clone(name));
        let Some(name) = name else { return };
        if let Some(kept) = self.kept.get_mut(&name)
            && !std::mem::replace(&mut kept.is_in_idle, true)
        {
            let used = kept.used.load(Ordering::Relaxed);
            self.idle.push(Reverse((used, name)));
        }
    }

    /// Each candidate is met once for its uses since it was last met, so the cost
    /// is borne by those.
    fn drop_least_recently_used(&mut self) -> Option<Arc<Log>> {
        while let Some(Reverse((since, name))) = self.idle.pop() {
            let Some(kept) = self.kept.get_mut(&name) else {
                continue;
            };
            let used = kept.used.load(Ordering::Relaxed);
            if kept.log.readers() > 0 {
                kept.is_in_idle = false;
            } else if used != since {
                self.idle.push(Reverse((used, name)));
            } else {
                self.epoch = self.epoch.wrapping_add(1);
                return self.kept.remove(&name).map(|kept| kept.log);
            }
        }
        None
    }
}

impl Broker for MemoryBroker {
    fn publish<'a>(
        &'a self,
        topic: Topic<'a>,
        retention: Retention,
        message: Publish,
    ) -> BoxFuture<'a, Result<EventId, PublishError>> {
        Box::pin(ready(self.0.publish(topic, retention, &message)))
    }

    fn open<'a>(
        &'a self,
        topic: Topic<'a>,
        retention: Retention,
        _seen: Option<EventId>,
    ) -> BoxFuture<'a, Result<Reader, SubscribeError>> {
        Box::pin(ready(self.0.open(topic, retention)))
    }

    fn is_embedded(&self) -> bool {
        true
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker")
            .field("topics", &self.topics())
            .finish_non_exhaustive()
    }
}

impl Drop for MemoryBroker {
    fn drop(&mut self) {
        // Nobody can publish any more: those who still read are to find out.
        let kept = std::mem::take(&mut self.0.write().kept);
        for kept in kept.values() {
            kept.log.close();
        }
    }
}
