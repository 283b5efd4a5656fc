//! What is set on a connection when it is accepted.

use std::{any::Any, time::Duration};

use actix_web::{dev::Extensions, rt::net::TcpStream};
use socket2::SockRef;

use crate::socket::Socket;

/// The write time-out of [`on_connect`], the same as that of
/// [`WsConfig`](towpath::ws::WsConfig).
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The most bytes that the kernel holds without having sent them.
///
/// Without a bound it takes four megabytes from a connection that is going nowhere,
/// and a reader that is slow but there looks stuck.
const UNSENT: u32 = 16 << 10;

/// Prepares an accepted connection for sockets and event streams: `TCP_NODELAY`, a
/// bound on what the kernel holds unsent, and a write time-out of 30 s.
///
/// Give it to [`HttpServer::on_connect`] *before* any `bind` or `listen`, since actix
/// takes it when a listener is bound. For TLS there is [`on_connect_through`].
///
/// actix leaves Nagle's algorithm on, which holds small messages back for 40 ms and
/// more; and it does not poll the body of a response whose peer does not read, so that
/// nothing in the process ends such a connection. The time-out does: see
/// [`on_connect_with`]. Also, a socket's own time-outs can reset its connection only
/// through what is left in the connection's data here.
///
/// Without it everything works but this: of a peer that stops reading, a socket's
/// handler is told after the write time-out, but the connection itself (a file
/// descriptor, up to 48 KiB in actix, what the kernel holds) stays until the peer ends
/// it; an event stream stays with all that it owns.
///
/// ```no_run
/// use actix_web::{App, HttpServer};
///
/// # async fn run() -> std::io::Result<()> {
/// HttpServer::new(|| App::new())
///     .on_connect(towpath_actix::on_connect)
///     .bind(("127.0.0.1", 1984))?
///     .run()
///     .await
/// # }
/// ```
///
/// [`HttpServer::on_connect`]: actix_web::HttpServer::on_connect
pub fn on_connect(connection: &dyn Any, data: &mut Extensions) {
    if let Some(tcp) = connection.downcast_ref() {
        prepare(tcp, data, Some(WRITE_TIMEOUT));
    }
}

/// [`on_connect`] with a write time-out of one's own, in whole milliseconds, at least
/// one; `None` for none.
///
/// It is the kernel's `TCP_USER_TIMEOUT`, on Linux only: a connection is reset when
/// what was sent is not acknowledged for so long, or the peer's window stays shut. It
/// is coarse: a window that opens by less than what waits at the head of the queue does
/// not restart it, so that a peer which reads out of a tiny buffer, but for all this
/// time more slowly than it is sent to, may be reset. For sockets the write time-out of
/// [`WsConfig`](towpath::ws::WsConfig) takes its place, which spares them.
///
/// # Panics
/// On zero.
///
/// ```no_run
/// use std::time::Duration;
/// use actix_web::{App, HttpServer};
///
/// # async fn run() -> std::io::Result<()> {
/// HttpServer::new(|| App::new())
///     .on_connect(towpath_actix::on_connect_with(Duration::from_secs(60)))
///     .bind(("127.0.0.1", 1984))?
///     .run()
///     .await
/// # }
/// ```
pub fn on_connect_with(
    write_timeout: impl Into<Option<Duration>>,
) -> impl Fn(&dyn Any, &mut Extensions) + Clone + Send + Sync + 'static {
    on_connect_through(write_timeout, |tcp: &TcpStream| tcp)
}

/// [`on_connect_with`] for connections that have their TCP stream inside, as TLS has.
///
/// The types that actix hands over are listed at [`HttpServer::on_connect`]; with
/// rustls it is `|tls: &TlsStream<TcpStream>| tls.get_ref().0`. Plain TCP is prepared
/// too, any other type is left as it is.
///
/// # Panics
/// On a time-out of zero.
///
/// ```
/// use std::time::Duration;
/// use actix_web::rt::net::TcpStream;
///
/// struct Tls { tcp: TcpStream }
///
/// let on_connect =
///     towpath_actix::on_connect_through(Duration::from_secs(30), |tls: &Tls| &tls.tcp);
/// # let _ = on_connect;
/// ```
///
/// [`HttpServer::on_connect`]: actix_web::HttpServer::on_connect
pub fn on_connect_through<T: 'static>(
    write_timeout: impl Into<Option<Duration>>,
    tcp: fn(&T) -> &TcpStream,
) -> impl Fn(&dyn Any, &mut Extensions) + Clone + Send + Sync + 'static {
    let write_timeout = write_timeout.into();
    assert!(
        write_timeout != Some(Duration::ZERO),
        "write_timeout must not be zero"
    );
    move |connection, data| {
        let plain = connection.downcast_ref();
        if let Some(tcp) = plain.or_else(|| connection.downcast_ref().map(tcp)) {
            prepare(tcp, data, write_timeout);
        }
    }
}

fn prepare(tcp: &TcpStream, data: &mut Extensions, write_timeout: Option<Duration>) {
    let socket = SockRef::from(tcp);
    let set = socket
        .set_tcp_nodelay(true)
        .and_then(|()| bound(&socket, write_timeout))
        .and_then(|()| Socket::of(tcp, write_timeout));
    match set {
        Ok(socket) => drop(data.insert(socket)),
        // The connection works without, or is gone already, which its reader finds out.
        Err(error) => tracing::debug!(%error, "connection not prepared"),
    }
}

#[cfg(target_os = "linux")]
fn bound(socket: &SockRef<'_>, write_timeout: Option<Duration>) -> std::io::Result<()> {
    socket.set_tcp_notsent_lowat(UNSENT)?;
    crate::socket::set_user_timeout(socket, write_timeout)
}

#[cfg(not(target_os = "linux"))]
fn bound(_: &SockRef<'_>, _: Option<Duration>) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use actix_web::rt::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().await.unwrap().0, peer)
    }

    #[actix_web::test]
    async fn sets_the_options_and_leaves_the_socket() {
        let (tcp, _peer) = pair().await;
        let mut data = Extensions::new();
        on_connect(&tcp, &mut data);
        let socket = SockRef::from(&tcp);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(WRITE_TIMEOUT));
        assert!(data.contains::<Socket>());
    }

    #[actix_web::test]
    async fn reaches_through_another_type() {
        struct Tls(TcpStream);
        let (tcp, _peer) = pair().await;
        let tls = Tls(tcp);

        let mut data = Extensions::new();
        on_connect(&tls, &mut data);
        assert!(!data.contains::<Socket>());

        let timeout = Duration::from_micros(1);
        on_connect_through(timeout, |tls: &Tls| &tls.0)(&tls, &mut data);
        assert!(data.contains::<Socket>());
        // Zero would be none.
        let set = SockRef::from(&tls.0).tcp_user_timeout().unwrap();
        assert_eq!(set, Some(Duration::from_millis(1)));
    }

    #[test]
    #[should_panic(expected = "write_timeout must not be zero")]
    fn refuses_a_timeout_of_zero() {
        drop(on_connect_with(Duration::ZERO));
    }
}
