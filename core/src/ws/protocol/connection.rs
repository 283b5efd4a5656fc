use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hasher},
    ops::ControlFlow,
};

use bytes::{Bytes, BytesMut};

use super::{
    broadcast::Broadcast,
    close::{CloseCode, CloseFrame},
    deflate::{Deflater, Inflater},
    error::ProtocolError,
    extensions::Extensions,
    frame::Opcode,
    input::Input,
    message::Message,
    outbox::Outbox,
    outgoing::{Form, Outgoing},
    receive::{Limits, Received, Receiver, Role},
    spare::Spares,
};

/// Past so many unsent bytes only the latest ping is answered (RFC 6455 §5.5.3
/// allows it), so that pings of a peer that reads nothing cost nothing.
const PONG_ROOM: usize = 16 * 1024;

/// What a peer said that its other end has to know.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A data message.
    Message(Message),
    /// The peer closes; with what it said, if anything. Nothing comes behind it.
    Close(Option<CloseFrame>),
}

/// One end of a WebSocket, without socket and clock: bytes go in and events come
/// out, messages go in and bytes come out (RFC 6455 §5–§7).
///
/// ```
/// use towpath::ws::{Message, protocol::{Connection, Event, Limits, Outbox, Role}};
/// use bytes::Buf;
///
/// let limits = Limits { max_frame_size: 1024, max_message_size: 1024, max_fragments: 16 };
/// let mut client = Connection::new(Role::Client, limits);
/// let mut server = Connection::new(Role::Server, limits);
///
/// let mut wire = Outbox::default();
/// client.send(Message::text("hello"), &mut wire);
/// let bytes = wire.copy_to_bytes(wire.remaining());
/// let event = server.receive(&mut &bytes[..], &mut Outbox::default());
/// assert_eq!(event, Ok(Some(Event::Message(Message::text("hello")))));
/// ```
#[derive(Debug)]
pub struct Connection {
    receiver: Receiver,
    masks: Option<Box<Masks>>,
    deflater: Option<Box<Deflater>>,
    close_sent: bool,
    close_received: bool,
    pong_received: bool,
    /// The latest ping that has not been answered.
    owed: Option<Box<Bytes>>,
}

impl Connection {
    /// An open connection, the handshake behind it.
    #[must_use]
    pub fn new(role: Role, limits: Limits) -> Self {
        Self::with_extensions(role, limits, Extensions::default())
    }

    /// An open connection whose handshake agreed on `extensions`.
    #[must_use]
    pub fn with_extensions(role: Role, limits: Limits, extensions: Extensions) -> Self {
        let deflate = extensions.deflate.as_ref();
        let inflater = deflate.map(|terms| Box::new(Inflater::new(terms, role)));
        Self {
            receiver: Receiver::new(role, limits, inflater),
            masks: (role == Role::Client).then(Box::default),
            deflater: deflate.map(|terms| Box::new(Deflater::new(terms, role))),
            close_sent: false,
            close_received: false,
            pong_received: false,
            owed: None,
        }
    }

    /// Reads on in `input`, off whose front it takes what it has used, until
    /// there is an event; `None` once all is used. Pings are answered into `out`.
    ///
    /// # Errors
    /// Where the peer broke the protocol or passed a limit: close with the
    /// error's code, and receive no more.
    pub fn receive(
        &mut self,
        input: &mut &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        if !self.close_received
            && let Some(message) = self.receiver.whole(input)?
        {
            return Ok(Some(Event::Message(message)));
        }
        self.receive_any(input, out)
    }

