//! A connection, and the loop over all of them.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::ClientConfig;
use socket2::{Domain, Socket, Type};

use crate::{
    Failure, Target,
    h2::Tunnel,
    handshake::{Handshake, head_end},
    incoming::{Incoming, Verified},
    poll::{Poll, Ready},
    ring::Ring,
    tls::{self, Tls},
};

/// What one read takes at most.
const READ: usize = 256 * 1024;
/// The largest head of an answer.
const HEAD: usize = 16 * 1024;
/// How long anything may take before the run is given up.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// So many connections have one source address: a client has some 28,000 ports for each.
const OF_ONE_ADDRESS: usize = 10_000;

/// A client's end.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    pub(crate) incoming: Incoming,
    /// Messages that may be sent and are not.
    to_send: u64,
    /// Messages whose last byte is sent.
    sent: u64,
    /// Bytes of the next one that are sent already.
    offset: usize,
    replies: Vec<u8>,
    awaits_room: bool,
    around: Option<Box<Around>>,
}

/// What the bytes are wrapped in.
#[derive(Debug)]
enum Around {
    Http2(Tunnel),
    Tls(Tls),
}

impl Around {
    /// What is to be written.
    fn out(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Http2(tunnel) => &mut tunnel.out,
            Self::Tls(tls) => &mut tls.out,
        }
    }

    /// Wraps as much as the peer has room for; returns how much.
    fn send(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        match self {
            Self::Http2(tunnel) => Ok(tunnel.send(bytes)),
            Self::Tls(tls) => tls.send(bytes).map(|()| bytes.len()),
        }
    }

    fn receive(
        &mut self,
        bytes: &mut [u8],
        payload: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Http2(tunnel) => tunnel.receive(bytes, payload),
            Self::Tls(tls) => tls.receive(bytes, payload),
        }
    }
}

/// What stands around the messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wrap {
    /// Nothing, not even frames.
    Raw,
    /// WebSocket over HTTP/1.1.
    Http1,
    /// WebSocket over HTTP/2.
    Http2,
}

/// Connects; `number` counts the connections of the run.
pub(crate) fn connect(address: SocketAddr, number: usize) -> Result<TcpStream, Failure> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    let [.., high, low] = (number / OF_ONE_ADDRESS).to_be_bytes();
    if address.ip() == Ipv4Addr::LOCALHOST && (high, low) != (0, 0) {
        let from = SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0));
        socket.bind(&from.into())?;
    }
    socket
        .connect(&address.into())
        .map_err(|error| format!("connection {number}: {error}"))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(LIMIT))?;
    Ok(socket.into())
}

impl Connection {
    /// A connection without a protocol.
    pub(crate) fn raw(
        target: &Target,
        tls: Option<&Arc<ClientConfig>>,
        number: usize,
    ) -> Result<Self, Failure> {
        let (stream, around) = begin(target, tls, number)?;
        stream.set_nonblocking(true)?;
        Ok(Self::new(stream, Incoming::raw(), around))
    }

    /// Connects and upgrades.
    pub(crate) fn upgraded(
        target: &Target,
        handshake: &Handshake,
        tls: Option<&Arc<ClientConfig>>,
        number: usize,
    ) -> Result<Self, Failure> {
        let (mut stream, mut around) = begin(target, tls, number)?;
        match &mut around {
            None => stream.write_all(&handshake.request)?,
            Some(around) => {
                around.send(&handshake.request)?;
                stream.write_all(&std::mem::take(around.out()))?;
            }
        }
        let mut head = Vec::new();
        let end = loop {
            let mut part = [0; 2048];
            let read = read_some(&mut stream, &mut part, number)?;
            let mut take = |bytes: &[u8]| {
                head.extend_from_slice(bytes);
                Ok(())
            };
            match &mut around {
                None => take(&part[..read])?,
                Some(around) => around.receive(&mut part[..read], take)?,
            }
            if let Some(end) = head_end(&head) {
                break end;
            }
            if head.len() > HEAD {
                return Err(format!("connection {number} was not upgraded").into());
            }
        };
        handshake.check(&head[..end])?;
        if end != head.len() {
            return Err("the server speaks first".into());
        }
        stream.set_nonblocking(true)?;
        Ok(Self::new(stream, Incoming::frames(target.compress), around))
    }

