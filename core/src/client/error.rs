use std::{error::Error as StdError, io, time::Duration};

use bytes::Bytes;
use http::{HeaderName, Response, StatusCode};

use crate::{Draining, ws::handshake::AnswerError};

/// Any error, for what one's own connector or hook fails with.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why there is no connection.
///
/// | what happened | variant |
/// | --- | --- |
/// | the request cannot be: address, header, subprotocol | [`Invalid`](Self::Invalid) |
/// | no such host, nobody listens, the network is down | [`Unreachable`](Self::Unreachable) |
/// | the process drains, and the settings have its `Drain` | [`Draining`](Self::Draining) |
/// | a connector of one's own failed | [`Connector`](Self::Connector) |
/// | a black hole, or an answer that does not come to its end | [`Timeout`](Self::Timeout) |
/// | `wss://` without the feature `client-tls` | [`TlsUnavailable`](Self::TlsUnavailable) |
/// | the platform has no roots | [`NoRoots`](Self::NoRoots) |
/// | the certificate is for another name | [`WrongName`](Self::WrongName) |
/// | the certificate has expired, or is not valid yet | [`Expired`](Self::Expired) |
/// | the certificate is not trusted | [`Untrusted`](Self::Untrusted) |
/// | `wss://` where no TLS is spoken | [`NotTls`](Self::NotTls) |
/// | TLS failed otherwise | [`Tls`](Self::Tls) |
/// | the connection ended before there was an answer | [`Disconnected`](Self::Disconnected) |
/// | the answer is not HTTP/1.1, as of `ws://` where TLS is spoken | [`NotHttp`](Self::NotHttp) |
/// | its head is malformed | [`MalformedAnswer`](Self::MalformedAnswer) |
/// | its head does not end | [`AnswerTooLarge`](Self::AnswerTooLarge) |
/// | a redirect, which is not followed | [`Redirected`](Self::Redirected) |
/// | another status than 101 | [`Refused`](Self::Refused) |
/// | a 101 that is no answer to the request | [`BadAnswer`](Self::BadAnswer) |
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The request cannot be.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// There is no connection to be had: the name is not known, nobody listens, the
    /// network is down.
    #[error("cannot connect: {0}")]
    Unreachable(#[source] io::Error),
    /// The [`Drain`](crate::Drain) of the settings has begun.
    #[error(transparent)]
    Draining(#[from] Draining),
    /// The connector failed that was given in place of TCP.
    #[error("cannot connect: {0}")]
    Connector(#[source] BoxError),
    /// The connect time-out is over.
    #[error("no connection after {after:?}, {stage}")]
    Timeout {
        /// What it waited for.
        stage: Stage,
        /// The time-out.
        after: Duration,
    },
    /// `wss://` without the feature `client-tls`.
    #[error("wss needs the feature client-tls")]
    TlsUnavailable,
    /// The platform has no root certificate that can be used.
    #[error("the platform has no root certificates: {0}")]
    NoRoots(String),
    /// The certificate is for another name.
    #[error("the certificate is for another name: {0}")]
    WrongName(#[source] io::Error),
    /// The certificate has expired, or is not valid yet.
    #[error("the certificate is not valid now: {0}")]
    Expired(#[source] io::Error),
    /// The certificate is not trusted for another reason: no root has signed it, it is
    /// revoked, malformed or for another purpose.
    #[error("the certificate is not trusted: {0}")]
    Untrusted(#[source] io::Error),
    /// What answers does not speak TLS: plain HTTP, most likely.
    #[error("the server does not speak TLS: {0}")]
    NotTls(#[source] io::Error),
    /// TLS failed otherwise.
    #[error("TLS failed: {0}")]
    Tls(#[source] io::Error),
    /// The connection ended or broke before the answer was there.
    #[error("disconnected, {stage}: {source}")]
    Disconnected {
        /// What it waited for.
        stage: Stage,
        /// How it ended; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) for an end in
        /// order.
        source: io::Error,
    },
    /// The answer does not begin as one of HTTP/1.1 does.
    #[error("the answer is not HTTP/1.1")]
    NotHttp,
    /// The answer's head is malformed.
    #[error("the answer is malformed: {0}")]
    MalformedAnswer(String),
    /// The answer's head is larger than
    /// [`max_answer_size`](super::Connect::max_answer_size), or has more than 128
    /// headers.
    #[error("the answer's head is larger than {limit} bytes or has more than 128 headers")]
    AnswerTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A redirect, whole; it is not followed, since the target would get whatever
    /// credentials the request has.
    #[error("redirected with {}", .0.status())]
    Redirected(Box<Response<Bytes>>),
    /// Another status than 101, with its headers and what there is of the body: up to
    /// 16 KiB, where its length was told.
    #[error("refused with {}", .0.status())]
    Refused(Box<Response<Bytes>>),
    /// A 101 that is no answer to the request.
    #[error(transparent)]
    BadAnswer(#[from] AnswerError),
}

/// Why a request cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// Not an address, or one without a host or with a name and a password.
    #[error("no address to connect to: {0}")]
    Uri(String),
    /// Neither `ws` nor `wss`, nor `http` or `https` in their place.
    #[error("the scheme must be ws or wss, and is {0:?}")]
    Scheme(String),
    /// Not a header.
    #[error("no header: {0}")]
    Header(String),
    /// A header that belongs to the handshake, or to a body.
    #[error("{0} is set by the client itself")]
    ReservedHeader(HeaderName),
    /// A subprotocol that is no token (RFC 6455 §4.1), or was offered already.
    #[error("{0:?} cannot be offered as a subprotocol")]
    Subprotocol(String),
    /// A setting of zero.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// A [`Backoff`](super::Backoff) that would shrink.
    #[error("factor must be 1 or more")]
    Factor,
}

/// What a connection waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The connection itself: the host's address, TCP, or the connector in its place.
    Connecting,
    /// The handshake of TLS.
    Tls,
    /// The answer to the upgrade.
    Answer,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connecting => "waiting for the connection",
            Self::Tls => "waiting for TLS",
            Self::Answer => "waiting for the answer",
        })
    }
}

impl ConnectError {
    /// The answer, where there is one that is no 101.
    #[must_use]
    pub fn response(&self) -> Option<&Response<Bytes>> {
        match self {
            Self::Redirected(response) | Self::Refused(response) => Some(response),
            _ => None,
        }
    }

    /// The answer's status, where there is one that is no 101.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.response().map(Response::status)
    }

    /// How long the server asks to wait: `Retry-After`, in seconds or as a date
    /// (RFC 9110 §10.2.3).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        super::retry_after::parse(self.response()?.headers())
    }
}
