//! What the routes do, whatever the framework.

use std::time::Duration;

use crate::Testbed;
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use towpath::{
    hub::{EventId, Hub, Publish, PublishError, Serve, SubscribeError},
    sse::{Event, LastEventId},
    ws::{HandlerError, Message, WebSocket},
};

/// The subprotocols of `/protocols`, the preferred one first.
pub const PROTOCOLS: [&str; 2] = ["chat.v2", "chat.v1"];

/// The token of `/private/echo`.
const SECRET: &[u8] = b"secret";

/// The broker has so long to acknowledge.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// The query of `/flood`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct FloodQuery {
    n: u64,
    size: u32,
}

/// The query of `/sink`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct SinkQuery {
    delay_ms: u32,
}

/// The query of `/count`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct CountQuery {
    n: u64,
    interval_ms: u32,
}

/// The query of a publication.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PublishQuery {
    key: Option<String>,
}

/// The answer to a publication.
#[derive(Clone, Debug, Serialize)]
pub struct Published {
    id: String,
}

/// Why a topic is not served, or not published to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The body is neither declared as binary nor text.
    #[error("the body is not UTF-8")]
    NotText,
    /// The hub does not take it.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The hub does not serve it.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// The broker has not acknowledged in time.
    #[error("the broker has not acknowledged")]
    TimedOut,
}

impl Refused {
    /// The status that says so.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::NotText
            | Self::Publish(PublishError::Topic(_))
            | Self::Subscribe(SubscribeError::Topic(_)) => 400,
            Self::Publish(_) | Self::Subscribe(_) | Self::TimedOut => 503,
        }
    }
}

/// `/echo`: every message comes back.
///
/// # Errors
/// The socket's.
pub async fn echo(mut socket: WebSocket) -> Result<(), HandlerError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

/// `/protocols`: says what was agreed on.
///
/// # Errors
/// The socket's.
pub async fn protocols(mut socket: WebSocket) -> Result<(), HandlerError> {
    let agreed = socket.protocol().unwrap_or("none").to_owned();
    socket.send(agreed).await?;
    while socket.recv().await?.is_some() {}
    Ok(())
}

/// `/flood`: as much as the peer takes.
///
/// # Errors
/// The socket's.
pub async fn flood(mut socket: WebSocket, query: FloodQuery) -> Result<(), HandlerError> {
    let payload = Bytes::from(vec![0; usize::try_from(query.size)?]);
    for _ in 0..query.n {
        socket.send(payload.clone()).await?;
    }
    Ok(())
}

/// `/sink`: takes one message at a time.
///
/// # Errors
/// The socket's.
pub async fn sink(mut socket: WebSocket, query: SinkQuery) -> Result<(), HandlerError> {
    let delay = Duration::from_millis(query.delay_ms.into());
    while let Some(message) = socket.recv().await? {
        let length = message.as_bytes().len();
        socket.send(length.to_string()).await?;
        tokio::time::sleep(delay).await;
    }
    Ok(())
}

/// `/panic`: the first message is its last.
///
/// # Errors
/// The socket's.
///
/// # Panics
/// That is what it is for.
pub async fn panic(mut socket: WebSocket) -> Result<(), HandlerError> {
    if let Some(message) = socket.recv().await? {
        #[expect(clippy::panic, reason = "what the route is for")]
        {
            panic!(
                "asked to, by a message of {} bytes",
                message.as_bytes().len()
            );
        }
    }
    Ok(())
}

/// `/count`: the numbers up to N, from behind the last one seen.
pub fn count(query: CountQuery, last: &LastEventId) -> impl Stream<Item = Event> + use<> {
    let seen = last.id().and_then(|id| id.parse::<u64>().ok()).unwrap_or(0);
    let pause = Duration::from_millis(query.interval_ms.into());
    stream::unfold(seen, move |seen| async move {
        let number = seen.checked_add(1).filter(|number| *number <= query.n)?;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let event = Event::new()
            .id(number)
            .event("tick")
            .data(number.to_string());
        Some((event, number))
    })
}

