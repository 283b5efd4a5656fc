//! Debian's `redis-server` at a port of its own.
#![expect(
    clippy::missing_panics_doc,
    reason = "for tests: whatever is not as expected fails them"
)]

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

/// It may be a slow machine.
const LONG: Duration = Duration::from_secs(60);

/// A server that keeps all that it acknowledged; killed when this is dropped.
#[derive(Debug)]
pub struct Redis {
    address: SocketAddr,
    folder: PathBuf,
    child: Child,
}

impl Redis {
    /// A server without data.
    pub async fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = free.local_addr().expect("bound");
        drop(free);
        let name = format!("towpath-redis-{}-{}", std::process::id(), address.port());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let child = spawn(address, &folder);
        let redis = Self {
            address,
            folder,
            child,
        };
        redis.answers().await;
        redis
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Kills it with SIGKILL.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("killed");
    }

    /// Starts it again, with the data that it had.
    pub async fn restart(&mut self) {
        self.child = spawn(self.address, &self.folder);
        self.answers().await;
    }

    /// Forgets its data while it does not run.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(&self.folder).expect("removed");
        std::fs::create_dir_all(&self.folder).expect("a folder");
    }

    /// Stops it as SIGSTOP does.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Has it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(Pid::from_raw).expect("it runs");
        kill_process(id, signal).expect("a child");
    }

    /// Waits until it answers.
    async fn answers(&self) {
        let ping = async {
            loop {
                if self.pong().await.is_some() {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, ping).await.expect("redis-server answers");
    }

    async fn pong(&self) -> Option<()> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        stream.write_all(b"PING\r\n").await.ok()?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await.ok()?;
        (&answer == b"+PONG\r\n").then_some(())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(address: SocketAddr, folder: &PathBuf) -> Child {
    Command::new("redis-server")
        .arg("--port")
        .arg(address.port().to_string())
        .args(["--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        .arg("--dir")
        .arg(folder)
        .args(["--loglevel", "warning"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is installed: apt-get install redis-server")
}
