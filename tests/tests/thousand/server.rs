//! The chat example as a process of its own.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use towpath_tests::process::Program;

/// Killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    pub(crate) fn start(framework: &str) -> Self {
        let mut child = Command::new(Program::CHAT.path())
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
