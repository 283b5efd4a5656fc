use std::{future::Future, io, process::ExitCode, time::Duration};

use towpath::{
    Drain,
    hub::{ConfigError, Hub, Overflow, PublishError},
};

use super::{Lobby, Post, Signals};

/// Once the last socket and stream is gone, the answers that are under way have so
/// long: connections that only stand idle are not waited for.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// What the routes of both frameworks share. Clones are the same house.
#[derive(Clone, Debug)]
pub struct House {
    /// Who is in which room.
    pub lobby: Lobby,
    /// What is said in the rooms; [`Room::talk`](super::Room::talk) names the topics.
    pub talk: Hub,
    /// The rooms' snapshots; [`Room::feed`](super::Room::feed) names the topics.
    pub feeds: Hub,
    /// The topics that anybody may publish to. They are a hub of their own, or
    /// anybody could publish in another's name.
    pub topics: Hub,
    /// How it ends.
    pub drain: Drain,
}

impl House {
    /// An empty house whose sockets and streams have the time `drain` to end in.
    ///
    /// # Errors
    /// None with the settings that are written here.
    pub fn new(drain: Duration) -> Result<Self, ConfigError> {
        let drain = Drain::new(drain);
        let hub = || Hub::builder().drain(drain.clone());
        Ok(Self {
            lobby: Lobby::new(),
            talk: hub().build()?,
            // The newest snapshot says all: who falls behind goes on with that.
            feeds: hub().history(8).overflow(Overflow::Block).build()?,
            topics: hub().build()?,
            drain,
        })
    }

    /// Runs `server` and the rooms beside it, until a signal: in order at the first, at
    /// once at a second.
    ///
    /// # Errors
    /// When `server` fails.
    pub async fn run<F>(&self, server: F, mut signals: Signals) -> io::Result<ExitCode>
    where
        F: Future<Output = io::Result<()>>,
    {
        let house = self.clone();
        tokio::spawn(async move { house.keep().await });
        let stopped = async {
            signals.next().await;
            self.close().await;
            signals.next().await;
        };
        let gone = async {
            self.drain.finished().await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        let server = async {
            tokio::select! { ended = server => ended, () = gone => Ok(()) }
        };
        tokio::select! {
            outcome = self.drain.run(server) => {
                let code = outcome.exit_code();
                outcome.into_output().transpose().map(|_| code)
            }
            () = stopped => Ok(ExitCode::FAILURE),
        }
    }

    /// Tells the rooms what is due, until the drain begins.
    async fn keep(&self) {
        let told = async {
            loop {
                self.post(self.lobby.due().await).await;
            }
        };
        tokio::select! {
            () = told => {}
            () = self.drain.started() => {}
        }
    }

    /// Says so to the rooms, and begins the drain.
    async fn close(&self) {
        // The drain ends publishing, so the last words come first.
        self.post(self.lobby.farewell()).await;
        self.drain.start();
    }

    async fn post(&self, posts: Vec<Post>) {
        for post in posts {
            let sent = match post {
                Post::Talk(room, text) => self.talk.publish(room.talk(), text).await,
                Post::Feed(room, text) => self.feeds.publish(room.feed(), text).await,
            };
            match sent {
                Ok(_) | Err(PublishError::Draining) => {}
                Err(error) => tracing::warn!(%error, "a room was not told"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use serde_json::Value;
    use towpath::hub::{Delivery, Subscription};

    use super::*;

    async fn next(subscription: &mut Subscription) -> Value {
        let Some(Delivery::Event(event)) = subscription.next().await else {
            panic!("an event is there");
        };
        serde_json::from_str(event.message().as_text().unwrap()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_is_told_joins_messages_and_the_end() {
        let house = House::new(Duration::from_secs(5)).unwrap();
        let keeper = tokio::spawn({
            let house = house.clone();
            async move { house.keep().await }
        });
        let mut talk = house.talk.subscribe("room.lobby").await.unwrap();
        let mut feed = house.feeds.subscribe("feed.lobby").await.unwrap();
        let (room, name) = ("lobby".parse().unwrap(), "ada".parse().unwrap());
        let visit = house.lobby.enter(room, name);
        assert_eq!(next(&mut talk).await["text"], "ada joined");
        assert_eq!(next(&mut feed).await["users_online"], 1);

        visit.say(r#"{"m":"1","text":"hello"}"#).unwrap();
        assert_eq!(next(&mut feed).await["messages_per_second"], 1);

        house.close().await;
        assert_eq!(next(&mut talk).await["system"], "shutdown");
        keeper.await.unwrap();
    }
}
