//! What the routes do, in whichever framework.

use std::future::ready;

use bytes::Bytes;
use serde::Serialize;
use towpath::{
    Stats,
    hub::{EventId, Hub, Publish, Serve},
    sse::LastEventId,
    ws::{HandlerError, Message, Text, WebSocket},
};

use super::{House, Name, Refused, Room, Visit};

/// The largest body that may be posted, in bytes: no more than a WebSocket's message
/// may have.
pub const LARGEST_POST: usize = 1 << 20;

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

/// Sends every message back.
///
/// # Errors
///
/// Those of the socket.
pub async fn echo(mut socket: WebSocket) -> Result<(), HandlerError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

/// Subscribes to `topic`, from where the client left off.
///
/// # Errors
///
/// When the hub does not serve it.
pub async fn serve(hub: &Hub, topic: String, last: &LastEventId) -> Result<Serve, Refused> {
    let served = hub.serve(topic).resume(last).await;
    served.map_err(|error| {
        Stats::global().count_rejected();
        error.into()
    })
}

/// Lets `name` take part in `room`, for as long as the socket lives. `serve` is that of
/// the room's talk.
///
/// # Errors
///
/// Those of the socket.
pub async fn talk(
    socket: WebSocket,
    serve: Serve,
    house: House,
    room: Room,
    name: Name,
) -> Result<(), HandlerError> {
    let visit = house.lobby.enter(room, name);
    serve
        .run_with(socket, |publish| ready(hear(&visit, &publish)))
        .await
}

/// What the room hears when `visit` publishes. An `Err` is shown to whoever wrote it.
fn hear(visit: &Visit, publish: &Publish) -> Result<Publish, String> {
    let Some(payload) = publish.message().as_text() else {
        return Err("a message is text".to_owned());
    };
    visit
        .say(payload)
        .map(Publish::from)
        .map_err(|refusal| refusal.to_string())
}

/// Publishes a posted body.
///
/// # Errors
///
/// When it is not text and does not say so, or the hub does not take it.
pub async fn publish(
    hub: &Hub,
    topic: String,
    key: Option<String>,
    content_type: Option<&[u8]>,
    body: Bytes,
) -> Result<Published, Refused> {
    let mut publish = Publish::new(message(content_type, body)?);
    if let Some(key) = key {
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
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn only_a_message_is_heard() {
        let house = House::new(Duration::from_secs(5)).unwrap();
        let visit = house
            .lobby
            .enter("lobby".parse().unwrap(), "ada".parse().unwrap());
        let heard = hear(&visit, &Publish::from(r#"{"m":"1","text":"hello"}"#)).unwrap();
        let heard = heard.message().as_text().unwrap();
        assert!(heard.starts_with(r#"{"m":"1","from":"ada","text":"hello""#));
        let refused = |publish: Publish| hear(&visit, &publish).unwrap_err();
        assert_eq!(refused(vec![0_u8].into()), "a message is text");
        assert_eq!(
            refused(r#"{"m":"1","text":""}"#.into()),
            "the text is empty"
        );
    }

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
