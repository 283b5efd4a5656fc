//! What an accepted connection needs before hyper gets it.

use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The write time-out of [`on_connect`], the same as that of
/// [`WsConfig`](towpath::ws::WsConfig).
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The most bytes that the kernel holds without having sent them.
///
/// Without a bound it takes four megabytes from a connection that is going nowhere,
/// and a reader that is slow but there looks stuck more often.
const UNSENT: u32 = 16 << 10;

/// Prepares an accepted connection for sockets and event streams: `TCP_NODELAY`, a
/// bound on what the kernel holds unsent, and a write time-out of 30 s.
///
/// `axum::serve` leaves Nagle's algorithm on, which holds small messages back for
/// 40 ms and more; and hyper does not poll the body of a response while its own buffer
/// is full, so that nothing in the process ever ends a stream whose reader has stopped
/// reading. The time-out does: see [`on_connect_with`].
///
/// ```no_run
/// use axum::{Router, serve::ListenerExt};
/// use tokio::net::TcpListener;
///
/// # async fn run(app: Router) -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:1984").await?;
/// axum::serve(listener.tap_io(towpath_axum::on_connect), app).await
/// # }
/// ```
pub fn on_connect(stream: &mut TcpStream) {
    prepare(stream, Some(WRITE_TIMEOUT));
}

/// [`on_connect`] with a write time-out of one's own, in whole milliseconds, at least
/// one; `None` for none.
///
/// It is the kernel's `TCP_USER_TIMEOUT`, on Linux only: a connection is reset when
/// what was sent is not acknowledged for so long, or the peer's window stays shut. It
/// is coarse. A peer's kernel opens its window not for each byte that is read from it
/// but for a sixteenth of its buffer or more, and some openings do not restart the
/// time-out; so a peer that reads, but for all this time more slowly than it is sent to,
/// may be reset. A few seconds are right for tests only. It counts for everything that
/// comes over this listener, downloads too.
///
/// # Panics
/// On zero.
///
/// ```no_run
/// use std::time::Duration;
/// use axum::{Router, serve::ListenerExt};
/// use tokio::net::TcpListener;
///
/// # async fn run(app: Router) -> std::io::Result<()> {
/// let listener = TcpListener::bind("127.0.0.1:1984").await?;
/// let on_connect = towpath_axum::on_connect_with(Duration::from_secs(60));
/// axum::serve(listener.tap_io(on_connect), app).await
/// # }
/// ```
pub fn on_connect_with(
    write_timeout: impl Into<Option<Duration>>,
) -> impl Fn(&mut TcpStream) + Clone + Send + Sync + 'static {
    let write_timeout = write_timeout.into();
    assert!(
        write_timeout != Some(Duration::ZERO),
        "write_timeout must not be zero"
    );
    move |stream| prepare(stream, write_timeout)
}

fn prepare(stream: &TcpStream, write_timeout: Option<Duration>) {
    let socket = SockRef::from(stream);
    let set = socket
        .set_tcp_nodelay(true)
        .and_then(|()| bound(&socket, write_timeout));
    if let Err(error) = set {
        // The connection works without, or is gone already, which its reader finds out.
        tracing::debug!(%error, "connection not prepared");
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn bound(socket: &SockRef<'_>, write_timeout: Option<Duration>) -> std::io::Result<()> {
    /// What the kernel takes: milliseconds in an `int`, where zero is "none".
    const SHORTEST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.set_tcp_user_timeout(write_timeout.map(|time| time.clamp(SHORTEST, LONGEST)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bound(_: &SockRef<'_>, _: Option<Duration>) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use axum::{Router, body::Body, routing::get, serve::ListenerExt};
    use bytes::Bytes;
    use http_body::Frame;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        sync::oneshot,
        time::{Instant, timeout},
    };

    use super::*;

    async fn accepted(prepare: impl Fn(&mut TcpStream)) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut server, _) = server.unwrap();
        prepare(&mut server);
        drop(client);
        server
    }

    async fn user_timeout(write_timeout: impl Into<Option<Duration>>) -> Option<Duration> {
        let stream = accepted(on_connect_with(write_timeout)).await;
        SockRef::from(&stream).tcp_user_timeout().unwrap()
    }

    #[tokio::test]
    async fn an_accepted_connection_is_prepared() {
        let stream = accepted(on_connect).await;
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(WRITE_TIMEOUT));
    }

    #[tokio::test]
    async fn the_time_out_is_the_chosen_one() {
        let seconds = Duration::from_secs(7);
        assert_eq!(user_timeout(seconds).await, Some(seconds));
        assert_eq!(user_timeout(None).await, None);
    }

    #[tokio::test]
    async fn times_that_the_kernel_does_not_take_are_not_none() {
        let shortest = user_timeout(Duration::from_micros(1)).await;
        assert_eq!(shortest, Some(Duration::from_millis(1)));
        let longest = user_timeout(Duration::MAX).await;
        assert_eq!(longest, Some(Duration::from_millis(i32::MAX as u64)));
    }

    #[test]
    #[should_panic(expected = "write_timeout must not be zero")]
    fn a_time_out_of_zero_is_refused() {
        let _ = on_connect_with(Duration::ZERO);
    }

    /// Always ready; tells when it is dropped.
    struct Endless {
        _dropped: oneshot::Sender<Infallible>,
    }

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let chunk = Bytes::from_static(&[b'x'; 16 << 10]);
            Poll::Ready(Some(Ok(Frame::data(chunk))))
        }
    }

    #[tokio::test]
    async fn a_stream_that_nobody_reads_is_ended() {
        let (sender, dropped) = oneshot::channel();
        let sender = std::sync::Mutex::new(Some(sender));
        let body = move || {
            let _dropped = sender.lock().unwrap().take().expect("asked once");
            Body::new(Endless { _dropped })
        };
        let body = std::sync::Arc::new(body);
        let app = Router::new().route("/", get(move || async move { body() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let time = Duration::from_secs(1);
        let listener = listener.tap_io(on_connect_with(time));
        let server = tokio::spawn(async move { axum::serve(listener, app).await });

        let mut client = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut head = [0; 15];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");

        let start = Instant::now();
        let gone = timeout(Duration::from_secs(20), dropped).await;
        assert!(gone.expect("the body is dropped").is_err());
        assert!(start.elapsed() >= time / 2, "not by something else");
        server.abort();
    }
}