    /// Connects with HTTP/2, and opens a WebSocket as its only stream.
    pub(crate) fn tunnelled(target: &Target, number: usize) -> Result<Self, Failure> {
        let mut stream = connect(target.addr, number)?;
        let mut tunnel = Tunnel::new(target)?;
        while !tunnel.is_open() {
            stream.write_all(&std::mem::take(&mut tunnel.out))?;
            let mut part = [0; 2048];
            let read = read_some(&mut stream, &mut part, number)?;
            tunnel.receive(&part[..read], |_| Err("the server speaks first".into()))?;
        }
        stream.set_nonblocking(true)?;
        let around = Some(Box::new(Around::Http2(tunnel)));
        Ok(Self::new(stream, Incoming::frames(None), around))
    }

    fn new(stream: TcpStream, incoming: Incoming, around: Option<Box<Around>>) -> Self {
        Self {
            stream,
            incoming,
            to_send: 0,
            sent: 0,
            offset: 0,
            replies: Vec::new(),
            awaits_room: false,
            around,
        }
    }

    /// Lets so many more messages be sent.
    pub(crate) fn allow(&mut self, messages: u64) {
        self.to_send += messages;
    }

    /// Sends no more than what is begun.
    pub(crate) fn stop(&mut self) {
        self.to_send = u64::from(self.offset > 0);
    }

    /// Messages that are sent, or will be, and have not come back.
    pub(crate) fn outstanding(&self) -> u64 {
        self.sent + self.to_send - self.incoming.number()
    }

    /// Writes what may be written.
    fn flush(&mut self, ring: &Ring) -> Result<(), Failure> {
        self.awaits_room = false;
        loop {
            // Never within a message.
            let replies = self.offset == 0 && !self.replies.is_empty();
            if !replies && self.to_send == 0 {
                return self.write_wrapped();
            }
            let bytes = if replies {
                &self.replies[..]
            } else {
                &ring.frames(self.sent, self.to_send).0[self.offset..]
            };
            let written = match &mut self.around {
                None => match write(&mut self.stream, bytes)? {
                    Some(written) => written,
                    None => {
                        self.awaits_room = true;
                        return Ok(());
                    }
                },
                Some(around) => match around.send(bytes)? {
                    // Until the server gives room.
                    0 => return self.write_wrapped(),
                    sent => sent,
                },
            };
            if replies {
                self.replies.drain(..written);
                continue;
            }
            self.offset += written;
            while self.to_send > 0 {
                let size = ring.frames(self.sent, 1).0.len();
                if self.offset < size {
                    break;
                }
                self.offset -= size;
                self.sent += 1;
                self.to_send -= 1;
            }
        }
    }

    /// Writes what is wrapped already.
    fn write_wrapped(&mut self) -> Result<(), Failure> {
        let Some(around) = &mut self.around else {
            return Ok(());
        };
        let out = around.out();
        while !out.is_empty() {
            let Some(written) = write(&mut self.stream, out)? else {
                self.awaits_room = true;
                return Ok(());
            };
            out.drain(..written);
        }
        Ok(())
    }

