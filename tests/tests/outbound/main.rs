//! What a `BackpressureLayer` says of each connection below it, in both frameworks.

mod actix;
mod axum;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};
use towpath::{
    Stats,
    backpressure::{Limits, Overflow},
    hub::{Hub, Subscription},
    ws::{Error, HandlerError, WebSocket},
};
use towpath_tests::{
    on_both,
    process::{Framework, SOON},
    sse::EventStream,
    ws,
};

const MIB: usize = 1 << 20;
/// Events that a subscription may lag behind, and that wait for it from the start.
const QUEUE: usize = 4;
const EVENTS: usize = 20;

/// What the apps of both frameworks share.
#[derive(Clone, Debug)]
struct House {
    stats: Stats,
    hub: Hub,
    ends: Arc<Mutex<Vec<Error>>>,
    topics: Arc<AtomicUsize>,
}

/// The layer around all but `/plain`.
fn outer() -> Limits {
    let bounds = Limits::new().outbound_messages(3).outbound_bytes(64 * MIB);
    let times = bounds.write_timeout(Duration::from_millis(300));
    times.slow_at(None).overflow(Overflow::DropOldest)
}

/// The layer within it around `/nested`.
fn inner() -> Limits {
    Limits::new()
        .outbound_messages(2)
        .overflow(Overflow::Conflate)
}

impl House {
    fn new() -> Self {
        let stats = Stats::new();
        let hub = Hub::builder().queue(QUEUE).stats(stats.clone());
        Self {
            hub: hub.build().expect("valid"),
            stats,
            ends: Arc::default(),
            topics: Arc::default(),
        }
    }

    /// Sends as many messages of a MiB as do not wait, and then how many.
    async fn count(self, mut socket: WebSocket) -> Result<(), HandlerError> {
        let mut count = 0;
        while let Some(sent) = socket.send(vec![0; MIB]).now_or_never() {
            sent?;
            count += 1;
        }
        socket.send(count.to_string()).await?;
        Ok(())
    }

    /// Sends more than kernels hold, and waits for the end.
    async fn stuck(self, mut socket: WebSocket) -> Result<(), HandlerError> {
        for _ in 0..2 {
            socket.send(vec![0; 8 * MIB]).await?;
        }
        let end = socket.closed().await;
        self.ends.lock().expect("no panic").push(end);
        Ok(())
    }

    /// A subscription that is behind from the start, all of whose events have one key.
    async fn behind(&self, own: Option<Overflow>) -> Subscription {
        // Of its own: what others are told is counted for them.
        let topic = self.topics.fetch_add(1, Relaxed).to_string();
        let mut subscribe = self.hub.subscribe(topic.as_str());
        if let Some(own) = own {
            subscribe = subscribe.overflow(own);
        }
        let subscription = subscribe.await.expect("a topic");
        for number in 0..EVENTS {
            let event = towpath::hub::Publish::from(number.to_string()).key("one");
            self.hub
                .publish(topic.as_str(), event)
                .await
                .expect("a hub");
        }
        subscription
    }

    async fn forward(
        self,
        subscription: Subscription,
        mut socket: WebSocket,
    ) -> Result<(), HandlerError> {
        WebSocket::forward(&mut socket, subscription);
        while socket.recv().await?.is_some() {}
        Ok(())
    }
}

async fn start(framework: Framework) -> (SocketAddr, House) {
    let house = House::new();
    let address = match framework {
        Framework::Axum => axum::serve(house.clone()).await,
        Framework::Actix => actix::serve(house.clone()),
    };
    (address, house)
}

/// How many messages the handler of `path` was rid of without waiting.
async fn counted(address: SocketAddr, path: &str) -> usize {
    let mut socket = ws::WebSocket::open(address, path).await;
    let mut count = 0;
    loop {
        let message = socket.message().await;
        match message.as_text() {
            Some(text) => {
                assert_eq!(text, count.to_string(), "none is lost");
                return count;
            }
            None => count += 1,
        }
    }
}

on_both! {
    async fn what_is_nearest_to_a_socket_bounds_what_waits_for_it(framework: Framework) {
        let (address, _) = start(framework).await;
        for (path, expected) in [
            // One message past the first byte of the default's MiB.
            ("/plain/count", 1),
            ("/layer/count", 3),
            ("/nested/count", 2),
            ("/ws/count", 4),
            ("/configured/count", 5),
        ] {
            assert_eq!(counted(address, path).await, expected, "{path}");
        }
    }

    async fn a_layer_says_when_a_peer_is_stuck_and_when_it_is_slow(framework: Framework) {
        let (address, house) = start(framework).await;
        let start = Instant::now();
        let stuck = ws::WebSocket::open(address, "/layer/stuck").await;
        let ended = async {
            loop {
                if let Some(end) = house.ends.lock().expect("no panic").pop() {
                    return end;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let end = timeout(SOON, ended).await.expect("an end");
        assert_eq!(end, Error::WriteTimeout);
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        assert_eq!(house.stats.snapshot().slow_total, 0, "it is off");
        drop(stuck);
        let slow = ws::WebSocket::open(address, "/plain/stuck").await;
        let told = async {
            while house.stats.snapshot().slow_total == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, told).await.expect("by default it is on");
        drop(slow);
    }

    async fn a_layer_says_what_a_forwarded_subscription_loses(framework: Framework) {
        let (address, _) = start(framework).await;
        let last = (EVENTS - 1).to_string();
        for (path, first) in [
            // The last four, the last of its key, or all, since its own word counts.
            ("/layer/lag", Some((EVENTS - QUEUE).to_string())),
            ("/nested/lag", Some(last.clone())),
            ("/layer/own", Some("0".to_owned())),
            ("/plain/lag", None),
        ] {
            let mut socket = ws::WebSocket::open(address, path).await;
            let Some(first) = first else {
                assert_eq!(socket.closed().await.code.get(), 1013, "{path}");
                continue;
            };
            let mut text = socket.text().await;
            assert_eq!(text, first, "{path}");
            while text != last {
                text = socket.text().await;
            }
        }
    }

    async fn a_layer_says_what_a_stream_loses(framework: Framework) {
        let (address, house) = start(framework).await;
        for (path, first) in [
            ("/layer/feed", Some(("gap", EVENTS - QUEUE))),
            ("/nested/feed", Some(("message", EVENTS - 1))),
            ("/layer/own/feed", Some(("message", 0))),
            ("/plain/feed", None),
        ] {
            let before = house.stats.snapshot().gaps_total;
            let mut stream = EventStream::open(address, path).await;
            let Some((name, number)) = first else {
                assert!(stream.next().await.is_none(), "{path}");
                continue;
            };
            let event = stream.event().await;
            assert_eq!(event.event, name, "{path}");
            assert!(event.data.contains(&number.to_string()), "{path}: {event:?}");
            let gaps = house.stats.snapshot().gaps_total - before;
            assert_eq!(gaps, u64::from(name == "gap"), "{path}");
        }
    }
}
