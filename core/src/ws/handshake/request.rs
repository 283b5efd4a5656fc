use super::{
    extensions::Offered,
    key::AcceptValue,
    list,
    rejection::{UpgradeRejection, quote},
    response::Handshake,
    subprotocol::Subprotocols,
};
use crate::ws::origin::{Authority, OriginPolicy};

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum HttpVersion {
    Http09,
    Http10,
    Http11,
    Http2,
    Http3,
}

impl HttpVersion {
    /// RFC 9113 §8.2.2: from HTTP/2 on a message with `Upgrade` or `Connection` is
    /// malformed. That is stronger than RFC 9110 §15.5.22, which wants `Upgrade` in
    /// every 426.
    pub(super) const fn has_upgrade_header(self) -> bool {
        match self {
            Self::Http09 | Self::Http10 | Self::Http11 => true,
            Self::Http2 | Self::Http3 => false,
        }
    }

    pub(super) const fn how_to_upgrade(self) -> &'static str {
        match self {
            Self::Http09 | Self::Http10 => {
                "this is a WebSocket: it needs HTTP/1.1 or later and a request to upgrade"
            }
            Self::Http11 => "this is a WebSocket: a request with Upgrade: websocket is needed",
            Self::Http2 | Self::Http3 => {
                "this is a WebSocket: an extended CONNECT with :protocol websocket is needed, \
                 or HTTP/1.1"
            }
        }
    }
}

/// The header lines of a request, to be looked through several times.
///
/// Implemented for `http::HeaderMap` and for slices of pairs; an adapter for another
/// type of header map is one line.
pub trait HeaderLines {
    /// The values of all lines of that name, in their order. `name` is in lower case
    /// and stands for every other spelling.
    fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]>;
}

impl HeaderLines for http::HeaderMap {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        self.get_all(name).iter().map(http::HeaderValue::as_bytes)
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> HeaderLines for [(N, V)] {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        self.iter()
            .filter(move |(line, _)| line.as_ref().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_ref())
    }
}

/// What a handshake says, without the types of a framework.
#[derive(Debug)]
pub struct RequestHead<'a, L: ?Sized> {
    /// The method.
    pub method: &'a str,
    /// The version of HTTP.
    pub version: HttpVersion,
    /// `:authority`, or that of a request target in absolute form.
    pub authority: Option<&'a str>,
    /// `:protocol` of an extended CONNECT (RFC 8441 §4).
    pub protocol: Option<&'a str>,
    /// The header lines.
    pub lines: &'a L,
}

/// Checks a handshake by RFC 6455 §4.2.1 and, over HTTP/2, RFC 8441.
///
/// # Errors
/// What is wrong with it, the first thing found: whether an upgrade is asked for at
/// all comes first, what depends on who asks comes last.
pub fn check<L: HeaderLines + ?Sized>(
    head: &RequestHead<'_, L>,
    origins: &OriginPolicy,
) -> Result<Handshake, UpgradeRejection> {
    let extended_connect = check_request_line(head)?;
    let host = check_host(head)?;
    check_no_content(head)?;
    let accept = if extended_connect {
        check_version(head)?;
        // RFC 8441 §5: Connection, Upgrade and the key are not part of it.
        None
    } else {
        if !list::has_token(head.lines.values("connection"), "upgrade") {
            return Err(UpgradeRejection::MissingConnectionUpgrade);
        }
        check_version(head)?;
        let key = required(head, "sec-websocket-key", "Sec-WebSocket-Key")?;
        Some(AcceptValue::for_key(key).ok_or(UpgradeRejection::InvalidKey)?)
    };
    let offered = Subprotocols::parse(head.lines.values("sec-websocket-protocol"))?;
    check_origin(head, origins, host)?;
    let extensions = Offered::parse(head.lines.values("sec-websocket-extensions"));
    Ok(Handshake::new(accept, offered, extensions))
}

/// Whether an upgrade is asked for, and by the right method. True for an extended
/// CONNECT, false for an upgrade of HTTP/1.1.
fn check_request_line<L: HeaderLines + ?Sized>(
    head: &RequestHead<'_, L>,
) -> Result<bool, UpgradeRejection> {
    let http = head.version;
    match http {
        // RFC 9110 §7.8: an Upgrade in a request of HTTP/1.0 is ignored.
        HttpVersion::Http09 | HttpVersion::Http10 => {
            Err(UpgradeRejection::UpgradeRequired { http })
        }
        HttpVersion::Http11 if head.method == "CONNECT" => Err(UpgradeRejection::PlainConnect),
        HttpVersion::Http11 => {
            if !list::has_token(head.lines.values("upgrade"), "websocket") {
                return Err(UpgradeRejection::UpgradeRequired { http });
            }
            if head.method != "GET" {
                return Err(UpgradeRejection::MethodNotAllowed {
                    method: quote(head.method.as_bytes()),
                });
            }
            Ok(false)
        }
        HttpVersion::Http2 | HttpVersion::Http3 => match (head.method, head.protocol) {
            // Upgrade tokens are compared without regard to case (RFC 9110 §16.7).
            ("CONNECT", Some(name)) if name.eq_ignore_ascii_case("websocket") => Ok(true),
            ("CONNECT", Some(name)) => Err(UpgradeRejection::UnsupportedProtocol {
                protocol: quote(name.as_bytes()),
            }),
            ("CONNECT", None) => Err(UpgradeRejection::PlainConnect),
            _ => Err(UpgradeRejection::UpgradeRequired { http }),
        },
    }
}

