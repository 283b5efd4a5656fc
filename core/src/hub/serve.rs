//! One topic for clients, over both transports.

use std::{convert::Infallible, fmt, future::Future};

use super::{
    BoxFuture, Hub, Overflow, Publish, PublishError, Subscribe, SubscribeError, Subscription,
    deliver::Events,
    envelope::{self, Refusal, Request},
};
use crate::{
    sse::{LastEventId, Sse},
    ws::{CloseCode, Error, HandlerError, Message, WebSocket},
};

/// The subprotocol in which a client knows the ids of what it receives, is told
/// gaps, and gets an acknowledgement of what it publishes.
///
/// The server sends text frames: `{"id":"…","data":"…"}` for an event (`"base64"`
/// in place of `data` for a binary one), `{"gap":{"reason":"…","missed":N|null}}`,
/// `{"ack":R,"id":"…"}` and `{"error":"…","ref":R}`. The client sends
/// `{"publish":"…","ref":R}` (or `"base64"`, and optionally a `"key"`); `ref` is
/// any JSON scalar, and without one there is no acknowledgement.
pub const TOWPATH_V1: &str = "towpath.v1";

impl Hub {
    /// Serves one topic to one client, over a WebSocket or an event stream, from
    /// where the client left off:
    ///
    /// ```
    /// use towpath::{hub::{Hub, SubscribeError, TOWPATH_V1}, sse::LastEventId};
    /// use towpath::ws::{WsUpgrade, HandlerError};
    /// use http::Response;
    ///
    /// async fn topic(
    ///     hub: Hub,
    ///     upgrade: WsUpgrade,
    ///     last: LastEventId,
    /// ) -> Result<Response<String>, SubscribeError> {
    ///     // Subscribed before the answer: what is published after it arrives.
    ///     let serve = hub.serve("news").resume(&last).await?;
    ///     Ok(upgrade.protocols([TOWPATH_V1]).on_upgrade(|socket| serve.run(socket)))
    /// }
    /// ```
    pub fn serve(&self, topic: impl Into<String>) -> ServeTopic {
        let topic = topic.into();
        ServeTopic {
            subscribe: self.subscribe(topic.clone()),
            hub: self.clone(),
            topic,
        }
    }
}

/// A [`Serve`] to be: what [`Hub::serve`] returns, to be awaited.
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is awaited"]
pub struct ServeTopic {
    hub: Hub,
    topic: String,
    subscribe: Subscribe,
}

impl ServeTopic {
    /// Begins behind what the client has seen.
    pub fn resume(mut self, last: &LastEventId) -> Self {
        self.subscribe = self.subscribe.resume(last.id(), last.newest());
        self
    }

    /// What happens to a client that lags behind: see [`Subscribe::overflow`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.subscribe = self.subscribe.overflow(overflow);
        self
    }
}

impl IntoFuture for ServeTopic {
    type Output = Result<Serve, SubscribeError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// # Errors
    /// As [`Subscribe`].
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            Ok(Serve {
                subscription: self.subscribe.await?,
                hub: self.hub,
                topic: self.topic,
            })
        })
    }
}

/// A topic that is served to a client; see [`Hub::serve`].
#[derive(Debug)]
#[must_use = "it serves nobody until it is run or made a stream"]
pub struct Serve {
    hub: Hub,
    topic: String,
    subscription: Subscription,
}

impl Serve {
    /// The topic as an event stream.
    pub fn into_sse(self) -> Sse<Events> {
        self.subscription.into()
    }

    /// The topic over a WebSocket: what the client sends is published. In the
    /// subprotocol [`TOWPATH_V1`] if it was negotiated, else as bare messages;
    /// what a bare client publishes is not acknowledged, and where publishing
    /// fails its socket is closed with 1013.
    ///
    /// # Errors
    /// How the socket ended, where that was not in order.
    pub async fn run(self, socket: WebSocket) -> Result<(), HandlerError> {
        self.run_with(socket, async |publish| Ok::<_, Infallible>(publish))
            .await
    }

    /// As [`run`](Self::run), with a say in what the client publishes: `rewrite`
    /// returns what is published in its place, or why it is refused. A refusal is
    /// told a `towpath.v1` client, and closes a bare one with 1008.
    ///
    /// # Errors
    /// How the socket ended, where that was not in order.
    pub async fn run_with<R, F, E>(
        self,
        mut socket: WebSocket,
        mut rewrite: R,
    ) -> Result<(), HandlerError>
    where
        R: FnMut(Publish) -> F,
        F: Future<Output = Result<Publish, E>>,
        E: fmt::Display,
    {
        if socket.protocol() == Some(TOWPATH_V1) {
            socket.sender().forward_enveloped(self.subscription);
            while let Some(message) = socket.recv().await? {
                if let Some(answer) = answer(&self.hub, &self.topic, &message, &mut rewrite).await {
                    socket.send(answer).await?;
                }
            }
            return Ok(());
        }
        socket.forward(self.subscription);
        while let Some(message) = socket.recv().await? {
            let publish = match rewrite(message.into()).await {
                Ok(publish) => publish,
                Err(why) => {
                    let why = why.to_string();
                    return close(&mut socket, CloseCode::POLICY_VIOLATION, why).await;
                }
            };
            match self.hub.publish(&self.topic, publish).await {
                Ok(_) => {}
                Err(PublishError::Draining) => {
                    let code = CloseCode::SERVICE_RESTART;
                    return close(&mut socket, code, "draining".to_owned()).await;
                }
                Err(error) => {
                    let code = CloseCode::TRY_AGAIN_LATER;
                    return close(&mut socket, code, error.to_string()).await;
                }
            }
        }
        Ok(())
    }
}

async fn close(socket: &mut WebSocket, code: CloseCode, why: String) -> Result<(), HandlerError> {
    match socket.close(code, why).await {
        // Closed already is closed.
        Ok(()) | Err(Error::Closed { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Does what a `towpath.v1` client asks, and says what it is to be told.
async fn answer<R, F, E>(
    hub: &Hub,
    topic: &str,
    message: &Message,
    rewrite: &mut R,
) -> Option<String>
where
    R: FnMut(Publish) -> F,
    F: Future<Output = Result<Publish, E>>,
    E: fmt::Display,
{
    let Request { publish, reference } = match envelope::parse(message) {
        Ok(request) => request,
        Err(Refusal { why, reference }) => {
            return Some(envelope::error(&why, reference.as_ref()));
        }
    };
    let publish = match rewrite(publish).await {
        Ok(publish) => publish,
        Err(why) => return Some(envelope::error(&why, reference.as_ref())),
    };
    match hub.publish(topic, publish).await {
        Ok(id) => reference.map(|reference| envelope::ack(&reference, id)),
        Err(error) => Some(envelope::error(&error, reference.as_ref())),
    }
}
