//! The node's topics, each read once, by a few connections.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{Client, RedisError, Value, aio::MultiplexedConnection};
use tokio::{
    sync::Notify,
    time::{Instant, timeout, timeout_at},
};

use super::{
    epoch,
    link::{Backoff, Failed, Link, Outages, connect},
    wire::{self, Keys},
};
use crate::hub::{EventId, Reader, Retention, SubscribeError, TopicLog, Unavailable};

/// Topics of one connection: each is named in every read.
const TOPICS: usize = 500;
/// How long the server holds a read that has nothing.
const BLOCK: Duration = Duration::from_secs(2);
/// How long its answer may take beyond that, before the connection is replaced.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often the topics' newest ids are asked for, and topics without readers dropped.
const AUDIT: Duration = Duration::from_secs(5);
/// Entries of a topic that are read at once, and bytes past which it is fewer.
const COUNT: usize = 128;
const BYTES: usize = 4 << 20;

/// What the node follows.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) client: Client,
    /// For what is asked, apart from the connections that wait for events.
    pub(super) link: Link,
    pub(super) keys: Keys,
    pub(super) outages: Outages,
    pub(super) max_topics: usize,
    pub(super) topics: Mutex<Topics>,
}

#[derive(Debug, Default)]
pub(super) struct Topics {
    followed: HashMap<Arc<str>, Followed>,
    /// Topics that are being looked up, so that it is done once.
    opening: HashMap<Arc<str>, Arc<tokio::sync::Mutex<()>>>,
    shards: Vec<Arc<Shard>>,
}

#[derive(Clone, Debug)]
struct Followed {
    log: TopicLog,
    /// Told after each reading.
    read: Arc<Notify>,
    /// The newest event that this node has published.
    acknowledged: Arc<Mutex<Option<EventId>>>,
}

/// What one connection reads.
#[derive(Debug)]
struct Shard {
    control: String,
    /// Topics to be read from now on.
    new: Mutex<Vec<Following>>,
    /// How many it reads or is to read. Changed under the topics' lock.
    count: Mutex<usize>,
    poke: Notify,
}

/// A topic that is read.
#[derive(Debug)]
struct Following {
    topic: Arc<str>,
    stream: String,
    log: TopicLog,
    read: Arc<Notify>,
    /// The last entry that was read.
    position: Option<EventId>,
    /// Had no reader when it was last looked at.
    is_idle: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Followed {
    /// Waits until the log has read up to an event that the topic has.
    async fn until_known(&self, id: EventId, deadline: Instant) -> Result<(), Unavailable> {
        loop {
            let read = self.read.notified();
            // An epoch that the server has lost since is not waited for.
            let is_past = |newest: EventId| newest.epoch() > id.epoch();
            if self.log.knows(id) || self.log.newest().is_some_and(is_past) {
                return Ok(());
            }
            timeout_at(deadline, read)
                .await
                .map_err(|_| Failed::TimedOut(None))?;
        }
    }
}

impl Follower {
    /// A place at the topic's log, which then has `seen` if the topic does.
    pub(super) async fn open(
        self: &Arc<Self>,
        topic: &str,
        retention: Retention,
        seen: Option<EventId>,
        deadline: Instant,
    ) -> Result<Reader, SubscribeError> {
        let (reader, followed) = match self.attach(topic) {
            Some(attached) => attached,
            None => self.follow(topic, retention, deadline).await?,
        };
        if let Some(seen) = seen {
            self.catch_up(topic, &followed, seen, deadline).await?;
        }
        // What was published here before is no news.
        let acknowledged = *lock(&followed.acknowledged);
        if let Some(acknowledged) = acknowledged {
            followed.until_known(acknowledged, deadline).await?;
        }
        Ok(reader)
    }

    /// This node has published an event.
    pub(super) fn acknowledged(&self, topic: &str, id: EventId) {
        let topics = lock(&self.topics);
        if let Some(followed) = topics.followed.get(topic) {
            let mut newest = lock(&followed.acknowledged);
            let is_newer =
                |newest: EventId| (newest.epoch(), newest.sequence()) < (id.epoch(), id.sequence());
            if newest.is_none_or(is_newer) {
                *newest = Some(id);
            }
        }
    }

