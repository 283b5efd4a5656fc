//! No more live than may, each gives its place back, and the refused cost nothing.

use std::{net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{net::TcpStream, time::timeout};
use towpath_tests::{
    http::{self, Connection, Head},
    on_both,
    process::SOON,
    sse::EventStream,
    ws::{Incoming, WebSocket, handshake},
};

/// A stream without an end of its own.
const ENDLESS: &str = "/count?n=1000000&interval_ms=60000";

/// What a handshake that is refused is answered.
async fn refused(address: SocketAddr, path: &str) -> Head {
    let mut connection = Connection::open(address).await;
    connection.write(handshake(path, &[]).as_bytes()).await;
    connection.head().await
}

/// Asserts that it came too late.
fn assert_refused(head: &Head, status: u16) {
    assert_eq!(head.status, status, "{head:?}");
    let seconds = head
        .get("retry-after")
        .and_then(|value| value.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds >= 1), "{head:?}");
}

on_both! {
    async fn sockets_and_streams_are_counted_together(framework: Framework) {
        let testbed = framework.start(&["--max-connections", "3"]).await;
        let address = testbed.address();
        let _echo = WebSocket::open(address, "/echo").await;
        let _topic = WebSocket::open(address, "/topics/t/ws").await;
        let _count = EventStream::open(address, ENDLESS).await;
        assert_refused(&refused(address, "/echo").await, 503);
        assert_refused(&refused(address, "/topics/t/ws").await, 503);
        for path in [ENDLESS, "/topics/t"] {
            let refused = http::get(address, path).await;
            assert_eq!(refused.status, 503, "{path}");
            assert!(refused.get("retry-after").is_some(), "{refused:?}");
        }
        // Ordinary requests always pass.
        assert_eq!(http::get(address, "/healthz").await.status, 200);
        assert_eq!(http::post(address, "/topics/t", "a").await.status, 201);
        let counts = testbed.counts().await;
        assert_eq!((counts.websockets, counts.sse_streams), (2, 1));
        assert_eq!((counts.upgrades_total, counts.rejected_total), (2, 4));
    }

    async fn a_user_has_places_of_its_own(framework: Framework) {
        let arguments = ["--max-connections", "4", "--max-per-user", "2"];
        let testbed = framework.start(&arguments).await;
        let address = testbed.address();
        let _ann = WebSocket::open(address, "/echo?user=ann").await;
        let _ann_too = EventStream::open(address, "/topics/t?user=ann").await;
        assert_refused(&refused(address, "/echo?user=ann").await, 429);
        assert_refused(&refused(address, "/topics/t/ws?user=%61nn").await, 429);
        let _bob = WebSocket::open(address, "/echo?user=bob").await;
        let _nobody = WebSocket::open(address, "/echo").await;
        assert_refused(&refused(address, "/echo").await, 503);
        assert_refused(&refused(address, "/echo?user=bob").await, 503);
        assert_eq!(testbed.counts().await.rejected_total, 4);
    }

    async fn what_authentication_refuses_takes_no_place(framework: Framework) {
        let testbed = framework.start(&["--max-connections", "1"]).await;
        let address = testbed.address();
        for _ in 0..3 {
            assert_eq!(refused(address, "/private/echo").await.status, 401);
        }
        let secret = [("Authorization", "Bearer secret")];
        let mut socket = WebSocket::open_with(address, "/private/echo", &secret).await;
        socket.send("in").await;
        assert_eq!(socket.text().await, "in");
    }

    /// One place: whoever comes next shows that the one before has given it back.
    async fn a_place_comes_back_on_every_way_out(framework: Framework) {
        let arguments = ["--max-connections", "1", "--close-timeout-ms", "200"];
        let testbed = framework.start(&arguments).await;
        let address = testbed.address();

        let mut closed = open_socket(address, "/echo").await;
        closed.close(1000).await;
        closed.closed().await;
        come_in(address).await;

        let mut panics = open_socket(address, "/panic").await;
        panics.send("now").await;
        assert_eq!(panics.closed().await.code.get(), 1011);
        come_in(address).await;

        let mut violates = open_socket(address, "/echo").await;
        violates.write(&[0xff, 0xff]).await;
        assert_eq!(violates.close_frame().await.code.get(), 1002);
        drop(violates);
        come_in(address).await;

        // Nothing of a close: our end is told by the time-out.
        let mut ended = open_socket(address, "/flood?n=1&size=1").await;
        ended.message().await;
        assert_eq!(ended.close_frame().await.code.get(), 1000);
        assert_eq!(ended.next().await, Incoming::Reset);
        come_in(address).await;

        let mut count = open_stream(address, "/count?n=3&interval_ms=0").await;
        assert_eq!(count.rest().await.len(), 3);
        come_in(address).await;

        drop(open_stream(address, ENDLESS).await);
        come_in(address).await;

        reset(address, &handshake("/echo", &[])).await;
        reset(address, &http::head("GET", ENDLESS, &[])).await;
        come_in(address).await;

        for _ in 0..20 {
            // Gone before the answer.
            let mut hasty = Connection::open(address).await;
            hasty.write(handshake("/echo", &[]).as_bytes()).await;
            drop(hasty);
        }
        come_in(address).await;

        for path in ["/count?n=x", "/sink?delay_ms=x", "/topics/t%2f/ws"] {
            let (_, head) = come(address, &handshake(path, &[])).await;
            assert_eq!(head.status, 400, "{path}");
        }
        come_in(address).await;
    }

    async fn so_many_and_never_one_more(framework: Framework) {
        let testbed = framework.start(&["--max-connections", "8"]).await;
        let address = testbed.address();
        let clients: Vec<_> = (0..32)
            .map(|_| tokio::spawn(async move {
                let mut met = 0;
                for _ in 0..20 {
                    let mut connection = Connection::open(address).await;
                    connection.write(handshake("/echo", &[]).as_bytes()).await;
                    let status = connection.head().await.status;
                    assert!(matches!(status, 101 | 503), "{status}");
                    met += u64::from(status == 101);
                }
                met
            }))
            .collect();
        let watched = tokio::spawn(async move {
            let mut most = 0;
            for _ in 0..50 {
                let stats: serde_json::Value =
                    serde_json::from_str(http::get(address, "/stats").await.text()).expect("JSON");
                most = most.max(stats["websockets"].as_u64().expect("a number"));
            }
            most
        });
        let mut met = 0;
        for client in clients {
            met += client.await.expect("it ran");
        }
        let most = watched.await.expect("it ran");
        assert!(most <= 8, "{most} at once");
        let counts = testbed.until(|counts| counts.websockets == 0).await;
        assert_eq!(counts.upgrades_total, met);
        assert_eq!(counts.rejected_total, 32 * 20 - met);
        // All of them are there again.
        let mut again = Vec::new();
        for _ in 0..8 {
            again.push(come_in(address).await);
        }
        assert_refused(&refused(address, "/echo").await, 503);
    }
}

