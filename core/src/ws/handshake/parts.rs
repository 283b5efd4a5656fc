//! The handshake over the types of `http` 1.

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts};
use hyper::ext::Protocol;

use super::{
    rejection::UpgradeRejection,
    request::{HttpVersion, RequestHead, check},
    response::Handshake,
};
use crate::ws::WsConfig;

/// In the extensions of a GET that came as an extended CONNECT and was rewritten, so
/// that a router sends it to the handler of the same path's GET.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RewrittenConnect;

impl From<Version> for HttpVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::HTTP_10 => Self::Http10,
            Version::HTTP_11 => Self::Http11,
            Version::HTTP_2 => Self::Http2,
            Version::HTTP_3 => Self::Http3,
            // The type is open; what is not known is not upgraded.
            _ => Self::Http09,
        }
    }
}

/// [`check`] for a request of `http` 1, with the origins that `config` allows.
///
/// # Errors
/// Where the request is not a handshake that may be accepted.
pub fn check_parts(parts: &Parts, config: &WsConfig) -> Result<Handshake, UpgradeRejection> {
    let rewritten = parts.extensions.get::<RewrittenConnect>().is_some();
    let method = if rewritten && parts.method == Method::GET {
        &Method::CONNECT
    } else {
        &parts.method
    };
    let head = RequestHead {
        method: method.as_str(),
        version: parts.version.into(),
        authority: parts.uri.authority().map(http::uri::Authority::as_str),
        protocol: parts.extensions.get::<Protocol>().map(Protocol::as_str),
        lines: &parts.headers,
    };
    check(&head, config.origin_policy())
}

/// Whether settings may be needed for this request: cheap, and true for some that
/// [`check_parts`] refuses.
pub(crate) fn asks_for_upgrade<B>(request: &Request<B>) -> bool {
    match request.version() {
        Version::HTTP_2 | Version::HTTP_3 => {
            request.method() == Method::CONNECT
                || request.extensions().get::<RewrittenConnect>().is_some()
        }
        _ => request.headers().contains_key(header::UPGRADE),
    }
}

/// Whether it is a CONNECT for a WebSocket, and not for a tunnel or another protocol.
pub(crate) fn is_extended_connect<B>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT
        && matches!(request.version(), Version::HTTP_2 | Version::HTTP_3)
        && request
            .extensions()
            .get::<Protocol>()
            .is_some_and(|name| name.as_str().eq_ignore_ascii_case("websocket"))
}

/// The refusal as a response: status, headers, and the reason as plain text.
impl<B: From<String>> From<&UpgradeRejection> for Response<B> {
    fn from(rejection: &UpgradeRejection) -> Self {
        let mut response = Self::new(rejection.to_string().into());
        // Our statuses and values are valid, so neither fall-back is ever used.
        *response.status_mut() =
            StatusCode::from_u16(rejection.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        for (name, value) in rejection.headers() {
            let name = header::HeaderName::try_from(name);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(&*value)) {
                headers.insert(name, value);
            }
        }
        response
    }
}
