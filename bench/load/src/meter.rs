//! What the kernel says of the server, and what is reported.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{Failure, Time};

/// What was measured; times in nanoseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Messages, deliveries, handshakes or connections within the measured time.
    pub(crate) messages: u64,
    /// All of them, warm-up and end included.
    pub(crate) total: u64,
    pub(crate) wall_ns: u64,
    /// The server's, over all its threads.
    pub(crate) cpu_ns: u64,
    /// The generator's own: near `wall_ns` it is what limits the rate.
    pub(crate) load_cpu_ns: u64,
    /// The server's resident bytes at the end.
    pub(crate) rss: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_per_connection: Option<f64>,
}

/// CPU time of all threads of a process.
fn cpu_ns(pid: u32) -> Result<u64, Failure> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while we look.
        if let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) {
            let first = text.split_whitespace().next();
            sum += first
                .ok_or("an empty schedstat")?
                .parse::<u64>()
                .map_err(|error| format!("schedstat: {error}"))?;
        }
    }
    Ok(sum)
}

/// Resident bytes of a process.
pub(crate) fn rss(pid: u32) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("no VmRSS")?.parse::<u64>()? * 1024)
}

/// The phases of a load: warm-up, the measured time, the end.
#[derive(Debug)]
pub(crate) struct Meter {
    pid: u32,
    begin: Instant,
    /// How long is measured: from when it began, which may be late on a busy machine.
    time: Duration,
    started: Option<Started>,
    finished: Option<Report>,
}

#[derive(Debug)]
struct Started {
    at: Instant,
    count: u64,
    cpu: u64,
    own: u64,
}

impl Meter {
    pub(crate) fn start(pid: u32, time: Time) -> Self {
        let begin = Instant::now() + time.warm;
        Self {
            pid,
            begin,
            time: time.seconds,
            started: None,
            finished: None,
        }
    }

    /// Looks at the clock; true once the measured time is over.
    pub(crate) fn tick(&mut self, now: Instant, count: u64) -> Result<bool, Failure> {
        if self.finished.is_some() {
            return Ok(true);
        }
        match &self.started {
            None if now >= self.begin => {
                self.started = Some(Started {
                    at: now,
                    count,
                    cpu: cpu_ns(self.pid)?,
                    own: cpu_ns(std::process::id())?,
                });
            }
            Some(started) if now >= started.at + self.time => {
                self.finished = Some(Report {
                    messages: count - started.count,
                    wall_ns: nanos(now - started.at),
                    cpu_ns: cpu_ns(self.pid)? - started.cpu,
                    load_cpu_ns: cpu_ns(std::process::id())? - started.own,
                    rss: rss(self.pid)?,
                    ..Report::default()
                });
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    pub(crate) fn is_measuring(&self) -> bool {
        self.started.is_some() && self.finished.is_none()
    }

    /// How long to wait for events at most.
    pub(crate) fn patience(&self, now: Instant) -> Duration {
        let next = match &self.started {
            None => self.begin,
            Some(started) => started.at + self.time,
        };
        next.saturating_duration_since(now)
            .max(Duration::from_millis(1))
    }

    pub(crate) fn report(self, total: u64) -> Result<Report, Failure> {
        let mut report = self.finished.ok_or("ended before it was measured")?;
        report.total = total;
        if report.messages == 0 {
            return Err("nothing came back in the measured time".into());
        }
        Ok(report)
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
