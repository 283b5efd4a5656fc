use std::{fmt, net::Ipv6Addr, str::FromStr};

/// Which origins may open a socket (RFC 6455 §10.2, RFC 6454).
///
/// Browsers send cookies with a handshake that any page may start, and CORS does
/// not apply to it: without this check every site that a user visits speaks to the
/// server in that user's name. A request without `Origin` does not come from a
/// browser's page and passes whatever the policy.
///
/// ```
/// use towpath::ws::OriginPolicy;
/// let policy = OriginPolicy::SameHost;
/// assert!(policy.allows("https://chat.example", "chat.example"));
/// assert!(policy.allows("https://chat.example", "chat.example:443"));
/// assert!(!policy.allows("https://evil.example", "chat.example"));
/// assert!(!policy.allows("null", "chat.example"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OriginPolicy {
    /// The request's own host, as `:authority` or `Host` names it. Default ports
    /// are the same as none, and schemes other than `http` and `https` are
    /// refused: `app://localhost` is not the host `localhost`. Whether the page
    /// came by `http` or `https` is not looked at, since a server behind a proxy
    /// does not know how it was reached.
    #[default]
    SameHost,
    /// As [`SameHost`](Self::SameHost), with the first host in `X-Forwarded-Host`,
    /// where there is one, in place of the request's. For servers behind a proxy
    /// that replaces `Host`; a page cannot set that header, other programs can.
    SameForwardedHost,
    /// Every origin. For sockets that trust nothing of the browser's: no cookie,
    /// no client certificate, no private network.
    Any,
    /// These and no others, not even the request's own host.
    Allow(Vec<AllowedOrigin>),
}

impl OriginPolicy {
    /// Whether a page of `origin` may open a socket to `host` (`host[:port]`).
    /// What is malformed may not.
    #[must_use]
    pub fn allows(&self, origin: &str, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::SameHost | Self::SameForwardedHost => {
                let (Some(origin), Some(host)) = (Origin::parse(origin), Authority::parse(host))
                else {
                    return false;
                };
                matches!(&*origin.scheme, "http" | "https")
                    && origin.host == host.host
                    && origin.port == host.port.filter(|port| !origin.is_default_port(*port))
            }
            Self::Allow(allowed) => Origin::parse(origin)
                .is_some_and(|origin| allowed.iter().any(|allowed| allowed.matches(&origin))),
        }
    }

    /// What would be allowed, for those who read the refusal.
    pub(crate) fn expected(&self, host: &str) -> String {
        const NAMED: usize = 8;
        match self {
            Self::Any => "any origin".to_owned(),
            Self::SameHost | Self::SameForwardedHost => format!("the host {host}"),
            Self::Allow(allowed) if allowed.is_empty() => "no origin".to_owned(),
            Self::Allow(allowed) => {
                let names: Vec<_> = allowed
                    .iter()
                    .take(NAMED)
                    .map(ToString::to_string)
                    .collect();
                let more = allowed.len().saturating_sub(NAMED);
                match more {
                    0 => names.join(", "),
                    more => format!("{} and {more} more", names.join(", ")),
                }
            }
        }
    }
}

/// An origin that is allowed: `scheme://host[:port]`, where a host that begins with
/// `*.` stands for every subdomain, however deep, but not for the domain itself.
///
/// ```
/// use towpath::ws::AllowedOrigin;
/// let origin: AllowedOrigin = "HTTPS://Chat.Example:443".parse()?;
/// assert_eq!(origin.to_string(), "https://chat.example");
/// assert!("https://*.chat.example".parse::<AllowedOrigin>().is_ok());
/// assert!("https://chat.example/".parse::<AllowedOrigin>().is_err());
/// # Ok::<(), towpath::ws::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOrigin {
    /// Without the `*.` of a pattern.
    origin: Origin,
    subdomains: bool,
}

