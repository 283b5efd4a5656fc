use std::{
    ffi::OsString,
    io::{self, Write},
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    num::NonZero,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{CommandFactory, FromArgMatches, Parser, error::ErrorKind};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use towpath::{
    Drain, Stats,
    backpressure::{Admission, Limits},
    hub::{Hub, HubBuilder, Overflow, RedisBroker},
    sse::KeepAlive,
    ws::{AllowedOrigin, Deflate, OriginPolicy, WsConfig},
};

use crate::{fail, tls};

/// What `--close-timeout-ms 0` stands for: longer than any test, short enough for the
/// clock to count.
const NEVER: Duration = Duration::from_secs(86_400 * 365);
/// A runtime with more threads than this is a slip of the finger.
const MOST_THREADS: usize = 1024;
/// Thousands of clients come at once in the tests.
const BACKLOG: i32 = 4096;

/// The options of a testbed, the same for both.
///
/// ```
/// use towpath_tests::Options;
///
/// let options = Options::parse(["testbed-axum", "--threads", "1"])?;
/// assert_eq!(options.threads, 1);
///
/// let error = Options::parse(["testbed-axum", "--history", "0"]).unwrap_err();
/// assert!(error.to_string().contains("--history"));
/// # Ok::<(), towpath_tests::OptionsError>(())
/// ```
#[derive(Clone, Debug, Parser)]
#[command(about = "WebSocket and Server-Sent Events, to be driven from outside")]
pub struct Options {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0", value_parser = address)]
    pub addr: String,

    /// Worker threads; 1 is a current-thread runtime (axum) or one worker (actix) [default: all cores]
    #[arg(long, value_name = "N", value_parser = threads, default_value_t = cores(), hide_default_value = true)]
    pub threads: usize,

    /// Certificate and key, PEM files
    #[arg(long, num_args = 2, value_names = ["CERT", "KEY"])]
    tls: Option<Vec<PathBuf>>,

    /// Where topics live: `memory:` or `redis://HOST:PORT`
    #[arg(long, value_name = "URL", default_value = "memory:", value_parser = broker)]
    broker: String,

    /// Events kept per topic for replay
    #[arg(long, value_name = "N", default_value_t = HubBuilder::HISTORY, value_parser = positive)]
    pub history: usize,

    /// Accept permessage-deflate
    #[arg(long)]
    deflate: bool,

    /// Take its contexts over from message to message, where the client does
    #[arg(long, requires = "deflate")]
    deflate_takeover: bool,

    /// The largest message, in bytes or with `KiB`, `MiB`
    #[arg(long, value_name = "N", default_value = "64MiB", value_parser = size)]
    pub max_message_size: usize,

    /// The largest frame, in bytes or with `KiB`, `MiB`
    #[arg(long, value_name = "N", default_value = "16MiB", value_parser = size)]
    pub max_frame_size: usize,

    /// The most frames of one message
    #[arg(long, value_name = "N", default_value_t = 131_072, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_fragments: u32,

    /// The most live sockets and streams
    #[arg(long, value_name = "N", value_parser = positive)]
    max_connections: Option<usize>,

    /// The most live sockets and streams of one user
    #[arg(long, value_name = "N", value_parser = positive)]
    max_per_user: Option<usize>,

    /// Events that a slow subscriber may lag behind [default: 1024, or --history where that is less]
    #[arg(long, value_name = "N", value_parser = positive)]
    queue: Option<usize>,

    /// What happens past that
    #[arg(long, value_name = "P", default_value = "disconnect", value_parser = overflow)]
    overflow: Overflow,

    /// Bytes over all connections together, in bytes or with `KiB`, `MiB`
    #[arg(long, value_name = "N", value_parser = size)]
    buffer_budget: Option<usize>,

    /// From accept to the end of the request's headers
    #[arg(long, value_name = "N", default_value = "10000", value_parser = positive_millis)]
    handshake_timeout_ms: Duration,

    /// A ping after so long without traffic; 0 = off
    #[arg(long, value_name = "N", default_value = "30000", value_parser = millis)]
    heartbeat_ms: Duration,

    /// A comment after so long without an event; 0 = off
    #[arg(long, value_name = "N", default_value = "15000", value_parser = millis)]
    keep_alive_ms: Duration,

    /// A socket without a data message for so long is closed; 0 = off
    #[arg(long, value_name = "N", default_value = "0", value_parser = millis)]
    idle_timeout_ms: Duration,

    /// A peer that does not answer our close for so long is reset; 0 = off
    #[arg(long, value_name = "N", default_value = "5000", value_parser = millis)]
    close_timeout_ms: Duration,

    /// A peer that takes no byte for so long is reset; 0 = off
    #[arg(long, value_name = "N", default_value = "30000", value_parser = millis)]
    write_timeout_ms: Duration,

    /// An origin that browsers may come from, may repeat [default: any]
    #[arg(long, value_name = "ORIGIN", value_parser = clap::value_parser!(AllowedOrigin))]
    allow_origin: Vec<AllowedOrigin>,

    /// The time that sockets and streams are given on SIGTERM
    #[arg(long, value_name = "N", default_value = "5000", value_parser = millis)]
    drain_ms: Duration,
}

/// Why a testbed does not start: one line, which names the option and the cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// An option is unknown, malformed or lacks its value.
    #[error("{0}")]
    Malformed(String),
    /// An option or a value of it comes with a later version.
    #[error("{0} is not supported yet")]
    Unsupported(String),
    /// No failure: the text that `--help` asks for.
    #[error("{0}")]
    Help(String),
}

