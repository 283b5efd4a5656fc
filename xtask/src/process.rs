//! Child processes: each ends with the run, however that ends.
//!
//! Nothing here relies on this program's own clean-up alone. A job runs under `timeout`, which ends its whole process
//! group, and everything under `setpriv --pdeathsig`: the kernel signals the child when the thread that started it is
//! gone, even by SIGKILL. So a child must be waited for, or dropped, by the thread that started it.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::{failure::Failure, project};

/// The exit status of `timeout` when the time was over.
const TIMED_OUT: i32 = 124;

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(30);

/// A program that runs to its end, within a time.
#[derive(Debug)]
pub(crate) struct Job {
    words: Vec<OsString>,
    limit: Duration,
    variables: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    gives_way: bool,
}

impl Job {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            words: vec![program.as_ref().to_owned()],
            limit: Duration::from_secs(20 * 60),
            variables: Vec::new(),
            folder: None,
            gives_way: false,
        }
    }

    #[must_use]
    pub(crate) fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, args: I) -> Self {
        self.words
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    #[must_use]
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.variables
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    #[must_use]
    pub(crate) fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    #[must_use]
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Leaves the cores to the tests that run beside it, since those look at the clock.
    #[must_use]
    pub(crate) fn gives_way(mut self) -> Self {
        self.gives_way = true;
        self
    }

    fn command(&self) -> Command {
        let mut command = tethered("TERM");
        command.args(["timeout", "--kill-after=10"]);
        command.arg(self.limit.as_secs().to_string());
        if self.gives_way {
            command.args(["nice", "-n", "10"]);
        }
        command.args(&self.words);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    fn line(&self) -> String {
        let words: Vec<_> = self
            .words
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        words.join(" ")
    }
}

/// A command that gets the signal when the thread that starts it is gone.
fn tethered(signal: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal, "--"]);
    command.stdin(Stdio::null());
    // What `cargo run` tells about this package would make build scripts of others run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// The file that a step's output goes to.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) struct Ended {
    line: String,
    limit: Duration,
    status: ExitStatus,
    /// What the job wrote to stdout and stderr.
    pub(crate) output: String,
}

impl Ended {
    /// The output of a job that succeeded.
    pub(crate) fn success(self) -> Result<String, Failure> {
        if self.succeeded() {
            return Ok(self.output);
        }
        Err(self.failure())
    }

    /// The command, as one would type it.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// What to say of a job that did not succeed.
    pub(crate) fn failure(&self) -> Failure {
        Failure::new(if self.status.code() == Some(TIMED_OUT) {
            format!("{}: not done after {} s", self.line, self.limit.as_secs())
        } else {
            format!("{}: {}", self.line, self.status)
        })
    }
}

impl Log {
    /// An empty log; one of an earlier run is replaced.
    pub(crate) fn create(path: PathBuf) -> Result<Self, Failure> {
        if let Some(folder) = path.parent() {
            project::make_folder(folder)?;
        }
        File::create(&path).map_err(Failure::of_path(&path))?;
        // Appending, because a job writes to it through handles of its own.
        let file = OpenOptions::new()
            .append(true)
            .read(true)
            .open(&path)
            .map_err(Failure::of_path(&path))?;
        Ok(Self { path, file })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a job to its end; its output is in the log and in what this returns.
    pub(crate) fn run(&self, job: &Job) -> Result<Ended, Failure> {
        let fails = |error| Failure::new(format!("{}: {error}", job.line()));
        let mut file = &self.file;
        writeln!(file, "$ {}", job.line()).map_err(fails)?;
        let begin = file.metadata().map_err(fails)?.len();
        let status = job
            .command()
            .stdout(file.try_clone().map_err(fails)?)
            .stderr(file.try_clone().map_err(fails)?)
            .status()
            .map_err(fails)?;
        let mut output = Vec::new();
        let mut reader = File::open(&self.path).map_err(fails)?;
        reader.seek(SeekFrom::Start(begin)).map_err(fails)?;
        reader.read_to_end(&mut output).map_err(fails)?;
        Ok(Ended {
            line: job.line(),
            limit: job.limit,
            status,
            output: String::from_utf8_lossy(&output).into_owned(),
        })
    }

    /// Adds another log to this one, under its name, without the lines that begin with `noise`.
    pub(crate) fn append(&self, other: &Path, noise: &str) -> Result<(), Failure> {
        let text = fs::read(other).map_err(Failure::of_path(other))?;
        let mut kept = format!("--- {}\n", other.display());
        for line in String::from_utf8_lossy(&text).lines() {
            if !line.starts_with(noise) {
                kept.push_str(line);
                kept.push('\n');
            }
        }
        let mut file = &self.file;
        file.write_all(kept.as_bytes())
            .map_err(Failure::of_path(&self.path))
    }

    /// The end of what was logged, at most `lines` of it.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let text = fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<_> = text.lines().collect();
        let skipped = all.len().saturating_sub(lines);
        let mut tail = String::new();
        if skipped > 0 {
            tail = format!("({skipped} lines above are in {})\n", self.path.display());
        }
        for line in &all[skipped..] {
            tail.push_str(line);
            tail.push('\n');
        }
        tail
    }
}

/// A server of ours that listens on a port of its own; killed when dropped.
#[derive(Debug)]
pub(crate) struct RunningServer {
    name: String,
    child: Child,
    address: String,
}

impl RunningServer {
    /// Starts it on a free port and waits until it says that it listens. What it logs goes to `log`.
    pub(crate) fn start(program: &Path, args: &[&str], log: &Log) -> Result<Self, Failure> {
        let mut words = vec![program.into(), "--addr".into(), "127.0.0.1:0".into()];
        words.extend(args.iter().map(OsString::from));
        Self::start_words(&words, log)
    }

    /// Starts a command line that says where it listens, and waits until it does.
    pub(crate) fn start_words(words: &[OsString], log: &Log) -> Result<Self, Failure> {
        let name = words.join(" ".as_ref()).to_string_lossy().into_owned();
        let fails = |error| Failure::new(format!("{name}: {error}"));
        let mut child = tethered("KILL")
            .args(words)
            .stdout(Stdio::piped())
            .stderr(log.file.try_clone().map_err(fails)?)
            .spawn()
            .map_err(fails)?;
        let stdout = child.stdout.take();
        let mut server = Self {
            name,
            child,
            address: String::new(),
        };
        let (sender, receiver) = mpsc::channel();
        // Reads on to the end, so that the server never blocks on its stdout; ends with the server.
        thread::spawn(move || {
            let lines = stdout.map(|stdout| BufReader::new(stdout).lines());
            for line in lines.into_iter().flatten().map_while(Result::ok) {
                let url = line.strip_prefix("listening on ");
                if let Some((_, address)) = url.and_then(|url| url.split_once("://")) {
                    // The receiver is gone when the time is over: the server is killed then.
                    let _ = sender.send(address.to_owned());
                }
            }
        });
        server.address = receiver.recv_timeout(START).map_err(|_| {
            Failure::new(format!(
                "{} did not print `listening on http://…` or `https://…` (its log: {})",
                server.name,
                log.path.display()
            ))
        })?;
        Ok(server)
    }

    /// Its process: what starts it replaces itself by it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Fails when the server has ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Failure::new(format!("{} has died: {status}", self.name))),
            Err(error) => Err(Failure::new(format!("{}: {error}", self.name))),
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        // Both fail only for a child that is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
