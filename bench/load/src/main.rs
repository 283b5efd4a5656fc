//! The load generator of the benchmark. One thread, sockets of its own, frames masked before the clock runs; each byte
//! that comes back is checked. The server's CPU time and memory are read from `/proc` at the moments that bound what
//! was counted. One line of JSON on standard output says what was measured.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program speaks to its user"
)]

mod connection;
mod echo;
mod events;
mod fan;
mod frame;
mod h2;
mod handshake;
mod handshakes;
mod histogram;
mod idle;
mod incoming;
mod meter;
mod poll;
mod ring;
mod sse;
mod tls;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

/// What goes wrong: a line for the person who started it.
type Failure = Box<dyn std::error::Error>;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    load: Load,
}

/// The server under test.
#[derive(Clone, Debug, clap::Args)]
struct Target {
    /// Where it listens.
    #[arg(long)]
    addr: SocketAddr,
    /// What is asked for.
    #[arg(long, default_value = "/echo")]
    path: String,
    /// Its process, whose CPU time and memory are read.
    #[arg(long)]
    pid: u32,
    /// What is offered and must be accepted.
    #[arg(long, value_enum)]
    compress: Option<Compress>,
    /// Over TLS; the server's certificate, a PEM file.
    #[arg(long, value_name = "CERT")]
    tls: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Compress {
    /// permessage-deflate, each message on its own in both directions.
    NoTakeover,
    /// permessage-deflate, the window is kept in both directions.
    Takeover,
}

/// What the messages are.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Kind {
    /// Random bytes.
    Binary,
    /// ASCII with some umlauts and emoji among it.
    Text,
    /// Text that is JSON, as an application would send it.
    Json,
}

#[derive(Debug, Subcommand)]
enum Load {
    /// Each message comes back.
    Echo(echo::Options),
    /// Connect, upgrade, close; again and again.
    Handshakes(handshakes::Options),
    /// One connection says it, all hear it.
    Fan(fan::Options),
    /// The same as event streams.
    Sse(sse::Options),
    /// Connections that do nothing.
    Idle(idle::Options),
}

/// For how long something is done.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Time {
    /// Seconds that are measured.
    #[arg(long, default_value = "3", value_parser = seconds)]
    seconds: Duration,
    /// Seconds in front of them.
    #[arg(long, default_value = "0.5", value_parser = seconds)]
    warm: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let Arguments { target, load } = Arguments::parse();
    let result = match load {
        Load::Echo(options) => echo::run(&target, &options),
        Load::Handshakes(options) => handshakes::run(&target, &options),
        Load::Fan(options) => fan::run(&target, &options),
        Load::Sse(options) => sse::run(&target, &options),
        Load::Idle(options) => idle::run(&target, &options),
    };
    let printed = result.and_then(|report| Ok(serde_json::to_string(&report)?));
    match printed {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
