use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use super::{Name, Room};

/// Rooms with somebody in them tell their state so often.
const TICK: Duration = Duration::from_secs(1);
/// Changes are told at once, but a crowd that comes or goes only so often: a
/// snapshot names everybody to everybody.
const CHANGES_APART: Duration = Duration::from_millis(100);
/// A name that is back by then never left: a page was reloaded.
const GRACE: Duration = Duration::from_secs(3);

/// The whole state of a room, as the feed tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// The server's clock, in milliseconds since 1970.
    pub time: u64,
    /// Messages that were sent in the last full second, in all rooms.
    pub messages_per_second: u64,
    /// How many people are here, in all rooms; a name once.
    pub users_online: usize,
    /// Who is in this room.
    pub people: Vec<Name>,
}

/// What the room hears of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Joined(Name),
    Left(Name),
}

/// What is to be told now.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Turn {
    pub(super) lines: Vec<(Room, Line)>,
    pub(super) snapshots: Vec<(Room, Snapshot)>,
    /// When there is something to tell again, if nobody comes or goes before.
    pub(super) next: Option<Instant>,
}

/// Who is in which room. No clock, no task: time is passed in, and
/// [`turn`](Self::turn) tells what is due.
#[derive(Debug)]
pub(super) struct Rooms {
    rooms: BTreeMap<Room, BTreeMap<Name, Person>>,
    /// Rooms whose people are not those of their last snapshot.
    changed: BTreeSet<Room>,
    /// No snapshot for a change before.
    changes_from: Instant,
    next_tick: Instant,
    messages: u64,
    messages_per_second: u64,
}

#[derive(Debug, Default)]
struct Person {
    tabs: usize,
    /// The room has been told that they joined.
    announced: bool,
    /// Since when there is no tab.
    away: Option<Instant>,
}

