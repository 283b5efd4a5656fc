//! The reader's half: bytes in any split become events (WHATWG HTML §9.2.6).

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

/// Events larger than this are an error, unless set otherwise.
const MAX_EVENT_SIZE: usize = 1024 * 1024;
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// An event as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageEvent {
    /// The event's name; `message` where it has none.
    pub event: String,
    /// The data, its lines joined by LF.
    pub data: String,
    /// The last event id, which an event without one of its own inherits;
    /// empty where there is none.
    pub id: String,
}

/// An event is larger than the parser's bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of more than {max} bytes")]
pub struct EventTooBig {
    max: usize,
}

/// Parses an event stream, without any input or output of its own.
///
/// It holds one event, of bounded size, and those that were not yet taken.
///
/// ```
/// use towpath::sse::Parser;
///
/// let mut parser = Parser::new();
/// parser.receive(b"id: 7\nda")?;
/// parser.receive(b"ta: hello\r\n\r\n")?;
/// let event = parser.poll_event().unwrap();
/// assert_eq!((event.event.as_str(), event.data.as_str()), ("message", "hello"));
/// assert_eq!(parser.last_event_id(), "7");
/// # Ok::<(), towpath::sse::EventTooBig>(())
/// ```
#[derive(Debug)]
pub struct Parser {
    max_event_size: usize,
    /// The line whose end has not come.
    line: Vec<u8>,
    /// The first line may begin with a byte order mark.
    first_line: bool,
    /// The line ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    name: String,
    data: String,
    /// The id that the next blank line makes the last event id.
    id: String,
    last_event_id: String,
    retry: Option<Duration>,
    events: VecDeque<MessageEvent>,
    failed: Option<EventTooBig>,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl Parser {
    /// A parser at the beginning of a stream, for events up to 1 MiB.
    #[must_use]
    pub fn new() -> Self {
        Self {
            max_event_size: MAX_EVENT_SIZE,
            line: Vec::new(),
            first_line: true,
            after_cr: false,
            name: String::new(),
            data: String::new(),
            id: String::new(),
            last_event_id: String::new(),
            retry: None,
            events: VecDeque::new(),
            failed: None,
        }
    }

    /// The most bytes that an event's name, data and id, and the line that is
    /// being read, may have together.
    #[must_use]
    pub fn max_event_size(mut self, bytes: usize) -> Self {
        self.max_event_size = bytes;
        self
    }

    /// The id that an earlier connection ended with: events inherit it.
    #[must_use]
    pub fn resume(mut self, last_event_id: impl Into<String>) -> Self {
        self.last_event_id = last_event_id.into();
        self.id.clone_from(&self.last_event_id);
        self
    }

    /// Takes the next bytes of the stream, cut anywhere.
    ///
    /// # Errors
    /// [`EventTooBig`], and again for all that follows: the place where the
    /// next event begins is not looked for. Events in front of it can still be
    /// taken.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<(), EventTooBig> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = memchr::memchr2(b'\r', b'\n', bytes);
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.check_size(part.len())?;
            let Some((line_end, rest)) = rest.split_first() else {
                self.line.extend_from_slice(part);
                break;
            };
            self.after_cr = *line_end == b'\r';
            bytes = rest;
            if self.line.is_empty() {
                self.take_line(part);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(part);
                self.take_line(&line);
                line.clear();
                self.line = line;
            }
            // Bytes that are not UTF-8 have grown.
            self.check_size(0)?;
        }
        Ok(())
    }

    /// The next event that is complete.
    pub fn poll_event(&mut self) -> Option<MessageEvent> {
        self.events.pop_front()
    }

    /// What a reconnect sends as `Last-Event-ID`; empty: no header.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The reconnection time that the stream has set last.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn check_size(&mut self, part: usize) -> Result<(), EventTooBig> {
        let held = self.line.len() + self.name.len() + self.data.len() + self.id.len();
        if held + part <= self.max_event_size {
            return Ok(());
        }
        let error = EventTooBig {
            max: self.max_event_size,
        };
        self.failed = Some(error);
        Err(error)
    }

    fn take_line(&mut self, line: &[u8]) {
        let line = match line.strip_prefix(BOM) {
            Some(rest) if self.first_line => rest,
            _ => line,
        };
        self.first_line = false;
        if line.is_empty() {
            return self.dispatch();
        }
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        self.take_field(name, value.strip_prefix(b" ").unwrap_or(value));
    }

    fn take_field(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"event" => self.name = lossy(value),
            b"data" => {
                self.data.push_str(&String::from_utf8_lossy(value));
                self.data.push('\n');
            }
            b"id" if !value.contains(&0) => self.id = lossy(value),
            b"retry" => self.retry = milliseconds(value).or(self.retry),
            // A comment, an id that is to be ignored, or what nobody knows.
            _ => {}
        }
    }

    /// A blank line has come.
    fn dispatch(&mut self) {
        if self.last_event_id != self.id {
            self.last_event_id.clone_from(&self.id);
        }
        let name = std::mem::take(&mut self.name);
        let mut data = std::mem::take(&mut self.data);
        // Every line of data has left its LF: with none there is no event.
        if data.pop().is_none() {
            return;
        }
        self.events.push_back(MessageEvent {
            event: if name.is_empty() {
                "message".to_owned()
            } else {
                name
            },
            data,
            id: self.last_event_id.clone(),
        });
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// ASCII digits and nothing else; more than can be told is for ever.
fn milliseconds(digits: &[u8]) -> Option<Duration> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        Some(number.saturating_mul(10).saturating_add(u64::from(digit)))
    })?;
    Some(Duration::from_millis(number))
}
