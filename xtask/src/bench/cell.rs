//! One measurement: a server, fresh, on one core; the generator on another.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    bench::{
        peers::{Peer, Program, Side},
        rows::{LooksAt, Place, Row},
    },
    failure::Failure,
    process::{Job, Log, RunningServer},
    tools::runs,
};

/// What a generator may take beyond the seconds that are measured.
const LIMIT: Duration = Duration::from_secs(180);
const TOPIC: &str = "/topics/bench";
/// How long system calls are counted.
const COUNTED_SECONDS: &str = "0.4";

/// What this machine can do.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) kernel: String,
    server_core: String,
    load_core: String,
    all_cores: String,
    counter: Counter,
}

/// How system calls are counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Counter {
    Perf,
    Strace,
    Nothing,
}

/// What one measurement came to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    /// The row's figure: nanoseconds, or bytes.
    pub(crate) value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99: Option<f64>,
    /// The share of its core that the generator needed.
    pub(crate) load: f64,
    /// The server's resident bytes at the end.
    pub(crate) rss: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system_calls: Option<f64>,
}

/// The generator's line.
#[derive(Debug, Deserialize)]
struct Report {
    messages: u64,
    total: u64,
    wall_ns: u64,
    cpu_ns: u64,
    load_cpu_ns: u64,
    rss: u64,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    bytes_per_connection: Option<f64>,
}

impl Machine {
    pub(crate) fn look(log: &Log) -> Result<Self, Failure> {
        let read = |path: &str| fs::read_to_string(path).map_err(Failure::of_path(path.as_ref()));
        let info = read("/proc/cpuinfo")?;
        let model = info.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == "model name").then(|| value.trim().to_owned())
        });
        let status = read("/proc/self/status")?;
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .ok_or_else(|| Failure::new("/proc/self/status does not tell the cores"))?
            .trim();
        let cores = cores(allowed);
        let (Some(first), Some(last)) = (cores.first(), cores.last()) else {
            return Err(Failure::new(format!("no cores in `{allowed}`")));
        };
        let perf = [
            "stat",
            "-e",
            "raw_syscalls:sys_enter",
            "-o",
            "/dev/null",
            "true",
        ];
        let counter = if runs(log, "perf", &perf).unwrap_or(false) {
            Counter::Perf
        } else if runs(log, "strace", &["-V"]).unwrap_or(false) {
            Counter::Strace
        } else {
            Counter::Nothing
        };
        Ok(Self {
            cpu: model.unwrap_or_default(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            server_core: first.to_string(),
            load_core: last.to_string(),
            all_cores: allowed.to_owned(),
            counter,
        })
    }

    pub(crate) fn print(&self) {
        println!(
            "{}, Linux {}: servers on core {}, the generator on core {}",
            self.cpu, self.kernel, self.server_core, self.load_core
        );
        if self.server_core == self.load_core {
            println!("only one core: server and generator take it from each other");
        }
        match self.counter {
            Counter::Perf => {}
            Counter::Strace => {
                println!("system calls are counted by strace: perf has no raw_syscalls:sys_enter")
            }
            Counter::Nothing => println!(
                "system calls are not counted: neither perf's raw_syscalls:sys_enter nor strace is there"
            ),
        }
    }
}

/// The numbers of a list as `0-3,8`.
fn cores(list: &str) -> Vec<u32> {
    let mut cores = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            cores.extend(first..=last);
        }
    }
    cores
}

/// What is the same for all measurements of a run.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) machine: &'a Machine,
    /// The generator.
    pub(crate) load: PathBuf,
    /// A certificate and its key, for the rows over TLS.
    pub(crate) identity: [String; 2],
    pub(crate) seconds: f64,
    pub(crate) log: &'a Log,
}