    fn attach(&self, topic: &str) -> Option<(Reader, Followed)> {
        // The place is taken under the lock: a topic without any may be dropped.
        let topics = lock(&self.topics);
        let followed = topics.followed.get(topic)?;
        Some((followed.log.reader(), followed.clone()))
    }

    async fn follow(
        self: &Arc<Self>,
        topic: &str,
        retention: Retention,
        deadline: Instant,
    ) -> Result<(Reader, Followed), SubscribeError> {
        let name: Arc<str> = topic.into();
        let turn = {
            let mut topics = lock(&self.topics);
            if topics.followed.len() >= self.max_topics {
                return Err(SubscribeError::TooManyTopics);
            }
            Arc::clone(topics.opening.entry(Arc::clone(&name)).or_default())
        };
        let mine = timeout_at(deadline, turn.lock())
            .await
            .map_err(|_| Unavailable::from(Failed::TimedOut(None)))?;
        if let Some(attached) = self.attach(topic) {
            return Ok(attached);
        }
        let loaded = self.load(topic, retention, deadline).await;
        let mut topics = lock(&self.topics);
        topics.opening.remove(&name);
        drop(mine);
        let (log, position) = loaded.map_err(Unavailable::from)?;
        let shard = self.shard(&mut topics);
        let followed = Followed {
            log: log.clone(),
            read: Arc::default(),
            acknowledged: Arc::default(),
        };
        let reader = log.reader();
        lock(&shard.new).push(Following {
            topic: Arc::clone(&name),
            stream: self.keys.stream(topic),
            log,
            read: Arc::clone(&followed.read),
            position,
            is_idle: false,
        });
        topics.followed.insert(name, followed.clone());
        drop(topics);
        shard.poke.notify_one();
        Ok((reader, followed))
    }

    /// What the topic has: a log of it, and where to read on.
    async fn load(
        &self,
        topic: &str,
        retention: Retention,
        deadline: Instant,
    ) -> Result<(TopicLog, Option<EventId>), Failed> {
        // In this order: what is published in between is in the second answer.
        let ask = wire::ask_newest(&self.keys.meta(topic));
        let newest = wire::newest_of(self.link.command(&ask, deadline).await?);
        let mut range = redis::cmd("XREVRANGE");
        let stream = self.keys.stream(topic);
        range.arg(stream).arg("+").arg("-");
        range.arg("COUNT").arg(wire::count(retention.events));
        let entries = wire::entries(self.link.command(&range, deadline).await?);
        let seen = entries.last().map_or(newest, |oldest| {
            let before = oldest.id.sequence().saturating_sub(1);
            Some(EventId::new(oldest.id.epoch(), before))
        });
        let position = entries.first().map_or(seen, |newest| Some(newest.id));
        let log = TopicLog::new(seen, retention, || ());
        for entry in entries.iter().rev() {
            append(&log, entry);
        }
        Ok((log, position))
    }

    /// Waits until the log has read up to `seen`, if the topic has it: its client may
    /// have got it from another node.
    async fn catch_up(
        &self,
        topic: &str,
        followed: &Followed,
        seen: EventId,
        deadline: Instant,
    ) -> Result<(), Unavailable> {
        if followed.log.knows(seen) {
            return Ok(());
        }
        let ask = wire::ask_newest(&self.keys.meta(topic));
        let newest = wire::newest_of(self.link.command(&ask, deadline).await?);
        let is_there = newest.is_some_and(|newest| {
            newest.epoch() == seen.epoch() && newest.sequence() >= seen.sequence()
        });
        if !is_there {
            return Ok(());
        }
        followed.until_known(seen, deadline).await
    }

