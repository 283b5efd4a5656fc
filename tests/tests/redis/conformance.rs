use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;
use towpath::hub::{
    Hub, RedisBroker,
    conformance::{self, Cluster},
};
use towpath_tests::{
    redis::Redis,
    relay::{Mode, Relay},
};

/// Every link is a relay.
struct Links {
    redis: Mutex<Redis>,
    relays: Mutex<HashMap<&'static str, Relay>>,
}

impl Links {
    async fn set(&self, link: &str, mode: Mode) {
        self.relays.lock().await[link].set(mode);
    }
}

impl Cluster for Links {
    type Broker = RedisBroker;

    async fn node(&self, link: &'static str) -> RedisBroker {
        let target = self.redis.lock().await.address();
        let mut relays = self.relays.lock().await;
        if !relays.contains_key(link) {
            relays.insert(link, Relay::to(target).await);
        }
        let url = format!("redis://{}", relays[link].address());
        RedisBroker::connect(url).await.expect("connected")
    }

    async fn restart(&self) -> bool {
        let mut redis = self.redis.lock().await;
        redis.kill().await;
        redis.restart().await;
        true
    }

    async fn wipe(&self) -> bool {
        let mut redis = self.redis.lock().await;
        redis.kill().await;
        redis.wipe();
        redis.restart().await;
        true
    }

    async fn cut(&self, link: &'static str) -> bool {
        self.set(link, Mode::Reset).await;
        true
    }

    async fn mend(&self, link: &'static str) {
        self.set(link, Mode::Open).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_conforms() {
    let links = Links {
        redis: Mutex::new(Redis::start().await),
        relays: Mutex::default(),
    };
    let report = conformance::run(&links).await;
    assert_eq!(report.failed(), [], "{report}");
    assert_eq!(report.skipped(), [""; 0]);
}

/// Packets vanish: there is no error, and publishing works again all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_half_open_connection_is_noticed() {
    let redis = Redis::start().await;
    let relay = Relay::to(redis.address()).await;
    let url = format!("redis://{}", relay.address());
    let broker = RedisBroker::connect(url).await.expect("connected");
    let mut outages = broker.outages();
    let hub = Hub::builder().broker(broker).build().expect("settings");
    hub.publish("t", "before").await.expect("published");
    relay.set(Mode::Swallow);
    let vanished = tokio::time::timeout(Duration::from_millis(500), hub.publish("t", "lost"));
    assert!(vanished.await.is_err(), "nobody answers");
    // Those that were connected stay dead; whoever connects anew is served.
    relay.set(Mode::Open);
    let start = Instant::now();
    let published = hub.publish("t", "after").await;
    println!("published after {:?}: {published:?}", start.elapsed());
    published.expect("published within its time-out");
    // Each connection finds it out for itself, the one that publishes first.
    let all_back = outages.wait_for(|down| *down == 0);
    let all_back = tokio::time::timeout(Duration::from_secs(30), all_back).await;
    all_back.expect("all are back").expect("the broker lives");
}

#[tokio::test]
async fn who_cannot_be_reached_is_an_error() {
    let connected = RedisBroker::connect("redis://127.0.0.1:1").await;
    let error = connected.expect_err("nobody listens there").to_string();
    assert!(error.contains("refused"), "{error}");
    assert!(RedisBroker::connect("http://127.0.0.1").await.is_err());
    let builder = RedisBroker::builder("redis://127.0.0.1:1").prefix("a{b}");
    let error = builder.connect().await.expect_err("a brace");
    assert_eq!(error.to_string(), "`prefix` has a brace");
}
