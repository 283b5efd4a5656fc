//! A chat over WebSocket beside a live feed over SSE.
//!
//! A room is two topics: `room.ROOM` carries what is said, joins and leaves, over
//! WebSocket with the subprotocol `towpath.v1`; `feed.ROOM` carries whole
//! [`Snapshot`]s, over SSE. History is the hub's own. Who is here is kept in
//! [`Lobby`], in this process's memory.
//!
//! [`House`] is all that; [`handlers`] are the same in both frameworks, whose routes
//! are in [`mod@axum`] and [`actix`].

pub mod actix;
pub mod axum;
pub mod handlers;
mod house;
mod lobby;
mod message;
mod name;
mod options;
mod page;
mod refused;
mod rooms;
mod signals;
pub mod topics;

pub use self::{
    house::House,
    lobby::{Lobby, Post, Visit},
    message::Refusal,
    name::{InvalidName, InvalidRoom, Name, Room},
    options::{Framework, Options},
    page::{Asset, asset},
    refused::Refused,
    rooms::Snapshot,
    signals::Signals,
};
