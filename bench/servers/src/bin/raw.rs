//! The limit: TCP echo without any protocol, with one read buffer a thread. What the peer does not take at once is
//! kept by the connection until it does.

use std::{cell::Cell, io};

use bench_servers::Options;
use clap::Parser;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

thread_local! {
    /// Taken for the moment of a read and the writes behind it, never across an await.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    options.runtime()?.block_on(async {
        let listener = options.listen_tokio()?;
        let size = options.buffer_kib * 1024;
        let acceptor = options.tls()?.map(TlsAcceptor::from);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            if let Some(acceptor) = acceptor.clone() {
                tokio::spawn(async move { echo_tls(acceptor, stream, size).await });
                continue;
            }
            // A reset is the client's way to end.
            tokio::spawn(async move { echo(stream, size).await.unwrap_or_default() });
        }
    })
}

async fn echo(stream: TcpStream, size: usize) -> io::Result<()> {
    loop {
        stream.readable().await?;
        let mut rest = match turn(&stream, size)? {
            Turn::End => return Ok(()),
            Turn::Rest(rest) => rest,
        };
        while !rest.is_empty() {
            stream.writable().await?;
            match stream.try_write(&rest) {
                Ok(written) => drop(rest.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

enum Turn {
    End,
    /// What the peer did not take.
    Rest(Vec<u8>),
}

/// One read, and one write of what it brought.
fn turn(stream: &TcpStream, size: usize) -> io::Result<Turn> {
    let mut buffer = BUFFER.take();
    buffer.resize(size, 0);
    let turn = match stream.try_read(&mut buffer) {
        Ok(0) => Ok(Turn::End),
        Ok(read) => match stream.try_write(&buffer[..read]) {
            Ok(written) => Ok(Turn::Rest(buffer[written..read].to_vec())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(Turn::Rest(buffer[..read].to_vec()))
            }
            Err(error) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Turn::Rest(Vec::new())),
        Err(error) => Err(error),
    };
    BUFFER.set(buffer);
    turn
}

/// The same over TLS: what came decrypted by then, in one write.
async fn echo_tls(acceptor: TlsAcceptor, stream: TcpStream, size: usize) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut buffer = vec![0; size];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..read]).await?;
        stream.flush().await?;
    }
}
