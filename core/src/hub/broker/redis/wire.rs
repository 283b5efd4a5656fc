//! What stands in Redis, and how it is read.

use std::sync::Arc;

use bytes::Bytes;
use redis::{Cmd, Value};

use crate::{
    hub::{EventId, Publish},
    ws::Message,
};

/// The names of a topic's keys. The hash tag keeps them in one slot of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Keys(Arc<str>);

impl Keys {
    pub(super) fn new(prefix: Arc<str>) -> Self {
        Self(prefix)
    }

    /// The stream of its events, whose ids are the events', epoch and number.
    pub(super) fn stream(&self, topic: &str) -> String {
        format!("{}:{{{topic}}}:s", self.0)
    }

    /// The hash of its epoch, its newest number and its bytes.
    pub(super) fn meta(&self, topic: &str) -> String {
        format!("{}:{{{topic}}}:m", self.0)
    }

    /// What remembers that a message was stored.
    pub(super) fn once(&self, topic: &str, key: u128) -> String {
        format!("{}:{{{topic}}}:i:{key:032x}", self.0)
    }

    /// The stream by which a node wakes one of its readers.
    pub(super) fn control(&self, reader: u128) -> String {
        format!("{}:control:{reader:032x}", self.0)
    }
}

pub(super) fn flags(publish: &Publish) -> &'static str {
    match (publish.message(), publish.may_compress()) {
        (Message::Text(_), true) => "t",
        (Message::Text(_), false) => "tu",
        (Message::Binary(_), true) => "b",
        (Message::Binary(_), false) => "bu",
    }
}

/// An entry of a topic's stream.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: EventId,
    /// `None` where something else wrote it.
    pub(super) publish: Option<Publish>,
    pub(super) bytes: usize,
}

/// The entries of `XRANGE` and its like.
pub(super) fn entries(value: Value) -> Vec<Entry> {
    let Value::Array(entries) = value else {
        return Vec::new();
    };
    entries.into_iter().filter_map(entry).collect()
}

/// The streams of `XREAD`, by their keys.
pub(super) fn streams(value: Value) -> Vec<(Vec<u8>, Vec<Entry>)> {
    let stream = |(key, value)| Some((bytes(key)?, entries(value)));
    match value {
        Value::Array(streams) => streams
            .into_iter()
            .filter_map(pair)
            .filter_map(stream)
            .collect(),
        Value::Map(streams) => streams.into_iter().filter_map(stream).collect(),
        _ => Vec::new(),
    }
}

fn pair(value: Value) -> Option<(Value, Value)> {
    let Value::Array(values) = value else {
        return None;
    };
    let [first, second] = <[Value; 2]>::try_from(values).ok()?;
    Some((first, second))
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?).ok()
}

fn entry(value: Value) -> Option<Entry> {
    let (id, fields) = pair(value)?;
    let id = id_of(id)?;
    let Value::Array(fields) = fields else {
        return None;
    };
    let (mut flags, mut payload, mut key) = (None, None, None);
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match bytes(name)?.as_slice() {
            b"f" => flags = text(value),
            b"d" => payload = bytes(value),
            b"k" => key = text(value),
            _ => {}
        }
    }
    let bytes = payload.as_ref().map_or(0, Vec::len);
    let publish = flags.zip(payload).and_then(|(flags, payload)| {
        let message: Message = match flags.strip_suffix('u').unwrap_or(&flags) {
            "t" => String::from_utf8(payload).ok()?.into(),
            "b" => Bytes::from(payload).into(),
            _ => return None,
        };
        let mut publish = Publish::new(message);
        publish.may_compress = !flags.ends_with('u');
        publish.key = key;
        Some(publish)
    });
    Some(Entry { id, publish, bytes })
}

/// An id as Redis has it: epoch and number as decimal numbers.
pub(super) fn id_of(value: Value) -> Option<EventId> {
    let text = text(value)?;
    let (epoch, number) = text.split_once('-')?;
    Some(EventId::new(epoch.parse().ok()?, number.parse().ok()?))
}

/// A number of events as Redis takes it.
pub(super) fn count(events: usize) -> usize {
    events.min(1 << 40)
}

pub(super) fn id_text(id: Option<EventId>) -> String {
    id.map_or_else(
        || "0-0".to_owned(),
        |id| format!("{}-{}", id.epoch(), id.sequence()),
    )
}

/// Asks for a topic's newest id: see [`newest_of`].
pub(super) fn ask_newest(meta: &str) -> Cmd {
    let mut command = redis::cmd("HMGET");
    command.arg(meta).arg("e").arg("n");
    command
}

/// The topic's newest id, of number 0 where its epoch has no event yet; `None` where
/// there never was one.
pub(super) fn newest_of(value: Value) -> Option<EventId> {
    let (epoch, number) = pair(value)?;
    let epoch = text(epoch)?.parse().ok()?;
    let number = text(number).and_then(|number| number.parse().ok());
    Some(EventId::new(epoch, number.unwrap_or(0)))
}
