//! The task that keeps the connection up.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_sink::Sink;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{Down, Reconnect, State, link::Link};
use crate::{
    client::build::in_time,
    ws::{Error, Message, Receiver, Sender, WebSocket},
};

/// Connects again and again, until the user closes or there is no sense in it.
pub(super) async fn keep_up(settings: Reconnect, link: Arc<Link>, state: watch::Sender<State>) {
    let mut random = settings
        .seed
        .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
    // Waits since the last connection that was stable.
    let mut waits = 0;
    let mut attempt: u32 = 0;
    let mut last_id = None;
    let why = loop {
        state.send_replace(State::Connecting { attempt });
        let connecting = connect(&settings, attempt, last_id.as_deref());
        attempt = attempt.saturating_add(1);
        let Some(connected) = unless_closed(&link, connecting).await else {
            break None;
        };
        let down = match connected {
            Err(down) => down,
            Ok(established) => {
                let (give, taken) = oneshot::channel();
                let pump = Pump {
                    link: Arc::clone(&link),
                    resume: settings.resume.clone(),
                    last_id: last_id.take(),
                };
                established.spawn(|socket| async {
                    // It is awaited below for as long as this lives.
                    drop(give.send(pump.run(socket).await));
                    Ok(())
                });
                let opened = Instant::now();
                state.send_replace(State::Open {
                    attempt: attempt - 1,
                });
                // Without an answer the runtime has ended, or the hook has panicked.
                let ended = taken.await;
                if opened.elapsed() >= settings.backoff.stable_after() {
                    waits = 0;
                }
                match ended {
                    Ok((down, id)) => {
                        last_id = id;
                        down
                    }
                    Err(_) => break Some(Down::Lost(Error::PeerGone)),
                }
            }
        };
        if link.is_closing() {
            break None;
        }
        if !(settings.retry)(&down) {
            break Some(down);
        }
        let wait = settings.backoff.wait(waits, random.f64());
        waits = waits.saturating_add(1);
        let asked = down.retry_after().unwrap_or_default();
        let next = in_time(asked.min(settings.max_retry_after).saturating_add(wait));
        tracing::debug!(%down, ?next, "the connection is down");
        state.send_replace(State::Waiting {
            why: Arc::new(down),
            next,
            attempt,
        });
        if unless_closed(&link, sleep_until(next)).await.is_none() {
            break None;
        }
    };
    let why = why.map(Arc::new);
    state.send_replace(State::Closed { why: why.clone() });
    link.finish(why);
}

async fn connect(
    settings: &Reconnect,
    attempt: u32,
    last_id: Option<&str>,
) -> Result<crate::client::build::Established, Down> {
    let mut connect = settings.connect.clone();
    if let Some(request) = &settings.request {
        connect = request(connect, attempt).await.map_err(Down::Request)?;
    }
    if let (Some(resume), Some(id)) = (&settings.resume, last_id) {
        connect = connect.query(&resume.parameter, id);
    }
    Ok(connect.establish().await?)
}

/// The future's output; `None` where the user asks to close first.
async fn unless_closed<F: Future>(link: &Link, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match link.poll_closing(cx) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(cx).map(Some),
    })
    .await
}

/// Where to find an event's id, and what to resume by.
pub(super) struct Resume {
    pub(super) parameter: String,
    pub(super) id_of: Box<IdOf>,
}

type IdOf = dyn Fn(&Message) -> Option<String> + Send + Sync;

/// Moves messages between one connection and the handles, inside its driver.
struct Pump {
    link: Arc<Link>,
    resume: Option<Arc<Resume>>,
    last_id: Option<String>,
}

impl Pump {
    /// Until the connection ends; then why, and the id of the last message.
    async fn run(mut self, socket: WebSocket) -> (Down, Option<String>) {
        let (mut sender, mut receiver) = socket.split();
        let down = poll_fn(|cx| {
            self.poll_say(&mut sender, cx);
            self.poll_hear(&mut receiver, cx)
        })
        .await;
        (down, self.last_id)
    }

    fn poll_say(&self, sender: &mut Sender, cx: &mut Context<'_>) {
        while let Poll::Ready(close) = self.link.poll_say(cx) {
            if let Some(frame) = close {
                // Asked again it changes nothing.
                let _ = sender.close_now(frame);
                return;
            }
            // Where it fails the receiver is told why.
            let Poll::Ready(Ok(())) = Pin::new(&mut *sender).poll_ready(cx) else {
                return;
            };
            if let Some(message) = self.link.take_queued()
                && sender.send_now(message).is_err()
            {
                return;
            }
        }
    }

    fn poll_hear(&mut self, receiver: &mut Receiver, cx: &mut Context<'_>) -> Poll<Down> {
        while self.link.poll_room(cx).is_ready() {
            match Pin::new(&mut *receiver).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(message))) => {
                    if let Some(resume) = &self.resume
                        && let Some(id) = (resume.id_of)(&message)
                    {
                        self.last_id = Some(id);
                    }
                    self.link.receive(message);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Down::Lost(error)),
                Poll::Ready(None) => return Poll::Ready(Down::Closed(receiver.close_frame())),
            }
        }
        Poll::Pending
    }
}

/// As long as a server's `Retry-After` is honoured by default.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);
