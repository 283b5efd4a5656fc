use std::time::Duration;

use bytes::Bytes;

use super::{Event, encode};

/// Comments in a stream that has nothing to send, so that no proxy takes it
/// for dead, and the server finds a peer that is gone: by the write that
/// fails.
///
/// ```
/// use std::time::Duration;
/// use towpath::sse::KeepAlive;
///
/// let every_five_seconds = KeepAlive::new().interval(Duration::from_secs(5)).text("still here");
/// # let _ = every_five_seconds;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct KeepAlive {
    interval: Duration,
    comment: Bytes,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            comment: encode::COMMENT,
        }
    }
}

impl KeepAlive {
    /// A comment without text after 15 s without anything else.
    pub fn new() -> Self {
        Self::default()
    }

    /// No comments.
    pub fn off() -> Self {
        Self::new().interval(Duration::ZERO)
    }

    /// After how long without anything sent a comment is; zero: never.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The comment's text; each of its lines becomes a comment.
    pub fn text(mut self, text: impl AsRef<str>) -> Self {
        // A comment alone has no error.
        self.comment = Event::new()
            .comment(text)
            .encode()
            .unwrap_or(encode::COMMENT);
        self
    }

    pub(super) fn period(&self) -> Option<Duration> {
        (!self.interval.is_zero()).then_some(self.interval)
    }

    pub(super) fn comment(&self) -> Bytes {
        self.comment.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_cannot_leave_its_comment() {
        assert_eq!(
            KeepAlive::new().text("a\n\ndata: b").comment(),
            ": a\n:\n: data: b\n\n"
        );
        assert_eq!(KeepAlive::new().text("").comment(), ":\n\n");
    }

    #[test]
    fn zero_is_off() {
        assert_eq!(KeepAlive::off().period(), None);
        assert_eq!(KeepAlive::new().period(), Some(Duration::from_secs(15)));
    }
}