impl AllowedOrigin {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let Some((scheme, domain)) = text.split_once("://*.") else {
            return Self::checked(Origin::parse(text)?, false);
        };
        let origin = Origin::parse(&format!("{scheme}://{domain}"))?;
        // An address has no subdomains.
        (!origin.host.starts_with('['))
            .then(|| Self::checked(origin, true))
            .flatten()
    }

    /// A host may have a `*` by its grammar, but here it is a pattern that we do not
    /// know, which would silently match nothing.
    fn checked(origin: Origin, subdomains: bool) -> Option<Self> {
        (!origin.host.contains('*')).then_some(Self { origin, subdomains })
    }

    fn matches(&self, origin: &Origin) -> bool {
        let own = &self.origin;
        if (&own.scheme, own.port) != (&origin.scheme, origin.port) {
            return false;
        }
        if !self.subdomains {
            return own.host == origin.host;
        }
        origin
            .host
            .strip_suffix(&own.host)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|labels| !labels.is_empty())
    }
}

impl FromStr for AllowedOrigin {
    type Err = super::ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or_else(|| Self::Err::InvalidOrigin(text.to_owned()))
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { scheme, host, port } = &self.origin;
        let wildcard = if self.subdomains { "*." } else { "" };
        write!(f, "{scheme}://{wildcard}{host}")?;
        port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A serialised origin (RFC 6454 §6.2) in lower case, its port `None` where it is
/// the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    /// `None` for `null`, lists and whatever has a path, as a URL has.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let mut characters = scheme.bytes();
        let valid = characters.next()?.is_ascii_alphabetic()
            && characters.all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c));
        if !valid || authority.ends_with(':') {
            return None;
        }
        let Authority { host, port } = Authority::parse(authority)?;
        let mut origin = Self {
            scheme: scheme.to_ascii_lowercase(),
            host,
            port,
        };
        origin.port = port.filter(|port| !origin.is_default_port(*port));
        Some(origin)
    }

    fn is_default_port(&self, port: u16) -> bool {
        matches!(
            (&*self.scheme, port),
            ("http" | "ws", 80) | ("https" | "wss", 443)
        )
    }
}

/// `host[:port]`, as in `Host` (RFC 9110 §7.2) and `:authority`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    host: String,
    port: Option<u16>,
}

impl Authority {
    /// `None` where the host is empty or malformed, or there is user information.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, rest) = if let Some(literal) = text.strip_prefix('[') {
            let (address, rest) = literal.split_once(']')?;
            // One address has several spellings, its canonical one is compared.
            (format!("[{}]", address.parse::<Ipv6Addr>().ok()?), rest)
        } else {
            let end = text.find(':').unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            if !is_registered_name(name.as_bytes()) {
                return None;
            }
            (name.to_ascii_lowercase(), rest)
        };
        let port = match rest.as_bytes() {
            // RFC 3986 §3.2.3: a colon without digits is no port.
            [] | [b':'] => None,
            [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
                Some(rest[1..].parse().ok()?)
            }
            _ => return None,
        };
        Some(Self { host, port })
    }

    /// Whether both may name the same server, where the scheme is not known: no
    /// port is as good as one of the two default ones.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        let ports = match (self.port, other.port) {
            (None, Some(port)) | (Some(port), None) => matches!(port, 80 | 443),
            (own, other) => own == other,
        };
        self.host == other.host && ports
    }
}

