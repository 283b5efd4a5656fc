//! Testbeds and examples as processes of their own.
#![expect(
    clippy::missing_panics_doc,
    reason = "for tests: whatever is not as expected fails them"
)]

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    time::{Instant, sleep, timeout},
};

use crate::{Counts, http};

/// Whatever is awaited in a test without a time of its own comes within this.
pub const SOON: Duration = Duration::from_secs(30);

/// Between two looks at `/stats`.
const LOOK: Duration = Duration::from_millis(5);

/// Which of the two testbeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framework {
    /// `testbed-axum`
    Axum,
    /// `testbed-actix`
    Actix,
}

impl Framework {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::Axum, Self::Actix];

    /// The binary's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Axum => "testbed-axum",
            Self::Actix => "testbed-actix",
        }
    }

    /// The binary: see [`Program::path`].
    #[must_use]
    pub fn binary(self) -> PathBuf {
        match self {
            Self::Axum => Program::TESTBED_AXUM.path(),
            Self::Actix => Program::TESTBED_ACTIX.path(),
        }
    }

    /// Runs the testbed to its end, as it is when it does not start.
    pub async fn output(self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(self.binary());
        command
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(SOON, command.output()).await;
        output.expect("it ends").expect("it runs")
    }

    /// A testbed at a port of its own; with as many threads as `TOWPATH_TESTBED_THREADS`
    /// says, where it is set and the arguments say nothing.
    pub async fn start(self, arguments: &[&str]) -> Testbed {
        let threads = std::env::var("TOWPATH_TESTBED_THREADS").ok();
        let threads = threads.filter(|_| !arguments.iter().any(|one| one.starts_with("--threads")));
        let threads = threads.iter().flat_map(|number| ["--threads", number]);
        let arguments: Vec<_> = arguments.iter().copied().chain(threads).collect();
        Testbed {
            framework: self,
            server: Server::start(&self.binary(), &arguments).await,
        }
    }
}

impl fmt::Display for Framework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A program under test.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    package: &'static str,
    binary: &'static str,
    /// The variable that says where it is.
    variable: &'static str,
}

impl Program {
    const TESTBED_AXUM: Self = Self::of_tests("testbed-axum", "TOWPATH_TESTBED_AXUM");
    const TESTBED_ACTIX: Self = Self::of_tests("testbed-actix", "TOWPATH_TESTBED_ACTIX");
    /// The chat.
    pub const CHAT: Self = Self::of_examples("chat", "TOWPATH_CHAT");
    /// The example of a drain with `axum::serve`.
    pub const DRAIN_AXUM: Self = Self::of_examples("drain-axum", "TOWPATH_DRAIN_AXUM");
    /// The example of a drain with actix's `HttpServer`.
    pub const DRAIN_ACTIX: Self = Self::of_examples("drain-actix", "TOWPATH_DRAIN_ACTIX");
    /// The example of a drain with hyper-util's `GracefulShutdown`.
    pub const DRAIN_HYPER: Self = Self::of_examples("drain-hyper", "TOWPATH_DRAIN_HYPER");

    const fn of_tests(binary: &'static str, variable: &'static str) -> Self {
        Self {
            package: "towpath-tests",
            binary,
            variable,
        }
    }

    const fn of_examples(binary: &'static str, variable: &'static str) -> Self {
        Self {
            package: "towpath-examples",
            binary,
            variable,
        }
    }

    /// Where it is: that which its variable names, else one that is built first, with all
    /// of its package; cargo has little to do when another process did so before.
    #[must_use]
    pub fn path(self) -> PathBuf {
        static BUILT: Mutex<Option<HashMap<&str, Vec<PathBuf>>>> = Mutex::new(None);
        if let Some(path) = std::env::var_os(self.variable) {
            return path.into();
        }
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        let built = built.get_or_insert_default();
        let binaries = built
            .entry(self.package)
            .or_insert_with(|| build(self.package));
        let found = binaries.iter().find(|path| path.ends_with(self.binary));
        found
            .unwrap_or_else(|| unreachable!("{} was not built", self.binary))
            .clone()
    }
}

