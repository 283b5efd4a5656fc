//! What the servers of the benchmark share: their options, the socket they listen on, the line that says where.

#![allow(
    clippy::print_stdout,
    reason = "the first line is how a server tells where it listens"
)]

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
};

use clap::{Parser, ValueEnum};
use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, Runtime};

/// Thousands of clients come at once.
const BACKLOG: i32 = 4096;

/// The options of each server: those of the testbeds that the benchmark uses.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub addr: SocketAddr,
    /// Threads; 1 is a current-thread runtime, or one worker.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// The buffer of the raw echo, in KiB.
    #[arg(long, default_value_t = 64)]
    pub buffer_kib: usize,
    /// Accept permessage-deflate, where the peer can.
    #[arg(long, value_enum)]
    pub compress: Option<Compress>,
}

/// Whether the compressor's window is kept from message to message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Compress {
    /// Each message on its own.
    NoTakeover,
    /// The window is kept.
    Takeover,
}

impl Options {
    /// A socket that listens, and says so.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(self.addr), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&self.addr.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from(socket);
        let mut out = io::stdout().lock();
        writeln!(out, "listening on http://{}", listener.local_addr()?)?;
        out.flush()?;
        Ok(listener)
    }

    /// The same as [`Self::listen`], for tokio.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn listen_tokio(&self) -> io::Result<tokio::net::TcpListener> {
        tokio::net::TcpListener::from_std(self.listen()?)
    }

    /// The runtime that the threads ask for.
    ///
    /// # Errors
    /// Those of tokio.
    pub fn runtime(&self) -> io::Result<Runtime> {
        match self.threads {
            1 => Builder::new_current_thread().enable_all().build(),
            threads => Builder::new_multi_thread()
                .worker_threads(threads)
                .enable_all()
                .build(),
        }
    }
}
