use std::fmt;

/// The name of a topic: 1 to 128 bytes of `[A-Za-z0-9._:-]`.
///
/// It is checked where it comes in, so that no broker has to escape it.
///
/// ```
/// use towpath::hub::Topic;
/// assert_eq!(Topic::new("room:42")?.as_str(), "room:42");
/// assert!(Topic::new("room 42").is_err());
/// # Ok::<(), towpath::hub::TopicError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic<'a>(&'a str);

impl<'a> Topic<'a> {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Checks a name.
    ///
    /// # Errors
    /// Where it is empty, longer than [`MAX_LEN`](Self::MAX_LEN) or has a byte
    /// that no topic's name has.
    pub fn new(name: &'a str) -> Result<Self, TopicError> {
        if name.is_empty() {
            return Err(TopicError::Empty);
        }
        if name.len() > Self::MAX_LEN {
            return Err(TopicError::TooLong(name.len()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
        match name.chars().find(|&c| !allowed(c)) {
            Some(c) => Err(TopicError::InvalidCharacter(c)),
            None => Ok(Self(name)),
        }
    }

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Why a text is no topic's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// It has no bytes.
    #[error("a topic's name is empty")]
    Empty,
    /// It has so many bytes.
    #[error("a topic's name has {0} bytes, more than 128")]
    TooLong(usize),
    /// It has a character outside `[A-Za-z0-9._:-]`.
    #[error("a topic's name has {0:?}, which is none of A-Z a-z 0-9 . _ : -")]
    InvalidCharacter(char),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_1_to_128_bytes_of_the_alphabet() {
        assert!(Topic::new("AZaz09._:-").is_ok());
        assert!(Topic::new(&"x".repeat(128)).is_ok());
        assert_eq!(Topic::new(""), Err(TopicError::Empty));
        assert_eq!(Topic::new(&"x".repeat(129)), Err(TopicError::TooLong(129)),);
        for bad in ['/', ' ', '*', '\0', '\n', 'é', '%', '@', '['] {
            assert_eq!(
                Topic::new(&format!("a{bad}")),
                Err(TopicError::InvalidCharacter(bad)),
            );
        }
    }
}
