//! Where messages are taken from: bytes that are copied, or a buffer that is shared.

use bytes::{Buf, BytesMut};

use super::{error::ProtocolError, message::Message, receive::Receiver};

/// Bytes that came, off whose front messages are taken.
pub(crate) trait Input: Buf {
    /// A message that is here whole, in one plain frame: see [`Receiver::whole`].
    fn whole(&mut self, receiver: &Receiver) -> Result<Option<Message>, ProtocolError>;
}

/// Each message gets memory of its own.
impl Input for &[u8] {
    #[inline]
    fn whole(&mut self, receiver: &Receiver) -> Result<Option<Message>, ProtocolError> {
        receiver.whole(self)
    }
}

/// Large messages stay where they are, so that they share the buffer's memory; others
/// get their own.
impl Input for BytesMut {
    fn whole(&mut self, receiver: &Receiver) -> Result<Option<Message>, ProtocolError> {
        if let Some(message) = receiver.whole_in_place(self)? {
            return Ok(Some(message));
        }
        let mut rest = &self[..];
        let message = receiver.whole(&mut rest)?;
        let used = self.len() - rest.len();
        self.advance(used);
        Ok(message)
    }
}