    /// One read, and the checks of what it brought.
    fn read(
        &mut self,
        buffer: &mut [u8],
        ring: &Ring,
        verified: &mut Verified,
    ) -> Result<(), Failure> {
        let read = match self.stream.read(buffer) {
            Ok(0) => return Err("the server has ended a connection".into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(format!("reading: {error}").into()),
        };
        let (incoming, replies) = (&mut self.incoming, &mut self.replies);
        let mut feed = |bytes: &[u8]| incoming.feed(bytes, ring, verified, replies);
        match &mut self.around {
            None => feed(&buffer[..read])?,
            Some(around) => around.receive(&mut buffer[..read], feed)?,
        }
        if self.incoming.is_closed() {
            return Err("the server has closed a socket".into());
        }
        if self.incoming.number() > self.sent + u64::from(self.offset > 0) && !self.listens() {
            return Err("more came back than was sent".into());
        }
        Ok(())
    }

    /// Whether it only hears what others say.
    fn listens(&self) -> bool {
        self.sent == 0 && self.to_send == 0
    }
}

/// Connects, with TLS around it where it is asked for.
fn begin(
    target: &Target,
    tls: Option<&Arc<ClientConfig>>,
    number: usize,
) -> Result<(TcpStream, Option<Box<Around>>), Failure> {
    let mut stream = connect(target.addr, number)?;
    let Some(config) = tls else {
        return Ok((stream, None));
    };
    let mut tls = Tls::new(Arc::clone(config))?;
    loop {
        stream.write_all(&std::mem::take(&mut tls.out))?;
        if tls.is_open() {
            return Ok((stream, Some(Box::new(Around::Tls(tls)))));
        }
        let mut part = [0; 2048];
        let read = read_some(&mut stream, &mut part, number)?;
        tls.receive(&mut part[..read], |_| Err("the server speaks first".into()))?;
    }
}

fn read_some(stream: &mut TcpStream, part: &mut [u8], number: usize) -> Result<usize, Failure> {
    match stream.read(part) {
        Ok(0) => Err(format!("connection {number} was not upgraded").into()),
        Ok(read) => Ok(read),
        Err(error) => Err(format!("connection {number}, upgrading: {error}").into()),
    }
}

/// `None`: there is no room.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<Option<usize>, Failure> {
    match stream.write(bytes) {
        Ok(written) => Ok(Some(written)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(format!("writing: {error}").into()),
    }
}

/// Many connections and what they say.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) connections: Vec<Connection>,
    pub(crate) ring: Ring,
    poll: Poll,
    ready: Vec<Ready>,
    buffer: Vec<u8>,
    verified: Verified,
    /// Messages that came, over all connections.
    pub(crate) received: u64,
    tls: Option<Arc<ClientConfig>>,
}

impl Pool {
    pub(crate) fn new(ring: Ring) -> Result<Self, Failure> {
        Ok(Self {
            connections: Vec::new(),
            ring,
            poll: Poll::new()?,
            ready: Vec::new(),
            buffer: vec![0; READ],
            verified: Verified::default(),
            received: 0,
            tls: None,
        })
    }

    pub(crate) fn add(&mut self, connection: Connection) -> Result<(), Failure> {
        self.poll.add(&connection.stream, self.connections.len())?;
        self.connections.push(connection);
        Ok(())
    }

    /// Adds connections.
    pub(crate) fn connect(
        &mut self,
        target: &Target,
        wrap: Wrap,
        count: usize,
    ) -> Result<(), Failure> {
        let handshake = Handshake::new(target);
        if self.tls.is_none()
            && let Some(certificate) = &target.tls
        {
            self.tls = Some(tls::config(certificate)?);
        }
        for _ in 0..count {
            let number = self.connections.len();
            self.add(match wrap {
                Wrap::Raw => Connection::raw(target, self.tls.as_ref(), number)?,
                Wrap::Http1 => Connection::upgraded(target, &handshake, self.tls.as_ref(), number)?,
                Wrap::Http2 => Connection::tunnelled(target, number)?,
            })?;
        }
        Ok(())
    }

    /// Waits and does what can be done. `heard` gets a connection, its index and how many messages it has heard.
    pub(crate) fn turn(
        &mut self,
        patience: Duration,
        mut heard: impl FnMut(usize, &mut Connection, u64) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poll.wait(patience, &mut ready)?;
        for Ready {
            index,
            readable,
            writable,
        } in &ready
        {
            let connection = &mut self.connections[*index];
            if *readable {
                let before = connection.incoming.number();
                connection.read(&mut self.buffer, &self.ring, &mut self.verified)?;
                let messages = connection.incoming.number() - before;
                if messages > 0 {
                    self.received += messages;
                    heard(*index, connection, messages)?;
                }
            }
            if *writable || !connection.awaits_room {
                self.flush(*index)?;
            }
        }
        self.ready = ready;
        Ok(())
    }

    /// Writes what a connection may write.
    pub(crate) fn flush(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        let awaited = connection.awaits_room;
        connection.flush(&self.ring)?;
        if connection.awaits_room != awaited {
            self.poll
                .set_writing(&connection.stream, index, connection.awaits_room)?;
        }
        Ok(())
    }
}