/// `reg-name` of RFC 3986 §3.2.2, which an IPv4 address is too, but not empty.
fn is_registered_name(mut name: &[u8]) -> bool {
    if name.is_empty() {
        return false;
    }
    while let [first, rest @ ..] = name {
        name = match (first, rest) {
            (b'%', [high, low, rest @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                rest
            }
            (c, _) if c.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(c) => rest,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(list: &[&str]) -> OriginPolicy {
        OriginPolicy::Allow(list.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn same_host_compares_host_and_effective_port() {
        for (origin, host, allowed) in [
            ("https://a.example", "a.example", true),
            ("http://a.example", "a.example", true),
            ("https://A.Example", "a.eXample", true),
            ("https://a.example:443", "a.example", true),
            ("https://a.example", "a.example:443", true),
            ("http://a.example", "a.example:80", true),
            ("http://a.example:80", "a.example:", true),
            ("https://a.example", "a.example:80", false),
            ("http://a.example:8080", "a.example:8080", true),
            ("http://a.example:8080", "a.example", false),
            ("http://a.example", "a.example:8080", false),
            ("https://b.a.example", "a.example", false),
            ("https://a.example.evil.example", "a.example", false),
            ("https://evila.example", "a.example", false),
            ("https://a.example@evil.example", "a.example", false),
            ("https://a.example/", "a.example", false),
            ("https://a.example https://b.example", "a.example", false),
            ("a.example", "a.example", false),
            ("//a.example", "a.example", false),
            ("://a.example", "a.example", false),
            ("app://a.example", "a.example", false),
            ("null", "null", false),
            ("", "a.example", false),
            ("https://", "a.example", false),
            ("https://a.example:", "a.example", false),
            ("https://a.example:70000", "a.example", false),
            ("https://a.example:+443", "a.example", false),
            ("http://[::1]:3000", "[0:0:0:0:0:0:0:1]:3000", true),
            ("http://[::1", "[::1]", false),
            ("http://[::1]x", "[::1]", false),
            ("http://[localhost]", "[localhost]", false),
            ("http://127.0.0.1:3000", "127.0.0.1:3000", true),
            ("http://localhost:3000", "127.0.0.1:3000", false),
            ("http://caf\u{e9}.example", "caf\u{e9}.example", false),
            ("http://a%2fb", "a%2Fb", true),
            ("http://a%2", "a%2", false),
        ] {
            assert_eq!(
                OriginPolicy::SameHost.allows(origin, host),
                allowed,
                "{origin} at {host}"
            );
        }
    }

    #[test]
    fn a_list_is_compared_whole_and_normalised() {
        let policy = allow(&["https://A.example:443", "http://b.example:8080"]);
        assert!(policy.allows("https://a.example", "x"));
        assert!(policy.allows("http://b.example:8080", "x"));
        for refused in [
            "http://a.example",
            "https://a.example:8443",
            "https://a.example.evil.example",
            "http://b.example",
            "https://own.example",
            "null",
            "https://a.example, https://b.example",
        ] {
            assert!(!policy.allows(refused, "own.example"), "{refused}");
        }
        assert!(!allow(&[]).allows("https://a.example", "a.example"));
        assert!(allow(&["capacitor://localhost"]).allows("capacitor://localhost", "x"));
    }

    #[test]
    fn a_pattern_stands_for_subdomains_only() {
        let policy = allow(&["https://*.a.example:8443"]);
        assert!(policy.allows("https://b.a.example:8443", "x"));
        assert!(policy.allows("https://c.b.a.example:8443", "x"));
        for refused in [
            "https://a.example:8443",
            "https://.a.example:8443",
            "https://evila.example:8443",
            "https://b.a.example",
            "http://b.a.example:8443",
            "https://b.a.example.evil.example:8443",
        ] {
            assert!(!policy.allows(refused, "x"), "{refused}");
        }
    }

    #[test]
    fn an_allowed_origin_is_an_origin() {
        for wrong in [
            "",
            "*",
            "null",
            "a.example",
            "https://",
            "https://*",
            "https://*.",
            "https://*.[::1]",
            "https://a.*.example",
            "https://*.*.example",
            "https://a.example/",
            "https://u@a.example",
            "1s://a.example",
        ] {
            let error = wrong.parse::<AllowedOrigin>().unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_expectation_is_named_in_bounded_length() {
        assert_eq!(OriginPolicy::SameHost.expected("a:1"), "the host a:1");
        let many: Vec<_> = (0..20).map(|n| format!("https://{n}.example")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let named = allow(&many).expected("x");
        assert!(named.starts_with("https://0.example, "), "{named}");
        assert!(named.ends_with("https://7.example and 12 more"), "{named}");
    }
}
