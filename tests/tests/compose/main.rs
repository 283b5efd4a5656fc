//! What an app has already composes with sockets and event streams: path parameters,
//! state, extensions and somebody else's middleware.
//!
//! What is asserted is what the handler saw when the upgrade was over and done, told by
//! itself in a message; the 101 would say nothing about it.

#[macro_use]
mod actix;
mod axum;
mod middleware;
mod rows;
mod tower;

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::Notify;
use towpath::{
    Stats,
    sse::Event,
    ws::{HandlerError, WebSocket},
};
use towpath_tests::{http, process::Framework, sse::EventStream, ws};

/// The same for both frameworks.
async fn chat(mut socket: WebSocket, user: String, room: String) -> Result<(), HandlerError> {
    while let Some(message) = socket.recv().await? {
        let said = message.as_text().unwrap_or_default();
        socket.send(format!("{user} in {room}: {said}")).await?;
    }
    Ok(())
}

/// [`chat`], behind a greeting that is known only once it is entered.
async fn visit(
    house: House,
    mut socket: WebSocket,
    user: String,
    room: String,
) -> Result<(), HandlerError> {
    socket.send(house.greeting()).await?;
    chat(socket, user, room).await
}

/// One event at once, one when the bell rings.
fn feed(house: House, user: &str, room: &str) -> impl Stream<Item = Event> + use<> {
    let visitor = format!("{user} in {room}");
    let bell = Arc::clone(&house.bell);
    let first = stream::once(async move {
        let greeting = house.greeting();
        Event::new().data(format!("{greeting}: {visitor}"))
    });
    let second = stream::once(async move {
        bell.notified().await;
        Event::new().data("the bell")
    });
    first.chain(second)
}

/// The state of an app.
#[derive(Clone, Debug)]
struct House {
    name: &'static str,
    visitors: Arc<AtomicUsize>,
    bell: Arc<Notify>,
    stats: Stats,
}

impl House {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            visitors: Arc::default(),
            bell: Arc::default(),
            stats: Stats::new(),
        }
    }

    /// Counts a visitor.
    fn greeting(&self) -> String {
        let number = self.visitors.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{}, visitor {number}", self.name)
    }

    fn visitors(&self) -> usize {
        self.visitors.load(Ordering::Relaxed)
    }
}

/// Left by the authentication in the request's extensions.
#[derive(Clone, Debug)]
struct User(String);

impl User {
    /// Whose key it is, if anybody's.
    fn of_key(key: &str) -> Option<Self> {
        let name = key.strip_suffix("'s key")?;
        ["ann", "bob"]
            .contains(&name)
            .then(|| Self(name.to_owned()))
    }
}

const ANN: (&str, &str) = ("Authorization", "Bearer ann's key");
const BOB: (&str, &str) = ("Authorization", "Bearer bob's key");
const EVE: (&str, &str) = ("Authorization", "Bearer eve's key");

/// A server of `…/rooms/{room}` and `…/rooms/{room}/feed`.
struct Server {
    framework: Framework,
    address: SocketAddr,
    house: House,
    /// What stands before `/rooms`.
    prefix: &'static str,
}

impl Server {
    fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// Lets in who has a key, and tells the handler who that is, where, and of what house.
    async fn knows_its_visitors(&self, place: &str) {
        let Self { address, house, .. } = self;
        let before = house.stats.snapshot();
        for (key, user) in [(ANN, "ann"), (BOB, "bob")] {
            let visitors = house.visitors();
            let path = self.path("/rooms/red%20room");
            let mut socket = ws::WebSocket::open_with(*address, &path, &[key]).await;
            let greeting = format!("{}, visitor {}", house.name, visitors + 1);
            assert_eq!(socket.text().await, greeting);
            for said in ["hello", "again"] {
                socket.send(said).await;
                let expected = format!("{user} in {place}red room: {said}");
                assert_eq!(socket.text().await, expected);
            }
            socket.close(1000).await;
            assert_eq!(socket.closed().await.code.get(), 1000);

            let path = self.path("/rooms/blue/feed");
            let mut events = EventStream::open_with(*address, &path, &[key]).await;
            let greeting = format!("{}, visitor {}", house.name, visitors + 2);
            let expected = format!("{greeting}: {user} in {place}blue");
            assert_eq!(events.event().await.data, expected);
            house.bell.notify_one();
            assert_eq!(events.event().await.data, "the bell");
            assert!(events.next().await.is_none());
        }
        let after = house.stats.snapshot();
        assert_eq!(after.upgrades_total - before.upgrades_total, 2);
    }

