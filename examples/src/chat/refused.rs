use towpath::hub::{PublishError, SubscribeError};

use super::{InvalidName, InvalidRoom};

/// Why a request gets nothing but a status and a line of text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// There is no such room.
    #[error(transparent)]
    Room(#[from] InvalidRoom),
    /// Nobody is called that.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// What is posted is declared neither as binary nor is it text.
    #[error("the body is not UTF-8")]
    NotText,
    /// The topic is not read.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// The topic is not published to.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The server goes down.
    #[error("draining")]
    Draining,
}

impl Refused {
    /// The status of the response.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Room(_)
            | Self::Name(_)
            | Self::NotText
            | Self::Subscribe(SubscribeError::Topic(_))
            | Self::Publish(PublishError::Topic(_)) => 400,
            Self::Subscribe(_) | Self::Publish(_) | Self::Draining => 503,
        }
    }
}
