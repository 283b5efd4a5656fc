use std::{fmt, str::FromStr, sync::Arc};

use serde::{Serialize, Serializer};

/// The longest name of a person or a room, in characters.
const LONGEST: usize = 32;

/// What somebody calls themself: 1 to 32 characters, no control characters, no
/// white space around it. Clones share the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// The name of a room: 1 to 32 of `[A-Za-z0-9_-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Room(Arc<str>);

/// A text that nobody can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 32 characters, none of them a control character")]
pub struct InvalidName;

/// A text that is no room's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a room's name has 1 to 32 of the characters A-Z, a-z, 0-9, - and _")]
pub struct InvalidRoom;

impl Name {
    /// The name as it is shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Room {
    /// The topic of what is said here, joins and leaves.
    #[must_use]
    pub fn talk(&self) -> String {
        format!("room.{self}")
    }

    /// The topic of this room's snapshots.
    #[must_use]
    pub fn feed(&self) -> String {
        format!("feed.{self}")
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let text = text.trim();
        if text.is_empty() || text.chars().count() > LONGEST || text.contains(char::is_control) {
            return Err(InvalidName);
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for Room {
    type Err = InvalidRoom;

    fn from_str(text: &str) -> Result<Self, InvalidRoom> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if text.is_empty() || text.len() > LONGEST || !text.bytes().all(known) {
            return Err(InvalidRoom);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_in_characters() {
        assert_eq!(
            "ü".repeat(32).parse::<Name>().unwrap().as_str(),
            "ü".repeat(32)
        );
        assert_eq!("ü".repeat(33).parse::<Name>(), Err(InvalidName));
        assert_eq!(" ada ".parse::<Name>().unwrap().as_str(), "ada");
        for none in ["", "  ", "a\nb", "a\u{7f}b"] {
            assert_eq!(none.parse::<Name>(), Err(InvalidName), "{none:?}");
        }
    }

    #[test]
    fn rooms_are_named_plainly() {
        let longest = "a".repeat(32);
        for room in ["lobby", "A-Z_9", &longest] {
            assert_eq!(room.parse::<Room>().unwrap().talk(), format!("room.{room}"));
        }
        let too_long = "a".repeat(33);
        for none in ["", "a b", "a.b", "ä", "../x", &too_long] {
            assert_eq!(none.parse::<Room>(), Err(InvalidRoom), "{none:?}");
        }
    }
}
