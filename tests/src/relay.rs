//! A TCP relay, as a network that breaks when it is told to.
#![expect(
    clippy::missing_panics_doc,
    reason = "for tests: whatever is not as expected fails them"
)]

use std::{net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::AbortHandle,
};

/// What a relay does with what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It passes everything on.
    Open,
    /// Connections are reset, new ones too.
    Reset,
    /// Bytes vanish, without an error at either end: for those that are connected then
    /// for ever, and for those that come meanwhile.
    Swallow,
}

/// A relay at a port of its own; ends when this is dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    task: AbortHandle,
}

impl Relay {
    /// A relay to this address.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let mode = watch::Sender::new(Mode::Open);
        let modes = mode.subscribe();
        let accepting = async move {
            loop {
                let (client, _) = listener.accept().await.expect("accepted");
                tokio::spawn(relay(client, target, modes.clone()));
            }
        };
        let task = tokio::spawn(accepting).abort_handle();
        Self {
            address,
            mode,
            task,
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does so from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr, mut modes: watch::Receiver<Mode>) {
    let mode = *modes.borrow_and_update();
    let server = match mode {
        Mode::Open => TcpStream::connect(target).await.ok(),
        Mode::Swallow => {
            swallow(&mut client).await;
            return;
        }
        Mode::Reset => None,
    };
    let Some(mut server) = server else {
        reset(&client);
        return;
    };
    // They are small, and somebody waits.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let mode = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            mode = changed(&mut modes) => mode,
            () = copy(from_client, to_server) => Mode::Open,
            () = copy(from_server, to_client) => Mode::Open,
        }
    };
    match mode {
        Mode::Open => {}
        Mode::Reset => {
            reset(&client);
            reset(&server);
        }
        Mode::Swallow => {
            tokio::join!(swallow(&mut client), swallow(&mut server));
        }
    }
}

async fn changed(modes: &mut watch::Receiver<Mode>) -> Mode {
    match modes.wait_for(|mode| *mode != Mode::Open).await {
        Ok(mode) => *mode,
        Err(_) => Mode::Open,
    }
}

async fn copy(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

async fn swallow(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}

fn reset(stream: &TcpStream) {
    // Dropping it then sends an RST.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
