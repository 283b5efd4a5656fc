use std::time::Duration;

use super::{Broker, Hub, MemoryBroker, Overflow, linger::Linger};
use crate::{Drain, Stats};

/// How much of a topic is kept for replay: its newest events, within both bounds.
/// The newest one is always kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// So many events.
    pub events: usize,
    /// So many bytes of payload, and of keys.
    pub bytes: usize,
}

impl Retention {
    /// So many events, of whatever size.
    #[must_use]
    pub const fn events(events: usize) -> Self {
        Self {
            events,
            bytes: usize::MAX,
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The setting of this name is zero.
    #[error("`{0}` is zero")]
    Zero(&'static str),
    /// A subscriber cannot lag behind by what is no longer kept.
    #[error("`queue` is {queue}, more than `history`, which is {history}")]
    QueueExceedsHistory {
        /// The queue, in events.
        queue: usize,
        /// The history, in events.
        history: usize,
    },
}

/// Settings of a [`Hub`].
///
/// ```
/// use towpath::hub::Hub;
/// let hub = Hub::builder().history(256).queue(64).build()?;
/// # Ok::<(), towpath::hub::ConfigError>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct HubBuilder {
    retention: Retention,
    queue: Option<usize>,
    overflow: Overflow,
    linger: Duration,
    stats: Option<Stats>,
    drain: Option<Drain>,
    broker: Option<Box<dyn Broker>>,
}

impl Default for HubBuilder {
    fn default() -> Self {
        Self {
            retention: Retention::events(Self::HISTORY),
            queue: None,
            overflow: Overflow::default(),
            linger: Duration::ZERO,
            stats: None,
            drain: None,
            broker: None,
        }
    }
}

impl HubBuilder {
    /// Events kept per topic, where it is not said.
    pub const HISTORY: usize = 1024;
    /// Events that a subscriber may lag behind, where it is not said and the
    /// history is as long.
    pub const QUEUE: usize = 1024;

    /// Events kept per topic for replay; 1024 by default.
    pub const fn history(mut self, events: usize) -> Self {
        self.retention.events = events;
        self
    }

    /// Bytes of payload and keys kept per topic for replay; not bounded by default, save
    /// by the number of events.
    pub const fn history_bytes(mut self, bytes: usize) -> Self {
        self.retention.bytes = bytes;
        self
    }

    /// Events that a subscriber may lag behind before
    /// [`overflow`](Self::overflow) applies; 1024 by default, or the history
    /// where that is less.
    ///
    /// Only what was published after the subscription was made counts, so that
    /// one which resumes far behind is not late from the start.
    pub const fn queue(mut self, events: usize) -> Self {
        self.queue = Some(events);
        self
    }

    /// What happens to a subscriber past that; [`Overflow::Disconnect`] by
    /// default.
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// How long an event of a busy topic may wait for the next ones, so that they go
    /// out together: one write a socket for all of them, in place of one for each.
    /// Zero, the default, is none at all.
    ///
    /// The first event behind a pause of that length goes out at once; those that follow
    /// it wait until the time is over since subscribers were last woken, but no longer
    /// than until there are 64 of them, 16 KiB, or half of what the
    /// [`queue`](Self::queue) allows. Nothing waits for an end: a subscription that is
    /// [drained](super::Subscription::drain), or whose hub goes, has all of it before.
    ///
    /// It needs a tokio runtime with its timer wherever messages are published. 2 to
    /// 10 ms are not seen by anyone, and save most writes of a topic with a thousand
    /// events a second; nothing is won where events come more seldom, or are published
    /// many at a time.
    pub const fn linger(mut self, time: Duration) -> Self {
        self.linger = time;
        self
    }

    /// Where lost events and gaps are counted; [`Stats::global`] by default.
    pub fn stats(mut self, stats: Stats) -> Self {
        self.stats = Some(stats);
        self
    }

    /// The drain with whose start publishing ends, if the broker is embedded.
    pub fn drain(mut self, drain: Drain) -> Self {
        self.drain = Some(drain);
        self
    }

    /// What keeps the logs; a [`MemoryBroker`] by default.
    pub fn broker(mut self, broker: impl Broker) -> Self {
        self.broker = Some(Box::new(broker));
        self
    }

    /// The hub.
    ///
    /// # Errors
    /// Where a setting is zero, or the queue longer than the history.
    pub fn build(self) -> Result<Hub, ConfigError> {
        let history = self.retention.events;
        let queue = self.queue.unwrap_or_else(|| Self::QUEUE.min(history));
        for (name, value) in [
            ("history", history),
            ("history_bytes", self.retention.bytes),
            ("queue", queue),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero(name));
            }
        }
        if queue > history {
            return Err(ConfigError::QueueExceedsHistory { queue, history });
        }
        Ok(self.assemble(queue))
    }

    /// The settings are valid.
    pub(super) fn assemble(self, queue: usize) -> Hub {
        Hub::new_with(super::Settings {
            broker: self.broker.unwrap_or_else(|| Box::new(MemoryBroker::new())),
            retention: self.retention,
            queue: queue as u64,
            overflow: self.overflow,
            linger: Linger::new(self.linger, queue as u64),
            stats: self.stats.unwrap_or_else(Stats::global),
            drain: self.drain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_are_named() {
        let build = HubBuilder::build;
        for (builder, name) in [
            (Hub::builder().history(0), "history"),
            (Hub::builder().history_bytes(0), "history_bytes"),
            (Hub::builder().queue(0), "queue"),
        ] {
            let error = build(builder).err();
            assert_eq!(error, Some(ConfigError::Zero(name)));
        }
        let error = build(Hub::builder().history(10).queue(11)).err();
        assert_eq!(
            error.map(|error| error.to_string()).as_deref(),
            Some("`queue` is 11, more than `history`, which is 10"),
        );
        assert!(build(Hub::builder().history(10).queue(10)).is_ok());
        assert!(build(Hub::builder().history(10)).is_ok(), "queue follows");
        assert_eq!(
            MemoryBroker::with_max_topics(0).err(),
            Some(ConfigError::Zero("max_topics")),
        );
    }
}
