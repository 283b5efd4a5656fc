//! The expiry of what a client was let in with.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use towpath::ws::{CloseCode, Error};
use towpath_tests::{http, on_both, sse::EventStream, ws::WebSocket};

use super::Server;

const HOUR: Duration = Duration::from_secs(3600);

fn expired() -> Error {
    Error::Closed {
        code: Some(CloseCode::UNAUTHORIZED),
        reason: "credential expired".into(),
    }
}

on_both! {
    async fn a_socket_and_a_stream_end_with_their_credential(framework: Framework) {
        let server = Server::start(framework).await;
        let expiry = server.house.admit("ann", HOUR);
        let mut socket = WebSocket::open(server.address, "/echo?user=ann").await;
        let mut stream = EventStream::open(server.address, "/feed?user=ann").await;
        socket.send("hello").await;
        assert_eq!(socket.text().await, "hello");
        assert_eq!(stream.event().await.data, "first");
        let time = Duration::from_secs(1);
        let start = Instant::now();
        expiry.refresh(time);
        let frame = socket.closed().await;
        let said = (frame.code.get(), frame.reason.as_str());
        assert_eq!(said, (3000, "credential expired"));
        assert!(stream.next().await.is_none(), "an end in order");
        assert!(start.elapsed() >= time, "{:?}", start.elapsed());
        assert_eq!(server.house.end_of("ann").await, expired());
        // Whoever comes back is asked again.
        let again = http::get(server.address, "/feed?user=ann").await;
        assert_eq!(again.status, 401);
        server.house.is_empty().await;
    }

    async fn refreshed_by_a_request_or_in_band_they_live_on(framework: Framework) {
        let server = Server::start(framework).await;
        let time = Duration::from_secs(5);
        let start = Instant::now();
        for user in ["ann", "bob"] {
            server.house.admit(user, time);
        }
        let mut ann = WebSocket::open(server.address, "/echo?user=ann").await;
        let mut stream = EventStream::open(server.address, "/feed?user=ann").await;
        let mut bob = WebSocket::open(server.address, "/echo?user=bob").await;
        assert_eq!(stream.event().await.data, "first");
        let refreshed = http::post(server.address, "/refresh?user=ann", "").await;
        assert_eq!(refreshed.status, 204);
        bob.send("renew").await;
        assert_eq!(bob.text().await, "renew");
        sleep_until(start + time + Duration::from_millis(200)).await;
        for socket in [&mut ann, &mut bob] {
            socket.send("still here").await;
            assert_eq!(socket.text().await, "still here");
        }
        let counts = server.house.stats.snapshot();
        assert_eq!((counts.websockets, counts.sse_streams), (2, 1));
        // One is logged out, and the other stays.
        server.house.session("ann").expect("she is in").expire();
        assert_eq!(ann.closed().await.code.get(), 3000);
        assert!(stream.next().await.is_none());
        bob.send("still here").await;
        assert_eq!(bob.text().await, "still here");
    }
}
