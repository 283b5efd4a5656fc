//! What the routes do, in whichever framework.

use std::future::ready;

use towpath::{
    Stats,
    hub::{Hub, Publish, Serve},
    sse::LastEventId,
    ws::{HandlerError, WebSocket},
};

use super::{House, Name, Refused, Room, Visit};

/// Sends every message back.
///
/// # Errors
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
}
