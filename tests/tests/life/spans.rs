//! The span that lives as long as the connection.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{sleep, timeout};
use towpath_tests::{http, on_both, process::SOON, sse::EventStream, ws::WebSocket};
use tracing::{
    Event, Id, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};
use tracing_subscriber::{
    Layer, Registry,
    filter::filter_fn,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

use super::Server;

type Fields = HashMap<String, String>;

/// What became of one span: its events in order, and its end.
#[derive(Clone, Debug, Default)]
struct Seen {
    name: &'static str,
    parent: Option<&'static str>,
    fields: Fields,
    events: Vec<(Level, Fields)>,
    has_ended: bool,
}

/// The spans by their numbers, and the number of the next one that ends.
#[derive(Clone)]
struct Capture(Arc<Mutex<HashMap<u64, Seen>>>, Arc<AtomicU64>);

struct Into<'a>(&'a mut Fields);

impl Visit for Into<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}").trim_matches('"').to_owned();
        self.0.insert(field.name().to_owned(), text);
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).expect("it is new");
        let mut seen = Seen {
            name: attributes.metadata().name(),
            parent: span.parent().map(|parent| parent.name()),
            ..Seen::default()
        };
        attributes.record(&mut Into(&mut seen.fields));
        self.with(|all| drop(all.insert(id.into_u64(), seen)));
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, _: Context<'_, S>) {
        self.with(|all| {
            if let Some(seen) = all.get_mut(&id.into_u64()) {
                record.record(&mut Into(&mut seen.fields));
            }
        });
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else {
            return;
        };
        let mut fields = Fields::new();
        event.record(&mut Into(&mut fields));
        self.with(|all| {
            if let Some(seen) = all.get_mut(&span.id().into_u64()) {
                assert!(!seen.has_ended, "an event behind the end");
                seen.events.push((*event.metadata().level(), fields));
            }
        });
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.with(|all| {
            if let Some(mut seen) = all.remove(&id.into_u64()) {
                seen.has_ended = true;
                // The registry gives its number to another span.
                all.insert(self.1.fetch_sub(1, Ordering::Relaxed), seen);
            }
        });
    }
}

impl Capture {
    fn with<R>(&self, see: impl FnOnce(&mut HashMap<u64, Seen>) -> R) -> R {
        see(&mut self.0.lock().expect("no panic"))
    }

