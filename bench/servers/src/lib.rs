//! What the servers of the benchmark share: their options, the socket they listen on, the line that says where.

#![allow(
    clippy::print_stdout,
    reason = "the first line is how a server tells where it listens"
)]

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
};

use clap::{Parser, ValueEnum};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
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
    /// Over TLS: the PEM files of the certificate and of its key, where the server can.
    #[arg(long, num_args = 2, value_names = ["CERT", "KEY"])]
    pub tls: Option<Vec<PathBuf>>,
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
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        writeln!(out, "listening on {scheme}://{}", listener.local_addr()?)?;
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

    /// What TLS is spoken with, where it is asked for.
    ///
    /// # Errors
    /// Those of the files.
    pub fn tls(&self) -> io::Result<Option<Arc<ServerConfig>>> {
        let Some([certificate, key]) = self.tls.as_deref() else {
            return Ok(None);
        };
        let certificate = CertificateDer::from_pem_file(certificate).map_err(io::Error::other)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .map_err(io::Error::other)?;
        Ok(Some(Arc::new(config)))
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