/// The host that the request is for.
fn check_host<'a, L: HeaderLines + ?Sized>(
    head: &RequestHead<'a, L>,
) -> Result<&'a str, UpgradeRejection> {
    let parse = |value: &'a [u8]| {
        let text = std::str::from_utf8(value).ok();
        text.and_then(|text| Some((text, Authority::parse(text)?)))
            .ok_or_else(|| UpgradeRejection::InvalidHost {
                found: format!("\"{}\"", quote(value)),
            })
    };
    let authority = head.authority.map(str::as_bytes).map(parse).transpose()?;
    let host = match head.version {
        // RFC 9112 §3.2: there is exactly one, whatever the request target.
        HttpVersion::Http09 | HttpVersion::Http10 | HttpVersion::Http11 => {
            Some(required(head, "host", "Host")?)
        }
        HttpVersion::Http2 | HttpVersion::Http3 => single(head, "host", "Host")?,
    };
    let host = host.map(parse).transpose()?;
    match (authority, host) {
        (Some((authority, parsed)), Some((host, named)))
            if !head.version.has_upgrade_header() && !parsed.agrees_with(&named) =>
        {
            Err(UpgradeRejection::ConflictingHost {
                host: quote(host.as_bytes()),
                authority: quote(authority.as_bytes()),
            })
        }
        // RFC 9112 §3.2.2: the request target is stronger than Host.
        (Some((name, _)), _) | (None, Some((name, _))) => Ok(name),
        (None, None) => Err(UpgradeRejection::MissingHeader { name: "Host" }),
    }
}

fn check_no_content<L: HeaderLines + ?Sized>(
    head: &RequestHead<'_, L>,
) -> Result<(), UpgradeRejection> {
    if head.lines.values("transfer-encoding").next().is_some() {
        return Err(UpgradeRejection::UnexpectedContent {
            name: "Transfer-Encoding",
        });
    }
    match single(head, "content-length", "Content-Length")? {
        None => Ok(()),
        // RFC 9110 §8.6: any number of digits.
        Some(digits) if !digits.is_empty() && digits.iter().all(|&c| c == b'0') => Ok(()),
        Some(_) => Err(UpgradeRejection::UnexpectedContent {
            name: "Content-Length",
        }),
    }
}

fn check_version<L: HeaderLines + ?Sized>(
    head: &RequestHead<'_, L>,
) -> Result<(), UpgradeRejection> {
    let mut lines = head.lines.values("sec-websocket-version").map(list::trim);
    let found = match (lines.next(), lines.next()) {
        (Some(b"13"), None) => return Ok(()),
        (Some(version), None) => format!("\"{}\"", quote(version)),
        (None, _) => "missing".to_owned(),
        (Some(_), Some(_)) => "there twice".to_owned(),
    };
    Err(UpgradeRejection::UnsupportedVersion {
        found,
        http: head.version,
    })
}

/// A request without `Origin` does not come from a browser's page and passes.
fn check_origin<L: HeaderLines + ?Sized>(
    head: &RequestHead<'_, L>,
    policy: &OriginPolicy,
    host: &str,
) -> Result<(), UpgradeRejection> {
    let Some(origin) = single(head, "origin", "Origin")? else {
        return Ok(());
    };
    let forwarded = match policy {
        OriginPolicy::SameForwardedHost => {
            list::elements(head.lines.values("x-forwarded-host")).next()
        }
        OriginPolicy::SameHost | OriginPolicy::Any | OriginPolicy::Allow(_) => None,
    };
    // What is not text is no host, and no origin is of it.
    let host = forwarded.map_or(host, |host| std::str::from_utf8(host).unwrap_or_default());
    if std::str::from_utf8(origin).is_ok_and(|origin| policy.allows(origin, host))
        || *policy == OriginPolicy::Any
    {
        return Ok(());
    }
    Err(UpgradeRejection::OriginNotAllowed {
        origin: quote(origin),
        expected: policy.expected(&quote(host.as_bytes())),
    })
}

/// The value of a header that may be there once.
fn single<'a, L: HeaderLines + ?Sized>(
    head: &RequestHead<'a, L>,
    name: &'static str,
    spelling: &'static str,
) -> Result<Option<&'a [u8]>, UpgradeRejection> {
    let mut lines = head.lines.values(name);
    match (lines.next(), lines.next()) {
        (_, Some(_)) => Err(UpgradeRejection::RepeatedHeader { name: spelling }),
        (value, None) => Ok(value.map(list::trim)),
    }
}

/// The value of a header that must be there once.
fn required<'a, L: HeaderLines + ?Sized>(
    head: &RequestHead<'a, L>,
    name: &'static str,
    spelling: &'static str,
) -> Result<&'a [u8], UpgradeRejection> {
    single(head, name, spelling)?.ok_or(UpgradeRejection::MissingHeader { name: spelling })
}
