//! Crowds that behave badly, against a testbed in a process of its own.
//!
//! Shortened unless `TOWPATH_SCENARIOS` is `full` (`cargo xtask faults --only scenarios`):
//! then there are thousands, and what other work on the machine would blur is asserted
//! too. What was seen is printed.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "what is not as expected fails the test, which tells what it saw"
)]

mod crowd;
mod deploy;
mod readers;
mod sink;
mod storm;
mod ugly;

use std::{fs, time::Duration};

use tokio::sync::{Mutex, MutexGuard};
use towpath_tests::process::{Testbed, allow_files};

/// Whatever is awaited comes within this, however busy the machine is.
const LONG: Duration = Duration::from_secs(90);

/// Whether the scenarios are run in full.
fn in_full() -> bool {
    std::env::var("TOWPATH_SCENARIOS").is_ok_and(|value| value == "full")
}

/// How many there are: so many in full, or the fewer.
fn many(full: usize, fewer: usize) -> usize {
    if in_full() { full } else { fewer }
}

/// One scenario at a time, with room for so many connections at both ends.
async fn begin(connections: usize) -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    allow_files(connections as u64 + 512);
    ONE.lock().await
}

/// What the kernel knows of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    files: usize,
    threads: u64,
    /// Bytes of memory that are there.
    resident: u64,
}

impl Facts {
    fn of(testbed: &Testbed) -> Self {
        let folder = format!("/proc/{}", testbed.id());
        let status = fs::read_to_string(format!("{folder}/status")).expect("it lives");
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|line| line.split_whitespace().next());
            word.and_then(|word| word.parse::<u64>().ok())
                .unwrap_or_else(|| panic!("{name} in {status}"))
        };
        Self {
            files: fs::read_dir(format!("{folder}/fd"))
                .expect("it lives")
                .count(),
            threads: number("Threads:"),
            resident: number("VmRSS:") * 1024,
        }
    }

    fn grown_since(self, before: Self) -> u64 {
        self.resident.saturating_sub(before.resident)
    }
}

fn kib(bytes: u64) -> u64 {
    bytes / 1024
}
