use bytes::Bytes;

use super::TopicError;
use crate::ws::{Message, Text};

/// What is published: a message and, for conflation, its key.
///
/// Whatever makes a [`Message`] makes a `Publish`. The hub copies the payload
/// once, into the frame that every subscriber is sent: a kept event never pins
/// the buffer that it arrived in.
///
/// ```
/// use towpath::hub::Publish;
/// let price = Publish::from("41.5").key("ACME");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub(crate) message: Message,
    pub(crate) key: Option<String>,
    pub(crate) may_compress: bool,
}

impl Publish {
    /// A message without a key.
    pub fn new(message: impl Into<Message>) -> Self {
        Self {
            message: message.into(),
            key: None,
            may_compress: true,
        }
    }

    /// Names the thing whose newest state this message is: a reader who is
    /// behind may skip older events of the same key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Has the message sent without compression to every socket: see
    /// [`WebSocket::uncompressed`](crate::ws::WebSocket::uncompressed). What a hub
    /// compresses it compresses once, for all sockets that agreed on it.
    #[must_use]
    pub const fn uncompressed(mut self) -> Self {
        self.may_compress = false;
        self
    }

    /// The message.
    #[must_use]
    pub const fn message(&self) -> &Message {
        &self.message
    }

    /// What [`key`](Self::key) named.
    #[must_use]
    pub fn conflation_key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Whether it may be compressed: see [`uncompressed`](Self::uncompressed).
    #[must_use]
    pub const fn may_compress(&self) -> bool {
        self.may_compress
    }
}

impl From<Message> for Publish {
    fn from(message: Message) -> Self {
        Self::new(message)
    }
}

impl From<&str> for Publish {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Publish {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<Text> for Publish {
    fn from(text: Text) -> Self {
        Self::new(text)
    }
}

impl From<Bytes> for Publish {
    fn from(bytes: Bytes) -> Self {
        Self::new(bytes)
    }
}

impl From<Vec<u8>> for Publish {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

/// Why nothing was published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic's name is none.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Every topic that the embedded broker may have has subscribers.
    #[error("too many topics")]
    TooManyTopics,
    /// The process is about to end, and its embedded broker's log with it.
    #[error("draining")]
    Draining,
    /// The broker has not acknowledged in time, or refused. The message may have been
    /// published none the less.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why there is no subscription.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The topic's name is none.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Every topic that the embedded broker may have has subscribers.
    #[error("too many topics")]
    TooManyTopics,
    /// The broker cannot tell what the topic has.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A broker over a network does not do what it was asked for.
///
/// ```
/// use towpath::hub::Unavailable;
/// let error = Unavailable::new("connection refused");
/// assert_eq!(error.to_string(), "the broker is unavailable: connection refused");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker is unavailable: {0}")]
pub struct Unavailable(Box<str>);

impl Unavailable {
    /// For this reason.
    pub fn new(reason: impl Into<Box<str>>) -> Self {
        Self(reason.into())
    }
}
