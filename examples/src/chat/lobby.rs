use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    Name, Refusal, Room,
    message::{heard, json, notice},
    rooms::{Line, Rooms},
};

/// The people of all rooms. Clones share it.
///
/// It publishes nothing itself: [`due`](Self::due) tells what one task is to
/// publish, in order, so that a room never sees an older state after a newer one.
#[derive(Clone)]
pub struct Lobby(Arc<Inner>);

struct Inner {
    rooms: Mutex<Rooms>,
    changed: Notify,
    /// Tells this process's notices from those before a restart.
    started: u64,
    notices: AtomicU64,
}

/// Something to publish: the text of a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Post {
    /// To the room's talk.
    Talk(Room, String),
    /// To the room's feed.
    Feed(Room, String),
}

/// Somebody's tab in a room; dropped, it is gone.
#[derive(Debug)]
pub struct Visit {
    lobby: Lobby,
    room: Room,
    name: Name,
}

impl Lobby {
    /// Rooms without anybody.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            rooms: Mutex::new(Rooms::new(Instant::now())),
            changed: Notify::new(),
            started: unix_millis(),
            notices: AtomicU64::new(0),
        }))
    }

    /// One more tab of `name` is in `room`, until the visit is dropped.
    #[must_use]
    pub fn enter(&self, room: Room, name: Name) -> Visit {
        self.rooms().enter(&room, &name);
        self.0.changed.notify_one();
        Visit {
            lobby: self.clone(),
            room,
            name,
        }
    }

    /// Waits until there is something to tell the rooms, and tells it. Nothing
    /// is lost when the future is dropped. One task at a time calls this.
    pub async fn due(&self) -> Vec<Post> {
        loop {
            let turn = self.rooms().turn(Instant::now(), unix_millis());
            if !turn.lines.is_empty() || !turn.snapshots.is_empty() {
                let lines = turn.lines.iter().map(|(room, line)| self.line(room, line));
                let snapshots = turn
                    .snapshots
                    .iter()
                    .map(|(room, snapshot)| Post::Feed(room.clone(), json(snapshot)));
                return lines.chain(snapshots).collect();
            }
            let tick = async {
                match turn.next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = tick => {}
            }
        }
    }

    /// The last words to every room with somebody in it.
    #[must_use]
    pub fn farewell(&self) -> Vec<Post> {
        let rooms: Vec<Room> = self.rooms().occupied().cloned().collect();
        let text = "The server is going down; this page comes back with it.";
        rooms
            .iter()
            .map(|room| self.notice(room, "shutdown", text))
            .collect()
    }

    fn line(&self, room: &Room, line: &Line) -> Post {
        match line {
            Line::Joined(name) => self.notice(room, "join", &format!("{name} joined")),
            Line::Left(name) => self.notice(room, "leave", &format!("{name} left")),
        }
    }

    fn notice(&self, room: &Room, system: &str, text: &str) -> Post {
        let number = self.0.notices.fetch_add(1, Ordering::Relaxed);
        let m = format!("{:x}-{number}", self.0.started);
        Post::Talk(room.clone(), notice(&m, system, text, unix_millis()))
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Lobby {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Lobby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lobby").finish_non_exhaustive()
    }
}

impl Visit {
    /// Where it is.
    #[must_use]
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// What the room hears of `payload`, the JSON that this tab publishes.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] when it is no message, or one that is not passed on.
    pub fn say(&self, payload: &str) -> Result<String, Refusal> {
        let heard = heard(&self.name, payload, unix_millis())?;
        self.lobby.rooms().count_message();
        Ok(heard)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.lobby
            .rooms()
            .leave(&self.room, &self.name, Instant::now());
        self.lobby.0.changed.notify_one();
    }
}

fn unix_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn read(post: &Post) -> (String, Value) {
        let (topic, text) = match post {
            Post::Talk(room, text) => (room.talk(), text),
            Post::Feed(room, text) => (room.feed(), text),
        };
        (topic, serde_json::from_str(text).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn joins_ticks_and_leaves_come_when_they_are_due() {
        let lobby = Lobby::new();
        let start = Instant::now();
        let visit = lobby.enter("lobby".parse().unwrap(), "ada".parse().unwrap());
        let posts = lobby.due().await;
        let (topic, join) = read(&posts[0]);
        assert_eq!(
            (&*topic, &join["system"], &join["text"]),
            ("room.lobby", &json!("join"), &json!("ada joined"))
        );
        let (topic, snapshot) = read(&posts[1]);
        assert_eq!(
            (&*topic, &snapshot["people"]),
            ("feed.lobby", &json!(["ada"]))
        );
        assert_eq!(start.elapsed(), Duration::ZERO);

        let posts = lobby.due().await;
        assert_eq!(read(&posts[0]).0, "feed.lobby");
        assert_eq!(start.elapsed().as_secs(), 1);

        drop(visit);
        for _ in 0..2 {
            lobby.due().await;
        }
        let posts = lobby.due().await;
        let (topic, leave) = read(&posts[0]);
        assert_eq!((&*topic, &leave["system"]), ("room.lobby", &json!("leave")));
        assert_ne!(leave["m"], join["m"]);
        assert_eq!(start.elapsed().as_secs(), 4);

        let idle = tokio::time::timeout(Duration::from_secs(3_600), lobby.due());
        assert!(idle.await.is_err(), "an empty house is silent");
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_who_comes_wakes_the_task() {
        let lobby = Lobby::new();
        let waiting = tokio::spawn({
            let lobby = lobby.clone();
            async move { lobby.due().await }
        });
        tokio::task::yield_now().await;
        let _visit = lobby.enter("lobby".parse().unwrap(), "ada".parse().unwrap());
        assert_eq!(waiting.await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn the_last_words_go_where_somebody_is() {
        let lobby = Lobby::new();
        assert_eq!(lobby.farewell(), []);
        let visit = lobby.enter("lobby".parse().unwrap(), "ada".parse().unwrap());
        let posts = lobby.farewell();
        assert_eq!(posts.len(), 1);
        let (topic, words) = read(&posts[0]);
        assert_eq!(
            (topic, &words["system"]),
            (visit.room().talk(), &json!("shutdown"))
        );
    }
}
