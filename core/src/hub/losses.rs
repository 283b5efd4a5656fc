//! What is told of lost events in the span of a connection.

use tracing::{Level, debug, enabled};

use super::Overflow;

/// The events that a subscription lost and that its span was not told of yet; there is
/// none where nobody listens.
///
/// The number that a gap tells its reader is none that whoever runs the server sees, a
/// bare socket is told none, and what was replaced is no gap: so each loss is an event in
/// the span in which the subscription is read, the connection's.
#[derive(Debug)]
pub(super) struct Losses {
    topic: Box<str>,
    policy: Overflow,
    untold: u64,
}

impl Losses {
    /// `None` where nobody listens.
    pub(super) fn of(topic: &str, policy: Overflow) -> Option<Box<Self>> {
        enabled!(target: "towpath::connection", Level::DEBUG).then(|| {
            Box::new(Self {
                topic: topic.into(),
                policy,
                untold: 0,
            })
        })
    }

    /// The policy is another one.
    pub(super) const fn follows(&mut self, policy: Overflow) {
        self.policy = policy;
    }

    pub(super) const fn count(&mut self, events: u64) {
        self.untold += events;
    }

    /// One event for all since the last, where there are any.
    pub(super) fn tell(&mut self) {
        let lost = std::mem::take(&mut self.untold);
        if lost > 0 {
            debug!(
                target: "towpath::connection",
                topic = &*self.topic,
                policy = ?self.policy,
                lost,
                "events lost",
            );
        }
    }
}
