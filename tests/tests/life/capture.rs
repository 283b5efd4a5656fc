//! Sees the spans of the process, with what is said in them.

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
use towpath_tests::process::SOON;
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

pub(crate) type Fields = HashMap<String, String>;

/// What became of one span: its events in order, and its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) name: &'static str,
    pub(crate) parent: Option<&'static str>,
    pub(crate) fields: Fields,
    pub(crate) events: Vec<(Level, Fields)>,
    has_ended: bool,
}

/// The spans by their numbers, and the number of the next one that ends.
#[derive(Clone)]
pub(crate) struct Capture(Arc<Mutex<HashMap<u64, Seen>>>, Arc<AtomicU64>);

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
    pub(crate) fn global() -> &'static Self {
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
    pub(crate) async fn ended(&self, user: &str) -> Seen {
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
    pub(crate) fn messages(&self) -> Vec<&str> {
        let messages = self.events.iter();
        messages
            .map(|(_, fields)| fields["message"].as_str())
            .collect()
    }

    pub(crate) fn is_quiet_but_for_the_handler(&self) {
        for (level, fields) in &self.events {
            let expected = if fields["message"] == "said" {
                Level::INFO
            } else {
                Level::DEBUG
            };
            assert_eq!(*level, expected, "{fields:?}");
        }
    }

    /// What the events with this message say.
    pub(crate) fn said(&self, message: &str) -> Vec<&Fields> {
        let events = self.events.iter().map(|(_, fields)| fields);
        events
            .filter(|fields| fields["message"] == message)
            .collect()
    }

    pub(crate) fn end(&self) -> &Fields {
        &self.events.last().expect("an end").1
    }
}
