use std::{
    error::Error,
    fmt::{Display, Write},
    sync::Arc,
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};

use super::{EventError, encode};

/// One event, held as the text that goes out.
///
/// It cannot break the stream it is part of: line breaks in data and comments
/// become several lines, and an id or a name that cannot be sent is an error.
/// That error is either returned at once ([`try_id`](Self::try_id),
/// [`try_event`](Self::try_event)), or kept in the event by the methods for a
/// chain ([`id`](Self::id), [`event`](Self::event)): such an event is never
/// sent, and ends its stream like an `Err` of the stream's own. Check what
/// comes from outside.
///
/// An event without [`data`](Self::data) is not dispatched by readers, who
/// take only its id and retry time from it.
///
/// ```
/// use towpath::sse::{Event, EventError};
///
/// let event = Event::new().id(7).event("tick").data("one\r\ntwo");
/// assert_eq!(event.encode()?, "id: 7\nevent: tick\ndata: one\ndata: two\n\n");
///
/// assert!(matches!(Event::new().try_id("7\n8"), Err(EventError::LineBreakInId)));
/// # Ok::<(), EventError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Event {
    /// Lines, without the blank one that ends the event.
    lines: BytesMut,
    /// In place of lines: a whole event.
    encoded: Option<Bytes>,
    dispatched: bool,
    error: Option<EventError>,
}

impl Event {
    /// An event without anything, which sends nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A whole event that was encoded before and is shared.
    #[inline]
    pub(crate) fn from_encoded(text: Bytes) -> Self {
        Self {
            encoded: Some(text),
            dispatched: true,
            ..Self::default()
        }
    }

