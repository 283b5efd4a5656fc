//! Many clients at once.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout},
};
use towpath_tests::{http::Connection, ws::WebSocket};

/// Connections that are opened at the same time: the listener's queue is short.
const OPENING: usize = 64;

/// Runs as many clients as there are numbers, so many at a time; the first that fails
/// fails the test.
pub(crate) async fn all<F, T>(
    numbers: impl IntoIterator<Item = usize>,
    at_a_time: usize,
    client: impl Fn(usize) -> F,
) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let turns = Arc::new(Semaphore::new(at_a_time));
    let mut clients = JoinSet::new();
    for number in numbers {
        let turn = Arc::clone(&turns);
        let client = client(number);
        clients.spawn(async move {
            let _turn = turn.acquire_owned().await.expect("open");
            client.await
        });
    }
    clients.join_all().await
}

/// As [`all`], for clients that only arrive.
pub(crate) async fn arrive<F, T>(count: usize, client: impl Fn(usize) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    all(0..count, OPENING, client).await
}

/// A connection whose kernel keeps little for a reader that is slow.
pub(crate) async fn narrow(address: SocketAddr) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("an option");
    socket.set_nonblocking(true).expect("an option");
    // The answer to a connection that is on its way is told by the socket's readiness.
    let _ = socket.connect(&address.into());
    let stream = TcpStream::from_std(socket.into()).expect("a stream");
    stream.writable().await.expect("connected");
    Connection::from(stream)
}

/// Makes the drop of this a reset.
pub(crate) fn reset(stream: &TcpStream) {
    SockRef::from(stream)
        .set_linger(Some(Duration::ZERO))
        .expect("an option");
}

/// Others who use the server meanwhile: how long their echoes take.
pub(crate) async fn latencies(address: SocketAddr, clients: usize, time: Duration) -> Latencies {
    let each = all(0..clients, clients, |_| async move {
        let mut socket = WebSocket::open(address, "/echo").await;
        let mut times = Vec::new();
        let start = Instant::now();
        while start.elapsed() < time {
            let sent = Instant::now();
            socket.send("anybody there?").await;
            let answer = timeout(super::LONG, socket.text()).await;
            assert_eq!(answer.expect("an answer"), "anybody there?");
            times.push(sent.elapsed());
        }
        socket.close(1000).await;
        socket.closed().await;
        times
    });
    let mut times: Vec<_> = each.await.into_iter().flatten().collect();
    times.sort_unstable();
    Latencies(times)
}

/// In order.
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// What 99 of 100 take at most.
    pub(crate) fn p99(&self) -> Duration {
        self.0[(self.0.len() * 99 / 100).min(self.0.len() - 1)]
    }
}
