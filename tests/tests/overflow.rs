//! Readers that stop reading and then go on, under each policy and over each transport.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::time::timeout;
use towpath_tests::{
    http, on_both,
    process::{Framework as Kind, Testbed},
    sse::EventStream,
    ws::{Incoming, WebSocket},
};

/// Events that a reader may lag behind.
const QUEUE: u64 = 10;
/// So many are published while nobody reads. With their size that is far more than the
/// kernels keep for a reader.
const STALLED: u64 = 60;
const SIZE: usize = 1 << 19;
/// How many keys they have, in turn.
const KEYS: u64 = 5;

/// What a reader was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item {
    Event(u64),
    Gap(u64),
}

fn text(number: u64) -> String {
    let mut text = format!("{number} ");
    text.extend(std::iter::repeat_n('x', SIZE));
    text
}

fn number(text: &str) -> u64 {
    let number = text.split_once(' ').map(|(number, _)| number.parse());
    number.expect("ours").expect("a number")
}

/// Who reads, and what it has read.
struct Reader {
    transport: Transport,
    items: Vec<Item>,
    position: u64,
}

enum Transport {
    Bare(WebSocket),
    Told(WebSocket),
    Stream(EventStream),
}

impl Reader {
    const fn new(transport: Transport) -> Self {
        Self {
            transport,
            items: Vec::new(),
            position: 0,
        }
    }

    async fn read(&mut self) {
        let item = match &mut self.transport {
            Transport::Bare(socket) => Item::Event(number(&socket.text().await)),
            Transport::Told(socket) => {
                let told = socket.json().await;
                match told["gap"].as_object() {
                    Some(gap) => {
                        assert_eq!(gap["reason"], "lagged");
                        Item::Gap(gap["missed"].as_u64().expect("a number"))
                    }
                    None => Item::Event(number(told["data"].as_str().expect("data"))),
                }
            }
            Transport::Stream(stream) => {
                let event = stream.event().await;
                if event.event == "gap" {
                    let gap: Value = serde_json::from_str(&event.data).expect("JSON");
                    assert_eq!(gap["reason"], "lagged");
                    Item::Gap(gap["missed"].as_u64().expect("a number"))
                } else {
                    Item::Event(number(&event.data))
                }
            }
        };
        self.position = match item {
            Item::Event(number) => number,
            Item::Gap(missed) => self.position + missed,
        };
        self.items.push(item);
    }

    /// Where a bare socket stands when nothing more comes for a while.
    async fn quiet_at(&mut self) -> u64 {
        let Transport::Bare(socket) = &mut self.transport else {
            unreachable!("the others are told");
        };
        while let Ok(incoming) = timeout(Duration::from_millis(500), socket.incoming()).await {
            let Incoming::Message(message) = incoming else {
                unreachable!("{incoming:?}");
            };
            self.position = number(message.as_text().expect("text"));
            self.items.push(Item::Event(self.position));
        }
        self.position
    }

    /// Reads until it knows of all that was published.
    async fn catch_up(&mut self, published: u64) {
        while self.position < published {
            self.read().await;
        }
    }

    fn events(&self) -> Vec<u64> {
        let event = |item: &Item| match *item {
            Item::Event(number) => Some(number),
            Item::Gap(_) => None,
        };
        self.items.iter().filter_map(event).collect()
    }
}

/// Events that a reader did not get, and its gaps. What is missing in front of an event
/// was told, and so much; save to a bare socket, or where `conflates` replaced it.
fn losses(reader: &Reader, conflates: bool) -> (u64, u64) {
    let is_bare = matches!(reader.transport, Transport::Bare(_));
    let (mut position, mut lost, mut gaps) = (0, 0, 0);
    for &item in &reader.items {
        match item {
            Item::Event(number) => {
                assert!(number > position, "{:?}", reader.items);
                let skipped = number - position - 1;
                assert!(skipped == 0 || is_bare || conflates, "{:?}", reader.items);
                gaps += u64::from(skipped > 0 && !conflates);
                lost += skipped;
                position = number;
            }
            Item::Gap(missed) => {
                assert!(missed > 0 && !is_bare, "{:?}", reader.items);
                (position, lost, gaps) = (position + missed, lost + missed, gaps + 1);
            }
        }
    }
    (lost, gaps)
}

/// A topic with three readers that do not read yet, and a publisher that does.
struct Topic {
    testbed: Testbed,
    readers: [Reader; 3],
    publisher: WebSocket,
    published: u64,
}

impl Topic {
    async fn stalled(framework: Kind, policy: &str, history: u64) -> Self {
        let options = [
            ("--history", history.to_string()),
            ("--queue", QUEUE.to_string()),
            ("--overflow", policy.to_owned()),
            // However long the test takes.
            ("--heartbeat-ms", "0".to_owned()),
            ("--write-timeout-ms", "0".to_owned()),
        ];
        let options: Vec<_> = options
            .iter()
            .flat_map(|(option, value)| [*option, value.as_str()])
            .collect();
        let testbed = framework.start(&options).await;
        let address = testbed.address();
        let path = "/topics/t/ws";
        let mut topic = Self {
            readers: [
                Transport::Bare(WebSocket::open(address, path).await),
                Transport::Told(WebSocket::open_as(address, path, "towpath.v1").await),
                Transport::Stream(EventStream::open(address, "/topics/t").await),
            ]
            .map(Reader::new),
            publisher: WebSocket::open_as(address, path, "towpath.v1").await,
            testbed,
            published: 0,
        };
        for _ in 0..STALLED {
            topic.publish().await;
        }
        topic
    }