    /// What a stream gives in place of an event when it fails.
    pub(super) fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let error = EventError::Stream(Arc::from(error.into()));
        Self {
            error: Some(error),
            ..Self::default()
        }
    }

    /// Sets the id, which a reader sends back as `Last-Event-ID`; the last one
    /// set counts. An empty id makes the reader forget the one it has.
    ///
    /// An id with a line break or NUL is kept as the event's error.
    pub fn id(mut self, id: impl Display) -> Self {
        let put = self.put_id(&id);
        self.keep(put)
    }

    /// Sets the id, as [`id`](Self::id) does.
    ///
    /// # Errors
    /// When it holds CR, LF or NUL, or its `Display` fails.
    pub fn try_id(mut self, id: impl Display) -> Result<Self, EventError> {
        self.put_id(&id)?;
        Ok(self)
    }

    /// Sets the event's name; the last one set counts, and without one (or with
    /// an empty one) it is `message`.
    ///
    /// A name with a line break is kept as the event's error.
    pub fn event(mut self, name: impl AsRef<str>) -> Self {
        let put = self.put_name(name.as_ref());
        self.keep(put)
    }

    /// Sets the event's name, as [`event`](Self::event) does.
    ///
    /// # Errors
    /// When it holds CR or LF.
    pub fn try_event(mut self, name: impl AsRef<str>) -> Result<Self, EventError> {
        self.put_name(name.as_ref())?;
        Ok(self)
    }

    /// Adds data, after a line break where there is some already. CR, LF and
    /// CRLF all reach the reader as LF. Empty data is data: it is dispatched.
    pub fn data(mut self, data: impl AsRef<str>) -> Self {
        encode::lines(self.open(), "data", data.as_ref());
        self.dispatched = true;
        self
    }

    /// Adds a value as JSON to the data.
    ///
    /// One that cannot be JSON (a map with keys that are no strings) is kept as
    /// the event's error.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn json<T: serde::Serialize + ?Sized>(self, value: &T) -> Self {
        match serde_json::to_string(value) {
            Ok(json) => self.data(json),
            Err(error) => self.keep(Err(EventError::Json(Arc::new(error)))),
        }
    }

    /// Adds a value as JSON to the data, as [`json`](Self::json) does.
    ///
    /// # Errors
    /// When it cannot be JSON.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub fn try_json<T: serde::Serialize + ?Sized>(self, value: &T) -> Result<Self, EventError> {
        let json = serde_json::to_string(value).map_err(|e| EventError::Json(Arc::new(e)))?;
        Ok(self.data(json))
    }

    /// Sets the time after which the reader reconnects, in whole milliseconds;
    /// a browser keeps it until another is set, longer than the connection.
    pub fn retry(mut self, time: Duration) -> Self {
        encode::retry(self.open(), time);
        self
    }

    /// Adds a comment, which readers ignore; each of its lines is one.
    pub fn comment(mut self, text: impl AsRef<str>) -> Self {
        encode::lines(self.open(), "", text.as_ref());
        self
    }

    /// The first error that was kept.
    #[must_use]
    pub fn error(&self) -> Option<&EventError> {
        self.error.as_ref()
    }

    /// The text that goes out, with the blank line that ends it; of an event
    /// without anything it is empty.
    ///
    /// # Errors
    /// The first error that was kept.
    #[inline]
    pub fn encode(mut self) -> Result<Bytes, EventError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        Ok(self.encoded.unwrap_or_else(|| {
            if !self.lines.is_empty() {
                self.lines.put_u8(b'\n');
            }
            self.lines.freeze()
        }))
    }

    /// Whether readers dispatch it: what the counters count.
    pub(super) fn is_dispatched(&self) -> bool {
        self.dispatched
    }

    fn keep(mut self, put: Result<(), EventError>) -> Self {
        if let Err(error) = put {
            self.error.get_or_insert(error);
        }
        self
    }

    fn put_id(&mut self, id: &impl Display) -> Result<(), EventError> {
        let lines = self.open();
        let line = lines.len();
        let written = write!(lines, "id: {id}").map_err(EventError::Unwritable);
        let checked =
            written.and_then(
                |()| match memchr::memchr3(b'\r', b'\n', 0, &lines[line..]) {
                    None => Ok(()),
                    Some(at) if lines[line + at] == 0 => Err(EventError::NulInId),
                    Some(_) => Err(EventError::LineBreakInId),
                },
            );
        match checked {
            Ok(()) => lines.put_u8(b'\n'),
            Err(_) => lines.truncate(line),
        }
        checked
    }

    fn put_name(&mut self, name: &str) -> Result<(), EventError> {
        if memchr::memchr2(b'\r', b'\n', name.as_bytes()).is_some() {
            return Err(EventError::LineBreakInName);
        }
        encode::field(self.open(), "event", name);
        Ok(())
    }

    /// The lines, to add one.
    fn open(&mut self) -> &mut BytesMut {
        if let Some(text) = self.encoded.take() {
            self.lines
                .extend_from_slice(text.strip_suffix(b"\n").unwrap_or(&text));
        }
        &mut self.lines
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    fn text(event: Event) -> String {
        String::from_utf8(event.encode().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn fields_go_out_in_order() {
        let event = Event::new()
            .comment("all")
            .id("7-a")
            .event("tick")
            .retry(Duration::from_secs(2))
            .data("x");
        assert_eq!(
            text(event),
            ": all\nid: 7-a\nevent: tick\nretry: 2000\ndata: x\n\n"
        );
    }

    #[test]
    fn line_breaks_in_data_and_comments_become_lines() {
        assert_eq!(
            text(Event::new().data("a\r\n\nb\rc\n")),
            "data: a\ndata:\ndata: b\ndata: c\ndata:\n\n"
        );
        assert_eq!(text(Event::new().comment("a\nid: 9")), ": a\n: id: 9\n\n");
        assert_eq!(
            text(Event::new().data("a").data("b")),
            "data: a\ndata: b\n\n"
        );
    }

    #[test]
    fn empty_data_is_sent_and_an_empty_event_is_not() {
        assert_eq!(text(Event::new().data("")), "data:\n\n");
        assert_eq!(text(Event::new()), "");
        assert_eq!(text(Event::new().id("")), "id: \n\n");
    }

    #[test]
    fn line_breaks_and_nul_are_errors_in_id_and_name() {
        for id in ["\n", "a\rb", "a\r\n"] {
            assert!(
                matches!(Event::new().try_id(id), Err(EventError::LineBreakInId)),
                "{id:?}"
            );
        }
        assert!(matches!(
            Event::new().try_id("a\0"),
            Err(EventError::NulInId)
        ));
        for name in ["\n", "a\rb"] {
            let event = Event::new().try_event(name);
            assert!(
                matches!(event, Err(EventError::LineBreakInName)),
                "{name:?}"
            );
        }
        assert_eq!(
            text(Event::new().try_event("a\0").unwrap()),
            "event: a\0\n\n"
        );
    }

    #[test]
    fn a_chain_keeps_its_first_error() {
        let event = Event::new().id("a\0").event("b\n").data("c");
        assert!(matches!(event.error(), Some(EventError::NulInId)));
        assert!(matches!(event.encode(), Err(EventError::NulInId)));
    }

    #[test]
    fn an_id_that_cannot_be_written_is_an_error() {
        struct Broken;
        impl Display for Broken {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("half")?;
                Err(fmt::Error)
            }
        }
        assert!(matches!(
            Event::new().try_id(Broken),
            Err(EventError::Unwritable(_))
        ));
    }

    #[test]
    fn an_encoded_event_is_shared_and_can_be_added_to() {
        let shared = Event::new().data("x").encode().unwrap();
        let event = Event::from_encoded(shared.clone());
        assert_eq!(event.clone().encode().unwrap().as_ptr(), shared.as_ptr());
        assert_eq!(text(event.data("y")), "data: x\ndata: y\n\n");
    }

    #[cfg(feature = "json")]
    #[test]
    fn json_is_data() {
        assert_eq!(text(Event::new().json(&["a\nb"])), "data: [\"a\\nb\"]\n\n");
        let keys_are_pairs = std::collections::BTreeMap::from([((1, 2), 3)]);
        let event = Event::new().json(&keys_are_pairs);
        assert!(matches!(event.error(), Some(EventError::Json(_))));
        assert!(Event::new().try_json(&keys_are_pairs).is_err());
    }
}
