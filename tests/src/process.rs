//! Testbeds as processes of their own.
#![expect(
    clippy::missing_panics_doc,
    reason = "for tests: whatever is not as expected fails them"
)]

use std::{
    fmt,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, ExitStatus, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    time::{Instant, sleep, timeout},
};

use crate::{Counts, http};

/// Whatever is awaited in a test without a time of its own comes within this.
pub const SOON: Duration = Duration::from_secs(10);

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

    /// The binary: that which `TOWPATH_TESTBED_AXUM` or `TOWPATH_TESTBED_ACTIX` names,
    /// else one that is built first.
    #[must_use]
    pub fn binary(self) -> PathBuf {
        let variable = match self {
            Self::Axum => "TOWPATH_TESTBED_AXUM",
            Self::Actix => "TOWPATH_TESTBED_ACTIX",
        };
        std::env::var_os(variable).map_or_else(|| built(self.name()), PathBuf::from)
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
        let mut child = tokio::process::Command::new(self.binary())
            .args(arguments)
            .args(threads.iter().flat_map(|number| ["--threads", number]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the testbed runs");
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
        let address = address.unwrap_or_else(|| unreachable!("{self}: {line:?}"));
        Testbed {
            framework: self,
            address: address.parse().expect("an address"),
            child,
        }
    }
}

impl fmt::Display for Framework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Builds both binaries, once a process; cargo has little to do when another process
/// did so before.
fn built(name: &str) -> PathBuf {
    #[derive(Deserialize)]
    struct Artifact {
        executable: Option<PathBuf>,
    }
    static BUILT: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args([
                "build",
                "--profile",
                "testbed",
                "--package",
                "towpath-tests",
                "--bins",
            ])
            .args(["--locked", "--quiet", "--message-format", "json"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "the testbeds do not build");
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<Artifact>(line).ok()?.executable)
            .collect()
    });
    let found = built.iter().find(|path| path.ends_with(name));
    found
        .unwrap_or_else(|| unreachable!("{name} was not built"))
        .clone()
}

/// A testbed that runs; killed when this is dropped.
#[derive(Debug)]
pub struct Testbed {
    framework: Framework,
    address: SocketAddr,
    child: Child,
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
        self.address
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(Pid::from_raw).expect("it runs");
        kill_process(id, Signal::TERM).expect("a child");
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

    /// What `/stats` says.
    pub async fn counts(&self) -> Counts {
        let response = http::get(self.address, "/stats").await;
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