    /// One that has room.
    fn shard(self: &Arc<Self>, topics: &mut Topics) -> Arc<Shard> {
        let has_room = |shard: &&Arc<Shard>| {
            let mut count = lock(&shard.count);
            let room = *count < TOPICS;
            *count += usize::from(room);
            room
        };
        if let Some(shard) = topics.shards.iter().find(has_room) {
            return Arc::clone(shard);
        }
        let shard = Arc::new(Shard {
            control: self.keys.control(fastrand::u128(..)),
            new: Mutex::default(),
            count: Mutex::new(1),
            poke: Notify::new(),
        });
        topics.shards.push(Arc::clone(&shard));
        // They end when the broker is dropped: it is what holds the follower.
        let follower = Arc::downgrade(self);
        let poked = (Arc::downgrade(self), Arc::downgrade(&shard));
        tokio::spawn({
            let shard = Arc::clone(&shard);
            async move { read(&follower, &shard).await }
        });
        tokio::spawn(async move {
            while let (Some(follower), Some(shard)) = (poked.0.upgrade(), poked.1.upgrade()) {
                let deadline = Instant::now() + BLOCK;
                // A read that waits is answered. Where this fails it ends by itself.
                if timeout(BLOCK, shard.poke.notified()).await.is_ok() {
                    let mut poke = redis::cmd("XADD");
                    poke.arg(&shard.control).arg("MAXLEN").arg(1).arg("*");
                    poke.arg("wake").arg("");
                    let _ = follower.link.command(&poke, deadline).await;
                    let mut expire = redis::cmd("PEXPIRE");
                    expire.arg(&shard.control).arg(60_000);
                    let _ = follower.link.command(&expire, deadline).await;
                }
            }
        });
        shard
    }

    /// Drops those of a shard's topics that have had no reader since the last time.
    fn reap(&self, shard: &Shard, following: &mut Vec<Following>) {
        let mut topics = lock(&self.topics);
        following.retain_mut(|following| {
            let was_idle = following.is_idle;
            following.is_idle = following.log.readers() == 0;
            let stays = !(was_idle && following.is_idle);
            if !stays {
                topics.followed.remove(&following.topic);
                *lock(&shard.count) -= 1;
            }
            stays
        });
    }

    /// Ends all subscriptions, when they have read what there is.
    pub(super) fn close(&self) {
        let topics = std::mem::take(&mut lock(&self.topics).followed);
        for followed in topics.values() {
            followed.log.close();
        }
    }
}

fn append(log: &TopicLog, entry: &wire::Entry) {
    match &entry.publish {
        Some(publish) => drop(log.append(entry.id, publish)),
        // It is told as a gap.
        None => tracing::warn!(id = %entry.id, "redis: an entry is none of ours"),
    }
}

/// Reads a shard's topics as long as there is a follower.
async fn read(follower: &std::sync::Weak<Follower>, shard: &Arc<Shard>) {
    let mut following = Vec::new();
    let mut outage = None;
    let mut backoff = Backoff::new();
    loop {
        let Some(client) = follower.upgrade().map(|follower| follower.client.clone()) else {
            return;
        };
        match connect(&client, &redis::cmd("PING")).await {
            Ok(connection) => {
                backoff = Backoff::new();
                outage = None;
                let reading = Reading {
                    follower,
                    shard,
                    connection,
                    // What is left of an earlier wake costs one empty round.
                    control: "0-0".to_owned(),
                    count: COUNT,
                };
                match reading.run(&mut following).await {
                    Ok(()) => return,
                    Err(error) => tracing::debug!(%error, "redis: reading was cut off"),
                }
            }
            Err(error) => tracing::debug!(%error, "redis: not connected"),
        }
        if outage.is_none() {
            outage = follower.upgrade().map(|follower| follower.outages.begin());
        }
        backoff.pause().await;
    }
}

/// A shard's reading over one connection.
struct Reading<'a> {
    follower: &'a std::sync::Weak<Follower>,
    shard: &'a Arc<Shard>,
    connection: MultiplexedConnection,
    /// The last entry of the control stream.
    control: String,
    count: usize,
}