    /// As [`receive`](Self::receive), and gives every message to `take` until that
    /// has enough, or there is something else.
    pub(crate) fn receive_each(
        &mut self,
        input: &mut impl Input,
        out: &mut Outbox,
        mut take: impl FnMut(Message) -> ControlFlow<()>,
    ) -> Result<Option<Event>, ProtocolError> {
        loop {
            while !self.close_received
                && let Some(message) = input.whole(&self.receiver)?
            {
                if take(message).is_break() {
                    return Ok(None);
                }
            }
            let mut rest = input.chunk();
            let event = self.receive_any(&mut rest, out)?;
            let used = input.remaining() - rest.len();
            input.advance(used);
            match event {
                Some(Event::Message(message)) => {
                    if take(message).is_break() {
                        return Ok(None);
                    }
                }
                other => return Ok(other),
            }
        }
    }

    fn receive_any(
        &mut self,
        input: &mut &[u8],
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        loop {
            // RFC 6455 §1.4: what comes behind a close is discarded.
            if self.close_received {
                *input = &[];
                return Ok(None);
            }
            let Some(received) = self.receiver.next(input)? else {
                return Ok(None);
            };
            if let Some(event) = self.received(received, out) {
                return Ok(Some(event));
            }
        }
    }

    /// The buffer of a large payload of which at least `threshold` bytes are
    /// still to come, and how many bytes may be read into it: a shorter way than
    /// [`receive`](Self::receive).
    pub fn direct(&mut self, threshold: usize) -> Option<(&mut BytesMut, usize)> {
        if self.close_received {
            return None;
        }
        self.receiver.direct(threshold)
    }

    /// Has a large message that has begun go on in one of `spares`, where one fits.
    pub(crate) fn reuse(&mut self, spares: &mut Spares) {
        self.receiver.reuse(spares);
    }

    /// Takes `count` bytes that were appended to the buffer of [`direct`](Self::direct).
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn direct_filled(
        &mut self,
        count: usize,
        out: &mut Outbox,
    ) -> Result<Option<Event>, ProtocolError> {
        let received = self.receiver.direct_filled(count)?;
        Ok(received.and_then(|received| self.received(received, out)))
    }

    fn received(&mut self, received: Received, out: &mut Outbox) -> Option<Event> {
        match received {
            Received::Message(message) => Some(Event::Message(message)),
            Received::Ping(payload) => {
                self.owed = Some(Box::new(payload));
                if out.len() < PONG_ROOM {
                    self.answer_ping(out);
                }
                None
            }
            Received::Pong => {
                self.pong_received = true;
                None
            }
            Received::Close(frame) => {
                self.close_received = true;
                Some(Event::Close(frame))
            }
        }
    }

    /// Answers the latest ping that has not been answered, if any.
    pub fn answer_ping(&mut self, out: &mut Outbox) {
        if let Some(payload) = self.owed.take()
            && !self.close_sent
        {
            let mask = self.mask();
            out.push_control(Opcode::Pong, &payload, mask);
        }
    }

    /// Sends a message; after [`close`](Self::close) it is dropped.
    pub fn send(&mut self, outgoing: impl Into<Outgoing>, out: &mut Outbox) {
        if self.close_sent {
            return;
        }
        match outgoing.into().0 {
            Form::Message(message) => self.send_message(message, out),
            Form::Uncompressed(message) => {
                let mask = self.mask();
                out.push_message(*message, mask);
            }
            Form::Broadcast(broadcast) => self.send_broadcast(&broadcast, out),
        }
    }

    /// As [`send`](Self::send), without a clone.
    pub(crate) fn broadcast(&mut self, broadcast: &Broadcast, out: &mut Outbox) {
        if !self.close_sent {
            self.send_broadcast(broadcast, out);
        }
    }

    #[inline]
    fn send_message(&mut self, message: Message, out: &mut Outbox) {
        let mask = self.mask();
        if let Some(deflater) = &mut self.deflater
            && let Some(payload) = deflater.compress(&message)
        {
            out.push_compressed(Opcode::of(&message), payload, mask);
        } else {
            out.push_message(message, mask);
        }
    }

    /// Whether a message goes out in one frame, as it is.
    pub(crate) const fn sends_plain(&self) -> bool {
        self.masks.is_none() && self.deflater.is_none() && !self.close_sent
    }

