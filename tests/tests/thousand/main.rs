//! A thousand clients on one topic of the chat example, fifty of which keep losing
//! their connection: every message reaches every one, once and in order.
//!
//! `TOWPATH_CHAT` names a chat that is built already, `TOWPATH_SEED` the run to repeat.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "what is not as expected fails the test, which tells its seed and its time"
)]

mod reader;
mod server;

use std::{
    env,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::{Instant, timeout},
};
use towpath::ws::{
    Message,
    protocol::{Connection, Event, Outbox},
};
use towpath_tests::process::allow_files;

use self::{
    reader::{Reader, Transport, websocket},
    server::Server,
};

const CLIENTS: usize = 1_000;
/// One in so many reads an event stream, the others a WebSocket.
const STREAMS: usize = 10;
const RECONNECTING: usize = 50;
/// How often each of these loses its connection.
const LOSSES: usize = 4;

const MESSAGES: usize = 5_000;
/// Published in one go. At most two of these are on their way to any client, which is
/// well within what the topic keeps.
const BURST: usize = 100;

/// Connections that are opened at the same time: the listener's queue is short.
const OPENING: usize = 64;

/// The whole takes a fraction of it on two idle cores.
const LONGEST: Duration = Duration::from_secs(120);

#[test]
fn every_client_of_the_chat_over_axum_gets_every_message_once_and_in_order() {
    all_get_all("axum");
}

#[test]
fn every_client_of_the_chat_over_actix_gets_every_message_once_and_in_order() {
    all_get_all("actix");
}

fn all_get_all(framework: &str) {
    // One at a time: both together would be twice the load and half as telling.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);

    // Server and clients each: one a client, and some for the runtimes.
    allow_files(CLIENTS as u64 + 256);
    let seed = env::var("TOWPATH_SEED").map_or_else(
        |_| fastrand::u64(..),
        |seed| seed.parse().expect("TOWPATH_SEED is a number"),
    );
    println!("{framework}: TOWPATH_SEED={seed}");
    let server = Server::start(framework);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let start = Instant::now();
    runtime.block_on(async {
        let run = timeout(LONGEST, run(&server, fastrand::Rng::with_seed(seed)));
        run.await.expect("it ends in time");
    });
    println!("{framework}: {:?}", start.elapsed());
}

/// What the publisher and the readers share.
struct Progress {
    /// Messages that readers have got, all together.
    delivered: AtomicUsize,
    /// Readers that are subscribed for the first time.
    subscribed: AtomicUsize,
    changed: Notify,
    opening: Semaphore,
}

impl Progress {
    /// Waits until so many are reached. There is one who waits, so that no change is
    /// missed: a permit is kept for it.
    async fn until(&self, counter: &AtomicUsize, goal: usize) {
        while counter.load(Ordering::Acquire) < goal {
            self.changed.notified().await;
        }
    }

    fn add(&self, counter: &AtomicUsize, count: usize) {
        let now = counter.fetch_add(count, Ordering::AcqRel) + count;
        // What the publisher waits for is a number of all the readers together.
        if now / CLIENTS != (now - count) / CLIENTS {
            self.changed.notify_one();
        }
    }
}

async fn run(server: &Server, mut random: fastrand::Rng) {
    let progress = Arc::new(Progress {
        delivered: AtomicUsize::new(0),
        subscribed: AtomicUsize::new(0),
        changed: Notify::new(),
        opening: Semaphore::new(OPENING),
    });
    let address = server.address();
    let mut tasks = JoinSet::new();
    // These are chosen at random, so that both transports are among them.
    let mut losing: Vec<bool> = (0..CLIENTS).map(|index| index < RECONNECTING).collect();
    random.shuffle(&mut losing);
    for (index, loses) in losing.into_iter().enumerate() {
        let transport = match index % STREAMS {
            0 => Transport::EventStream,
            _ => Transport::WebSocket,
        };
        let losses = if loses { LOSSES } else { 0 };
        // Behind which messages: at least one has come, whose id is resumed from.
        let mut losses: Vec<_> = (0..losses).map(|_| random.usize(1..MESSAGES)).collect();
        losses.sort_unstable();
        losses.dedup();
        let progress = Arc::clone(&progress);
        let reader = Reader::new(address, transport);
        tasks.spawn(read(reader, losses, progress));
    }
    let publisher = Arc::clone(&progress);
    tasks.spawn(async move {
        publisher.until(&publisher.subscribed, CLIENTS).await;
        publish(websocket(address, "").await, &publisher).await;
    });
    // The first that fails ends the test, with what it said.
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    let delivered = progress.delivered.load(Ordering::Acquire);
    assert_eq!(delivered, CLIENTS * MESSAGES);
}

/// Reads all messages; behind those in `losses` the connection is dropped with
/// whatever else it has brought, and a new one resumes.
async fn read(mut reader: Reader, losses: Vec<usize>, progress: Arc<Progress>) {
    let mut losses = losses.into_iter().peekable();
    {
        let _permit = progress.opening.acquire().await.expect("open");
        reader.connect().await;
    }
    progress.add(&progress.subscribed, 1);
    let mut got = 0;
    while got < MESSAGES {
        let events = reader.receive().await;
        let before = got;
        for (id, data) in events {
            let number: usize = data.parse().unwrap_or_else(|_| panic!("{data:?}"));
            assert_eq!(number, got, "{id} came behind {:?}", reader.last_id);
            got += 1;
            reader.last_id = id;
            if losses.next_if_eq(&got).is_some() {
                reader.connect().await;
                break;
            }
        }
        progress.add(&progress.delivered, got - before);
    }
    assert_eq!(losses.next(), None, "all of them have been");
    reader.end().await;
}

/// Publishes all messages over a socket of its own, each acknowledged.
async fn publish(mut stream: TcpStream, progress: &Progress) {
    let mut connection = reader::client();
    let mut acknowledged = 0;
    for burst in 0..MESSAGES / BURST {
        // All have all but the burst before this one.
        let goal = burst.saturating_sub(1) * BURST * CLIENTS;
        progress.until(&progress.delivered, goal).await;
        let mut out = Outbox::default();
        for number in burst * BURST..(burst + 1) * BURST {
            let publish = format!(r#"{{"publish":"{number}","ref":{number}}}"#);
            connection.send(Message::text(publish), &mut out);
        }
        stream
            .write_all_buf(&mut out)
            .await
            .expect("it takes messages");
        while acknowledged < (burst + 1) * BURST {
            acknowledged = acknowledgements(&mut stream, &mut connection, acknowledged).await;
        }
    }
}

/// Reads once, and returns how many are acknowledged by then; the publisher is a
/// subscriber too, whose events are none of its business.
async fn acknowledgements(
    stream: &mut TcpStream,
    connection: &mut Connection,
    mut acknowledged: usize,
) -> usize {
    let mut bytes = BytesMut::with_capacity(16 << 10);
    let count = stream.read_buf(&mut bytes).await.expect("it answers");
    assert_ne!(count, 0, "it does not end");
    let mut out = Outbox::default();
    let mut input = &bytes[..];
    while let Some(event) = connection.receive(&mut input, &mut out).expect("RFC 6455") {
        let Event::Message(Message::Text(text)) = event else {
            panic!("{event:?}");
        };
        if text.starts_with(r#"{"id":"#) {
            continue;
        }
        let expected = format!(r#"{{"ack":{acknowledged},"id":""#);
        assert!(text.starts_with(&expected), "{text}: not {expected}");
        acknowledged += 1;
    }
    if out.has_remaining() {
        stream
            .write_all_buf(&mut out)
            .await
            .expect("it takes a pong");
    }
    acknowledged
}
