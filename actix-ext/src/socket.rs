//! A connection's socket, as its handler can reach it.
//!
//! actix keeps the stream to itself: `on_connect` borrows it once, and a response body
//! cannot end a connection that it is not polled for. A duplicate of the descriptor
//! would do, but kept for a connection's whole life it halves the number of connections
//! that a process can hold. So only its number is kept, and the duplicate is made for
//! the moment of its use: `pidfd_getfd` on this very process, which needs no `unsafe`.
//! It is of Linux 5.6, and some sandboxes refuse it; then what a [`Socket`] does is left
//! to the `TCP_USER_TIMEOUT` that was set when the connection was accepted.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
#[cfg(target_os = "linux")]
use std::sync::OnceLock;
use std::time::Duration;

use actix_web::rt::net::TcpStream;
#[cfg(target_os = "linux")]
use rustix::net::sockopt::socket_cookie;

/// A socket that actix owns.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    #[cfg(target_os = "linux")]
    number: RawFd,
    // The number may have come to stand for another connection; the kernel gives no two
    // sockets the same cookie.
    #[cfg(target_os = "linux")]
    cookie: u64,
    write_timeout: Option<Duration>,
}

impl Socket {
    /// # Errors
    /// Where the kernel, or a sandbox, has no cookies.
    #[cfg(target_os = "linux")]
    pub(crate) fn of(tcp: &TcpStream, write_timeout: Option<Duration>) -> io::Result<Self> {
        Ok(Self {
            number: tcp.as_raw_fd(),
            cookie: socket_cookie(tcp)?,
            write_timeout,
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn of(_: &TcpStream, write_timeout: Option<Duration>) -> io::Result<Self> {
        Ok(Self { write_timeout })
    }

    /// Takes the kernel's write time-out off: it ends slow peers that the driver's clock spares.
    ///
    /// # Errors
    /// Where the socket cannot be reached; the kernel's time-out then stays.
    pub(crate) fn lift_timeout(&self) -> io::Result<()> {
        set_user_timeout(&self.reach()?, None)
    }

    /// Gives what actix still has to flush, once nobody watches it any more, the
    /// kernel's write time-out.
    ///
    /// # Errors
    /// Where the socket cannot be reached or is gone.
    pub(crate) fn restore_timeout(&self) -> io::Result<()> {
        set_user_timeout(&self.reach()?, self.write_timeout)
    }

    /// Resets the connection: what is queued is discarded, actix's task is woken
    /// and ends.
    ///
    /// # Errors
    /// Where the socket cannot be reached or is gone.
    #[cfg(target_os = "linux")]
    pub(crate) fn reset(&self) -> io::Result<()> {
        // Dissolves the association, which for TCP is an RST. A shutdown would
        // queue a FIN behind what the peer does not read.
        Ok(rustix::net::connect_unspec(self.reach()?)?)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn reset(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(all(test, target_os = "linux"))]
    pub(crate) fn timeout(&self) -> io::Result<Option<Duration>> {
        self.reach()?.tcp_user_timeout()
    }

    #[cfg(target_os = "linux")]
    fn reach(&self) -> io::Result<socket2::Socket> {
        use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

        static SELF: OnceLock<Option<OwnedFd>> = OnceLock::new();
        let this = SELF.get_or_init(|| pidfd_open(getpid(), PidfdFlags::empty()).ok());
        let this = this.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let socket =
            socket2::Socket::from(pidfd_getfd(this, self.number, PidfdGetfdFlags::empty())?);
        if socket_cookie(&socket)? != self.cookie {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(socket)
    }

    #[cfg(not(target_os = "linux"))]
    fn reach(&self) -> io::Result<socket2::Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(target_os = "linux")]
pub(crate) fn set_user_timeout(
    socket: &socket2::Socket,
    timeout: Option<Duration>,
) -> io::Result<()> {
    /// What the kernel takes: milliseconds in an `int`, where zero is "none".
    const SHORTEST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

    socket.set_tcp_user_timeout(timeout.map(|time| time.clamp(SHORTEST, LONGEST)))
}

#[cfg(not(target_os = "linux"))]
fn set_user_timeout(_: &socket2::Socket, _: Option<Duration>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::Read;

    use actix_web::rt::net::TcpListener;
    use socket2::SockRef;

    use super::*;

    async fn pair() -> (TcpStream, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().await.unwrap().0, peer)
    }

    #[actix_web::test]
    async fn lifts_and_restores_the_kernels_timeout() {
        let (tcp, _peer) = pair().await;
        let timeout = Some(Duration::from_secs(7));
        let socket = Socket::of(&tcp, timeout).unwrap();
        socket.restore_timeout().unwrap();
        assert_eq!(SockRef::from(&tcp).tcp_user_timeout().unwrap(), timeout);
        socket.lift_timeout().unwrap();
        assert_eq!(SockRef::from(&tcp).tcp_user_timeout().unwrap(), None);
    }

    #[actix_web::test]
    async fn a_reset_reaches_both_ends() {
        let (tcp, mut peer) = pair().await;
        let socket = Socket::of(&tcp, None).unwrap();
        assert_eq!(tcp.try_write(b"unread").unwrap(), 6);
        socket.reset().unwrap();
        tcp.readable().await.unwrap();
        let owner = tcp.try_read(&mut [0]);
        assert_eq!(owner.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let end = peer.read_to_end(&mut Vec::new());
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[actix_web::test]
    async fn a_number_that_was_given_to_another_connection_is_left_alone() {
        let (tcp, _peer) = pair().await;
        let (other, _other_peer) = pair().await;
        let socket = Socket {
            number: other.as_raw_fd(),
            ..Socket::of(&tcp, None).unwrap()
        };
        assert_eq!(
            socket.reset().unwrap_err().kind(),
            io::ErrorKind::NotConnected
        );
        assert_eq!(other.try_write(b"alive").unwrap(), 5);
    }
}