/// Sends a request again and again until there is a place for it.
async fn come(address: SocketAddr, request: &str) -> (Connection, Head) {
    let come = async {
        loop {
            let mut connection = Connection::open(address).await;
            connection.write(request.as_bytes()).await;
            let head = connection.head().await;
            if head.status != 503 {
                break (connection, head);
            }
        }
    };
    timeout(SOON, come).await.expect("a place comes back")
}

async fn open_socket(address: SocketAddr, path: &str) -> WebSocket {
    let (connection, head) = come(address, &handshake(path, &[])).await;
    assert_eq!(head.status, 101, "{head:?}");
    let (stream, input) = connection.into_parts();
    WebSocket::answered(stream, input, head)
}

async fn open_stream(address: SocketAddr, path: &str) -> EventStream {
    let (connection, head) = come(address, &http::head("GET", path, &[])).await;
    EventStream::answered(connection, head)
}

/// Shows that the place is free, and frees it again.
async fn come_in(address: SocketAddr) -> WebSocket {
    open_socket(address, "/echo").await
}

/// Sends a request, waits for the answer's head and resets the connection.
async fn reset(address: SocketAddr, request: &str) {
    let (connection, _) = come(address, request).await;
    let (stream, _): (TcpStream, _) = connection.into_parts();
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .expect("set");
}
