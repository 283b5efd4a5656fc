use std::time::Duration;

use crate::{
    client::{BoxError, ConnectError},
    ws::{CloseCode, CloseFrame, Error},
};

/// Why a connection is not there any more, or never was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Down {
    /// It was not made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The hook that makes each request anew has failed.
    #[error("the request was not made: {0}")]
    Request(#[source] BoxError),
    /// The server closed it, with what it said.
    #[error("closed by the server{}", describe(.0.as_ref()))]
    Closed(Option<CloseFrame>),
    /// It was lost, or this side gave it up.
    #[error(transparent)]
    Lost(#[from] Error),
}

fn describe(frame: Option<&CloseFrame>) -> String {
    match frame {
        None => String::new(),
        Some(frame) => format!(" with {} {}", frame.code, &*frame.reason)
            .trim_end()
            .to_owned(),
    }
}

impl Down {
    /// Whether it is worth trying again, unless one decides for oneself.
    ///
    /// Not worth it is what another attempt would only repeat: the close codes 1002,
    /// 1003, 1007, 1008, 1009, 3000 and 3003, whoever closed; the statuses 401 and 403;
    /// a request that cannot be; an answer that is none to the request; a process that
    /// drains. All else may pass, 1000 from a server that restarts, or a certificate
    /// that has expired and is about to be renewed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(error) => match error {
                ConnectError::Refused(response) | ConnectError::Redirected(response) => {
                    !matches!(response.status().as_u16(), 401 | 403)
                }
                ConnectError::Invalid(_)
                | ConnectError::TlsUnavailable
                | ConnectError::NoRoots(_)
                | ConnectError::Draining(_)
                | ConnectError::BadAnswer(_) => false,
                _ => true,
            },
            Self::Request(_) => true,
            Self::Closed(frame) => frame.as_ref().is_none_or(|frame| may_pass(frame.code)),
            Self::Lost(error) => match error {
                Error::Closed { code, .. } => code.is_none_or(may_pass),
                Error::Protocol(error) => may_pass(error.close_code()),
                Error::PeerGone | Error::WriteTimeout => true,
            },
        }
    }

    /// How long the server asks to wait: see [`ConnectError::retry_after`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Connect(error) => error.retry_after(),
            Self::Request(_) | Self::Closed(_) | Self::Lost(_) => None,
        }
    }
}

fn may_pass(code: CloseCode) -> bool {
    !matches!(code.get(), 1002 | 1003 | 1007..=1009 | 3000 | 3003)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;

    use super::*;
    use crate::client::{AnswerError, InvalidRequest};

    #[test]
    fn what_would_only_repeat_is_not_tried_again() {
        let closed =
            |code| Down::Closed(CloseCode::new(code).map(|code| CloseFrame::new(code, "")));
        for code in [1002, 1003, 1007, 1008, 1009, 3000, 3003] {
            assert!(!closed(code).is_retryable(), "{code}");
        }
        for code in [
            1000, 1001, 1006, 1010, 1011, 1012, 1013, 1014, 3001, 4000, 4999,
        ] {
            assert!(closed(code).is_retryable(), "{code}");
        }
        let refused = |status: u16| {
            let response = Response::builder().status(status).body(Bytes::new());
            Down::from(ConnectError::Refused(Box::new(response.unwrap())))
        };
        for status in [401, 403] {
            assert!(!refused(status).is_retryable(), "{status}");
        }
        for status in [200, 404, 408, 425, 429, 500, 502, 503, 504] {
            assert!(refused(status).is_retryable(), "{status}");
        }
        for never in [
            ConnectError::from(InvalidRequest::Zero("base")),
            ConnectError::TlsUnavailable,
            ConnectError::from(AnswerError::WrongAccept),
        ] {
            assert!(!Down::from(never).is_retryable());
        }
        assert!(Down::from(ConnectError::NotHttp).is_retryable());
        assert!(Down::Request("no token".into()).is_retryable());
        assert!(Down::from(Error::PeerGone).is_retryable());
        assert!(Down::from(Error::WriteTimeout).is_retryable());
        let protocol = crate::ws::ProtocolError::MaskedFrame;
        assert!(!Down::from(Error::Protocol(protocol)).is_retryable());
    }
}