impl Rooms {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            rooms: BTreeMap::new(),
            changed: BTreeSet::new(),
            changes_from: now,
            next_tick: now + TICK,
            messages: 0,
            messages_per_second: 0,
        }
    }

    /// One more tab of `name`.
    pub(super) fn enter(&mut self, room: &Room, name: &Name) {
        let people = self.rooms.entry(room.clone()).or_default();
        let person = people.entry(name.clone()).or_default();
        person.tabs += 1;
        person.away = None;
        if !person.announced {
            self.changed.insert(room.clone());
        }
    }

    /// One tab of `name` less.
    pub(super) fn leave(&mut self, room: &Room, name: &Name, now: Instant) {
        let people = self.rooms.get_mut(room);
        let Some(person) = people.and_then(|people| people.get_mut(name)) else {
            return;
        };
        person.tabs = person.tabs.saturating_sub(1);
        if person.tabs == 0 {
            person.away = Some(now);
        }
    }

    pub(super) fn count_message(&mut self) {
        self.messages += 1;
    }

    /// The rooms with somebody in them.
    pub(super) fn occupied(&self) -> impl Iterator<Item = &Room> {
        self.rooms.keys()
    }

    /// What is due at `now`, which the server's clock calls `time`.
    pub(super) fn turn(&mut self, now: Instant, time: u64) -> Turn {
        let lines = self.lines(now);
        let mut due = BTreeSet::new();
        if now >= self.next_tick {
            self.tick(now);
            due.extend(self.rooms.keys().cloned());
        }
        if !due.is_empty() || self.changes_due().is_some_and(|moment| moment <= now) {
            self.changes_from = now + CHANGES_APART;
            due.append(&mut self.changed);
        }
        Turn {
            lines,
            snapshots: self.snapshots(due, time),
            next: self.next(),
        }
    }

    /// Joins that were not told yet and leaves whose grace is over.
    fn lines(&mut self, now: Instant) -> Vec<(Room, Line)> {
        let mut lines = Vec::new();
        for (room, people) in &mut self.rooms {
            people.retain(|name, person| {
                if person.away.is_some_and(|since| now >= since + GRACE) {
                    self.changed.insert(room.clone());
                    if person.announced {
                        lines.push((room.clone(), Line::Left(name.clone())));
                    }
                    return false;
                }
                if !person.announced && person.tabs > 0 {
                    person.announced = true;
                    lines.push((room.clone(), Line::Joined(name.clone())));
                }
                true
            });
        }
        self.rooms.retain(|_, people| !people.is_empty());
        lines
    }

    fn tick(&mut self, now: Instant) {
        self.messages_per_second = std::mem::take(&mut self.messages);
        self.next_tick += TICK;
        // Nobody was here for a while, or the process slept: those ticks are gone.
        if self.next_tick <= now {
            self.next_tick = now + TICK;
        }
    }

    /// When the rooms that have changed are told.
    fn changes_due(&self) -> Option<Instant> {
        (!self.changed.is_empty()).then_some(self.changes_from)
    }

    fn next(&self) -> Option<Instant> {
        let people = self.rooms.values().flat_map(BTreeMap::values);
        let leaves = people
            .filter_map(|person| person.away)
            .map(|since| since + GRACE);
        let tick = (!self.rooms.is_empty()).then_some(self.next_tick);
        leaves.chain(tick).chain(self.changes_due()).min()
    }

    fn snapshots(&self, rooms: BTreeSet<Room>, time: u64) -> Vec<(Room, Snapshot)> {
        if rooms.is_empty() {
            return Vec::new();
        }
        let everybody: BTreeSet<&Name> = self.rooms.values().flat_map(BTreeMap::keys).collect();
        let snapshot = |room: Room| {
            let people = self.rooms.get(&room).into_iter().flat_map(BTreeMap::keys);
            let snapshot = Snapshot {
                time,
                messages_per_second: self.messages_per_second,
                users_online: everybody.len(),
                people: people.cloned().collect(),
            };
            (room, snapshot)
        };
        rooms.into_iter().map(snapshot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: [(Room, Line); 0] = [];

    fn room(name: &str) -> Room {
        name.parse().unwrap()
    }

    fn name(name: &str) -> Name {
        name.parse().unwrap()
    }

    fn joined(room: &Room, name: &Name) -> (Room, Line) {
        (room.clone(), Line::Joined(name.clone()))
    }

    fn left(room: &Room, name: &Name) -> (Room, Line) {
        (room.clone(), Line::Left(name.clone()))
    }

    fn after(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_name_is_told_once_however_many_tabs() {
        let (start, lobby, ada) = (Instant::now(), room("lobby"), name("ada"));
        let mut rooms = Rooms::new(start);
        rooms.enter(&lobby, &ada);
        rooms.enter(&lobby, &ada);
        let turn = rooms.turn(start, 7);
        assert_eq!(turn.lines, [joined(&lobby, &ada)]);
        let snapshot = Snapshot {
            time: 7,
            messages_per_second: 0,
            users_online: 1,
            people: vec![ada.clone()],
        };
        assert_eq!(turn.snapshots, [(lobby.clone(), snapshot)]);

        rooms.leave(&lobby, &ada, start);
        rooms.enter(&lobby, &ada);
        rooms.leave(&lobby, &ada, start);
        assert_eq!(rooms.turn(start + GRACE, 7).lines, NOTHING);
    }

    #[test]
    fn a_reload_is_neither_join_nor_leave() {
        let (start, lobby, ada) = (Instant::now(), room("lobby"), name("ada"));
        let mut rooms = Rooms::new(start);
        rooms.enter(&lobby, &ada);
        rooms.turn(start, 0);
        rooms.leave(&lobby, &ada, start);
        assert_eq!(rooms.turn(start + after(2_999), 0).lines, NOTHING);
        rooms.enter(&lobby, &ada);
        assert_eq!(rooms.turn(start + after(9_000), 0).lines, NOTHING);
    }

    #[test]
    fn who_stays_away_has_left_and_the_room_is_forgotten() {
        let (start, lobby, ada) = (Instant::now(), room("lobby"), name("ada"));
        let mut rooms = Rooms::new(start);
        rooms.enter(&lobby, &ada);
        rooms.turn(start, 0);
        let gone = start + after(500);
        rooms.leave(&lobby, &ada, gone);
        let tick = rooms.turn(start + after(3_400), 0);
        assert_eq!(tick.lines, NOTHING);
        assert_eq!(
            tick.snapshots[0].1.people,
            std::slice::from_ref(&ada),
            "here until the grace is over"
        );
        assert_eq!(tick.next, Some(gone + GRACE));

        let last = rooms.turn(gone + GRACE, 0);
        assert_eq!(last.lines, [left(&lobby, &ada)]);
        assert_eq!(last.snapshots[0].1.people, []);
        assert_eq!(last.next, None, "nobody is here: nothing ticks");
        assert_eq!(rooms.occupied().count(), 0);
    }

    #[test]
    fn who_left_before_the_join_was_told_is_not_told_at_all() {
        let (start, lobby, ada) = (Instant::now(), room("lobby"), name("ada"));
        let mut rooms = Rooms::new(start);
        rooms.enter(&lobby, &ada);
        rooms.leave(&lobby, &ada, start);
        assert_eq!(rooms.turn(start, 0).lines, NOTHING);
        assert_eq!(rooms.turn(start + GRACE, 0).lines, NOTHING);
        assert_eq!(rooms.occupied().count(), 0);
    }

    #[test]
    fn each_second_every_room_with_somebody_is_told() {
        let (start, ada) = (Instant::now(), name("ada"));
        let mut rooms = Rooms::new(start);
        rooms.enter(&room("one"), &ada);
        rooms.enter(&room("two"), &ada);
        rooms.enter(&room("two"), &name("grace"));
        assert_eq!(rooms.turn(start, 0).next, Some(start + TICK));
        rooms.count_message();
        rooms.count_message();
        for (second, rate) in [(1, 2), (2, 0)] {
            let turn = rooms.turn(start + TICK * second, 0);
            let told: Vec<_> = turn
                .snapshots
                .iter()
                .map(|(room, told)| (room.to_string(), told.people.len()))
                .collect();
            assert_eq!(told, [("one".to_owned(), 1), ("two".to_owned(), 2)]);
            assert!(
                turn.snapshots
                    .iter()
                    .all(|(_, told)| told.messages_per_second == rate)
            );
            assert!(
                turn.snapshots
                    .iter()
                    .all(|(_, told)| told.users_online == 2),
                "a name once"
            );
        }
    }

    #[test]
    fn a_crowd_is_told_in_few_snapshots() {
        let (start, lobby) = (Instant::now(), room("lobby"));
        let mut rooms = Rooms::new(start);
        let mut told = Vec::new();
        for millis in 0..300 {
            rooms.enter(&lobby, &name(&format!("guest-{millis}")));
            told.extend(rooms.turn(start + after(millis), 0).snapshots);
        }
        assert_eq!(told.len(), 3);
        let last = rooms.turn(start + after(300), 0);
        assert_eq!(last.snapshots[0].1.people.len(), 300);
    }

    #[test]
    fn ticks_that_were_slept_through_are_not_made_up_for() {
        let (start, lobby) = (Instant::now(), room("lobby"));
        let mut rooms = Rooms::new(start);
        let late = start + Duration::from_secs(60);
        rooms.enter(&lobby, &name("ada"));
        assert_eq!(rooms.turn(late, 0).next, Some(late + TICK));
    }
}
