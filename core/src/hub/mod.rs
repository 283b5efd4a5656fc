//! Topics: bounded logs with cursors.
//!
//! A message is published to a topic and every subscription of the topic gets it,
//! exactly once and in the same order. The newest events are kept, so that a
//! client which lost its connection resumes behind the last event it saw:
//!
//! ```
//! use futures_util::StreamExt;
//! use towpath::hub::{Delivery, Hub};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::new();
//! let seen = hub.publish("room:1", "one").await?;
//! hub.publish("room:1", "two").await?;
//!
//! let mut resumed = hub.subscribe("room:1").after(seen).await?;
//! match resumed.next().await {
//!     Some(Delivery::Event(event)) => assert_eq!(event.message().as_text(), Some("two")),
//!     other => unreachable!("{other:?}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Memory is bounded: by the [history](HubBuilder::history) of each topic and by
//! the number of topics. A subscriber costs no queue: it is a cursor into its
//! topic's log. One that is too slow is disconnected, told what it lost, or given the
//! newest event of each key, by choice ([`Overflow`]); it never slows down who publishes, and nothing is
//! skipped in silence ([`Gap`]).

mod broker;
mod config;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod conformance;
mod cursor;
mod deliver;
#[cfg(feature = "json")]
pub(crate) mod envelope;
mod id;
mod ledger;
mod linger;
mod log;
mod losses;
mod publish;
#[cfg(feature = "json")]
mod serve;
mod spans;
mod subscribe;
mod subscription;
#[cfg(test)]
mod tests;
mod topic;
mod topic_log;
mod waiters;

use std::{fmt, sync::Arc};

pub use broker::{BoxFuture, Broker, MemoryBroker};
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use broker::{ConnectError, RedisBroker, RedisBuilder};
pub use config::{ConfigError, HubBuilder, Retention};
pub use cursor::Gap;
pub use deliver::Events;
pub use id::{EventId, InvalidEventId};
pub use log::Reader;
pub use publish::{Publish, PublishError, SubscribeError, Unavailable};
#[cfg(feature = "json")]
pub use serve::{Serve, ServeTopic, TOWPATH_V1};
pub use subscribe::Subscribe;
pub use subscription::{Delivery, Ended, Published, Subscription};
pub use topic::{Topic, TopicError};
pub use topic_log::TopicLog;

pub use crate::backpressure::Overflow;

use self::linger::Linger;
use crate::{Drain, Stats};

/// Where messages are published to topics and read from them; a clone is the same
/// hub.
///
/// ```
/// use towpath::hub::Hub;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = Hub::builder().history(100).build()?;
/// let id = hub.publish("prices", "41.5").await?;
/// println!("published as {id}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Hub(Arc<Settings>);

struct Settings {
    broker: Box<dyn Broker>,
    retention: Retention,
    queue: u64,
    overflow: Overflow,
    linger: Option<Linger>,
    stats: Stats,
    drain: Option<Drain>,
}

impl Hub {
    /// A hub with the embedded broker and default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().assemble(HubBuilder::QUEUE)
    }

    /// A hub with settings of its own.
    pub fn builder() -> HubBuilder {
        HubBuilder::default()
    }

    fn new_with(settings: Settings) -> Self {
        Self(Arc::new(settings))
    }

    /// Publishes a message and returns its id when the broker has acknowledged:
    /// from then on it reaches every subscription of the topic.
    ///
    /// Who publishes is never blocked by who reads.
    ///
    /// # Errors
    /// Where the topic's name is none, where there are too many topics, where the
    /// broker does not acknowledge, and from the start of the hub's
    /// [drain](HubBuilder::drain) on if its broker is embedded.
    pub async fn publish(
        &self,
        topic: impl AsRef<str>,
        message: impl Into<Publish>,
    ) -> Result<EventId, PublishError> {
        let topic = Topic::new(topic.as_ref())?;
        if self.0.broker.is_embedded() && self.0.drain.as_ref().is_some_and(Drain::is_draining) {
            return Err(PublishError::Draining);
        }
        self.0
            .broker
            .publish(topic, self.0.retention, message.into())
            .await
    }

    /// Subscribes to a topic, with what is published from now on or, by
    /// [`after`](Subscribe::after) and [`last`](Subscribe::last), earlier. The
    /// subscription is there when the future has ended: what is published from
    /// then on reaches it.
    pub fn subscribe(&self, topic: impl Into<String>) -> Subscribe {
        Subscribe::new(self.clone(), topic.into())
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("broker", &self.0.broker)
            .field("retention", &self.0.retention)
            .field("queue", &self.0.queue)
            .field("overflow", &self.0.overflow)
            .field("linger", &self.0.linger)
            .finish_non_exhaustive()
    }
}