impl Options {
    /// The options that this program's arguments say.
    ///
    /// # Errors
    /// The status with which the program ends; the reason is on standard error.
    pub fn from_args() -> Result<Self, ExitCode> {
        Self::parse(std::env::args_os()).map_err(|error| match error {
            OptionsError::Help(text) => {
                // Nobody may be there to read it.
                let _ = io::stdout().lock().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            error => fail(error),
        })
    }

    /// Reads the options of a command line, whose first item is the program.
    ///
    /// # Errors
    /// Where an option is malformed, or not supported yet.
    pub fn parse<I, T>(arguments: I) -> Result<Self, OptionsError>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let options = Self::command()
            // `-5` is a value, though a malformed one: not an option of its own.
            .mut_args(|argument| {
                let takes_value = argument.get_action().takes_values();
                argument.allow_negative_numbers(takes_value)
            })
            .try_get_matches_from(arguments)
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map_err(|error| OptionsError::of(&error))?;
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), OptionsError> {
        if self.broker.starts_with("nats:") {
            let option = format!("--broker {}", one_line(&self.broker));
            return Err(OptionsError::Unsupported(option));
        }
        match self.queue {
            Some(queue) if queue > self.history => Err(OptionsError::Malformed(format!(
                "--queue {queue} is more than --history {}",
                self.history
            ))),
            _ => Ok(()),
        }
    }

