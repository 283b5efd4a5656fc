use super::{broadcast::Broadcast, message::Message};

/// What is sent: whatever makes a [`Message`], or a [`Broadcast`].
#[derive(Clone, Debug)]
pub struct Outgoing(pub(crate) Form);

#[derive(Clone, Debug)]
pub(crate) enum Form {
    Message(Message),
    /// Boxed, so that a queued message costs no more for it.
    Uncompressed(Box<Message>),
    Broadcast(Broadcast),
}

impl Outgoing {
    /// A message that is not compressed, though the connection compresses others.
    #[must_use]
    pub fn uncompressed(message: impl Into<Message>) -> Self {
        Self(Form::Uncompressed(Box::new(message.into())))
    }

    /// The same without compression.
    pub(crate) fn into_uncompressed(self) -> Self {
        match self.0 {
            Form::Message(message) => Self::uncompressed(message),
            Form::Broadcast(broadcast) if broadcast.may_compress() => {
                Self::uncompressed(broadcast.message())
            }
            form => Self(form),
        }
    }

    /// The payload's length in bytes.
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Form::Message(message) => message.len(),
            Form::Uncompressed(message) => message.len(),
            Form::Broadcast(broadcast) => broadcast.payload_len(),
        }
    }
}

impl<M: Into<Message>> From<M> for Outgoing {
    fn from(message: M) -> Self {
        Self(Form::Message(message.into()))
    }
}

impl From<Broadcast> for Outgoing {
    fn from(broadcast: Broadcast) -> Self {
        Self(Form::Broadcast(broadcast))
    }
}

impl From<&Broadcast> for Outgoing {
    fn from(broadcast: &Broadcast) -> Self {
        broadcast.clone().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queued_message_costs_no_more_than_itself() {
        assert_eq!(size_of::<Outgoing>(), size_of::<Message>());
    }
}
