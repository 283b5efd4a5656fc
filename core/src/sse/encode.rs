//! Lines and blocks of an event stream (WHATWG HTML §9.2.5).

use std::{fmt::Write, iter, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};

/// A comment without text: readers see nothing, proxies see traffic.
pub(super) const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// Writes one line for each line of the value; an empty one is one too.
pub(super) fn lines(into: &mut BytesMut, name: &str, value: &str) {
    for line in split(value) {
        field(into, name, line);
    }
}

/// Writes one line; the value must have no line break. The space after the
/// colon is what readers take off, so that a value may begin with one.
pub(super) fn field(into: &mut BytesMut, name: &str, value: &str) {
    into.reserve(name.len() + value.len() + 3);
    into.put_slice(name.as_bytes());
    into.put_slice(if value.is_empty() { b":" } else { b": " });
    into.put_slice(value.as_bytes());
    into.put_u8(b'\n');
}

pub(super) fn retry(into: &mut BytesMut, time: Duration) {
    // A `BytesMut` grows: writing to it cannot fail.
    let _ = writeln!(into, "retry: {}", time.as_millis());
}

/// A block of its own, which is no event.
pub(super) fn retry_block(time: Duration) -> Bytes {
    let mut block = BytesMut::new();
    retry(&mut block, time);
    block.put_u8(b'\n');
    block.freeze()
}

/// The lines of a text, ended by CR, LF or CRLF.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let text = rest.take()?;
        let Some(end) = memchr::memchr2(b'\r', b'\n', text.as_bytes()) else {
            return Some(text);
        };
        let (line, after) = text.split_at(end);
        rest = after.strip_prefix("\r\n").or_else(|| after.get(1..));
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_end_ends_one_line() {
        let lines = |text| split(text).collect::<Vec<_>>();
        assert_eq!(lines(""), [""]);
        assert_eq!(lines("a"), ["a"]);
        assert_eq!(lines("a\nb\rc\r\nd"), ["a", "b", "c", "d"]);
        assert_eq!(lines("\n\r\n\r"), ["", "", "", ""]);
        assert_eq!(lines("é\u{2028}\n"), ["é\u{2028}", ""]);
    }

    #[test]
    fn retry_is_a_block_in_milliseconds() {
        assert_eq!(
            retry_block(Duration::from_micros(3_000_900)),
            "retry: 3000\n\n"
        );
    }
}
