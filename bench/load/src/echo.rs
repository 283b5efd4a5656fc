//! Each message comes back: as fast as it does, or at a rate that is kept whatever the server does.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    Failure, Kind, Target, Time,
    connection::{LIMIT, Pool, Wrap},
    histogram::Histogram,
    meter::{Meter, Report, nanos},
    ring::Ring,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Messages that each connection has under way.
    #[arg(long, default_value_t = 16)]
    in_flight: u64,
    /// Bytes of a message.
    #[arg(long, default_value_t = 16)]
    size: usize,
    #[arg(long, value_enum, default_value_t = Kind::Binary)]
    kind: Kind,
    /// No handshake: the bytes themselves come back.
    #[arg(long)]
    raw: bool,
    /// Over HTTP/2, each connection a stream.
    #[arg(long, conflicts_with = "raw")]
    h2: bool,
    /// Messages a second over all connections, sent when they are due; the latency counts from then.
    #[arg(long)]
    rate: Option<u32>,
    /// Looks at each message's latency.
    #[arg(long)]
    latency: bool,
    #[command(flatten)]
    time: Time,
}

pub(crate) fn run(target: &Target, options: &Options) -> Result<Report, Failure> {
    let in_flight = usize::try_from(options.in_flight)?;
    let ring = Ring::new(options.kind, options.size, in_flight, target.compress)?;
    let mut pool = Pool::new(ring)?;
    let wrap = match (options.raw, options.h2) {
        (true, _) => Wrap::Raw,
        (_, true) => Wrap::Http2,
        _ => Wrap::Http1,
    };
    pool.connect(target, wrap, options.connections)?;
    let mut latencies = Latencies::new(options);
    let mut pace = options.rate.map(Pace::new);
    if pace.is_none() {
        for index in 0..pool.connections.len() {
            pool.connections[index].allow(options.in_flight);
            (0..options.in_flight).for_each(|_| latencies.begin(index, Instant::now()));
            pool.flush(index)?;
        }
    }
    let mut meter = Meter::start(target.pid, options.time);
    loop {
        let now = Instant::now();
        if meter.tick(now, pool.received)? {
            break;
        }
        let mut patience = meter.patience(now);
        if let Some(pace) = &mut pace {
            while let Some((due, index)) = pace.next(now, options.connections) {
                latencies.begin(index, due);
                pool.connections[index].allow(1);
                pool.flush(index)?;
            }
            // A core of its own: sleeping would cost more than what is measured.
            patience = Duration::ZERO;
        }
        let measuring = meter.is_measuring();
        let paced = pace.is_some();
        pool.turn(patience, |index, connection, messages| {
            latencies.end(index, messages, measuring);
            if !paced {
                connection.allow(messages);
                latencies.again(index, messages);
            }
            Ok(())
        })?;
    }
    drain(&mut pool)?;
    let mut report = meter.report(pool.received)?;
    report.p50_ns = latencies.histogram.per_mille(500);
    report.p99_ns = latencies.histogram.per_mille(990);
    Ok(report)
}

/// What was sent must come back.
fn drain(pool: &mut Pool) -> Result<(), Failure> {
    let begin = Instant::now();
    for connection in &mut pool.connections {
        connection.stop();
    }
    while pool.connections.iter().any(|one| one.outstanding() > 0) {
        if begin.elapsed() > LIMIT {
            return Err("messages were lost".into());
        }
        pool.turn(Duration::from_millis(100), |_, _, _| Ok(()))?;
    }
    Ok(())
}

/// When the messages under way were sent, or were due.
#[derive(Debug)]
struct Latencies {
    begun: Vec<VecDeque<Instant>>,
    histogram: Histogram,
}

impl Latencies {
    fn new(options: &Options) -> Self {
        let wanted = options.latency || options.rate.is_some();
        Self {
            begun: vec![VecDeque::new(); if wanted { options.connections } else { 0 }],
            histogram: Histogram::default(),
        }
    }

    fn begin(&mut self, index: usize, at: Instant) {
        if let Some(begun) = self.begun.get_mut(index) {
            begun.push_back(at);
        }
    }

    fn again(&mut self, index: usize, messages: u64) {
        if !self.begun.is_empty() {
            let now = Instant::now();
            (0..messages).for_each(|_| self.begin(index, now));
        }
    }

    fn end(&mut self, index: usize, messages: u64, measuring: bool) {
        let Some(begun) = self.begun.get_mut(index) else {
            return;
        };
        let now = Instant::now();
        for _ in 0..messages {
            if let Some(at) = begun.pop_front()
                && measuring
            {
                self.histogram.add(nanos(now.saturating_duration_since(at)));
            }
        }
    }
}

/// When messages are due.
#[derive(Debug)]
struct Pace {
    begin: Instant,
    rate: u64,
    sent: u64,
}

impl Pace {
    fn new(rate: u32) -> Self {
        Self {
            begin: Instant::now(),
            rate: rate.max(1).into(),
            sent: 0,
        }
    }

    /// The next message that is due, and whose turn it is.
    fn next(&mut self, now: Instant, connections: usize) -> Option<(Instant, usize)> {
        let due = self.begin + Duration::from_nanos(self.sent * 1_000_000_000 / self.rate);
        if due > now {
            return None;
        }
        let index = usize::try_from(self.sent).ok()? % connections;
        self.sent += 1;
        Some((due, index))
    }
}
