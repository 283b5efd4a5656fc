//! A chat over WebSocket beside a live feed over SSE.
//!
//! A room is two topics of the hub: `room.ROOM` carries what is said, joins and
//! leaves, over WebSocket with the subprotocol `towpath.v1`; `feed.ROOM` carries
//! whole [`Snapshot`]s, over SSE. History is the hub's own. Who is here is kept in
//! [`Lobby`], in this process's memory.

mod lobby;
mod message;
mod name;
mod options;
mod page;
mod rooms;

pub use self::{
    lobby::{Lobby, Post, Visit},
    message::Refusal,
    name::{InvalidName, InvalidRoom, Name, Room},
    options::{Framework, Options},
    page::{Asset, SECURITY_POLICY, asset},
    rooms::Snapshot,
};
