//! The topics that anybody may publish to, by POST.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use towpath::{
    hub::{EventId, Hub, Publish},
    ws::{Message, Text},
};

use super::Refused;

/// The largest body that may be posted, in bytes: no more than a WebSocket's message
/// may have.
pub const LARGEST_BODY: usize = 1 << 20;

/// The query of a publication.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct PublishQuery {
    key: Option<String>,
}

/// What a publication is answered with.
#[derive(Clone, Debug, Serialize)]
pub struct Published {
    id: String,
}

impl From<EventId> for Published {
    fn from(id: EventId) -> Self {
        Self { id: id.to_string() }
    }
}

/// Publishes a posted body.
///
/// # Errors
/// When it is not text and does not say so, or the hub does not take it.
pub async fn publish(
    hub: &Hub,
    topic: &str,
    query: PublishQuery,
    content_type: Option<&[u8]>,
    body: Bytes,
) -> Result<Published, Refused> {
    let mut publish = Publish::new(message(content_type, body)?);
    if let Some(key) = query.key {
        publish = publish.key(key);
    }
    Ok(hub.publish(topic, publish).await?.into())
}

/// A body is binary where its content type says so, else text.
fn message(content_type: Option<&[u8]>, body: Bytes) -> Result<Message, Refused> {
    let media_type = content_type.and_then(|value| value.split(|byte| *byte == b';').next());
    let media_type = media_type.unwrap_or_default().trim_ascii();
    if media_type.eq_ignore_ascii_case(b"application/octet-stream") {
        return Ok(Message::binary(body));
    }
    let text = Text::try_from(body).map_err(|_| Refused::NotText)?;
    Ok(Message::text(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_tells_binary_from_text() {
        let body = Bytes::from_static(b"\xff");
        for content_type in ["application/octet-stream", "Application/Octet-Stream ; a=b"] {
            let read = message(Some(content_type.as_bytes()), body.clone());
            assert_eq!(read, Ok(Message::binary(body.clone())));
        }
        assert_eq!(message(None, body), Err(Refused::NotText));
        let text = message(Some(b"text/plain"), Bytes::from_static(b"h\xc3\xa9"));
        assert_eq!(text, Ok(Message::text("hé")));
    }
}
