use super::{
    BoxFuture, Hub, Overflow, SubscribeError, Subscription, Topic, cursor::Start,
    subscription::Policy,
};

/// A subscription to be: what [`Hub::subscribe`] returns, to be awaited.
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is awaited"]
pub struct Subscribe {
    hub: Hub,
    topic: String,
    start: Start,
    overflow: Option<Overflow>,
}

impl Subscribe {
    pub(super) const fn new(hub: Hub, topic: String) -> Self {
        Self {
            hub,
            topic,
            start: Start::Live,
            overflow: None,
        }
    }

    /// Begins behind the event of this id, as its client gave it. What cannot be
    /// served is told as a [`Gap`](super::Gap), a text that is no id too; an
    /// empty one is none.
    ///
    /// It wins over [`last`](Self::last), in whichever order they are called.
    pub fn after(mut self, id: impl Into<String>) -> Self {
        let id = id.into();
        if !id.is_empty() {
            self.start = Start::After(id);
        }
        self
    }

    /// Begins with the newest `n` events that are kept; that is never a gap.
    pub fn last(mut self, n: usize) -> Self {
        if !matches!(self.start, Start::After(_)) {
            self.start = Start::Last(n);
        }
        self
    }

    /// Both, as a request may have them: [`after`](Self::after) the id if there
    /// is one, else the [`last`](Self::last) so many if that is said.
    pub fn resume(self, id: Option<&str>, last: Option<usize>) -> Self {
        let begun = match last {
            Some(n) => self.last(n),
            None => self,
        };
        begun.after(id.unwrap_or_default())
    }

    /// What happens when it lags behind by more than the hub's
    /// [`queue`](super::HubBuilder::queue), in place of what the hub's
    /// [settings](super::HubBuilder::overflow) say, and a layer's
    /// [`Limits::overflow`](crate::backpressure::Limits::overflow).
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = Some(overflow);
        self
    }
}

impl IntoFuture for Subscribe {
    type Output = Result<Subscription, SubscribeError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// # Errors
    /// Where the topic's name is none, where there are too many topics, or where the
    /// broker cannot be reached.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let settings = &self.hub.0;
            let topic = Topic::new(&self.topic)?;
            let seen = self.start.seen();
            let opening = settings.broker.open(topic, settings.retention, seen);
            let reader = opening.await?;
            if let Some(linger) = settings.linger {
                reader.linger(linger);
            }
            let policy = Policy {
                queue: settings.queue,
                overflow: self.overflow.unwrap_or(settings.overflow),
                is_said: self.overflow.is_some(),
                stats: settings.stats.clone(),
            };
            Ok(Subscription::new(reader, &self.start, policy, &self.topic))
        })
    }
}
