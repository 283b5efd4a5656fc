use std::{fmt, sync::Arc};

use bytes::Bytes;

use super::{
    deflate::Forms,
    frame::server_frame,
    message::{Message, Text},
};

/// A message for many sockets, encoded once for all of them: its frame, and its
/// compressed frame, which is made when the first socket needs one. A clone shares
/// both.
///
/// A [hub](crate::hub) does this by itself for what is published; this is for those
/// who hold their sockets' [`Sender`](crate::ws::Sender)s themselves.
///
/// ```
/// use towpath::ws::{Broadcast, Sender};
///
/// async fn tell(everyone: &mut [Sender], text: &str) {
///     let news = Broadcast::new(text);
///     for sender in everyone {
///         // Whoever is gone does not hear it.
///         let _ = sender.send(&news).await;
///     }
/// }
/// ```
///
/// A socket that takes its compression context over sends it without one, and
/// begins a new context behind it, so that many broadcasts between messages of
/// its own cost it what that would win.
#[derive(Clone)]
pub struct Broadcast(Arc<Encoded>);

struct Encoded {
    /// A whole frame as a server sends it; the payload is its tail.
    frame: Bytes,
    payload_at: usize,
    is_text: bool,
    may_compress: bool,
    #[cfg_attr(
        not(feature = "deflate"),
        expect(dead_code, reason = "nothing is compressed without")
    )]
    forms: Forms,
}

impl Broadcast {
    /// Copies the payload, once, into the frame that all are sent: it does not pin
    /// the buffer in which it came.
    #[must_use]
    pub fn new(message: impl Into<Message>) -> Self {
        Self::encode(&message.into(), true)
    }

    /// As [`new`](Self::new), for what is sent uncompressed to all: see
    /// [`WebSocket::uncompressed`](crate::ws::WebSocket::uncompressed).
    #[must_use]
    pub fn uncompressed(message: impl Into<Message>) -> Self {
        Self::encode(&message.into(), false)
    }

    pub(crate) fn encode(message: &Message, may_compress: bool) -> Self {
        let frame = server_frame(message);
        Self(Arc::new(Encoded {
            payload_at: frame.len() - message.len(),
            frame,
            is_text: matches!(message, Message::Text(_)),
            may_compress,
            forms: Forms::default(),
        }))
    }

    /// The message, which shares the frame's bytes.
    #[must_use]
    pub fn message(&self) -> Message {
        let payload = self.0.frame.slice(self.0.payload_at..);
        if self.0.is_text {
            Message::Text(Text::from_checked(payload))
        } else {
            Message::Binary(payload)
        }
    }

    /// The payload's length in bytes.
    pub(crate) fn payload_len(&self) -> usize {
        self.0.frame.len() - self.0.payload_at
    }

    pub(crate) fn may_compress(&self) -> bool {
        self.0.may_compress
    }

    pub(crate) fn frame(&self) -> &Bytes {
        &self.0.frame
    }

    /// Its compressed frames, which a [`Deflater`](super::deflate::Deflater) makes.
    #[cfg(feature = "deflate")]
    pub(super) fn forms(&self) -> &Forms {
        &self.0.forms
    }
}

impl fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Broadcast").field(&self.message()).finish()
    }
}
