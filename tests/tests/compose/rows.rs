//! What the rows of `docs/composition.md` have in common.

use std::{
    io::{self, Read},
    net::SocketAddr,
    time::Duration,
};

use flate2::read::MultiGzDecoder;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::{sleep, timeout};
use towpath::sse::Event;
use towpath_tests::{
    http,
    process::SOON,
    sse::EventStream,
    ws::{WebSocket, handshake},
};

pub(crate) const ECHO: &str = "/echo";
pub(crate) const TRAP: &str = "/trap";
pub(crate) const FEED: &str = "/feed";

/// Between two events of the feed, but the first.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// 1, 2, 3 and so on, without end.
pub(crate) fn feed() -> impl Stream<Item = Event> + use<> {
    stream::unfold(1_u64, async |number| {
        if number > 1 {
            sleep(PAUSE).await;
        }
        Some((Event::new().data(number.to_string()), number + 1))
    })
}

/// One event, and then nothing.
pub(crate) fn quiet() -> impl Stream<Item = Event> + use<> {
    stream::once(async { Event::new().data("1") }).chain(stream::pending())
}

/// One event, and the end with it.
pub(crate) fn short() -> impl Stream<Item = Event> + use<> {
    stream::iter([Event::new().data("1")])
}

/// One event, and then a panic.
#[expect(clippy::panic, reason = "that is what is caught")]
pub(crate) fn falling() -> impl Stream<Item = Event> + use<> {
    let falls = stream::once(async { panic!("as wanted") });
    stream::once(async { Event::new().data("1") }).chain(falls)
}

/// An echo and a stream through whatever is around them.
pub(crate) async fn both(address: SocketAddr) -> (WebSocket, EventStream) {
    let mut socket = WebSocket::open(address, ECHO).await;
    socket.send("hello").await;
    assert_eq!(socket.text().await, "hello");
    let mut events = EventStream::open(address, FEED).await;
    assert_eq!(events.event().await.data, "1");
    (socket, events)
}

/// They live.
pub(crate) async fn live_on(socket: &mut WebSocket, events: &mut EventStream) {
    socket.send("still here").await;
    assert_eq!(socket.text().await, "still here");
    let next: u64 = events.event().await.data.parse().expect("a number");
    assert!(next > 1);
}

/// Reads a stream to its end; how that was.
pub(crate) async fn ending(address: SocketAddr, path: &str) -> io::Result<()> {
    let mut connection = http::Connection::open(address).await;
    let request = http::head("GET", path, &[]);
    connection.write(request.as_bytes()).await;
    let head = connection.head().await;
    assert_eq!(head.status, 200);
    let mut body = http::Body::new(connection, &head);
    let read = async {
        while body.chunk().await?.is_some() {}
        Ok(())
    };
    timeout(SOON, read).await.expect("it ends")
}

/// A panic of a socket's handler is 1011, one of a stream's source its end; nobody else
/// is harmed.
pub(crate) async fn panics_are_told(address: SocketAddr) {
    let mut trapped = WebSocket::open(address, TRAP).await;
    trapped.send("step").await;
    assert_eq!(trapped.closed().await.code.get(), 1011);
    let mut falling = EventStream::open(address, "/falling").await;
    assert_eq!(falling.rest().await.len(), 1);
}

/// The status of an upgrade request with these headers.
pub(crate) async fn upgrade(address: SocketAddr, headers: &[(&str, &str)]) -> u16 {
    let mut connection = http::Connection::open(address).await;
    connection.write(handshake(ECHO, headers).as_bytes()).await;
    connection.head().await.status
}

/// Asks for sockets until one is refused with 503.
pub(crate) async fn until_refused(address: SocketAddr) {
    let refused = async { while upgrade(address, &[]).await != 503 {} };
    timeout(SOON, refused).await.expect("it is refused");
}

/// One place: it is taken for as long as a socket or a stream lives.
pub(crate) async fn one_at_a_time(address: SocketAddr) {
    let mut socket = WebSocket::open(address, ECHO).await;
    socket.send("in").await;
    assert_eq!(socket.text().await, "in");
    assert_eq!(upgrade(address, &[]).await, 503);
    assert_eq!(http::get(address, FEED).await.status, 503);
    socket.close(1000).await;
    socket.closed().await;
    let come = async {
        loop {
            let mut connection = http::Connection::open(address).await;
            connection
                .write(http::head("GET", FEED, &[]).as_bytes())
                .await;
            let head = connection.head().await;
            if head.status == 200 {
                break EventStream::answered(connection, head);
            }
        }
    };
    let mut events = timeout(SOON, come).await.expect("the place is free");
    assert_eq!(events.event().await.data, "1");
    assert_eq!(upgrade(address, &[]).await, 503);
}

/// The text that is in the beginning of a gzip stream.
pub(crate) fn gunzip(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    // It has no end yet: what is there is read until that is found missing.
    let _ = MultiGzDecoder::new(bytes).read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Asks for the feed compressed, and reads for a while: the text that came by then.
pub(crate) async fn compressed(address: SocketAddr, time: Duration) -> String {
    let mut connection = http::Connection::open(address).await;
    let request = http::head("GET", FEED, &[("Accept-Encoding", "gzip")]);
    connection.write(request.as_bytes()).await;
    let head = connection.head().await;
    assert_eq!(head.get("content-encoding"), Some("gzip"));
    let mut body = http::Body::new(connection, &head);
    let mut came = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = body.chunk().await {
            came.extend_from_slice(&chunk);
            if gunzip(&came).contains("data: 2") {
                break;
            }
        }
    };
    let _ = timeout(time, read).await;
    gunzip(&came)
}
