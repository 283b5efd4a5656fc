use super::{list, rejection::UpgradeRejection};

/// The subprotocols that a client offers, in its order of preference
/// (RFC 6455 §1.9, §11.3.4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subprotocols {
    /// Tokens joined by commas, of which a token has none. One string of their own,
    /// since slices of the request would keep its buffer alive as long as the socket.
    joined: String,
}

impl Subprotocols {
    /// Reads the values of all lines of `Sec-WebSocket-Protocol`.
    pub(super) fn parse<'a>(
        lines: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, UpgradeRejection> {
        let mut lines = lines.peekable();
        if lines.peek().is_none() {
            return Ok(Self::default());
        }
        let mut names = Vec::new();
        for element in list::elements(lines) {
            let name = list::is_token(element)
                .then(|| std::str::from_utf8(element).ok())
                .flatten()
                .ok_or_else(|| UpgradeRejection::invalid_subprotocol(element))?;
            names.push(name);
        }
        if names.is_empty() {
            return Err(UpgradeRejection::invalid_subprotocol(b""));
        }
        let joined = names.join(",");
        // Sorted, since comparing each with each would let a long header cost minutes.
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(UpgradeRejection::repeated_subprotocol(pair[0])),
            None => Ok(Self { joined }),
        }
    }

    /// The names, the client's favourite first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.joined.split(',').filter(|name| !name.is_empty())
    }

    /// Whether none was offered.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.joined.is_empty()
    }

    /// The first of `supported`, the server's favourite first, that was offered.
    /// Names are compared exactly.
    pub fn choose<S: AsRef<str>>(&self, supported: impl IntoIterator<Item = S>) -> Option<S> {
        supported
            .into_iter()
            .find(|name| self.iter().any(|offered| offered == name.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Result<Subprotocols, UpgradeRejection> {
        Subprotocols::parse(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn the_server_prefers() {
        let offered = parse(&["chat.v1, chat.v2", "chat.v3"]).unwrap();
        let names: Vec<_> = offered.iter().collect();
        assert_eq!(names, ["chat.v1", "chat.v2", "chat.v3"]);
        assert_eq!(offered.choose(["chat.v3", "chat.v1"]), Some("chat.v3"));
        assert_eq!(offered.choose(["CHAT.V1", "chat.v2"]), Some("chat.v2"));
        assert_eq!(offered.choose(["chat", ""]), None);
        assert_eq!(offered.choose::<&str>([]), None);
    }

    #[test]
    fn none_is_no_offer() {
        let none = parse(&[]).unwrap();
        assert!(none.is_empty());
        assert_eq!(none.iter().count(), 0);
        assert_eq!(none.choose(["", "chat"]), None);
    }

    #[test]
    fn an_offer_is_a_list_of_different_tokens() {
        for wrong in [
            &[""][..],
            &[" , "],
            &["a b"],
            &["a/b"],
            &["a;q=1"],
            &["\"a\""],
            &["caf\u{e9}"],
            &["a, a"],
            &["a, b", "a"],
        ] {
            let rejection = parse(wrong).unwrap_err();
            assert_eq!(rejection.status(), 400, "{wrong:?}");
        }
        assert_eq!(parse(&["a", "A", ", ,b"]).unwrap().iter().count(), 3);
    }
}
