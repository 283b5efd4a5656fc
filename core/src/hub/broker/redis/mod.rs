mod config;
mod follow;
mod link;
mod wire;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use redis::{Client, Cmd};
use sha1::{Digest, Sha1};
use tokio::{sync::watch, task::AbortHandle, time::Instant};

pub use config::RedisBuilder;
use follow::{Follower, Topics};
pub use link::ConnectError;
use link::{Failed, Link, Outages, connect};
use wire::Keys;

use super::{
    super::{
        EventId, Publish, PublishError, Reader, Retention, SubscribeError, Topic, Unavailable,
    },
    BoxFuture, Broker,
};

/// Topics in Redis 7.0 or later, shared by all nodes that connect to it.
///
/// ```no_run
/// use towpath::hub::{Hub, RedisBroker};
///
/// # async fn connect() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = RedisBroker::connect("redis://127.0.0.1:6379").await?;
/// let hub = Hub::builder().broker(broker).build()?;
/// # Ok(())
/// # }
/// ```
///
/// The URL is the `redis` crate's: `redis://[user][:password@]host[:port][/db]`, and
/// `rediss://` where the service enables that crate's `tokio-rustls-comp`. A topic is a
/// stream whose ids are the events': its epoch, which is newer than all before it, and
/// the running number. All nodes should have the same settings for a topic: each
/// publishing trims it to its own.
///
/// **An acknowledgement** means what the server's settings make of it. With
/// `appendonly yes` and `appendfsync always` an acknowledged event survives a crash of
/// the server. With `everysec` (Redis' own default once `appendonly` is on) up to a
/// second of them may be lost, with `appendonly no` all since the last snapshot; so may
/// what a replica had not got when it took over. Nodes that had read such events begin a
/// new epoch when they find out, which is told as [`Gap::Unknown`](super::super::Gap);
/// a server that came back with nothing does so too. Events that no node had read are
/// lost in silence only as far as the server itself forgot them and its numbers.
///
/// **Publishing** returns an id, or an error after the
/// [time-out](RedisBuilder::publish_timeout). Until then it is tried again over new
/// connections, with a key by which the server knows that it has the message already:
/// it is stored once, as long as copies arrive within the
/// [window](RedisBuilder::idempotency_window). After an error it may have been stored.
///
/// **When the server is away** no subscription ends. A connection that broke is replaced
/// at once, one that does not answer after 3 to 5 s, and the server is sought five times
/// a second or more. Reading goes on behind the last event read; what was trimmed
/// meanwhile is told with its number.
///
/// Each node reads a topic once, over connections of 500 topics; a topic that nobody on
/// the node subscribes to any more is followed for 5 to 10 s longer.
pub struct RedisBroker {
    follower: Arc<Follower>,
    publishing: Link,
    settings: RedisBuilder,
    script: String,
    outages: watch::Receiver<usize>,
    tasks: [AbortHandle; 2],
}

const SCRIPT: &str = include_str!("publish.lua");

impl RedisBroker {
    /// Connects with default settings.
    ///
    /// # Errors
    /// Where the URL is none, or where the server cannot be used.
    pub async fn connect(url: impl Into<String>) -> Result<Self, ConnectError> {
        Self::builder(url).connect().await
    }

    /// Settings of its own.
    pub fn builder(url: impl Into<String>) -> RedisBuilder {
        RedisBuilder::new(url)
    }

    async fn start(client: Client, settings: RedisBuilder) -> Result<Self, ConnectError> {
        let outages = Outages::new();
        let link = async |greeting: Cmd| {
            let connection = connect(&client, &greeting).await?;
            let (link, keep) = Link::new(client.clone(), connection, greeting, outages.clone());
            Ok::<_, ConnectError>((link, tokio::spawn(keep).abort_handle()))
        };
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(SCRIPT);
        // What is asked must not wait behind what is published, nor the reverse.
        let (publishing, keeps_publishing) = link(load).await?;
        let (asking, keeps_asking) = link(redis::cmd("PING")).await?;
        let follower = Follower {
            client: client.clone(),
            link: asking,
            keys: Keys::new(Arc::clone(&settings.prefix)),
            outages: outages.clone(),
            max_topics: settings.max_topics,
            topics: Mutex::new(Topics::default()),
        };
        let digest = Sha1::digest(SCRIPT);
        Ok(Self {
            follower: Arc::new(follower),
            publishing,
            settings,
            script: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            outages: outages.subscribe(),
            tasks: [keeps_publishing, keeps_asking],
        })
    }

