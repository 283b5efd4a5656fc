//! Connections that do nothing, perhaps after some messages: what does one cost in memory?

use std::time::{Duration, Instant};

use crate::{
    Failure, Kind, Target,
    connection::{LIMIT, Pool, Wrap},
    meter::{Report, nanos, rss},
    ring::Ring,
};

/// Connections that are opened before it is counted: what the first few make the server allocate is not theirs.
const WARM: usize = 200;
/// So many at once speak, so that what is seen is not the sum of what all need while they speak.
const AT_ONCE: usize = 4;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 5000)]
    connections: usize,
    /// How long they are left alone before it is looked at them.
    #[arg(long, default_value = "1", value_parser = crate::seconds)]
    hold: Duration,
    /// Messages that each connection sends, and gets back, before it is idle.
    #[arg(long, default_value_t = 0)]
    messages: u64,
    /// Bytes of each.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    #[arg(long, value_enum, default_value_t = Kind::Json)]
    kind: Kind,
    /// No handshake.
    #[arg(long)]
    raw: bool,
}

pub(crate) fn run(target: &Target, options: &Options) -> Result<Report, Failure> {
    let begin = Instant::now();
    let ring = Ring::new(options.kind, options.size, 1, target.compress)?;
    let mut pool = Pool::new(ring)?;
    open(&mut pool, target, options, WARM)?;
    hold(&mut pool, options.hold)?;
    let before = rss(target.pid)?;
    open(&mut pool, target, options, options.connections)?;
    hold(&mut pool, options.hold)?;
    let after = rss(target.pid)?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each = after.saturating_sub(before) as f64 / options.connections as f64;
    Ok(Report {
        messages: options.connections as u64,
        total: options.connections as u64,
        wall_ns: nanos(begin.elapsed()),
        rss: after,
        bytes_per_connection: Some(each),
        ..Report::default()
    })
}

fn open(pool: &mut Pool, target: &Target, options: &Options, count: usize) -> Result<(), Failure> {
    let wrap = if options.raw { Wrap::Raw } else { Wrap::Http1 };
    let end = pool.connections.len() + count;
    while pool.connections.len() < end {
        let first = pool.connections.len();
        let some = AT_ONCE.min(end - first);
        pool.connect(target, wrap, some)?;
        if options.messages > 0 {
            speak(pool, first, options.messages)?;
        } else {
            // Pings are answered meanwhile.
            pool.turn(Duration::ZERO, |_, _, _| Ok(()))?;
        }
    }
    Ok(())
}

/// The connections from `first` on send so many messages, one at a time.
fn speak(pool: &mut Pool, first: usize, messages: u64) -> Result<(), Failure> {
    let begin = Instant::now();
    for index in first..pool.connections.len() {
        pool.connections[index].allow(1);
        pool.flush(index)?;
    }
    let speaking = pool.connections.len() - first;
    let mut silent = 0;
    while silent < speaking {
        if begin.elapsed() > LIMIT {
            return Err("messages were lost".into());
        }
        pool.turn(Duration::from_millis(100), |_, connection, _| {
            if connection.incoming.number() < messages {
                connection.allow(1);
            } else {
                silent += 1;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Leaves them alone, but for the answers to their pings.
fn hold(pool: &mut Pool, time: Duration) -> Result<(), Failure> {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        pool.turn(left.max(Duration::from_millis(1)), |_, _, _| {
            Err("an idle connection got a message".into())
        })?;
    }
    Ok(())
}
