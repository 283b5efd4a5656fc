//! What the span of a connection says of a peer that is behind.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use towpath_tests::{on_both, process::SOON, sse::EventStream, ws::WebSocket};

use super::{EVENTS, FLOOD, HISTORY, QUEUE, Server, capture::Capture};

const HOUR: Duration = Duration::from_secs(3600);

/// The policies, and how many events each takes from a subscription for which all of them
/// have waited, with one key, the first ones longer than they are kept.
const POLICIES: [(&str, usize); 5] = [
    ("Block", EVENTS - HISTORY),
    ("DropOldest", EVENTS - QUEUE),
    ("DropNewest", EVENTS),
    ("Conflate", EVENTS - 1),
    ("Disconnect", EVENTS),
];

/// The connection of `user` was told of one loss, of all that is counted.
async fn tells_of_one_loss(server: &Server, user: &str, policy: &str, lost: usize) {
    let seen = Capture::global().ended(user).await;
    seen.is_quiet_but_for_the_handler();
    let [told] = seen.said("events lost")[..] else {
        unreachable!("one event: {seen:?}");
    };
    let lost = lost.to_string();
    for (name, value) in [("topic", user), ("policy", policy), ("lost", &*lost)] {
        assert_eq!(told[name], value, "{seen:?}");
    }
    let counted = server.house.stats.snapshot().lagged_total;
    assert_eq!(counted.to_string(), lost, "{policy}");
    assert!(
        seen.end().contains_key("cause"),
        "the end is last: {seen:?}"
    );
}

on_both! {
    async fn a_slow_consumer_is_told_of(framework: Framework) {
        let capture = Capture::global();
        let server = Server::start(framework).await;
        let user = format!("slow.{}", framework.name());
        server.house.admit(&user, HOUR);
        let mut socket = WebSocket::open(server.address, &format!("/flood?user={user}")).await;
        let is_slow = async {
            while server.house.stats.snapshot().slow_total == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, is_slow).await.expect("more than a kernel holds");
        for _ in 0..FLOOD {
            socket.message().await;
        }
        socket.close(1000).await;
        assert_eq!(socket.closed().await.code.get(), 1000);
        let seen = capture.ended(&user).await;
        seen.is_quiet_but_for_the_handler();
        let slow = seen.said("slow consumer");
        let counted = server.house.stats.snapshot().slow_total;
        assert_eq!(slow.len() as u64, counted, "{seen:?}");
        let waited = |name: &str| slow[0][name].parse::<usize>().expect("a number");
        // The bound's 80 %.
        assert!(waited("buffered_bytes") >= (1 << 20) / 5 * 4, "{seen:?}");
        assert!(waited("buffered_messages") > 0, "{seen:?}");
    }

    async fn what_a_policy_takes_from_a_socket_is_told(framework: Framework) {
        for (policy, lost) in POLICIES {
            let server = Server::start(framework).await;
            let user = format!("{policy}.ws.{}", framework.name());
            server.house.admit(&user, HOUR);
            let path = format!("/lag?policy={policy}&user={user}");
            let mut socket = WebSocket::open(server.address, &path).await;
            if policy == "Disconnect" {
                assert_eq!(socket.closed().await.code.get(), 1013);
            } else {
                socket.send("more").await;
                while socket.text().await != "more" {}
                socket.close(1000).await;
                assert_eq!(socket.closed().await.code.get(), 1000);
            }
            tells_of_one_loss(&server, &user, policy, lost).await;
        }
    }

    async fn what_a_policy_takes_from_a_stream_is_told(framework: Framework) {
        for (policy, lost) in POLICIES {
            let server = Server::start(framework).await;
            let user = format!("{policy}.sse.{}", framework.name());
            server.house.admit(&user, HOUR);
            let path = format!("/lag/feed?policy={policy}&user={user}");
            let mut stream = EventStream::open(server.address, &path).await;
            match policy {
                "Disconnect" => assert!(stream.next().await.is_none()),
                "Conflate" => assert_eq!(stream.event().await.data, (EVENTS - 1).to_string()),
                _ => assert_eq!(stream.event().await.event, "gap"),
            }
            drop(stream);
            tells_of_one_loss(&server, &user, policy, lost).await;
        }
    }
}
