//! The chat example as a process of its own.

use std::{
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Deserialize;

/// Killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    pub(crate) fn start(framework: &str) -> Self {
        let mut child = Command::new(chat())
            .args(["--addr", "127.0.0.1:0", "--framework", framework])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the chat runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        let read = BufReader::new(stdout).read_line(&mut line);
        read.expect("it says where it listens");
        let address = line.trim_end().strip_prefix("listening on http://");
        let address = address.and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{framework}: {line:?}"));
        Self { child, address }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended by itself, or it does now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// That which `TOWPATH_CHAT` names, else one that is built first.
fn chat() -> PathBuf {
    #[derive(Deserialize)]
    struct Artifact {
        executable: Option<PathBuf>,
    }
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = || {
        if let Some(built) = env::var_os("TOWPATH_CHAT") {
            return built.into();
        }
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args([
                "build",
                "--profile",
                "testbed",
                "--package",
                "towpath-examples",
            ])
            .args([
                "--bin",
                "chat",
                "--locked",
                "--quiet",
                "--message-format",
                "json",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "the chat does not build");
        let said = String::from_utf8_lossy(&output.stdout);
        said.lines()
            .find_map(|line| serde_json::from_str::<Artifact>(line).ok()?.executable)
            .expect("cargo names what it has built")
    };
    BUILT.get_or_init(built).clone()
}

/// Raises the limit of open files, for this process and those it starts.
pub(crate) fn allow_files(wanted: u64) {
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
