//! Two testbeds, subscribers over both transports, messages from both sides, and
//! something breaks. Each acknowledged message arrives everywhere once, in one order.
//!
//! Shortened by default; `TOWPATH_FAULTS=full` is what `cargo xtask faults` runs.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use towpath_tests::{
    process::{Framework, Testbed},
    redis::Redis,
    relay::{Mode, Relay},
    sse::EventStream,
    ws::{Incoming, WebSocket},
};

const END: &str = "end";

/// How large a run is.
#[derive(Clone, Copy)]
struct Size {
    /// Subscribers of each testbed.
    subscribers: usize,
    /// Messages that must be acknowledged.
    messages: usize,
    /// Who publish at the same time at each testbed.
    lanes: usize,
    limit: Duration,
}

impl Size {
    fn get() -> Self {
        match std::env::var("TOWPATH_FAULTS").as_deref() {
            Ok("full") => Self {
                subscribers: 200,
                messages: 50_000,
                lanes: 32,
                limit: Duration::from_secs(900),
            },
            _ => Self {
                subscribers: 10,
                messages: 2_000,
                lanes: 8,
                limit: Duration::from_secs(240),
            },
        }
    }
}

/// What all who take part share.
struct Run {
    size: Size,
    nodes: [Node; 2],
    /// The order in which whoever was first got the events: id and text.
    order: Mutex<Vec<(String, String)>>,
    acknowledged: Mutex<HashMap<String, String>>,
    published: AtomicUsize,
    disconnected: AtomicUsize,
    /// When something was acknowledged last.
    last: Mutex<Instant>,
}

struct Node {
    address: SocketAddr,
    is_dead: AtomicBool,
}

impl Run {
    /// The testbed of this number, or the other where that is dead.
    fn node(&self, at: usize) -> &Node {
        let node = &self.nodes[at];
        if node.is_dead.load(Relaxed) {
            &self.nodes[1 - at]
        } else {
            node
        }
    }

    /// What a subscriber got as its `at`th event; whether that was the last.
    fn take(&self, at: usize, id: &str, text: &str) -> bool {
        let mut order = self.order.lock().expect("nobody failed");
        match order.get(at) {
            Some((expected, _)) => assert_eq!(id, expected, "one order, event {at}: {text}"),
            None => order.push((id.to_owned(), text.to_owned())),
        }
        text == END
    }

    fn is_enough(&self) -> bool {
        self.acknowledged.lock().expect("nobody failed").len() >= self.size.messages
    }

