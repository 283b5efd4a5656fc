//! The check of text that arrives in pieces (RFC 6455 §8.1).

use super::error::ProtocolError;

/// Shorter text than this is looked through for other than ASCII first: less work
/// than the call of the check, which itself looks for ASCII in longer ones.
const SHORT: usize = 128;

/// Checks text that is there whole.
#[inline]
pub(crate) fn check_whole(text: &[u8]) -> Result<(), ProtocolError> {
    if text.len() < SHORT && is_ascii(text) {
        return Ok(());
    }
    match simdutf8::basic::from_utf8(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(ProtocolError::InvalidUtf8),
    }
}

/// As `[u8]::is_ascii`, with nothing to set up.
#[inline]
fn is_ascii(text: &[u8]) -> bool {
    let (words, tail) = text.as_chunks::<8>();
    let words = words
        .iter()
        .fold(0, |all, word| all | u64::from_ne_bytes(*word));
    let tail = tail.iter().fold(0, |all, byte| all | byte);
    words & 0x8080_8080_8080_8080 == 0 && tail & 0x80 == 0
}

/// Fails at the first byte that no UTF-8 text could have there, however the
/// text is cut.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    /// The bytes of a character whose end has not arrived.
    pending: [u8; 3],
    pending_len: u8,
}

impl Utf8 {
    /// Checks the next piece.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), ProtocolError> {
        while self.pending_len > 0 {
            let [next, rest @ ..] = bytes else {
                return Ok(());
            };
            bytes = rest;
            let have = usize::from(self.pending_len);
            let mut character = [0; 4];
            character[..have].copy_from_slice(&self.pending[..have]);
            character[have] = *next;
            self.keep_tail(&character[..=have])?;
        }
        // The fast check says only yes or no; the exact one is asked where the
        // piece ends inside a character, or is wrong.
        if simdutf8::basic::from_utf8(bytes).is_ok() {
            return Ok(());
        }
        self.keep_tail(bytes)
    }

    /// Checks that the text ends between two characters.
    pub(crate) const fn finish(&self) -> Result<(), ProtocolError> {
        if self.pending_len == 0 {
            Ok(())
        } else {
            Err(ProtocolError::InvalidUtf8)
        }
    }

    /// Checks `bytes` and keeps the beginning of a character at its end.
    fn keep_tail(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.pending_len = 0;
        let Err(error) = simdutf8::compat::from_utf8(bytes) else {
            return Ok(());
        };
        if error.error_len().is_some() {
            return Err(ProtocolError::InvalidUtf8);
        }
        let tail = &bytes[error.valid_up_to()..];
        self.pending[..tail.len()].copy_from_slice(tail);
        self.pending_len = u8::try_from(tail.len()).map_err(|_| ProtocolError::InvalidUtf8)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pieces: &[&[u8]]) -> bool {
        let mut utf8 = Utf8::default();
        pieces.iter().all(|piece| utf8.push(piece).is_ok()) && utf8.finish().is_ok()
    }

    /// Bytes that are nearly UTF-8: text with a few bytes changed.
    fn nearly_utf8() -> impl Strategy<Value = Vec<u8>> {
        (
            ".{0,24}",
            proptest::collection::vec((0usize..64, any::<u8>()), 0..2),
        )
            .prop_map(|(text, changes)| {
                let mut bytes = text.into_bytes();
                for (at, byte) in changes {
                    if let Some(target) = bytes.get_mut(at) {
                        *target = byte;
                    }
                }
                bytes
            })
    }

    proptest! {
        #[test]
        fn agrees_with_std_on_every_split(bytes in nearly_utf8()) {
            let expected = std::str::from_utf8(&bytes).is_ok();
            prop_assert_eq!(check_whole(&bytes).is_ok(), expected);
            prop_assert_eq!(is_ascii(&bytes), bytes.is_ascii());
            for at in 0..=bytes.len() {
                let (left, right) = bytes.split_at(at);
                prop_assert_eq!(check(&[left, right]), expected);
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(check(&single), expected);
        }

        #[test]
        fn fails_at_the_first_bad_byte(bytes in nearly_utf8()) {
            // A prefix is refused exactly where std knows that it is wrong,
            // and not only unfinished.
            let mut utf8 = Utf8::default();
            for (at, byte) in bytes.iter().enumerate() {
                let wrong = std::str::from_utf8(&bytes[..=at])
                    .is_err_and(|error| error.error_len().is_some());
                let refused = utf8.push(&[*byte]).is_err();
                prop_assert_eq!(refused, wrong);
                if wrong {
                    break;
                }
            }
        }
    }
}
