//! Lists and tokens (RFC 9110 §5.6).

/// Whether `bytes` is a token (RFC 9110 §5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(c))
}

/// The value without the optional white space around it (RFC 9110 §5.6.3), which is
/// less than what `trim_ascii` takes.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The elements of a list over any number of lines, without the empty ones, which a
/// recipient ignores (RFC 9110 §5.6.1.2).
pub(super) fn elements<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
) -> impl Iterator<Item = &'a [u8]> {
    lines
        .flat_map(|line| line.split(|&c| c == b','))
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Whether the list has `token`, in any case.
pub(super) fn has_token<'a>(lines: impl Iterator<Item = &'a [u8]>, token: &str) -> bool {
    elements(lines).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_goes_over_lines_and_skips_empty_elements() {
        let lines: [&[u8]; 3] = [b"a ,\tb,,", b"", b" , c d\t"];
        let found: Vec<_> = elements(lines.into_iter()).collect();
        assert_eq!(found, [&b"a"[..], b"b", b"c d"]);
    }

    #[test]
    fn a_token_is_matched_whole() {
        let list = |line: &'static str| has_token([line.as_bytes()].into_iter(), "upgrade");
        assert!(list("keep-alive, UPGRADE"));
        assert!(!list("x-upgrade"));
        assert!(!list("upgrade; q=1"));
        assert!(!list("keep-alive upgrade"));
        assert!(!list("\"upgrade\""));
        assert!(!list("\x0bupgrade"));
    }

    #[test]
    fn tokens_have_no_separators() {
        assert!(is_token(b"chat.v2~!#$%&'*+-^_`|"));
        for wrong in [
            &b""[..],
            b"a b",
            b"a/b",
            b"a\x00",
            b"\xe9",
            b"a;b",
            b"\"a\"",
        ] {
            assert!(!is_token(wrong), "{wrong:?}");
        }
    }
}
