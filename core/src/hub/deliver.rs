//! Subscriptions on their way to clients: forwarded to a socket, or as the events
//! of a stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::{Delivery, Ended, Gap, Overflow, Subscription};
use crate::{
    backpressure::StreamDefaults,
    encoded::Encoded,
    sse::{Event, Remainder, Source, Sse},
    ws::{Broadcast, CloseCode, CloseFrame, FrameSink, FrameSource, Outgoing, Sender, WebSocket},
};

impl WebSocket {
    /// Sends the subscription's messages, beside what the handler sends, for as
    /// long as the socket lives: by the driver itself, from the bytes that all
    /// subscribers share. A gap cannot be told to a bare socket; a subscription
    /// that lags too far behind closes it with 1013.
    ///
    /// A socket is a stream too: where `futures_util::StreamExt` is in scope, whose method of
    /// this name takes the socket itself, write `WebSocket::forward(&mut socket, …)`.
    ///
    /// ```
    /// use towpath::{hub::Hub, ws::{HandlerError, WebSocket}};
    ///
    /// async fn room(mut socket: WebSocket, hub: Hub) -> Result<(), HandlerError> {
    ///     socket.forward(hub.subscribe("room").last(10).await?);
    ///     while let Some(message) = socket.recv().await? {
    ///         hub.publish("room", message).await?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn forward(&mut self, subscription: Subscription) {
        self.sender().forward(subscription);
    }
}

impl Sender {
    /// See [`WebSocket::forward`].
    pub fn forward(&mut self, subscription: Subscription) {
        self.attach(Frames {
            subscription,
            event: Encoded::broadcast,
            gap: |_| None,
        });
    }

    /// As [`forward`](Self::forward), in the frames of `towpath.v1`.
    #[cfg(feature = "json")]
    pub(super) fn forward_enveloped(&mut self, subscription: Subscription) {
        self.attach(Frames {
            subscription,
            event: Encoded::envelope,
            gap: |gap| Some(super::envelope::gap(gap).into()),
        });
    }
}

/// A subscription as what a socket is sent.
struct Frames {
    subscription: Subscription,
    event: fn(&Encoded) -> &Broadcast,
    /// How a gap is told, if it can be.
    gap: fn(Gap) -> Option<Outgoing>,
}

impl FrameSource for Frames {
    fn poll_frames(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut FrameSink<'_>,
    ) -> Poll<Option<CloseFrame>> {
        loop {
            if sink.is_full() {
                // It takes nothing while the peer does not, but must not lag for ever.
                ready!(self.subscription.poll_overflow(cx));
            }
            match ready!(self.subscription.poll_delivery(cx)) {
                Some(Delivery::Event(event)) => sink.broadcast((self.event)(event.encoded())),
                Some(Delivery::Gap(gap)) => {
                    if let Some(message) = (self.gap)(gap) {
                        sink.send(message);
                    }
                }
                None if self.subscription.ended_by() == Some(Ended::Overflow) => {
                    let frame = CloseFrame::new(CloseCode::TRY_AGAIN_LATER, "too slow");
                    return Poll::Ready(Some(frame));
                }
                None => return Poll::Ready(None),
            }
        }
    }

    fn overflow(&mut self, policy: Overflow) {
        self.subscription.overflow_unless_said(policy);
    }

    fn drain(&mut self) {
        self.subscription.drain();
    }
}

/// A subscription as the events of a stream: with their ids, so that a client
/// resumes, and with gaps told as events of the type `gap`. One that lags too far
/// behind ends, and its client comes back with its last id.
#[derive(Debug)]
pub struct Events {
    subscription: Subscription,
    /// What layers say of it, until it is asked for its first event.
    defaults: Option<StreamDefaults>,
}

impl Events {
    /// Once, off the path of each event.
    #[cold]
    fn take_defaults(&mut self) {
        let defaults = self.defaults.take();
        if let Some(policy) = defaults.and_then(|defaults| defaults.overflow()) {
            self.subscription.overflow_unless_said(policy);
        }
    }
}

impl Source for Events {
    #[inline]
    fn poll_event(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.defaults.is_some() {
            self.take_defaults();
        }
        self.subscription.poll_delivery(cx).map(|delivery| {
            Some(match delivery? {
                Delivery::Event(event) => Event::from_encoded(event.encoded().sse()),
                // Without an id: a client that resumes does so behind an event.
                Delivery::Gap(gap) => Event::new().event("gap").data(gap.to_string()),
            })
        })
    }

    fn drain(mut self: Pin<&mut Self>) -> Remainder {
        self.subscription.drain();
        Remainder::UntilEnd
    }

    fn defaults(&self) -> Option<StreamDefaults> {
        self.defaults.clone()
    }
}

impl From<Subscription> for Sse<Events> {
    fn from(subscription: Subscription) -> Self {
        let defaults = Some(StreamDefaults::default());
        Self::new(Events {
            subscription,
            defaults,
        })
    }
}
