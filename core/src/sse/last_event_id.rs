/// Where a reader wants to go on: the id of the last event that it saw, or how
/// many of the newest it wants to begin with.
///
/// The id is the `Last-Event-ID` header, or else the query's `last_event_id`,
/// or else its `after`; an empty one is none. What cannot be read is none
/// either, save an id that is not UTF-8: its bad bytes become U+FFFD, so that
/// whoever looks for it tells the reader that it is unknown.
///
/// ```
/// use towpath::sse::LastEventId;
///
/// let last = LastEventId::new(None, Some("after=4%2D7&last=10"));
/// assert_eq!(last.id(), Some("4-7"));
/// assert_eq!(last.newest(), Some(10));
/// assert_eq!(LastEventId::new(Some(b"9"), Some("after=4")).id(), Some("9"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastEventId {
    id: Option<String>,
    newest: Option<usize>,
}

impl LastEventId {
    /// Reads the value of the `Last-Event-ID` header and the URL's query,
    /// without its `?`.
    #[must_use]
    pub fn new(header: Option<&[u8]>, query: Option<&str>) -> Self {
        let query = query.unwrap_or_default();
        let header = header.map(|value| String::from_utf8_lossy(value).into_owned());
        let id = header
            .filter(|id| !id.is_empty())
            .or_else(|| parameter(query, "last_event_id"))
            .or_else(|| parameter(query, "after"));
        Self {
            id,
            newest: parameter(query, "last").and_then(|last| number(&last)),
        }
    }

    /// The id of the last event that the reader saw.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// How many of the newest events kept the reader begins with (`?last=`),
    /// where it has no id.
    #[must_use]
    pub fn newest(&self) -> Option<usize> {
        self.newest
    }

    /// The id alone.
    #[must_use]
    pub fn into_id(self) -> Option<String> {
        self.id
    }
}

/// The first value of that name which is not empty.
fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, value)| key == name && !value.is_empty())
        .map(|(_, value)| value.into_owned())
}

/// A number too big for us is as good as all.
fn number(digits: &str) -> Option<usize> {
    let decimal = digits.bytes().all(|b| b.is_ascii_digit());
    decimal.then(|| digits.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(header: Option<&str>, query: &str) -> Option<String> {
        LastEventId::new(header.map(str::as_bytes), Some(query)).into_id()
    }

    fn newest(query: &str) -> Option<usize> {
        LastEventId::new(None, Some(query)).newest()
    }

    #[test]
    fn the_header_wins_over_the_query() {
        assert_eq!(
            id(Some("h"), "last_event_id=q&after=a").as_deref(),
            Some("h")
        );
        assert_eq!(id(None, "after=a&last_event_id=q").as_deref(), Some("q"));
        assert_eq!(id(None, "x=1&after=a").as_deref(), Some("a"));
        assert_eq!(id(None, "x=1"), None);
        assert_eq!(LastEventId::new(None, None), LastEventId::default());
    }

    #[test]
    fn an_empty_id_is_none() {
        assert_eq!(id(Some(""), ""), None);
        assert_eq!(id(Some(""), "last_event_id="), None);
        assert_eq!(id(Some(""), "last_event_id=&after=a").as_deref(), Some("a"));
        assert_eq!(id(None, "after=&after"), None);
    }

    #[test]
    fn the_query_is_decoded() {
        assert_eq!(
            id(None, "after=a%2Bb+c%20%C3%A9").as_deref(),
            Some("a+b c é")
        );
        assert_eq!(id(None, "%61fter=x").as_deref(), Some("x"));
        assert_eq!(id(None, "after=%zz%4").as_deref(), Some("%zz%4"));
        assert_eq!(id(None, "after=%FF").as_deref(), Some("\u{FFFD}"));
    }

    #[test]
    fn a_header_is_utf_8_where_it_can_be() {
        assert_eq!(id(Some("é"), "").as_deref(), Some("é"));
        let broken = LastEventId::new(Some(b"a\xE9"), None);
        assert_eq!(
            broken.id(),
            Some("a\u{FFFD}"),
            "given, and sure to be unknown"
        );
    }

    #[test]
    fn newest_is_a_decimal_number_or_none() {
        assert_eq!(newest("last=10"), Some(10));
        assert_eq!(newest("last=0"), Some(0));
        assert_eq!(newest("last=99999999999999999999999"), Some(usize::MAX));
        for bad in ["last=", "last=-1", "last=%2B1", "last=1e3", "last=ten", ""] {
            assert_eq!(newest(bad), None, "{bad:?}");
        }
    }
}
