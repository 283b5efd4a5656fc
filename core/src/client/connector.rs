//! What connects: TCP, or a service of the user's own.

use std::{
    any::Any,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::timeout,
};
use tower_service::Service;

use super::{
    error::{BoxError, ConnectError},
    stream::Stream,
};

/// How long an address may take before the next is tried beside it (RFC 8305 §5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

pub(super) type Connecting = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

/// A connector whose types are forgotten.
pub(super) trait Connector: Send + Sync {
    fn connect(&self, uri: Uri) -> Connecting;
}

/// A service, cloned for each connection; behind a lock, since it need not be `Sync`.
pub(super) struct ByService<S>(Mutex<S>);

impl<S> ByService<S> {
    pub(super) const fn new(service: S) -> Self {
        Self(Mutex::new(service))
    }
}

impl<S> Connector for ByService<S>
where
    S: Service<Uri> + Clone + Send + 'static,
    S::Response: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn connect(&self, uri: Uri) -> Connecting {
        let mut service = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Box::pin(async move {
            let connected = async {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                service.call(uri).await
            };
            let io = connected
                .await
                .map_err(|error: S::Error| ConnectError::Connector(error.into()))?;
            Ok(bare(io))
        })
    }
}

/// Takes the wrapper off a TCP stream.
fn bare<I>(io: I) -> Stream
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let mut io = Some(io);
    let any: &mut dyn Any = &mut io;
    if let Some(tcp) = any.downcast_mut::<Option<TokioIo<TcpStream>>>()
        && let Some(tcp) = tcp.take()
    {
        return Stream::Tcp(tcp.into_inner());
    }
    match io {
        Some(io) => Stream::Other(Box::new(TokioIo::new(io))),
        // It is taken above only where it is returned.
        None => Stream::Other(Box::new(tokio::io::empty())),
    }
}

/// Connects over TCP to whichever of the host's addresses answers first, the two
/// families in turn (RFC 8305).
pub(super) async fn tcp(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let addresses = lookup_host((host, port))
        .await
        .map_err(ConnectError::Unreachable)?;
    let mut addresses = in_turn(addresses.collect()).into_iter();
    let mut attempts = JoinSet::new();
    let mut last = None;
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(TcpStream::connect(address));
        } else if attempts.is_empty() {
            let none = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
            return Err(ConnectError::Unreachable(last.unwrap_or_else(none)));
        }
        // The last address is waited for without a limit of its own.
        let limit = match addresses.len() {
            0 => Duration::MAX,
            _ => NEXT_ADDRESS,
        };
        match timeout(limit, attempts.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(error)))) => last = Some(error),
            Ok(Some(Err(_)) | None) | Err(_) => {}
        }
    }
}

/// The addresses with their families in turn, beginning with that of the first.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first);
    let mut turns = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    loop {
        let pair = [one.next(), other.next()];
        if pair == [None, None] {
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_tried_in_turn() {
        let parse = |text: &[&str]| -> Vec<SocketAddr> {
            text.iter()
                .map(|address| address.parse().unwrap())
                .collect()
        };
        let mixed = ["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"];
        let turns = ["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"];
        assert_eq!(in_turn(parse(&mixed)), parse(&turns));
        assert_eq!(in_turn(Vec::new()), []);
    }
}