    /// Waits until so many of a hundred messages are acknowledged.
    async fn reached(&self, percent: usize) {
        while self.acknowledged.lock().expect("nobody failed").len()
            < self.size.messages * percent / 100
        {
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until something is acknowledged that was not before, unless all is; how long
    /// that took.
    async fn again(&self) -> Duration {
        let start = Instant::now();
        while *self.last.lock().expect("nobody failed") < start && !self.is_enough() {
            sleep(Duration::from_millis(2)).await;
        }
        start.elapsed()
    }
}

/// Reads the topic over WebSockets up to its end, behind `at` events.
async fn subscribe_by_socket(run: &Run, at: usize) {
    let (mut count, mut last) = (0, String::new());
    loop {
        let path = format!("/topics/t/ws?after={last}");
        let mut socket = WebSocket::open_as(run.node(at).address, &path, "towpath.v1").await;
        while let Incoming::Message(message) = socket.incoming().await {
            let text = message.as_text().expect("text");
            let event: Value = serde_json::from_str(text).expect("JSON");
            let (Some(id), Some(data)) = (event["id"].as_str(), event["data"].as_str()) else {
                unreachable!("{text}, behind {last}");
            };
            last = id.to_owned();
            if run.take(count, id, data) {
                return;
            }
            count += 1;
        }
        run.disconnected.fetch_add(1, Relaxed);
    }
}

/// The same over event streams.
async fn subscribe_by_stream(run: &Run, at: usize) {
    let (mut count, mut last) = (0, String::new());
    loop {
        let address = run.node(at).address;
        let mut stream = EventStream::resume(address, "/topics/t", &last).await;
        while let Ok(Some(event)) = stream.try_next().await {
            assert_eq!(event.event, "message", "{event:?}, behind {last}");
            last = event.id;
            if run.take(count, &last, &event.data) {
                return;
            }
            count += 1;
        }
        run.disconnected.fetch_add(1, Relaxed);
    }
}

/// Publishes one message after the other until enough are acknowledged.
async fn publish(run: &Run, at: usize) {
    while !run.is_enough() {
        // A topic of its own, so that nothing but answers comes back.
        let mut socket =
            WebSocket::open_as(run.node(at).address, "/topics/t/ws", "towpath.v1").await;
        loop {
            let text = format!("{at}:{}", run.published.fetch_add(1, Relaxed));
            let request = serde_json::json!({ "publish": text, "ref": text }).to_string();
            let sent = {
                use towpath_tests::ws::frame;
                socket.try_write(&frame(0x81, request.as_bytes())).await
            };
            if sent.is_err() {
                break;
            }
            let Some(answer) = answer(&mut socket).await else {
                break;
            };
            if let Some(id) = answer["id"].as_str() {
                let mut acknowledged = run.acknowledged.lock().expect("nobody failed");
                acknowledged.insert(text, id.to_owned());
                *run.last.lock().expect("nobody failed") = Instant::now();
            }
            if run.is_enough() {
                return;
            }
        }
    }
}

/// The answer to what was published; events in between belong to the subscribers.
async fn answer(socket: &mut WebSocket) -> Option<Value> {
    loop {
        let Incoming::Message(message) = socket.incoming().await else {
            return None;
        };
        let said: Value = serde_json::from_str(message.as_text()?).ok()?;
        if said.get("ref").is_some() || said.get("ack").is_some() {
            return Some(said);
        }
    }
}

/// What breaks in the middle of a run.
struct Broken<'a> {
    run: &'a Run,
    redis: &'a mut Redis,
    relays: &'a [Relay; 2],
    testbeds: &'a mut [Testbed; 2],
}

/// Runs it, with `fault` from a quarter of the messages on.
async fn survive(name: &str, fault: impl AsyncFnOnce(Broken<'_>)) {
    let size = Size::get();
    let mut redis = Redis::start().await;
    let relays = [
        Relay::to(redis.address()).await,
        Relay::to(redis.address()).await,
    ];
    let mut testbeds = Vec::new();
    for (framework, relay) in Framework::BOTH.into_iter().zip(&relays) {
        let broker = format!("--broker=redis://{}", relay.address());
        let history = "--history=200000";
        let arguments = [&broker, history, "--queue=200000", "--keep-alive-ms=1000"];
        testbeds.push(framework.start(&arguments).await);
    }
    let mut testbeds: [Testbed; 2] = testbeds.try_into().expect("two");
    let node = |at: usize| Node {
        address: testbeds[at].address(),
        is_dead: AtomicBool::new(false),
    };
    let run = Arc::new(Run {
        size,
        nodes: [node(0), node(1)],
        order: Mutex::default(),
        acknowledged: Mutex::default(),
        published: AtomicUsize::new(0),
        disconnected: AtomicUsize::new(0),
        last: Mutex::new(Instant::now()),
    });
    // Who subscribes begins with the first event, however late it comes: all see all.
    let mut subscribers = JoinSet::new();
    let first = WebSocket::open_as(run.node(0).address, "/topics/t/ws", "towpath.v1").await;
    drop(first);
    for at in 0..2 {
        for n in 0..size.subscribers {
            let run = Arc::clone(&run);
            subscribers.spawn(async move {
                if n % 2 == 0 {
                    subscribe_by_socket(&run, at).await;
                } else {
                    subscribe_by_stream(&run, at).await;
                }
            });
        }
    }
    for (at, testbed) in testbeds.iter().enumerate() {
        let all = |live: u64| live >= size.subscribers as u64;
        let within = Duration::from_secs(60);
        let counts =
            testbed.until_within(within, |counts| all(counts.websockets + counts.sse_streams));
        assert!(all(counts.await.websockets * 2), "node {at}");
    }
    let start = Instant::now();
    let mut lanes = JoinSet::new();
    for lane in 0..2 * size.lanes {
        let run = Arc::clone(&run);
        lanes.spawn(async move { publish(&run, lane % 2).await });
    }
    let everything = async {
        run.reached(25).await;
        fault(Broken {
            run: &run,
            redis: &mut redis,
            relays: &relays,
            testbeds: &mut testbeds,
        })
        .await;
        while let Some(ended) = lanes.join_next().await {
            ended.expect("a lane");
        }
        let published = start.elapsed();
        let path = "/topics/t";
        while towpath_tests::http::post(run.node(0).address, path, END)
            .await
            .status
            != 201
        {}
        while let Some(ended) = subscribers.join_next().await {
            ended.expect("a subscriber");
        }
        published
    };
    let published = timeout(size.limit, everything).await.unwrap_or_else(|_| {
        unreachable!(
            "{name}: {} acknowledged, {} delivered",
            run.acknowledged.lock().expect("nobody failed").len(),
            run.order.lock().expect("nobody failed").len(),
        )
    });
    let order = run.order.lock().expect("nobody failed");
    let delivered: HashMap<_, _> = order.iter().map(|(id, text)| (text, id)).collect();
    assert_eq!(
        delivered.len(),
        order.len(),
        "{name}: something was delivered twice"
    );
    let acknowledged = run.acknowledged.lock().expect("nobody failed");
    for (text, id) in &*acknowledged {
        assert_eq!(
            delivered.get(text),
            Some(&id),
            "{name}: {text} was acknowledged as {id}"
        );
    }
    println!(
        "testbed-axum and testbed-actix, {name}: {} acknowledged in {published:?}, {} delivered to {} subscribers, {} disconnected",
        acknowledged.len(),
        order.len(),
        2 * size.subscribers,
        run.disconnected.load(Relaxed),
    );
}

fn nobody_was_disconnected(run: &Run) {
    assert_eq!(
        run.disconnected.load(Relaxed),
        0,
        "the broker was away, not we"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_killed_and_restarted() {
    survive("kill -9", async |broken: Broken<'_>| {
        for percent in [25, 50] {
            broken.run.reached(percent).await;
            broken.redis.kill().await;
            sleep(Duration::from_millis(700)).await;
            broken.redis.restart().await;
            println!("publishing again after {:?}", broken.run.again().await);
        }
        broken.run.reached(75).await;
        nobody_was_disconnected(broken.run);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_stopped_for_five_seconds() {
    survive("SIGSTOP", async |broken: Broken<'_>| {
        broken.redis.freeze();
        sleep(Duration::from_secs(5)).await;
        broken.redis.thaw();
        println!("publishing again after {:?}", broken.run.again().await);
        broken.run.reached(75).await;
        nobody_was_disconnected(broken.run);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_the_broker_are_reset() {
    survive("RST", async |broken: Broken<'_>| {
        for percent in [25, 40, 55] {
            broken.run.reached(percent).await;
            for relay in broken.relays {
                relay.set(Mode::Reset);
                sleep(Duration::from_millis(100)).await;
                relay.set(Mode::Open);
            }
            println!("publishing again after {:?}", broken.run.again().await);
        }
        broken.run.reached(75).await;
        nobody_was_disconnected(broken.run);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_to_the_broker_are_half_open() {
    survive("half-open", async |broken: Broken<'_>| {
        for relay in broken.relays {
            relay.set(Mode::Swallow);
        }
        sleep(Duration::from_millis(500)).await;
        for relay in broken.relays {
            relay.set(Mode::Open);
        }
        println!("publishing again after {:?}", broken.run.again().await);
        broken.run.reached(75).await;
        nobody_was_disconnected(broken.run);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed() {
    survive("a node", async |broken: Broken<'_>| {
        broken.run.nodes[1].is_dead.store(true, Relaxed);
        broken.testbeds[1].kill().await;
    })
    .await;
}