    /// The process's: the threads of actix ask for it, too.
    fn global() -> &'static Self {
        static CAPTURE: OnceLock<Capture> = OnceLock::new();
        CAPTURE.get_or_init(|| {
            let capture = Self(Arc::default(), Arc::new(u64::MAX.into()));
            let ours = |metadata: &Metadata<'_>| {
                let is_ours = |name| metadata.target().starts_with(name);
                *metadata.level() <= Level::DEBUG && (is_ours("towpath") || is_ours("life"))
            };
            let filtered = capture.clone().with_filter(filter_fn(ours));
            let subscriber = Registry::default().with(filtered);
            tracing::subscriber::set_global_default(subscriber).expect("the first one");
            capture
        })
    }

    /// The span of this user's connection, once it has ended.
    async fn ended(&self, user: &str) -> Seen {
        let ended = async {
            loop {
                let of_user = |seen: &&Seen| seen.fields.get("user").is_some_and(|of| of == user);
                let found = self.with(|all| all.values().find(of_user).cloned());
                if let Some(seen) = found.filter(|seen| seen.has_ended) {
                    return seen;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = timeout(SOON, ended).await;
        ended.unwrap_or_else(|_| unreachable!("{user}: {:?}", self.0))
    }
}

impl Seen {
    fn messages(&self) -> Vec<&str> {
        let messages = self.events.iter();
        messages
            .map(|(_, fields)| fields["message"].as_str())
            .collect()
    }

    fn is_quiet_but_for_the_handler(&self) {
        for (level, fields) in &self.events {
            let expected = if fields["message"] == "said" {
                Level::INFO
            } else {
                Level::DEBUG
            };
            assert_eq!(*level, expected, "{fields:?}");
        }
    }

    fn end(&self) -> &Fields {
        &self.events.last().expect("an end").1
    }
}

on_both! {
    async fn a_sockets_span_has_what_its_handler_says_and_ends_last(framework: Framework) {
        let capture = Capture::global();
        let server = Server::start(framework).await;
        let user = format!("ann of {}", framework.name());
        server.house.admit(&user, Duration::from_secs(3600));
        let path = format!("/echo?user={}", user.replace(' ', "%20"));
        let mut socket = WebSocket::open(server.address, &path).await;
        let peer = socket.stream().local_addr().expect("connected").to_string();
        for text in ["hello", "again"] {
            socket.send(text).await;
            assert_eq!(socket.text().await, text);
        }
        socket.close(1000).await;
        assert_eq!(socket.closed().await.code.get(), 1000);

        let seen = capture.ended(&user).await;
        assert_eq!(seen.name, "websocket");
        assert_eq!(seen.parent, Some("request"));
        let field = |name: &str| seen.fields.get(name).map(String::as_str);
        assert_eq!(field("peer"), Some(&*peer));
        assert_eq!(field("route"), Some("/echo"));
        assert_eq!(field("protocol"), Some("HTTP/1.1"));
        let expected = ["WebSocket open", "said", "said", "WebSocket closed"];
        assert_eq!(seen.messages(), expected);
        seen.is_quiet_but_for_the_handler();
        let end = seen.end();
        for (name, value) in [
            ("cause", "peer closed"),
            ("code", "1000"),
            ("messages_in", "2"),
            ("messages_out", "2"),
            // Two masked frames of five letters and a close frame; two frames and one.
            ("bytes_in", "30"),
            ("bytes_out", "18"),
        ] {
            assert_eq!(end[name], value, "{name}: {end:?}");
        }
        assert!(end.contains_key("duration"));
    }

    async fn a_socket_tells_why_it_ended(framework: Framework) {
        let capture = Capture::global();
        let server = Server::start(framework).await;
        for cause in ["peer gone", "protocol error", "credential expired"] {
            let user = format!("{cause} of {}", framework.name());
            let expiry = server.house.admit(&user, Duration::from_secs(3600));
            let path = format!("/echo?user={}", user.replace(' ', "%20"));
            let mut socket = WebSocket::open(server.address, &path).await;
            let code = match cause {
                "peer gone" => {
                    drop(socket);
                    "1006"
                }
                "protocol error" => {
                    // A reserved bit.
                    socket.write(&towpath_tests::ws::frame(0xf1, b"")).await;
                    assert_eq!(socket.closed().await.code.get(), 1002);
                    "1002"
                }
                _ => {
                    expiry.expire();
                    assert_eq!(socket.closed().await.code.get(), 3000);
                    "3000"
                }
            };
            let seen = capture.ended(&user).await;
            let end = seen.end();
            assert_eq!(end["cause"], cause, "{seen:?}");
            assert_eq!(end["code"], code, "{seen:?}");
            let closed = |message: &&&str| **message == "WebSocket closed";
            assert_eq!(seen.messages().iter().filter(closed).count(), 1);
        }
    }

    async fn a_streams_span_opens_and_closes(framework: Framework) {
        let capture = Capture::global();
        let server = Server::start(framework).await;
        for (path, cause) in [("feed", "reader left"), ("trap", "panicked"), ("feed", "credential expired")] {
            let user = format!("{cause} of {path} of {}", framework.name());
            let expiry = server.house.admit(&user, Duration::from_secs(3600));
            let path = format!("/{path}?user={}", user.replace(' ', "%20"));
            let mut stream = EventStream::open(server.address, &path).await;
            assert_eq!(stream.event().await.data, "first");
            if cause == "credential expired" {
                expiry.expire();
            }
            if cause != "reader left" {
                assert!(stream.next().await.is_none());
            }
            drop(stream);
            let seen = capture.ended(&user).await;
            assert_eq!((seen.name, seen.parent), ("event stream", Some("request")));
            assert_eq!(seen.messages(), ["event stream open", "event stream closed"]);
            seen.is_quiet_but_for_the_handler();
            let end = seen.end();
            assert_eq!((&*end["cause"], &*end["events"]), (cause, "1"), "{end:?}");
            assert_ne!(end["bytes"], "0");
        }
        let health = http::get(server.address, "/feed").await;
        assert_eq!(health.status, 401);
    }
}