impl Bench<'_> {
    /// Measures once; with `counts` the system calls are counted afterwards, in a run of their own.
    pub(crate) fn measure(
        &self,
        row: &Row,
        peer: &Peer,
        program: &Path,
        counts: bool,
    ) -> Result<Cell, Failure> {
        if let LooksAt::Memory { files } = row.looks_at {
            let [prlimit, both, _] = files_words(files);
            let may = Job::new(prlimit).args([both]).args(["true"]);
            if !self.log.run(&may)?.succeeded() {
                return Err(Failure::new(format!(
                    "server and generator need {files} open files each, and the hard limit may not be raised so far"
                )));
            }
        }
        let start = || {
            let words = self.server_words(row, peer, program);
            RunningServer::start_words(&words, self.log)
        };
        let mut server = start()?;
        let mut words = self.load_words(row, peer, &server);
        // Idle connections have no seconds, but a number.
        if !matches!(row.looks_at, LooksAt::Memory { .. }) {
            words.extend(["--seconds".into(), self.seconds.to_string().into()]);
        }
        let report = self.run(&words)?;
        server.check_alive()?;
        drop(server);
        let mut cell = cell(row, &report)?;
        if counts && row.looks_at == LooksAt::Cpu {
            let server = start()?;
            let mut words = self.load_words(row, peer, &server);
            words.extend(["--seconds", COUNTED_SECONDS, "--warm", "0"].map(OsString::from));
            cell.system_calls = self.count(&server, &words)?;
        }
        Ok(cell)
    }

    /// Runs the generator to its end.
    fn run(&self, words: &[OsString]) -> Result<Report, Failure> {
        let (program, args) = words
            .split_first()
            .ok_or_else(|| Failure::new("no generator"))?;
        let ended = self.log.run(&Job::new(program).args(args).limit(LIMIT))?;
        let last = ended.output.lines().last().unwrap_or_default().to_owned();
        if !ended.succeeded() {
            let failure = ended.failure();
            return Err(Failure::new(if last.is_empty() {
                failure.to_string()
            } else {
                last
            }));
        }
        serde_json::from_str(&last).map_err(|error| Failure::new(format!("`{last}`: {error}")))
    }

    /// System calls of the server for each message.
    fn count(&self, server: &RunningServer, load: &[OsString]) -> Result<Option<f64>, Failure> {
        let counts = self.log.path().with_extension("counts");
        let pid = server.id().to_string();
        let mut words: Vec<OsString> = match self.machine.counter {
            Counter::Nothing => return Ok(None),
            Counter::Perf => ["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter"]
                .map(OsString::from)
                .into(),
            // Ends when it is interrupted, and writes its table then.
            Counter::Strace => ["sh", "-c", STRACE, "sh"].map(OsString::from).into(),
        };
        words.extend(["-p".into(), pid.into(), "-o".into(), counts.clone().into()]);
        words.push("--".into());
        words.extend_from_slice(load);
        let report = self.run(&words)?;
        let text = fs::read_to_string(&counts).map_err(Failure::of_path(&counts))?;
        let calls = match self.machine.counter {
            Counter::Perf => text
                .lines()
                .find(|line| line.contains("sys_enter"))
                .and_then(|line| line.split(',').next()?.parse::<f64>().ok()),
            _ => text
                .lines()
                .find(|line| line.ends_with(" total"))
                .and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()),
        };
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let total = report.total as f64;
        Ok(calls.map(|calls| calls / total))
    }

    fn server_words(&self, row: &Row, peer: &Peer, program: &Path) -> Vec<OsString> {
        let cores = match row.threads {
            1 => &self.machine.server_core,
            _ => &self.machine.all_cores,
        };
        let mut words: Vec<OsString> = ["taskset", "-c", cores].map(OsString::from).into();
        if let LooksAt::Memory { files } = row.looks_at {
            words.extend(files_words(files));
        }
        match peer.program {
            Program::Node(_) => words.push("node".into()),
            Program::Bun(_) => {
                let folder = program.parent().unwrap_or(program);
                words.push(folder.join("node_modules/.bin/bun").into());
            }
            Program::Testbed(_) | Program::Server(_) | Program::Uws => {}
        }
        words.push(program.into());
        words.extend(["--addr", "127.0.0.1:0", "--threads"].map(OsString::from));
        words.push(row.threads.to_string().into());
        words.extend(peer.args.iter().map(OsString::from));
        if let Some(compress) = row.compress {
            if matches!(peer.program, Program::Testbed(_)) {
                words.push("--deflate".into());
            } else {
                words.extend(["--compress", compress].map(OsString::from));
            }
        }
        if row.tls {
            words.push("--tls".into());
            words.extend(self.identity.iter().map(OsString::from));
        }
        words
    }

    fn load_words(&self, row: &Row, peer: &Peer, server: &RunningServer) -> Vec<OsString> {
        let mut words: Vec<OsString> = ["taskset", "-c", &self.machine.load_core]
            .map(OsString::from)
            .into();
        if let LooksAt::Memory { files } = row.looks_at {
            words.extend(files_words(files));
        }
        words.push(self.load.clone().into());
        let ours = matches!(peer.program, Program::Testbed(_));
        let path = match (row.place, ours) {
            (Place::Echo, _) => "/echo".to_owned(),
            (Place::Fan, true) => format!("{TOPIC}/ws"),
            (Place::Fan, false) => "/fan".to_owned(),
            (Place::Events, true) => TOPIC.to_owned(),
            (Place::Events, false) => "/sse".to_owned(),
        };
        let pid = server.id().to_string();
        let target = ["--addr", server.address(), "--pid", &pid, "--path", &path];
        words.extend(target.map(OsString::from));
        if let Some(compress) = row.compress {
            words.extend(["--compress", compress].map(OsString::from));
        }
        if row.tls {
            words.extend(["--tls", &self.identity[0]].map(OsString::from));
        }
        words.extend(row.load.iter().map(OsString::from));
        if row.place == Place::Events && ours {
            words.extend(["--publish", TOPIC].map(OsString::from));
        }
        if peer.side == Side::Limit {
            words.push("--raw".into());
        }
        words
    }
}

/// Counts the calls of a process while a command runs: `-p PID -o FILE -- COMMAND…`.
const STRACE: &str = r#"strace -f -c -U calls,name "$1" "$2" "$3" "$4" & counter=$!
sleep 0.3; shift 5; "$@"; result=$?
kill -INT $counter; wait $counter; exit $result"#;

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn cell(row: &Row, report: &Report) -> Result<Cell, Failure> {
    let missing = || Failure::new("the generator did not tell what was asked");
    let value = match row.looks_at {
        LooksAt::Cpu => report.cpu_ns as f64 / report.messages as f64,
        LooksAt::Memory { .. } => report.bytes_per_connection.ok_or_else(missing)?,
        LooksAt::Latency => report.p50_ns.ok_or_else(missing)? as f64,
    };
    Ok(Cell {
        value,
        p99: report
            .p99_ns
            .filter(|_| row.looks_at == LooksAt::Latency)
            .map(|p99| p99 as f64),
        load: report.load_cpu_ns as f64 / report.wall_ns.max(1) as f64,
        rss: report.rss,
        system_calls: None,
    })
}

/// Raises the limit of open files for a program.
fn files_words(files: u32) -> [OsString; 3] {
    let both = format!("--nofile={files}:{files}");
    ["prlimit".into(), both.into(), "--".into()]
}
