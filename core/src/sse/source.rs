//! What gives a body its events.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::Event;
use crate::backpressure::StreamDefaults;

/// What gives an event stream its events: any stream of [`Event`] or of
/// `Result<Event, E>`, or one that must know of a drain.
///
/// ```
/// use std::{pin::Pin, task::{Context, Poll}};
/// use towpath::sse::{Event, Remainder, Source};
///
/// /// Says goodbye when the process drains.
/// struct Polite { goodbye: Option<Event> }
///
/// impl Source for Polite {
///     fn poll_event(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Event>> {
///         self.goodbye.take().map_or(Poll::Pending, |event| Poll::Ready(Some(event)))
///     }
///     fn drain(mut self: Pin<&mut Self>) -> Remainder {
///         self.goodbye = Some(Event::new().data("goodbye"));
///         Remainder::Ready
///     }
/// }
/// ```
pub trait Source {
    /// The next event; `None` ends the stream. So does an event with an
    /// [error](Event::error), which is logged.
    fn poll_event(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>>;

    /// The stream's moment in a drain has come. The answer tells what is still
    /// sent; a stream that knows nothing of it gives what it has ready.
    #[must_use]
    fn drain(self: Pin<&mut Self>) -> Remainder {
        Remainder::Ready
    }

    /// Where it wants to be told what the layers around the stream say of it: put into the
    /// response's extensions, and filled by the time that it is first asked for an event.
    fn defaults(&self) -> Option<StreamDefaults> {
        None
    }
}

/// What a [`Source`] still has to give when the drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remainder {
    /// What is ready: the first `Pending` ends the stream.
    Ready,
    /// Everything until it says `None`, which it does by itself before the
    /// drain's deadline.
    UntilEnd,
}

impl<S> Source for S
where
    S: Stream,
    S::Item: IntoEvent,
{
    fn poll_event(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_next(cx)
            .map(|item| item.map(IntoEvent::into_event))
    }
}

/// What the items of a stream of events may be: [`Event`], what can become
/// one, and a `Result` of these, whose `Err` ends the stream and is logged.
///
/// ```
/// use towpath::sse::{Event, IntoEvent, Sse};
///
/// struct Price { cents: u64 }
/// impl IntoEvent for Price {
///     fn into_event(self) -> Event {
///         Event::new().event("price").data(self.cents.to_string())
///     }
/// }
/// let prices = [Ok(Price { cents: 150 }), Err("the exchange has closed")];
/// # let _ =
/// Sse::new(futures_util::stream::iter(prices));
/// ```
pub trait IntoEvent {
    /// The event that is sent.
    fn into_event(self) -> Event;
}

impl IntoEvent for Event {
    fn into_event(self) -> Event {
        self
    }
}

impl<T: IntoEvent, E: Into<Box<dyn Error + Send + Sync>>> IntoEvent for Result<T, E> {
    fn into_event(self) -> Event {
        self.map_or_else(Event::failed, IntoEvent::into_event)
    }
}
