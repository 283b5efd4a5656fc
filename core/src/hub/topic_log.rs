use std::sync::Arc;

use super::{EventId, Publish, Reader, Retention, log::Log};
use crate::encoded::Draft;

/// A topic's log on this node, as a [`Broker`](super::Broker) over a network fills it:
/// one for each topic that the node follows, however many read it.
///
/// It need not be told what is missing: it finds that out by the ids, tells its readers
/// and ignores what it has already. So after a lost connection a broker simply reads on
/// from [`newest`](Self::newest), or from before it. A clone is the same log.
///
/// ```
/// use towpath::hub::{EventId, Publish, Retention, TopicLog};
///
/// let log = TopicLog::new(None, Retention::events(100), || ());
/// assert!(log.append(EventId::new(7, 1), &Publish::from("one")));
/// assert!(!log.append(EventId::new(7, 1), &Publish::from("one")), "is there already");
/// // Whoever reads is told that 2 and 3 are missing.
/// assert!(log.append(EventId::new(7, 4), &Publish::from("four")));
/// assert_eq!(log.newest(), Some(EventId::new(7, 4)));
/// ```
#[derive(Clone, Debug)]
pub struct TopicLog(Arc<Log>);

impl TopicLog {
    /// A log without events, whose first one follows `seen`: the event in front of the
    /// oldest that the broker still has, or the topic's newest where it has none.
    /// `None` where the topic has never had any.
    ///
    /// `on_idle` is called, without a lock held, each time the last reader has gone.
    pub fn new(
        seen: Option<EventId>,
        retention: Retention,
        on_idle: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Log::new(seen, retention, on_idle)))
    }

    /// Puts an event at the end and wakes the readers.
    ///
    /// Where numbers between the newest and this one are missing, readers are told how
    /// many; where its epoch is a new one, that it cannot be known how many. Returns
    /// `false`, and does nothing, where the event was there already or is of an epoch
    /// that has passed.
    pub fn append(&self, id: EventId, message: &Publish) -> bool {
        let appended = self.0.follow(id, Draft::new(message));
        appended.map(super::log::Appended::finish).is_some()
    }

    /// The broker has nothing any more up to `id`, the topic's newest event: readers
    /// are told what they miss of it, where that is anything, without waiting for
    /// another event. A broker that came back empty is told by its new epoch, and 0.
    pub fn skip_to(&self, id: EventId) {
        if let Some(appended) = self.0.skip(id) {
            appended.finish();
        }
    }

    /// The newest event that was appended or skipped; `None` where the topic has never
    /// had any.
    #[must_use]
    pub fn newest(&self) -> Option<EventId> {
        self.0.newest()
    }

    /// Whether a reader can be told what came after this event: it is here, or was. A
    /// client may have seen an event on another node that this one has yet to read.
    #[must_use]
    pub fn knows(&self, id: EventId) -> bool {
        self.0.knows(id)
    }

    /// A place at the log: what [`Broker::open`](super::Broker::open) returns.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.0))
    }

    /// How many places are held.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.0.readers()
    }

    /// The broker is gone for good: readers end when they have read what there is.
    pub fn close(&self) {
        self.0.close();
    }
}