    /// Only a server's frames are the same for every peer (RFC 6455 §5.3).
    fn send_broadcast(&mut self, broadcast: &Broadcast, out: &mut Outbox) {
        let message = || broadcast.message();
        match (&mut self.deflater, &self.masks) {
            (Some(deflater), None) => {
                let compressed = deflater.broadcast(broadcast);
                out.push_encoded(compressed.as_ref().unwrap_or_else(|| broadcast.frame()));
            }
            (None, None) => out.push_encoded(broadcast.frame()),
            (Some(_), Some(_)) if broadcast.may_compress() => self.send_message(message(), out),
            (_, Some(_)) => {
                let mask = self.mask();
                out.push_message(message(), mask);
            }
        }
    }

    /// Whether memory is held for the sake of the next message's compression: a
    /// context that is taken over (RFC 7692 §7.1.1).
    #[must_use]
    pub fn keeps_context(&self) -> bool {
        let deflater = self.deflater.as_ref();
        deflater.is_some_and(|deflater| deflater.keeps_context())
    }

    /// Gives that memory back: the next message begins with an empty window, which
    /// a sender may always do. For a connection that has little to say.
    pub fn rest(&mut self) {
        if let Some(deflater) = &mut self.deflater {
            deflater.rest();
        }
    }

    /// Sends a ping without payload.
    pub fn ping(&mut self, out: &mut Outbox) {
        if !self.close_sent {
            let mask = self.mask();
            out.push_control(Opcode::Ping, &[], mask);
        }
    }

    /// Whether a pong has come since this was last asked.
    pub(crate) const fn take_pong(&mut self) -> bool {
        std::mem::replace(&mut self.pong_received, false)
    }

    /// Sends a close frame, the first time; `None` sends one without a code.
    pub fn close(&mut self, frame: Option<&CloseFrame>, out: &mut Outbox) {
        if self.close_sent {
            return;
        }
        self.close_sent = true;
        let mask = self.mask();
        let mut payload = Vec::new();
        if let Some(CloseFrame { code, reason }) = frame {
            payload.extend_from_slice(&code.get().to_be_bytes());
            payload.extend_from_slice(reason.as_bytes());
        }
        out.push_control(Opcode::Close, &payload, mask);
    }

    /// Answers the peer's close with its own code (RFC 6455 §5.5.1).
    pub fn answer_close(&mut self, received: Option<CloseCode>, out: &mut Outbox) {
        let frame = received.map(|code| CloseFrame::new(code, ""));
        self.close(frame.as_ref(), out);
    }

    /// Whether this is the client's end.
    pub(crate) const fn is_client(&self) -> bool {
        self.masks.is_some()
    }

    /// Whether our close frame is on its way.
    #[must_use]
    pub const fn close_sent(&self) -> bool {
        self.close_sent
    }

    /// Whether the peer's close frame came.
    #[must_use]
    pub const fn close_received(&self) -> bool {
        self.close_received
    }

    /// How many bytes came of the message that is in the making.
    pub(crate) fn assembled(&self) -> u64 {
        self.receiver.assembled()
    }

    /// Gives back the memory of a message that will not be finished.
    pub(crate) fn forget(&mut self) {
        self.receiver.forget();
        self.deflater = None;
        self.owed = None;
    }

    fn mask(&mut self) -> Option<[u8; 4]> {
        self.masks.as_mut().map(|masks| masks.next())
    }
}

/// Keys that the peer cannot foretell (RFC 6455 §5.3): a keyed hash of a counter,
/// under a key that the system's random source gave.
#[derive(Default)]
struct Masks {
    keyed: RandomState,
    counter: u64,
}

impl Masks {
    fn next(&mut self) -> [u8; 4] {
        self.counter += 1;
        let mut hasher = self.keyed.build_hasher();
        hasher.write_u64(self.counter);
        let [a, b, c, d, ..] = hasher.finish().to_ne_bytes();
        [a, b, c, d]
    }
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masks").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