    /// A listener at [`addr`](Self::addr).
    ///
    /// # Errors
    /// Where nothing can listen there.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let mut failed = io::ErrorKind::NotFound.into();
        for address in self.addr.to_socket_addrs()? {
            match listen_at(address) {
                Ok(listener) => return Ok(listener),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Who may come in; `None` where everybody may.
    #[must_use]
    pub fn admission(&self) -> Option<Admission> {
        let mut limits = Limits::new();
        if let Some(count) = self.max_connections {
            limits = limits.max_connections(count);
        }
        if let Some(count) = self.max_per_user {
            limits = limits.max_per_key(count);
        }
        if let Some(bytes) = self.buffer_budget {
            limits = limits.buffer_budget(bytes);
        }
        (limits != Limits::new()).then(|| Admission::new(limits))
    }

    /// What TLS is spoken with, where it is.
    ///
    /// # Errors
    /// Where the certificate or its key cannot be used.
    pub fn tls(&self) -> Result<Option<Arc<ServerConfig>>, OptionsError> {
        let Some([certificate, key]) = self.tls.as_deref() else {
            return Ok(None);
        };
        let config = tls::server_config(certificate, key)
            .map_err(|error| OptionsError::Malformed(one_line(&format!("--tls {error}"))))?;
        Ok(Some(Arc::new(config)))
    }

    /// The settings of every socket.
    pub fn ws(&self, stats: &Stats, drain: &Drain) -> WsConfig {
        let origins = match self.allow_origin.as_slice() {
            [] => OriginPolicy::Any,
            allowed => OriginPolicy::Allow(allowed.to_vec()),
        };
        WsConfig::new()
            .max_message_size(self.max_message_size)
            .max_frame_size(self.max_frame_size)
            .max_fragments(self.max_fragments)
            .heartbeat(unless_zero(self.heartbeat_ms))
            .close_timeout(unless_zero(self.close_timeout_ms).unwrap_or(NEVER))
            .write_timeout(self.write_timeout())
            .idle_timeout(unless_zero(self.idle_timeout_ms))
            .origins(origins)
            .deflate(self.deflate())
            .stats(stats.clone())
            .drain(drain.clone())
    }

    fn deflate(&self) -> Option<Deflate> {
        let deflate = Deflate::new().context_takeover(self.deflate_takeover);
        self.deflate.then_some(deflate)
    }

    /// The hub behind the topics.
    ///
    /// # Errors
    /// Where history and queue do not fit, which parsing has seen to, or where the
    /// broker cannot be used.
    pub async fn hub(&self, stats: &Stats, drain: &Drain) -> Result<Hub, OptionsError> {
        let mut hub = Hub::builder()
            .history(self.history)
            .overflow(self.overflow)
            .stats(stats.clone())
            .drain(drain.clone());
        if let Some(queue) = self.queue {
            hub = hub.queue(queue);
        }
        if self.broker.starts_with("redis:") {
            let connected = RedisBroker::connect(self.broker.as_str()).await;
            let named = |error| format!("--broker {}: {error}", self.broker);
            let broker =
                connected.map_err(|error| OptionsError::Malformed(one_line(&named(error))))?;
            hub = hub.broker(broker);
        }
        hub.build()
            .map_err(|error| OptionsError::Malformed(error.to_string()))
    }

    /// The drain that SIGTERM starts.
    #[must_use]
    pub fn drain(&self) -> Drain {
        Drain::new(self.drain_ms)
    }

    /// The comments of every event stream.
    pub fn keep_alive(&self) -> KeepAlive {
        KeepAlive::new().interval(self.keep_alive_ms)
    }

    /// From accept to the end of the request's headers.
    #[must_use]
    pub const fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout_ms
    }

    /// How long a peer may take no byte.
    #[must_use]
    pub fn write_timeout(&self) -> Option<Duration> {
        unless_zero(self.write_timeout_ms)
    }
}

impl OptionsError {
    /// clap says it in a paragraph, with the usage below.
    fn of(error: &clap::Error) -> Self {
        let text = error.to_string();
        if error.kind() == ErrorKind::DisplayHelp {
            return Self::Help(text);
        }
        let said = text.split("\n\n").next().unwrap_or(&text);
        Self::Malformed(one_line(said.strip_prefix("error: ").unwrap_or(said)))
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // A restarted testbed takes its port back from connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

fn unless_zero(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

fn address(text: &str) -> Result<String, &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("HOST:PORT is expected")?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err("HOST:PORT is expected");
    }
    Ok(text.to_owned())
}

fn threads(text: &str) -> Result<usize, String> {
    match positive(text)? {
        threads if threads <= MOST_THREADS => Ok(threads),
        _ => Err(format!("more than {MOST_THREADS}")),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must not be zero".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

fn size(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.strip_suffix("iB") {
        Some(rest) if rest.ends_with('K') => (&rest[..rest.len() - 1], 1 << 10),
        Some(rest) if rest.ends_with('M') => (&rest[..rest.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let number = positive(digits.trim_end())?;
    number
        .checked_mul(unit)
        .ok_or_else(|| "number too large".to_owned())
}

/// Whole milliseconds. Past 49 days it is no time-out, and would overflow clocks.
fn millis(text: &str) -> Result<Duration, String> {
    let millis: u32 = text
        .parse()
        .map_err(|error: std::num::ParseIntError| error.to_string())?;
    Ok(Duration::from_millis(millis.into()))
}

fn positive_millis(text: &str) -> Result<Duration, String> {
    unless_zero(millis(text)?).ok_or_else(|| "must not be zero".to_owned())
}

fn broker(text: &str) -> Result<String, &'static str> {
    let known = |scheme: &str| {
        let rest = text.strip_prefix(scheme);
        rest.is_some_and(|server| address(server).is_ok())
    };
    if text == "memory:" || known("redis://") || known("nats://") {
        return Ok(text.to_owned());
    }
    Err("memory:, redis://HOST:PORT or nats://HOST:PORT is expected")
}

fn overflow(text: &str) -> Result<Overflow, &'static str> {
    Ok(match text {
        "block" => Overflow::Block,
        "drop-oldest" => Overflow::DropOldest,
        "drop-newest" => Overflow::DropNewest,
        "conflate" => Overflow::Conflate,
        "disconnect" => Overflow::Disconnect,
        _ => return Err("block, drop-oldest, drop-newest, conflate or disconnect is expected"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, OptionsError> {
        Options::parse(["testbed"].iter().chain(arguments))
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.addr, "127.0.0.1:0");
        assert_eq!(options.threads, cores());
        assert_eq!(options.history, 1024);
        let ws = options.ws(&Stats::new(), &options.drain());
        assert_eq!(ws.message_limit(), 64 << 20);
        assert_eq!(ws.frame_limit(), 16 << 20);
        assert_eq!(ws.fragment_limit(), 131_072);
        assert_eq!(ws.heartbeat_interval(), Some(Duration::from_secs(30)));
        assert_eq!(ws.close_limit(), Duration::from_secs(5));
        assert_eq!(ws.write_limit(), Some(Duration::from_secs(30)));
        assert_eq!(ws.idle_limit(), None);
        assert_eq!(ws.deflate_settings(), None);
        assert_eq!(options.handshake_timeout(), Duration::from_secs(10));
        assert_eq!(options.drain_ms, Duration::from_secs(5));
    }

    #[test]
    fn zero_is_off() {
        let options = parse(&[
            "--heartbeat-ms=0",
            "--write-timeout-ms=0",
            "--close-timeout-ms=0",
        ]);
        let ws = options.unwrap().ws(&Stats::new(), &Drain::new(NEVER));
        assert_eq!(ws.heartbeat_interval(), None);
        assert_eq!(ws.write_limit(), None);
        assert_eq!(ws.close_limit(), NEVER);
    }

    #[test]
    fn compression_is_asked_for() {
        let options = parse(&["--deflate"]).unwrap();
        let ws = options.ws(&Stats::new(), &options.drain());
        assert_eq!(ws.deflate_settings(), Some(&Deflate::new()));
        let options = parse(&["--deflate", "--deflate-takeover"]).unwrap();
        let ws = options.ws(&Stats::new(), &options.drain());
        let keeps = Deflate::new().context_takeover(true);
        assert_eq!(ws.deflate_settings(), Some(&keeps));
        assert!(parse(&["--deflate-takeover"]).is_err());
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("1", 1), ("2KiB", 2048), ("3MiB", 3 << 20), ("4 KiB", 4096)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        let most = format!("{}MiB", usize::MAX);
        for text in [
            "", "KiB", "1kib", "1KB", "1GiB", "-1", "1.5MiB", "0", "0KiB", "é", &most,
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn the_queue_follows_a_short_history() {
        let options = parse(&["--history", "5"]).unwrap();
        assert!(options.hub(&Stats::new(), &options.drain()).await.is_ok());
        let error = parse(&["--history", "5", "--queue", "6"]).unwrap_err();
        assert_eq!(error.to_string(), "--queue 6 is more than --history 5");
    }
}
