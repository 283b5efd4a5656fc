//! What keeps the topics' logs.

mod memory;
#[cfg(feature = "redis")]
mod redis;

use std::{fmt, pin::Pin, sync::Arc};

pub use memory::MemoryBroker;
#[cfg(feature = "redis")]
pub use redis::{ConnectError, RedisBroker, RedisBuilder};

use super::{EventId, Publish, PublishError, Reader, Retention, SubscribeError, Topic};

/// A future of a [`Broker`], boxed so that the hub need not know which it has.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What orders and keeps the events of all topics.
///
/// A broker numbers the events of a topic, densely from 1 within an epoch, and decides
/// their order: the same one for every reader on every node. In this process a topic's
/// newest events lie in one log, from which all local subscriptions read, however many
/// they are. For the embedded broker that log is the store itself; one over a network
/// fills it, a [`TopicLog`](super::TopicLog), from a single reading of its own.
///
/// `towpath::hub::conformance` (feature `testing`) has the tests that every broker is
/// to pass.
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Puts a message at the end of the topic's log. `retention` is what the
    /// topic keeps.
    ///
    /// The future ends when the broker has acknowledged: an event whose id was
    /// returned is not lost, as far as the broker itself is durable. It ends with an
    /// error within a bounded time where the broker does not; and a message is there
    /// once, however often the broker had to be asked. Of messages whose futures are
    /// polled one after the other, the order is theirs unless the connection was lost.
    fn publish<'a>(
        &'a self,
        topic: Topic<'a>,
        retention: Retention,
        message: Publish,
    ) -> BoxFuture<'a, Result<EventId, PublishError>>;

    /// A place at the topic's log in this process, which by then holds what the
    /// topic keeps. What is published after the future has ended is put into it,
    /// as long as the place is held, also when the broker could not be reached in
    /// between.
    ///
    /// The reader has seen the event `seen`, perhaps on another node: if the topic has
    /// it, the log does too by the time the future has ended.
    fn open<'a>(
        &'a self,
        topic: Topic<'a>,
        retention: Retention,
        seen: Option<EventId>,
    ) -> BoxFuture<'a, Result<Reader, SubscribeError>>;

    /// Whether the log ends with this process. Publishing then ends when the
    /// process begins to drain: what was acknowledged later could reach nobody.
    fn is_embedded(&self) -> bool;

    /// Whether the broker can be reached, as far as is known. While it cannot,
    /// subscriptions stay and get nothing, and publishing fails.
    fn is_available(&self) -> bool {
        true
    }
}

/// So that several hubs may have one broker.
impl<B: Broker> Broker for Arc<B> {
    fn publish<'a>(
        &'a self,
        topic: Topic<'a>,
        retention: Retention,
        message: Publish,
    ) -> BoxFuture<'a, Result<EventId, PublishError>> {
        (**self).publish(topic, retention, message)
    }

    fn open<'a>(
        &'a self,
        topic: Topic<'a>,
        retention: Retention,
        seen: Option<EventId>,
    ) -> BoxFuture<'a, Result<Reader, SubscribeError>> {
        (**self).open(topic, retention, seen)
    }

    fn is_embedded(&self) -> bool {
        (**self).is_embedded()
    }

    fn is_available(&self) -> bool {
        (**self).is_available()
    }
}