fn build(package: &str) -> Vec<PathBuf> {
    #[derive(Deserialize)]
    struct Artifact {
        executable: Option<PathBuf>,
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--profile", "testbed", "--package", package])
        .args(["--bins", "--locked", "--quiet", "--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{package} does not build");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok()?.executable)
        .collect()
}

/// Raises the limit of open files, for this process and those it starts.
pub fn allow_files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    assert!(
        limit.maximum.is_none_or(|maximum| maximum >= wanted),
        "{wanted} open files are needed: ulimit -Hn {wanted}"
    );
    let raised = Rlimit {
        current: Some(wanted),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("below the hard limit");
}

/// A server that runs; killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts a program that says where it listens.
    pub async fn start(program: &Path, arguments: &[&str]) -> Self {
        let mut child = tokio::process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it runs");
        let stdout = child.stdout.take().expect("a pipe");
        let mut line = String::new();
        let read = timeout(SOON, BufReader::new(stdout).read_line(&mut line)).await;
        read.expect("it says where it listens").expect("text");
        let url = line.trim_end().strip_prefix("listening on ");
        let scheme = if arguments.contains(&"--tls") {
            "https://"
        } else {
            "http://"
        };
        let address = url.and_then(|url| url.strip_prefix(scheme));
        let address = address.unwrap_or_else(|| unreachable!("{}: {line:?}", program.display()));
        Self {
            address: address.parse().expect("an address"),
            child,
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process"), Signal::TERM).expect("a child");
    }

    /// Kills it with SIGKILL.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a child");
    }

    /// How it ended, by itself.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        let status = timeout(within, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| unreachable!("{self:?} stands after {within:?}"));
        status.expect("a child")
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }
}

/// A testbed that runs; killed when this is dropped.
#[derive(Debug)]
pub struct Testbed {
    framework: Framework,
    server: Server,
}

impl Testbed {
    /// Which of the two.
    #[must_use]
    pub const fn framework(&self) -> Framework {
        self.framework
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.server.id()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.server.terminate();
    }

    /// Kills it with SIGKILL.
    pub async fn kill(&mut self) {
        self.server.kill().await;
    }

    /// How it ended, by itself.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        self.server.exit(within).await
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.server.has_ended()
    }

    /// What `/stats` says.
    pub async fn counts(&self) -> Counts {
        let response = http::get(self.address(), "/stats").await;
        assert_eq!(response.status, 200);
        serde_json::from_slice(&response.body).expect("the counts")
    }

    /// Looks at `/stats` until they are so.
    pub async fn until(&self, condition: impl Fn(&Counts) -> bool) -> Counts {
        self.until_within(SOON, condition).await
    }

    /// As [`until`](Self::until), with a time of its own.
    pub async fn until_within(
        &self,
        within: Duration,
        condition: impl Fn(&Counts) -> bool,
    ) -> Counts {
        let start = Instant::now();
        loop {
            let counts = self.counts().await;
            if condition(&counts) {
                return counts;
            }
            assert!(start.elapsed() < within, "{}: {counts:?}", self.framework);
            sleep(LOOK).await;
        }
    }
}

/// Makes a test for each framework of an `async fn name(framework: Framework)`.
///
/// ```no_run
/// towpath_tests::on_both! {
///     async fn it_starts(framework: Framework) {
///         framework.start(&[]).await;
///     }
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($framework:ident: Framework) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "not every test needs them")]
            use super::*;
            use $crate::process::Framework;

            async fn test($framework: Framework) $body

            #[tokio::test]
            async fn axum() {
                test(Framework::Axum).await;
            }

            #[tokio::test]
            async fn actix() {
                test(Framework::Actix).await;
            }
        }
    )+};
}
