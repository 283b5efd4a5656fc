//! Connections to the server, which are replaced when they no longer answer.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use crate::hub::Unavailable;

/// For a connection to be made and greeted: one to a server that was stopped, say, is
/// accepted by its kernel and never answers.
const CONNECT: Duration = Duration::from_secs(2);
/// Between two tries: short, so that publishing works again soon after the server's
/// return.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// A connection is asked so often whether it lives, ...
const ASK: Duration = Duration::from_secs(1);
/// ... and replaced when nothing at all came back for so long: packets may vanish
/// without an error.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a broker's server cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A setting cannot be.
    #[error("{0}")]
    Setting(&'static str),
    /// The server does not answer in time.
    #[error("no answer within {} s", CONNECT.as_secs())]
    TimedOut,
    /// It cannot be reached, or refuses.
    #[error("{0}")]
    Refused(Box<str>),
}

impl ConnectError {
    /// The client's own error is no part of our API.
    #[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
    pub(super) fn of(error: RedisError) -> Self {
        Self::Refused(error.to_string().into())
    }
}

/// One new connection, on which nothing times out by itself. It is there once the
/// server has answered the greeting, which one that loads its data refuses.
pub(super) async fn connect(
    client: &Client,
    greeting: &Cmd,
) -> Result<MultiplexedConnection, ConnectError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None);
    let connecting = async {
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        greeting.query_async::<Value>(&mut connection).await?;
        Ok(connection)
    };
    timeout(CONNECT, connecting)
        .await
        .map_err(|_| ConnectError::TimedOut)?
        .map_err(ConnectError::of)
}

/// The pauses between tries.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) const fn new() -> Self {
        Self(PAUSES.0)
    }

    pub(super) async fn pause(&mut self) {
        // Nodes that lost the same server come back one by one.
        sleep(self.0.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        self.0 = (self.0 * 2).min(PAUSES.1);
    }
}

/// How many of a broker's connections are down.
#[derive(Clone, Debug)]
pub(super) struct Outages(Arc<watch::Sender<usize>>);

impl Outages {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }

    /// One more, until what is returned is dropped.
    pub(super) fn begin(&self) -> Outage {
        self.0.send_modify(|count| *count += 1);
        Outage(self.clone())
    }
}

#[derive(Debug)]
pub(super) struct Outage(Outages);

impl Drop for Outage {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// A connection for commands, shared by all who give them; a clone is the same.
#[derive(Clone, Debug)]
pub(super) struct Link(watch::Receiver<Option<Live>>);

#[derive(Clone)]
struct Live {
    generation: u64,
    connection: MultiplexedConnection,
    health: Arc<Health>,
}

#[derive(Default)]
struct Health {
    /// Counts answers.
    answers: AtomicU64,
    failed: Notify,
}

/// Why a command got no answer that helps.
#[derive(Debug)]
pub(super) enum Failed {
    /// There was no connection, or no answer, until the deadline; and what went wrong
    /// last.
    TimedOut(Option<RedisError>),
    /// The server refuses.
    Refused(RedisError),
}

impl From<Failed> for Unavailable {
    fn from(failed: Failed) -> Self {
        Self::new(match failed {
            Failed::TimedOut(Some(error)) => format!("no answer in time, at last: {error}"),
            Failed::TimedOut(None) => "no answer in time".to_owned(),
            Failed::Refused(error) => error.to_string(),
        })
    }
}

impl Link {
    /// A link that begins with `connection`, and the future that keeps it up.
    pub(super) fn new(
        client: Client,
        connection: MultiplexedConnection,
        greeting: Cmd,
        outages: Outages,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let mut live = Live::new(1, connection);
        let (sender, receiver) = watch::channel(Some(live.clone()));
        let keep = async move {
            loop {
                live.until_failed().await;
                let generation = live.generation + 1;
                sender.send_replace(None);
                let _outage = outages.begin();
                let mut backoff = Backoff::new();
                live = loop {
                    match connect(&client, &greeting).await {
                        Ok(connection) => break Live::new(generation, connection),
                        Err(error) => tracing::debug!(%error, "redis: not connected"),
                    }
                    backoff.pause().await;
                };
                sender.send_replace(Some(live.clone()));
            }
        };
        (Self(receiver), keep)
    }

    /// Gives a command, again and again over new connections if need be: it must be
    /// one that may be executed twice.
    pub(super) async fn command(&self, command: &Cmd, deadline: Instant) -> Result<Value, Failed> {
        let mut link = self.0.clone();
        let mut last = None;
        let mut passed = 0;
        loop {
            let fresh =
                |live: &Option<Live>| matches!(live, Some(live) if live.generation > passed);
            let live = match timeout_at(deadline, link.wait_for(fresh)).await {
                Ok(Ok(live)) => live.clone(),
                Ok(Err(_)) | Err(_) => None,
            };
            let Some(mut live) = live else {
                return Err(Failed::TimedOut(last));
            };
            let answer = tokio::select! {
                biased;
                answer = command.query_async::<Value>(&mut live.connection) => answer,
                _ = link.changed() => continue,
                () = sleep_until(deadline) => return Err(Failed::TimedOut(last)),
            };
            match answer {
                Ok(value) => {
                    live.health.answers.fetch_add(1, Ordering::Relaxed);
                    return Ok(value);
                }
                Err(error) if is_lost(&error) => {
                    live.health.failed.notify_one();
                    passed = live.generation;
                    last = Some(error);
                }
                Err(error) => return Err(Failed::Refused(error)),
            }
        }
    }
}

/// Whether another connection may do better.
fn is_lost(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown, ReadOnly, TryAgain};
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse => true,
        ErrorKind::Server(kind) => matches!(
            kind,
            BusyLoading | ClusterDown | MasterDown | ReadOnly | TryAgain
        ),
        _ => error.is_connection_dropped() || error.is_timeout(),
    }
}

impl Live {
    fn new(generation: u64, connection: MultiplexedConnection) -> Self {
        Self {
            generation,
            connection,
            health: Arc::default(),
        }
    }

    /// Asks from time to time, until there is no answer, or somebody tells that it
    /// failed.
    async fn until_failed(&mut self) {
        loop {
            tokio::select! {
                () = self.health.failed.notified() => return,
                () = sleep(ASK) => {}
            }
            let answers = self.health.answers.load(Ordering::Relaxed);
            let ping = redis::cmd("PING");
            tokio::select! {
                () = self.health.failed.notified() => return,
                asked = timeout(PATIENCE, ping.query_async::<Value>(&mut self.connection)) => {
                    match asked {
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) if is_lost(&error) => return,
                        Ok(Err(_)) => {}
                        // Busy, but there.
                        Err(_) if self.health.answers.load(Ordering::Relaxed) != answers => {}
                        Err(_) => return,
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