impl Reading<'_> {
    /// Ends well only when the follower has gone.
    async fn run(mut self, following: &mut Vec<Following>) -> Result<(), Cut> {
        let mut audited: Option<Instant> = None;
        loop {
            let Some(follower) = self.follower.upgrade() else {
                return Ok(());
            };
            if audited.is_none_or(|then| then.elapsed() >= AUDIT) {
                if audited.is_some() {
                    follower.reap(self.shard, following);
                }
                self.audit(&follower, following).await?;
                audited = Some(Instant::now());
            }
            drop(follower);
            following.append(&mut lock(&self.shard.new));
            self.read(following).await?;
        }
    }

    async fn read(&mut self, following: &mut [Following]) -> Result<(), Cut> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(self.count);
        command
            .arg("BLOCK")
            .arg(u64::try_from(BLOCK.as_millis()).unwrap_or(0));
        command.arg("STREAMS").arg(&self.shard.control);
        for following in &*following {
            command.arg(&following.stream);
        }
        command.arg(&self.control);
        for following in &*following {
            command.arg(wire::id_text(following.position));
        }
        let answer = self.ask(BLOCK + PATIENCE, command).await?;
        let mut bytes = 0;
        let mut at = 0;
        for (key, entries) in wire::streams(answer) {
            if key == self.shard.control.as_bytes() {
                if let Some(entry) = entries.last() {
                    self.control = wire::id_text(Some(entry.id));
                }
                continue;
            }
            // They come in the order in which they were asked for.
            let Some(found) = following[at..]
                .iter()
                .position(|f| f.stream.as_bytes() == key)
            else {
                continue;
            };
            at += found;
            let following = &mut following[at];
            for entry in entries {
                bytes += entry.bytes;
                append(&following.log, &entry);
                following.position = Some(entry.id);
            }
            following.read.notify_waiters();
        }
        self.count = if bytes > BYTES {
            (self.count / 8).max(1)
        } else {
            (self.count * 2).min(COUNT)
        };
        Ok(())
    }

    /// Compares what the server has with what was read of it: it may have lost that.
    async fn audit(&mut self, follower: &Follower, all: &mut [Following]) -> Result<(), Cut> {
        if all.is_empty() {
            return Ok(());
        }
        let mut pipe = redis::pipe();
        for following in &*all {
            pipe.add_command(wire::ask_newest(&follower.keys.meta(&following.topic)));
        }
        let asking = pipe.query_async::<Vec<Value>>(&mut self.connection);
        let answers = timeout(BLOCK + PATIENCE, asking)
            .await
            .map_err(|_| Cut::TimedOut)??;
        for (following, answer) in all.iter_mut().zip(answers) {
            let Some(seen) = following.position else {
                continue;
            };
            match wire::newest_of(answer) {
                Some(newest) if newest.epoch() == seen.epoch() => {
                    if newest.sequence() < seen.sequence() {
                        roll_back(follower, following, seen).await;
                    }
                }
                // Of another epoch, or gone: what comes is read from its beginning,
                // wherever its ids lie.
                _ => following.position = None,
            }
        }
        Ok(())
    }

    async fn ask(&mut self, patience: Duration, command: redis::Cmd) -> Result<Value, Cut> {
        let asking = command.query_async::<Value>(&mut self.connection);
        Ok(timeout(patience, asking)
            .await
            .map_err(|_| Cut::TimedOut)??)
    }
}

/// The server has lost what was read already. Its numbers must not come again.
async fn roll_back(follower: &Follower, following: &mut Following, seen: EventId) {
    let mut command = redis::cmd("EVAL");
    command.arg(include_str!("rollback.lua")).arg(1);
    command.arg(follower.keys.meta(&following.topic));
    command.arg(seen.epoch()).arg(seen.sequence()).arg(epoch());
    let deadline = Instant::now() + BLOCK;
    if let Ok(Value::BulkString(text)) = follower.link.command(&command, deadline).await
        && let Some(epoch) = String::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
        && epoch != seen.epoch()
    {
        following.log.skip_to(EventId::new(epoch, 0));
        following.position = None;
    }
}

/// Why a connection is replaced.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("no answer in time")]
    TimedOut,
    #[error(transparent)]
    Failed(#[from] RedisError),
}