    /// Keeps out who has none, at no cost but the answer.
    async fn keeps_strangers_out(&self) {
        let Self { address, house, .. } = self;
        let visitors = house.visitors();
        let before = house.stats.snapshot();
        for headers in [&[][..], &[EVE]] {
            let path = self.path("/rooms/red");
            let connection = http::Connection::open(*address).await;
            let handshake = ws::handshake(&path, headers);
            let connection = self.refused(connection, &handshake, true).await;
            if let Some(connection) = connection {
                // As if nothing had been.
                let mut socket = ws::WebSocket::upgrade(connection, &path, &[ANN]).await;
                assert_eq!(
                    socket.text().await,
                    format!("{}, visitor {}", house.name, house.visitors())
                );
                socket.close(1000).await;
                socket.closed().await;
            }
            let path = self.path("/rooms/red/feed");
            let request = http::head("GET", &path, headers);
            let mut connection = http::Connection::open(*address).await;
            for _ in 0..2 {
                let kept = self.refused(connection, &request, false).await;
                connection = kept.expect("a connection for the next request");
            }
        }
        let after = house.stats.snapshot();
        let came = house.visitors() - visitors;
        let reused = match self.framework {
            Framework::Axum => 2,
            Framework::Actix => 0,
        };
        assert_eq!(came, reused, "nobody else reached a handler");
        assert_eq!(after.upgrades_total - before.upgrades_total, reused as u64);
        assert_eq!(after.rejected_total, before.rejected_total);
        assert!(after.sse_streams <= before.sse_streams, "{after:?}");
    }

    /// Sends a request that is refused with 401; the connection, if it can be used again.
    async fn refused(
        &self,
        mut connection: http::Connection,
        request: &str,
        upgrade: bool,
    ) -> Option<http::Connection> {
        connection.write(request.as_bytes()).await;
        let head = connection.head().await;
        assert_eq!(head.status, 401, "{head:?}");
        assert_eq!(head.get("sec-websocket-accept"), None);
        assert_eq!(head.get("upgrade"), None);
        let mut connection = http::Body::new(connection, &head).skip().await;
        // `docs/differences.md`: to actix the body of an upgrade request has begun.
        let closes = self.framework == Framework::Actix && upgrade;
        assert_eq!(head.get("connection") == Some("close"), closes, "{head:?}");
        if closes {
            connection.ended().await.expect("a FIN");
            return None;
        }
        Some(connection)
    }
}

/// Of two layers the inner one's limit counts: a message goes to and fro that only one of
/// them lets pass. `serve` is given the outer limit and the inner one.
async fn the_inner_limit_counts<F: Future<Output = SocketAddr>>(serve: impl Fn(usize, usize) -> F) {
    const LONG: &str = "a message of 26 characters";
    let through = serve(10, LONG.len()).await;
    let mut socket = ws::WebSocket::open_with(through, "/echo", &[]).await;
    socket.send(LONG).await;
    assert_eq!(socket.text().await, LONG);

    let refused = serve(LONG.len(), 10).await;
    let mut socket = ws::WebSocket::open_with(refused, "/echo", &[]).await;
    socket.send("short").await;
    assert_eq!(socket.text().await, "short");
    socket.send(LONG).await;
    assert_eq!(socket.closed().await.code.get(), 1009);
}

async fn echo(mut socket: WebSocket) -> Result<(), HandlerError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

/// Ends with the first message.
#[expect(clippy::panic, reason = "that is what closes with 1011")]
async fn trap(mut socket: WebSocket) -> Result<(), HandlerError> {
    socket.recv().await?;
    panic!("as wanted");
}

/// Each row of the table names its test, which is there, and each test of a layer has its
/// row.
#[test]
fn each_row_of_the_table_names_its_test() {
    const TABLE: &str = include_str!("../../../docs/composition.md");
    const TESTS: [&str; 4] = [
        include_str!("tower.rs"),
        include_str!("middleware.rs"),
        include_str!("axum.rs"),
        include_str!("actix.rs"),
    ];
    let tests = |source: &'static str| {
        let after = source.split("#[tokio::test]\nasync fn ").skip(1);
        after.filter_map(|rest| rest.split_once("()").map(|(name, _)| name))
    };
    let rows: Vec<_> = TABLE
        .lines()
        .filter_map(|line| {
            line.strip_suffix("` |")?
                .rsplit_once('`')
                .map(|(_, name)| name)
        })
        .collect();
    let all: Vec<_> = TESTS.into_iter().flat_map(tests).collect();
    for row in &rows {
        assert!(all.contains(row), "{row} is no test");
    }
    for test in TESTS[..2].iter().copied().flat_map(tests) {
        assert!(rows.contains(&test), "{test} has no row");
    }
    assert!(rows.len() >= 22, "{rows:?}");
}
