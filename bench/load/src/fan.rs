//! One connection says it, all hear it.

use std::{
    collections::VecDeque,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Failure, Kind, Target, Time,
    connection::{LIMIT, Pool, Wrap},
    meter::{Meter, Report},
    ring::Ring,
};

/// Who subscribes in a task of its own is given time for it.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    /// Those who hear it; the first of them says it.
    #[arg(long, default_value_t = 1000)]
    pub(crate) subscribers: usize,
    /// Messages that not all have heard.
    #[arg(long, default_value_t = 8)]
    pub(crate) in_flight: u64,
    /// Bytes of a message.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    #[arg(long, value_enum, default_value_t = Kind::Text)]
    pub(crate) kind: Kind,
    #[command(flatten)]
    pub(crate) time: Time,
}

pub(crate) fn run(target: &Target, options: &Options) -> Result<Report, Failure> {
    let in_flight = usize::try_from(options.in_flight)?;
    let ring = Ring::new(options.kind, options.size, in_flight, target.compress)?;
    let mut pool = Pool::new(ring)?;
    pool.connect(target, Wrap::Http1, options.subscribers)?;
    thread::sleep(SETTLE);
    let mut under_way = UnderWay::new(options.subscribers);
    let mut meter = Meter::start(target.pid, options.time);
    let mut room = options.in_flight;
    loop {
        let now = Instant::now();
        let over = meter.tick(now, pool.received)?;
        if over && under_way.is_empty() {
            break;
        }
        if !over && room > 0 {
            under_way.say(room);
            pool.connections[0].allow(room);
            pool.flush(0)?;
        }
        room = 0;
        if over && under_way.stands_still() > LIMIT {
            return Err(format!("{} messages were not heard by all", under_way.len()).into());
        }
        pool.turn(meter.patience(now), |_, connection, messages| {
            let last = connection.incoming.number();
            room += under_way.hear(last - messages, messages)?;
            Ok(())
        })?;
    }
    meter.report(pool.received)
}

/// The messages that not all have heard.
#[derive(Debug)]
pub(crate) struct UnderWay {
    subscribers: usize,
    /// The number of the first of them.
    first: u64,
    /// How many have yet to hear each.
    missing: VecDeque<usize>,
    changed: Instant,
}

impl UnderWay {
    pub(crate) fn new(subscribers: usize) -> Self {
        Self {
            subscribers,
            first: 0,
            missing: VecDeque::new(),
            changed: Instant::now(),
        }
    }

    pub(crate) fn say(&mut self, messages: u64) {
        (0..messages).for_each(|_| self.missing.push_back(self.subscribers));
    }

    /// One subscriber has heard so many from `number` on; returns how many are now heard by all.
    pub(crate) fn hear(&mut self, number: u64, messages: u64) -> Result<u64, Failure> {
        for number in number..number + messages {
            let position = number
                .checked_sub(self.first)
                .and_then(|n| usize::try_from(n).ok());
            let missing = position.and_then(|position| self.missing.get_mut(position));
            let missing = missing.ok_or("a message was heard that was not said")?;
            *missing = missing.checked_sub(1).ok_or("heard twice")?;
        }
        let before = self.first;
        while self.missing.front() == Some(&0) {
            self.missing.pop_front();
            self.first += 1;
            self.changed = Instant::now();
        }
        Ok(self.first - before)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.missing.len()
    }

    /// For how long nothing was heard by all.
    pub(crate) fn stands_still(&self) -> Duration {
        self.changed.elapsed()
    }
}
