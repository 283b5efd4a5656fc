//! Events that all hear, over HTTP/1.1; a connection of its own publishes them.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Instant,
};

use crate::{
    Failure, Target,
    connection::{LIMIT, connect},
    events::EventStream,
    fan::{self, SETTLE, UnderWay},
    handshake::head_end,
    meter::{Meter, Report},
    poll::Poll,
    ring::Ring,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    fan: fan::Options,
    /// Where events are posted.
    #[arg(long, default_value = "/publish")]
    publish: String,
}

pub(crate) fn run(target: &Target, options: &Options) -> Result<Report, Failure> {
    let fan = options.fan;
    let ring = Ring::new(fan.kind, fan.size, usize::try_from(fan.in_flight)?, None)?;
    let mut poll = Poll::new()?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n\r\n",
        target.path, target.addr
    );
    let mut streams = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    for index in 0..fan.subscribers {
        let mut socket = connect(target.addr, index)?;
        socket.write_all(request.as_bytes())?;
        let mut events = EventStream::default();
        while !events.is_open() {
            let read = socket.read(&mut buffer)?;
            if read == 0 {
                return Err("the server has ended a stream".into());
            }
            events.feed(&buffer[..read], &ring)?;
        }
        socket.set_nonblocking(true)?;
        poll.add(&socket, index)?;
        streams.push((socket, events));
    }
    let mut publisher = Publisher::new(target, &options.publish)?;
    poll.add(&publisher.stream, fan.subscribers)?;
    thread::sleep(SETTLE);
    let mut under_way = UnderWay::new(fan.subscribers);
    let mut ready = Vec::new();
    let mut meter = Meter::start(target.pid, fan.time);
    let mut room = fan.in_flight;
    let mut heard = 0;
    loop {
        let now = Instant::now();
        let over = meter.tick(now, heard)?;
        if over && under_way.is_empty() {
            return meter.report(heard);
        }
        if !over && room > 0 {
            under_way.say(room);
            publisher.publish(room, &ring)?;
        }
        room = 0;
        if over && under_way.stands_still() > LIMIT {
            return Err(format!("{} events were not heard by all", under_way.len()).into());
        }
        poll.wait(meter.patience(now), &mut ready)?;
        for event in &ready {
            let Some((socket, events)) = streams.get_mut(event.index) else {
                publisher.read()?;
                continue;
            };
            let read = match socket.read(&mut buffer) {
                Ok(0) => return Err("the server has ended a stream".into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(format!("reading: {error}").into()),
            };
            let before = events.number();
            events.feed(&buffer[..read], &ring)?;
            let new = events.number() - before;
            heard += new;
            room += under_way.hear(before, new)?;
        }
    }
}

/// Posts events, without waiting for the answers.
#[derive(Debug)]
struct Publisher {
    stream: TcpStream,
    head: String,
    next: u64,
    out: Vec<u8>,
    answer: Vec<u8>,
}

impl Publisher {
    fn new(target: &Target, path: &str) -> Result<Self, Failure> {
        let stream = connect(target.addr, 0)?;
        Ok(Self {
            stream,
            head: format!(
                "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ",
                target.addr
            ),
            next: 0,
            out: Vec::new(),
            answer: Vec::new(),
        })
    }

    fn publish(&mut self, events: u64, ring: &Ring) -> Result<(), Failure> {
        self.out.clear();
        for _ in 0..events {
            let body = ring.payload(self.next);
            self.next += 1;
            self.out.extend_from_slice(self.head.as_bytes());
            self.out
                .extend_from_slice(format!("{}\r\n\r\n", body.len()).as_bytes());
            self.out.extend_from_slice(body);
        }
        // A few hundred bytes, on a socket that blocks: there is room for them.
        self.stream.write_all(&self.out)?;
        Ok(())
    }

    fn read(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 8192];
        let read = self.stream.read(&mut buffer)?;
        if read == 0 {
            return Err("the server has ended the publisher's connection".into());
        }
        self.answer.extend_from_slice(&buffer[..read]);
        while let Some(end) = head_end(&self.answer) {
            let head = str::from_utf8(&self.answer[..end])?.to_ascii_lowercase();
            if !head.starts_with("http/1.1 2") {
                let first = head.lines().next().unwrap_or_default();
                return Err(format!("not published: {first}").into());
            }
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(Ok(0), |length| length.trim().parse())?;
            if self.answer.len() < end + length {
                return Ok(());
            }
            self.answer.drain(..end + length);
        }
        Ok(())
    }
}
