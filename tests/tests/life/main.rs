//! What lives as long as the connection, over both frameworks: the expiry of what a
//! client was let in with, the span, the guard against panics.

mod actix;
mod axum;
mod behind;
mod capture;
mod expiry;
mod spans;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use tokio::{io::AsyncReadExt, time::timeout};
use towpath::{
    Expiry, Stats,
    hub::{Hub, Overflow, Publish, Subscription},
    sse::Event,
    ws::{Deflate, Error, HandlerError, WebSocket, WsConfig},
};
use towpath_tests::{
    process::{Framework, SOON},
    ws,
};

use self::capture::Capture;

/// Events that a topic of `/lag` keeps, that a subscription may lag behind, and that wait
/// for it from the start.
const HISTORY: usize = 16;
const QUEUE: usize = 4;
const EVENTS: usize = 20;
/// The messages of `/flood`, of 64 KiB: more than the kernels hold between two ends.
const FLOOD: usize = 240;

/// What the apps of both frameworks share.
#[derive(Clone, Debug)]
struct House {
    stats: Stats,
    hub: Hub,
    sessions: Arc<Mutex<HashMap<String, Expiry>>>,
    /// How the sockets of each user ended, as their handlers saw it.
    ends: Arc<Mutex<HashMap<String, Error>>>,
}

impl House {
    fn new() -> Self {
        let stats = Stats::new();
        let hub = Hub::builder().history(HISTORY).queue(QUEUE);
        Self {
            hub: hub.stats(stats.clone()).build().expect("valid"),
            stats,
            sessions: Arc::default(),
            ends: Arc::default(),
        }
    }

    /// A user comes, for so long.
    fn admit(&self, user: &str, time: Duration) -> Expiry {
        let expiry = Expiry::from(time);
        let mut sessions = self.sessions.lock().expect("no panic");
        sessions.insert(user.to_owned(), expiry.clone());
        expiry
    }

    /// What the authentication asks.
    fn session(&self, user: &str) -> Option<Expiry> {
        let session = self.sessions.lock().expect("no panic").get(user).cloned();
        session.filter(|expiry| !expiry.remaining().is_zero())
    }

    /// `POST /refresh`.
    fn refresh(&self, user: &str) -> bool {
        let session = self.session(user);
        if let Some(session) = &session {
            session.refresh(Duration::from_secs(3600));
        }
        session.is_some()
    }

    /// `/echo`; a message may be a new token.
    async fn echo(self, user: String, mut socket: WebSocket) -> Result<(), HandlerError> {
        let end = loop {
            match socket.recv().await {
                Ok(Some(message)) => {
                    tracing::info!(length = message.len(), "said");
                    if message.as_text() == Some("renew") {
                        let expiry = socket.expiry().expect("all have one");
                        expiry.refresh(Duration::from_secs(3600));
                    }
                    socket.send(message).await?;
                }
                Ok(None) => break socket.closed().await,
                Err(end) => break end,
            }
        };
        self.ends.lock().expect("no panic").insert(user, end);
        Ok(())
    }

    /// `/stuck`: takes nothing, and waits for the end.
    async fn stuck(self, user: String, socket: WebSocket) -> Result<(), HandlerError> {
        let (mut sender, _receiver) = socket.split();
        let end = sender.closed().await;
        self.ends.lock().expect("no panic").insert(user, end);
        Ok(())
    }

    /// `/flood`
    async fn flood(self, mut socket: WebSocket) -> Result<(), HandlerError> {
        for _ in 0..FLOOD {
            socket.send(vec![0; 64 << 10]).await?;
        }
        while socket.recv().await?.is_some() {}
        Ok(())
    }

    /// A subscription to the user's topic that is behind from the start.
    async fn behind(&self, user: &str, query: Option<&str>) -> Subscription {
        let policies = [
            Overflow::Block,
            Overflow::DropOldest,
            Overflow::DropNewest,
            Overflow::Conflate,
            Overflow::Disconnect,
        ];
        let query = query.expect("a policy");
        let asked = |policy: &Overflow| query.contains(&format!("policy={policy:?}&"));
        let policy = policies.into_iter().find(asked).expect("one of them");
        let subscription = self.hub.subscribe(user).overflow(policy).await;
        for number in 0..EVENTS {
            let event = Publish::from(number.to_string()).key("one");
            self.hub.publish(user, event).await.expect("a hub");
        }
        subscription.expect("a topic")
    }

