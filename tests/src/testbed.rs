use std::{
    fmt::Display,
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    sync::Arc,
};

use towpath::{
    Drain, Stats,
    backpressure::Admission,
    hub::Hub,
    sse::{Source, Sse},
    ws::{WsConfig, WsLayer},
};

use rustls::ServerConfig;
use tracing_subscriber::EnvFilter;

use crate::{Counts, Options, OptionsError};

/// The state behind the routes; a clone is the same.
#[derive(Clone, Debug)]
pub struct Testbed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: Options,
    stats: Stats,
    drain: Drain,
    hub: Hub,
    ws: WsConfig,
    admission: Option<Admission>,
    tls: Option<Arc<ServerConfig>>,
}

impl Testbed {
    /// The testbed that `options` ask for, for a program.
    ///
    /// # Errors
    /// The status with which the program ends; the reason is on standard error.
    pub async fn start(options: Options) -> Result<Self, ExitCode> {
        let testbed = Self::new(options).await.map_err(fail)?;
        tracing_subscriber::fmt()
            .with_writer(io::stderr)
            .with_env_filter(EnvFilter::from_default_env())
            .init();
        Ok(testbed)
    }

    /// What `options` ask for.
    ///
    /// # Errors
    /// Where they do not fit each other, where TLS cannot be spoken as they say, or the
    /// broker not be used.
    pub async fn new(options: Options) -> Result<Self, OptionsError> {
        // The process's: a layer does not give its own to requests that ask for no
        // upgrade, and their refusals count too.
        let stats = Stats::global();
        let drain = options.drain();
        let hub = options.hub(&stats, &drain).await?;
        let ws = options.ws(&stats, &drain);
        let admission = options.admission();
        let tls = options.tls()?;
        Ok(Self(Arc::new(Inner {
            options,
            stats,
            drain,
            hub,
            ws,
            admission,
            tls,
        })))
    }

    /// A listener at the address that the options name.
    ///
    /// # Errors
    /// Where nothing can listen there: the option and the cause.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let options = self.options();
        let named = |error| io::Error::other(format!("--addr {}: {error}", options.addr));
        options.listen().map_err(named)
    }

    /// Prints where the testbed listens: the one line on its standard output.
    ///
    /// # Errors
    /// Where nobody can read it.
    pub fn announce(&self, address: SocketAddr) -> io::Result<()> {
        let scheme = self.tls().map_or("http", |_| "https");
        let mut out = io::stdout().lock();
        writeln!(out, "listening on {scheme}://{address}")?;
        out.flush()
    }

    /// The options that it was made from.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// What counts.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.0.stats
    }

    /// What ends it.
    #[must_use]
    pub fn drain(&self) -> &Drain {
        &self.0.drain
    }

    /// The topics.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// The settings of its sockets.
    pub fn ws(&self) -> &WsConfig {
        &self.0.ws
    }

    /// Who may come in; `None` where everybody may.
    #[must_use]
    pub fn admission(&self) -> Option<&Admission> {
        self.0.admission.as_ref()
    }

    /// What TLS is spoken with, where it is.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<ServerConfig>> {
        self.0.tls.as_ref()
    }

    /// The layer with the settings of its sockets.
    pub fn ws_layer(&self) -> WsLayer {
        self.ws().clone().into()
    }

    /// Counts a socket or stream that is refused for its query.
    ///
    /// # Errors
    /// The query's.
    pub fn counted<T, E>(&self, query: Result<T, E>) -> Result<T, E> {
        query.inspect_err(|_| self.stats().count_rejected())
    }

    /// An event stream with the settings of its streams.
    pub fn sse<S: Source>(&self, sse: Sse<S>) -> Sse<S> {
        sse.keep_alive(self.options().keep_alive())
            .drain(self.drain())
            .stats(self.stats())
    }

    /// What `/stats` answers.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.stats().snapshot().into()
    }

    /// Status and body of `/healthz`.
    #[must_use]
    pub fn health(&self) -> (u16, &'static str) {
        if self.drain().is_draining() {
            (503, "draining")
        } else {
            (200, "ok")
        }
    }
}

/// Ends the program with one line on standard error.
pub fn fail(cause: impl Display) -> ExitCode {
    // Nobody may be there to read it.
    let _ = writeln!(io::stderr().lock(), "error: {cause}");
    ExitCode::from(2)
}
