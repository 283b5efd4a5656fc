//! Encode once: an event's forms on the wire, shared by all its readers.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;

use crate::{
    hub::{EventId, Publish},
    ws::{Broadcast, Message},
};

/// One event with everything that is sent of it; a clone shares it all.
///
/// The payload is kept *as* its WebSocket frame, into which it is copied when it
/// is published: that one copy makes the event own its bytes and is the frame of
/// every socket. The other forms, its compressed frame among them, are made when
/// they are first asked for and cost a pointer until then.
#[derive(Clone)]
pub(crate) struct Encoded(Arc<Event>);

struct Event {
    id: EventId,
    /// Where it stands in this node's log.
    position: u64,
    broadcast: Broadcast,
    key: Option<Box<str>>,
    sse: OnceLock<Box<Bytes>>,
    #[cfg(feature = "json")]
    envelope: OnceLock<Broadcast>,
}

/// An event that has no number yet: whatever takes time, and its memory, is done
/// before the log is locked.
pub(crate) struct Draft(Arc<Event>);

impl Draft {
    pub(crate) fn new(publish: &Publish) -> Self {
        Self(Arc::new(Event {
            id: EventId::UNNUMBERED,
            position: 0,
            broadcast: Broadcast::encode(&publish.message, publish.may_compress),
            key: publish.key.as_deref().map(Box::from),
            sse: OnceLock::new(),
            #[cfg(feature = "json")]
            envelope: OnceLock::new(),
        }))
    }

    pub(crate) fn number(mut self, id: EventId, position: u64) -> Encoded {
        // A draft is never shared.
        if let Some(event) = Arc::get_mut(&mut self.0) {
            event.id = id;
            event.position = position;
        }
        Encoded(self.0)
    }
}

impl Encoded {
    pub(crate) fn id(&self) -> EventId {
        self.0.id
    }

    /// Where it stands in this node's log.
    pub(crate) fn position(&self) -> u64 {
        self.0.position
    }

    pub(crate) fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// The payload's length in bytes.
    pub(crate) fn payload_len(&self) -> usize {
        self.0.broadcast.payload_len()
    }

    /// The message, which shares the frame's bytes.
    pub(crate) fn message(&self) -> Message {
        self.0.broadcast.message()
    }

    /// What a bare socket is sent.
    pub(crate) fn broadcast(&self) -> &Broadcast {
        &self.0.broadcast
    }

    /// The event in an event stream: its id; binary data as base64 under the
    /// event type `binary`; line ends as LF.
    pub(crate) fn sse(&self) -> Bytes {
        let make = || Box::new(encode_sse(self.0.id, &self.message()));
        Bytes::clone(self.0.sse.get_or_init(make))
    }

    /// What a `towpath.v1` socket is sent.
    #[cfg(feature = "json")]
    pub(crate) fn envelope(&self) -> &Broadcast {
        let make = || {
            let text = crate::hub::envelope::event(self.0.id, &self.message());
            Broadcast::encode(&text.into(), self.0.broadcast.may_compress())
        };
        self.0.envelope.get_or_init(make)
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded")
            .field("id", &self.0.id)
            .field("key", &self.0.key)
            .field("message", &self.message())
            .finish_non_exhaustive()
    }
}

fn encode_sse(id: EventId, message: &Message) -> Bytes {
    let mut out = format!("id: {id}\n");
    match message {
        Message::Text(text) => {
            for line in lines(text.as_str()) {
                out.push_str("data: ");
                out.push_str(line);
                out.push('\n');
            }
        }
        Message::Binary(bytes) => {
            out.push_str("event: binary\ndata: ");
            BASE64.encode_string(bytes, &mut out);
            out.push('\n');
        }
    }
    out.push('\n');
    out.into()
}

/// The lines of `text`, which end with CR, LF or CRLF as in an event stream; a
/// text without any is one line, an empty one too.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let Some(end) = text.find(['\r', '\n']) else {
            return Some(text);
        };
        let (line, tail) = text.split_at(end);
        rest = tail.strip_prefix("\r\n").or_else(|| tail.get(1..));
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(publish: impl Into<Publish>) -> Encoded {
        Draft::new(&publish.into()).number(EventId::new(0xa, 3), 3)
    }

    fn sse(publish: impl Into<Publish>) -> String {
        String::from_utf8(encoded(publish).sse().to_vec()).unwrap()
    }

    #[test]
    fn text_of_the_event_stream() {
        assert_eq!(sse("hi"), "id: 000000000000000a-3\ndata: hi\n\n");
        assert_eq!(sse(""), "id: 000000000000000a-3\ndata: \n\n");
        assert_eq!(
            sse("a\r\nb\rc\n\nd\n"),
            "id: 000000000000000a-3\ndata: a\ndata: b\ndata: c\ndata: \ndata: d\ndata: \n\n",
        );
        assert_eq!(
            sse(vec![0, 255, 1, 2]),
            "id: 000000000000000a-3\nevent: binary\ndata: AP8BAg==\n\n",
        );
    }

    proptest! {
        #[test]
        fn data_lines_joined_are_the_text_with_lf(text in "[a\r\n\u{e9} :]{0,12}") {
            let joined = lines(&text).collect::<Vec<_>>().join("\n");
            prop_assert_eq!(joined, text.replace("\r\n", "\n").replace('\r', "\n"));
        }

        #[test]
        fn message_comes_back_from_its_frame(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let event = encoded(bytes.clone());
            prop_assert_eq!(event.message(), Message::binary(bytes));
            prop_assert!(event.broadcast().frame().ends_with(event.message().as_bytes()));
        }
    }

    #[test]
    fn event_owns_its_bytes() {
        let buffer = Bytes::from(vec![b'x'; 8192]);
        let event = encoded(buffer.slice(17..18));
        assert!(buffer.is_unique(), "the event pins the buffer");
        assert_eq!(event.message(), Message::binary(&b"x"[..]));
    }

    #[test]
    fn forms_are_made_once() {
        let event = encoded("hi");
        let other = event.clone();
        assert_eq!(event.sse().as_ptr(), other.sse().as_ptr());
        let frame = |broadcast: &Broadcast| broadcast.frame().as_ptr();
        assert_eq!(frame(event.broadcast()), frame(other.broadcast()));
        #[cfg(feature = "json")]
        assert_eq!(frame(event.envelope()), frame(other.envelope()));
    }

    #[test]
    fn unused_forms_cost_a_pointer_and_its_state() {
        assert!(size_of::<Event>() <= 112, "{}", size_of::<Event>());
    }
}