/// `GET /topics/{topic}` and its socket: serves the topic from where the client left off.
///
/// # Errors
/// Where the hub does not; it is counted as a rejection.
pub async fn serve(testbed: &Testbed, topic: String, last: &LastEventId) -> Result<Serve, Refused> {
    let served = testbed.hub().serve(topic).resume(last).await;
    served.map_err(|error| {
        testbed.stats().count_rejected();
        error.into()
    })
}

/// `POST /topics/{topic}`: publishes a body of that content type.
///
/// # Errors
/// Where the body is no text, or the hub does not take it.
pub async fn publish(
    hub: &Hub,
    topic: &str,
    query: PublishQuery,
    content_type: Option<&[u8]>,
    body: Bytes,
) -> Result<Published, Refused> {
    let message = message(content_type, body)?;
    let publish = match query.key {
        Some(key) => Publish::new(message).key(key),
        None => Publish::new(message),
    };
    let published = hub.publish(topic, publish);
    let id = tokio::time::timeout(PUBLISH_TIMEOUT, published)
        .await
        .map_err(|_| Refused::TimedOut)??;
    Ok(Published::from(id))
}

impl From<EventId> for Published {
    fn from(id: EventId) -> Self {
        Self { id: id.to_string() }
    }
}

fn message(content_type: Option<&[u8]>, body: Bytes) -> Result<Message, Refused> {
    let essence = content_type
        .and_then(|value| value.split(|byte| *byte == b';').next())
        .unwrap_or_default();
    if essence
        .trim_ascii()
        .eq_ignore_ascii_case(b"application/octet-stream")
    {
        return Ok(Message::binary(body));
    }
    let text = towpath::ws::Text::try_from(body).map_err(|_| Refused::NotText)?;
    Ok(Message::text(text))
}

/// The `user` of a query, whose connections are counted together.
#[must_use]
pub fn user(query: Option<&str>) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query?.as_bytes());
    pairs.find_map(|(name, value)| (name == "user").then(|| value.into_owned()))
}

/// Whether `token` is the one of `/private/echo`; how long the answer takes says
/// nothing about it but its length.
#[must_use]
pub fn is_authorized(token: &[u8]) -> bool {
    token.ct_eq(SECRET).into()
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    fn ids(n: u64, id: &str) -> Vec<String> {
        let query = CountQuery { n, interval_ms: 0 };
        let last = LastEventId::new(Some(id.as_bytes()), None);
        let events: Vec<Event> = count(query, &last).collect().now_or_never().expect("ready");
        let text = |event: Event| String::from_utf8(event.encode().unwrap().to_vec()).unwrap();
        events.into_iter().map(text).collect()
    }

    #[test]
    fn counting_resumes_behind_the_last_number() {
        assert_eq!(ids(3, "2"), ["id: 3\nevent: tick\ndata: 3\n\n"]);
        assert_eq!(ids(3, "").len(), 3);
        assert_eq!(ids(3, "3").len(), 0);
        assert_eq!(ids(u64::MAX, "18446744073709551615").len(), 0);
    }

    #[test]
    fn the_content_type_tells_binary_from_text() {
        let bad = Bytes::from_static(b"\xff");
        let binary = Ok(Message::binary(bad.clone()));
        for content_type in ["application/octet-stream", "Application/Octet-Stream ; a=b"] {
            assert_eq!(message(Some(content_type.as_bytes()), bad.clone()), binary);
        }
        assert_eq!(message(None, bad.clone()), Err(Refused::NotText));
        let text = message(Some(b"text/plain"), Bytes::from_static(b"h\xc3\xa9"));
        assert_eq!(text, Ok(Message::text("hé")));
    }

    #[test]
    fn the_user_is_read_as_a_form_is() {
        for (query, expected) in [
            (Some("user=ann"), Some("ann")),
            (Some("n=1&user=a%20b+c&user=bob"), Some("a b c")),
            (Some("users=ann"), None),
            (None, None),
        ] {
            assert_eq!(user(query).as_deref(), expected, "{query:?}");
        }
    }

    #[test]
    fn only_the_secret_is_authorized() {
        assert!(is_authorized(b"secret"));
        for token in [&b""[..], b"secre", b"secret ", b"Secret"] {
            assert!(!is_authorized(token));
        }
    }
}