    /// Publishes the next number under its key, by turns over both ways, and reads it
    /// again: nobody who reads is held up by those who do not.
    async fn publish(&mut self) {
        self.published += 1;
        let text = text(self.published);
        let key = format!("k{}", self.published % KEYS);
        if self.published.is_multiple_of(2) {
            publish(self.testbed.address(), &key, &text).await;
        } else {
            let request = json!({"publish": text, "key": key});
            self.publisher.send(request.to_string()).await;
        }
        let event = self.publisher.json().await;
        assert_eq!(
            number(event["data"].as_str().expect("data")),
            self.published
        );
    }

    /// Everybody reads all there is. `/stats` says what they did not get; the readers
    /// come back, for what the policy says of their events.
    async fn catch_up(mut self, conflates: bool) -> [Reader; 3] {
        // A bare socket is not told where it stands: an event that comes says it.
        while self.readers[0].quiet_at().await < self.published {
            self.publish().await;
        }
        for reader in &mut self.readers[1..] {
            reader.catch_up(self.published).await;
        }
        // All of them are at the head: nobody misses this one.
        self.publish().await;
        for reader in &mut self.readers {
            reader.read().await;
            assert_eq!(reader.items.last(), Some(&Item::Event(self.published)));
        }
        let all = self
            .readers
            .each_ref()
            .map(|reader| losses(reader, conflates));
        let [lost, gaps] = all.iter().fold([0, 0], |[lost, gaps], one| {
            assert!(one.0 > 0, "it was to stall: {all:?}");
            [lost + one.0, gaps + one.1]
        });
        let counts = self.testbed.counts().await;
        assert_eq!(counts.lagged_total, lost, "{all:?}");
        // Two that a bare socket had to be told in a row look like one.
        assert!(counts.gaps_total >= gaps, "{counts:?}, {all:?}");
        assert_eq!(counts.gaps_total == 0, conflates, "{counts:?}, {all:?}");
        self.readers
    }
}

/// Publishes over HTTP.
async fn publish(address: SocketAddr, key: &str, text: &str) {
    let response = http::post(address, &format!("/topics/t?key={key}"), text).await;
    assert_eq!(response.status, 201, "{response:?}");
}

on_both! {
    async fn drop_oldest_goes_on_with_the_newest(framework: Framework) {
        let topic = Topic::stalled(framework, "drop-oldest", 30).await;
        for reader in topic.catch_up(false).await {
            let events = reader.events();
            // What it was behind by when it read on is all there.
            let last = reader.items.iter().rposition(|item| matches!(item, Item::Gap(_)));
            let behind_gap = last.map_or(events.len(), |last| reader.items.len() - last - 1);
            assert!(behind_gap as u64 > QUEUE, "{:?}", reader.items);
            assert!(events.contains(&(STALLED - QUEUE + 1)), "{events:?}");
        }
    }

    async fn drop_newest_delivers_what_waited_and_goes_on_from_the_head(framework: Framework) {
        let topic = Topic::stalled(framework, "drop-newest", 200).await;
        for reader in topic.catch_up(false).await {
            // In front of each gap stands what it had room for.
            let mut events = 0;
            let mut position = 0;
            for item in &reader.items {
                match *item {
                    Item::Event(number) => {
                        assert!(number == position + 1 || events >= QUEUE, "{:?}", reader.items);
                        events = if number == position + 1 { events + 1 } else { 1 };
                        position = number;
                    }
                    Item::Gap(missed) => {
                        assert!(events >= QUEUE, "{:?}", reader.items);
                        (events, position) = (0, position + missed);
                    }
                }
            }
        }
    }

    async fn block_goes_on_with_all_that_is_kept(framework: Framework) {
        let topic = Topic::stalled(framework, "block", 30).await;
        for reader in topic.catch_up(false).await {
            let events = reader.events();
            let kept = STALLED - 30 + 1..=STALLED;
            assert!(kept.clone().all(|number| events.contains(&number)), "{events:?}");
        }
    }

    async fn conflate_gives_the_newest_of_each_key_and_no_gap(framework: Framework) {
        // Most of it is past the history, and all of that was replaced.
        let topic = Topic::stalled(framework, "conflate", 12).await;
        for reader in topic.catch_up(true).await {
            let events = reader.events();
            let newest = STALLED - KEYS + 1..=STALLED;
            assert!(newest.clone().all(|number| events.contains(&number)), "{events:?}");
            // What stood in front of them was in the kernels' buffers, or replaced.
            assert!(!events.contains(&(STALLED - KEYS)), "{events:?}");
        }
    }
}