    /// How many of this node's connections to the server are down, as it changes; 0
    /// where all is well.
    #[must_use]
    pub fn outages(&self) -> watch::Receiver<usize> {
        self.outages.clone()
    }

    async fn publish_once(
        &self,
        topic: &str,
        retention: Retention,
        message: &Publish,
    ) -> Result<EventId, Failed> {
        let deadline = Instant::now() + self.settings.publish_timeout;
        let once = self.follower.keys.once(topic, fastrand::u128(..));
        let command = |name: &str, script: &str| {
            let mut command = redis::cmd(name);
            self.fill(&mut command, script, topic, &once, retention, message);
            command
        };
        let by_hash = command("EVALSHA", &self.script);
        let answer = match self.publishing.command(&by_hash, deadline).await {
            // Somebody had the server forget it.
            Err(Failed::Refused(error)) if error.code() == Some("NOSCRIPT") => {
                let in_full = command("EVAL", SCRIPT);
                self.publishing.command(&in_full, deadline).await?
            }
            answer => answer?,
        };
        let unexpected = || (redis::ErrorKind::UnexpectedReturnType, "not an id").into();
        wire::id_of(answer).ok_or_else(|| Failed::Refused(unexpected()))
    }

    fn fill(
        &self,
        command: &mut Cmd,
        script: &str,
        topic: &str,
        once: &str,
        retention: Retention,
        message: &Publish,
    ) {
        let keys = &self.follower.keys;
        let bytes = match retention.bytes {
            usize::MAX => 0,
            bytes => bytes,
        };
        command.arg(script).arg(3);
        command
            .arg(keys.stream(topic))
            .arg(keys.meta(topic))
            .arg(once);
        command.arg(u64::try_from(self.settings.window.as_millis()).unwrap_or(u64::MAX));
        command
            .arg(epoch())
            .arg(wire::count(retention.events))
            .arg(bytes);
        command.arg(wire::flags(message));
        command.arg(message.message().as_bytes());
        if let Some(key) = message.conflation_key() {
            command.arg(key);
        }
    }
}

/// An epoch that is newer than all before it, so that stream ids grow, and that no
/// other is: milliseconds, and chance.
fn epoch() -> u64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |now| now.as_millis());
    u64::try_from(now).unwrap_or(0) << 20 | fastrand::u64(..1 << 20)
}

impl Broker for RedisBroker {
    fn publish<'a>(
        &'a self,
        topic: Topic<'a>,
        retention: Retention,
        message: Publish,
    ) -> BoxFuture<'a, Result<EventId, PublishError>> {
        Box::pin(async move {
            let published = self.publish_once(topic.as_str(), retention, &message);
            let id = published.await.map_err(Unavailable::from)?;
            self.follower.acknowledged(topic.as_str(), id);
            Ok(id)
        })
    }

    fn open<'a>(
        &'a self,
        topic: Topic<'a>,
        retention: Retention,
        seen: Option<EventId>,
    ) -> BoxFuture<'a, Result<Reader, SubscribeError>> {
        let deadline = Instant::now() + self.settings.publish_timeout;
        Box::pin(
            self.follower
                .open(topic.as_str(), retention, seen, deadline),
        )
    }

    fn is_embedded(&self) -> bool {
        false
    }

    fn is_available(&self) -> bool {
        *self.outages.borrow() == 0
    }
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroker")
            .field("settings", &self.settings)
            .field("is_available", &self.is_available())
            .finish_non_exhaustive()
    }
}

impl Drop for RedisBroker {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.follower.close();
    }
}
