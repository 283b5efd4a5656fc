//! Without the feature nothing is ever compressed: types without a value stand
//! where those of the feature would, and all that is done with them is nothing.

use bytes::Bytes;

use super::{broadcast::Broadcast, error::ProtocolError, message::Message, receive::Role};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terms {}

#[derive(Default)]
pub(crate) struct Forms;

#[derive(Debug)]
pub(crate) enum Deflater {}

#[derive(Debug)]
pub(crate) enum Inflater {}

impl Deflater {
    pub(crate) const fn new(terms: &Terms, _: Role) -> Self {
        match *terms {}
    }

    pub(crate) const fn compress(&mut self, _: &Message) -> Option<Vec<u8>> {
        match *self {}
    }

    pub(crate) const fn broadcast(&mut self, _: &Broadcast) -> Option<Bytes> {
        match *self {}
    }

    pub(crate) const fn keeps_context(&self) -> bool {
        match *self {}
    }

    pub(crate) const fn rest(&mut self) {
        match *self {}
    }
}

impl Inflater {
    pub(crate) const fn new(terms: &Terms, _: Role) -> Self {
        match *terms {}
    }

    pub(crate) const fn inflate(
        &mut self,
        _: &[u8],
        _: &mut Vec<u8>,
        _: usize,
    ) -> Result<(), ProtocolError> {
        match *self {}
    }

    pub(crate) const fn finish(&mut self, _: &mut Vec<u8>, _: usize) -> Result<(), ProtocolError> {
        match *self {}
    }
}
