use std::{fmt, sync::Arc, time::Duration};

use redis::Client;

use super::{RedisBroker, link::ConnectError};

/// Settings of a [`RedisBroker`].
///
/// ```no_run
/// use std::time::Duration;
/// use towpath::hub::RedisBroker;
///
/// # async fn connect() -> Result<(), towpath::hub::ConnectError> {
/// let broker = RedisBroker::builder("redis://user:secret@cache.internal/2")
///     .prefix("shop")
///     .publish_timeout(Duration::from_secs(2))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct RedisBuilder {
    url: String,
    pub(super) prefix: Arc<str>,
    pub(super) publish_timeout: Duration,
    pub(super) window: Duration,
    pub(super) max_topics: usize,
}

impl RedisBuilder {
    pub(super) fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: Arc::from("towpath"),
            publish_timeout: Duration::from_secs(5),
            window: Duration::from_secs(60),
            max_topics: 100_000,
        }
    }

    /// What the names of all keys begin with, `towpath` by default. Nodes that share
    /// topics share it.
    pub fn prefix(mut self, prefix: impl Into<Arc<str>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long the server may take to acknowledge a message, or to say what a topic
    /// has; 5 s by default. Until then it is tried again, over new connections.
    pub const fn publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = timeout;
        self
    }

    /// How long the server remembers what was published, so that a message which it
    /// gets twice is stored once; 60 s by default. It costs the server about 200 bytes
    /// a message for as long.
    pub const fn idempotency_window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// How many topics this node may follow at a time; 100,000 by default.
    pub const fn max_topics(mut self, topics: usize) -> Self {
        self.max_topics = topics;
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// Where the URL or a setting is none, or where the server cannot be used.
    pub async fn connect(self) -> Result<RedisBroker, ConnectError> {
        if self.prefix.contains(['{', '}']) {
            return Err(ConnectError::Setting("`prefix` has a brace"));
        }
        if self.publish_timeout.is_zero() {
            return Err(ConnectError::Setting("`publish_timeout` is zero"));
        }
        if self.window < self.publish_timeout {
            return Err(ConnectError::Setting(
                "`idempotency_window` is shorter than `publish_timeout`",
            ));
        }
        if self.max_topics == 0 {
            return Err(ConnectError::Setting("`max_topics` is zero"));
        }
        let client = Client::open(self.url.as_str()).map_err(ConnectError::of)?;
        RedisBroker::start(client, self).await
    }
}

impl fmt::Debug for RedisBuilder {
    /// Without the URL, which may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBuilder")
            .field("prefix", &self.prefix)
            .field("publish_timeout", &self.publish_timeout)
            .field("idempotency_window", &self.window)
            .field("max_topics", &self.max_topics)
            .finish_non_exhaustive()
    }
}
