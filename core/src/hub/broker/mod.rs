//! What keeps the topics' logs.

mod memory;

use std::{fmt, pin::Pin};

pub use memory::MemoryBroker;

use super::{EventId, Publish, PublishError, Reader, Retention, SubscribeError, Topic};

/// A future of a [`Broker`], boxed so that the hub need not know which it has.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What orders and keeps the events of all topics.
///
/// A broker numbers the events of a topic, densely, and decides their order: the
/// same one for every reader on every node. In this process a topic's newest
/// events lie in one log, from which all local subscriptions read, however many
/// they are. For the embedded broker that log is the store itself; one over a
/// network fills it from a single reading of its own.
///
/// Only this crate's brokers can make the [`Reader`] that [`open`](Self::open)
/// returns, and the trait may change until a broker over a network has shown
/// that it fits.
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// Puts a message at the end of the topic's log. `retention` is what the
    /// topic keeps.
    ///
    /// The future ends when the broker has acknowledged: an event whose id was
    /// returned is not lost, as far as the broker itself is durable.
    fn publish<'a>(
        &'a self,
        topic: Topic<'a>,
        retention: Retention,
        message: Publish,
    ) -> BoxFuture<'a, Result<EventId, PublishError>>;

    /// A place at the topic's log in this process, which by then holds what the
    /// topic keeps. What is published after the future has ended is put into it,
    /// as long as the place is held.
    fn open<'a>(
        &'a self,
        topic: Topic<'a>,
        retention: Retention,
    ) -> BoxFuture<'a, Result<Reader, SubscribeError>>;

    /// Whether the log ends with this process. Publishing then ends when the
    /// process begins to drain: what was acknowledged later could reach nobody.
    fn is_embedded(&self) -> bool;
}