    /// `/lag`: what is said is published.
    async fn lag(
        self,
        user: String,
        subscription: Subscription,
        mut socket: WebSocket,
    ) -> Result<(), HandlerError> {
        WebSocket::forward(&mut socket, subscription);
        // The driver asks it before anything else is published.
        tokio::task::yield_now().await;
        while let Some(message) = socket.recv().await? {
            self.hub.publish(user.as_str(), message).await?;
        }
        Ok(())
    }

    async fn end_of(&self, user: &str) -> Error {
        let ended = async {
            loop {
                if let Some(end) = self.ends.lock().expect("no panic").get(user) {
                    return end.clone();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, ended).await.expect("an end")
    }

    /// Waits until nothing lives.
    async fn is_empty(&self) {
        let empty = async {
            loop {
                let counts = self.stats.snapshot();
                if (counts.websockets, counts.sse_streams) == (0, 0) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, empty).await.expect("nothing lives");
    }
}

/// Of `/stuck`: so little is read, and so often pinged.
fn stuck(config: WsConfig) -> WsConfig {
    let interval = Duration::from_millis(200);
    config.inbound_bytes(1000).heartbeat(interval)
}

/// Of `/chat`.
fn compressed(config: WsConfig) -> WsConfig {
    config.deflate(Deflate::new())
}

/// `/feed`: one event, and then none.
fn feed() -> impl Stream<Item = Event> {
    stream::iter([Event::new().data("first")]).chain(stream::pending())
}

/// `/trap`: one event, and then a panic in the midst of a poll.
fn trap() -> impl Stream<Item = Event> {
    let mut polls = 0;
    stream::poll_fn(move |_| {
        polls += 1;
        match polls {
            1 => Poll::Ready(Some(Event::new().data("first"))),
            #[expect(clippy::panic, reason = "what it is for")]
            _ => panic!("on purpose"),
        }
    })
}

/// A server of `/echo`, `/stuck`, `/chat`, `/flood`, `/lag`, `/feed`, `/lag/feed`, `/trap`
/// and `/refresh`, each with `?user=`.
struct Server {
    address: SocketAddr,
    house: House,
}

impl Server {
    async fn start(framework: Framework) -> Self {
        // A span that begins before is not seen, and each test may be a process of its own.
        Capture::global();
        let house = House::new();
        let address = match framework {
            Framework::Axum => axum::serve(house.clone()).await,
            Framework::Actix => actix::serve(house.clone()),
        };
        Self { address, house }
    }
}

towpath_tests::on_both! {
    async fn a_peer_that_vanishes_while_nothing_is_read_is_found(framework: Framework) {
        let server = Server::start(framework).await;
        for (user, resets) in [("ann", true), ("bob", false)] {
            server.house.admit(user, Duration::from_secs(3600));
            let path = format!("/stuck?user={user}");
            let mut socket = ws::WebSocket::open(server.address, &path).await;
            for _ in 0..8 {
                socket.send(vec![0; 1000]).await;
            }
            // The handler is behind, the peer is there and takes its pings.
            let mut pings = [0; 6];
            let read = timeout(SOON, socket.stream().read_exact(&mut pings)).await;
            read.expect("pings").expect("open");
            assert_eq!(pings, [0x89, 0, 0x89, 0, 0x89, 0]);
            if resets {
                let stream = socket2::SockRef::from(&*socket.stream());
                stream.set_linger(Some(Duration::ZERO)).expect("an option");
            }
            drop(socket);
            assert_eq!(server.house.end_of(user).await, Error::PeerGone);
        }
        server.house.is_empty().await;
    }

    async fn a_stream_that_panics_ends_and_is_counted(framework: Framework) {
        let server = Server::start(framework).await;
        server.house.admit("eve", Duration::from_secs(3600));
        let address = server.address;
        let mut connection = towpath_tests::http::Connection::open(address).await;
        for number in 1..=2 {
            let request = towpath_tests::http::head("GET", "/trap?user=eve", &[]);
            connection.write(request.as_bytes()).await;
            let head = connection.head().await;
            let mut stream = towpath_tests::sse::EventStream::answered(connection, head);
            assert_eq!(stream.event().await.data, "first");
            assert!(stream.next().await.is_none(), "an end in order");
            assert_eq!(server.house.stats.snapshot().panics_total, number);
            // The connection's task has not unwound: it serves the next request.
            connection = stream.into_connection().await;
        }
        server.house.is_empty().await;
    }
}
