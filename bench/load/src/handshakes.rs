//! Connect, upgrade, close; again and again, some at the same time.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Instant,
};

use crate::{
    Failure, Kind, Target, Time,
    connection::connect,
    frame,
    handshake::{Handshake, head_end},
    incoming::{Incoming, Verified},
    meter::{Meter, Report},
    poll::Poll,
    ring::Ring,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Connections at the same time.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    #[command(flatten)]
    time: Time,
}

/// A connection on its way.
#[derive(Debug)]
struct Slot {
    stream: TcpStream,
    /// What came of the answer's head; `None` once the socket is upgraded.
    head: Option<Vec<u8>>,
    incoming: Incoming,
}

pub(crate) fn run(target: &Target, options: &Options) -> Result<Report, Failure> {
    let handshake = Handshake::new(target);
    let mut close = Vec::new();
    frame::put(&mut close, frame::CLOSE, false, &[0x03, 0xe8], [9, 8, 7, 6]);
    // Nobody says anything, but there must be something to compare with.
    let ring = Ring::new(Kind::Binary, 1, 1, None)?;
    let mut poll = Poll::new()?;
    let mut slots = Vec::new();
    let mut begun = 0;
    for index in 0..options.connections {
        slots.push(begin(target, &handshake, &poll, index, &mut begun)?);
    }
    let mut ready = Vec::new();
    let mut meter = Meter::start(target.pid, options.time);
    let mut done = 0;
    loop {
        let now = Instant::now();
        if meter.tick(now, done)? {
            return meter.report(begun as u64);
        }
        poll.wait(meter.patience(now), &mut ready)?;
        for event in &ready {
            let slot = &mut slots[event.index];
            if slot.read(&handshake, &close, &ring)? {
                done += 1;
                // The old socket is closed by this, and is out of the poll with that.
                *slot = begin(target, &handshake, &poll, event.index, &mut begun)?;
            }
        }
    }
}

fn begin(
    target: &Target,
    handshake: &Handshake,
    poll: &Poll,
    index: usize,
    begun: &mut usize,
) -> Result<Slot, Failure> {
    let mut stream = connect(target.addr, *begun)?;
    *begun += 1;
    stream.write_all(&handshake.request)?;
    stream.set_nonblocking(true)?;
    poll.add(&stream, index)?;
    Ok(Slot {
        stream,
        head: Some(Vec::new()),
        incoming: Incoming::frames(None),
    })
}

impl Slot {
    /// True once the server has closed the socket.
    fn read(&mut self, handshake: &Handshake, close: &[u8], ring: &Ring) -> Result<bool, Failure> {
        let mut buffer = [0; 2048];
        let bytes = match self.stream.read(&mut buffer) {
            // Some end the connection in place of an answer to the close frame.
            Ok(0) if self.head.is_none() => return Ok(true),
            Ok(0) => return Err("the server has ended a connection".into()),
            Ok(read) => &buffer[..read],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(format!("reading: {error}").into()),
        };
        let Some(head) = &mut self.head else {
            let mut replies = Vec::new();
            self.incoming
                .feed(bytes, ring, &mut Verified::default(), &mut replies)?;
            return Ok(self.incoming.is_closed());
        };
        head.extend_from_slice(bytes);
        if let Some(end) = head_end(head) {
            handshake.check(&head[..end])?;
            if end != head.len() {
                return Err("the server speaks first".into());
            }
            self.head = None;
            self.stream.write_all(close)?;
        }
        Ok(false)
    }
}
