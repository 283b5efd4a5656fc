use std::{error::Error as StdError, fmt};

use super::protocol::{CloseCode, CloseFrame, ProtocolError, Text};

/// How a socket ended, as its handler sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket is closed, by this side or the other: nothing more can be sent.
    #[error("the socket is closed ({})", describe(*code, reason))]
    Closed {
        /// The code, where the close frame had one.
        code: Option<CloseCode>,
        /// The reason, often empty.
        reason: Text,
    },
    /// The connection ended without a close frame, or the peer fell silent.
    #[error("the peer is gone")]
    PeerGone,
    /// The peer took nothing for as long as the write time-out.
    #[error("the peer took nothing for the write time-out")]
    WriteTimeout,
    /// The peer broke the protocol or passed a limit; it was told so.
    #[error("the peer broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
}

impl Error {
    pub(crate) fn closed(frame: Option<&CloseFrame>) -> Self {
        Self::Closed {
            code: frame.map(|frame| frame.code),
            reason: frame.map(|frame| frame.reason.clone()).unwrap_or_default(),
        }
    }
}

fn describe(code: Option<CloseCode>, reason: &Text) -> String {
    match code {
        None => "without a code".to_owned(),
        Some(code) if reason.is_empty() => code.to_string(),
        Some(code) => format!("{code} {reason}"),
    }
}

/// What a handler fails with: any error, turned by `?`.
///
/// The socket is closed with 1011, or the code given by
/// [`with_code`](Self::with_code), and the error is logged once at debug level.
/// An [`Error`] of the socket itself is no failure: the connection is over.
///
/// Like `anyhow::Error` it is not itself a [`std::error::Error`], so that every
/// other one can be turned into it.
///
/// ```
/// use towpath::ws::{CloseCode, HandlerError, WebSocket};
///
/// async fn age(mut socket: WebSocket) -> Result<(), HandlerError> {
///     while let Some(message) = socket.recv().await? {
///         let age: u8 = message
///             .as_text()
///             .unwrap_or_default()
///             .parse()
///             .map_err(|error| HandlerError::from(error).with_code(CloseCode::INVALID_PAYLOAD))?;
///         socket.send(format!("next year {}", age + 1)).await?;
///     }
///     Ok(())
/// }
/// ```
pub struct HandlerError {
    code: Option<CloseCode>,
    source: Box<dyn StdError + Send + Sync>,
}

impl HandlerError {
    /// A failure described by a text.
    pub fn message(text: impl Into<String>) -> Self {
        Self {
            code: None,
            source: text.into().into(),
        }
    }

    /// Closes the socket with `code` in place of 1011.
    #[must_use]
    pub const fn with_code(mut self, code: CloseCode) -> Self {
        self.code = Some(code);
        self
    }

    /// The code that the socket is closed with.
    #[must_use]
    pub fn close_code(&self) -> CloseCode {
        self.code.unwrap_or(CloseCode::INTERNAL_ERROR)
    }

    /// Whether it only says that the socket has ended.
    pub(crate) fn is_end(&self) -> bool {
        self.code.is_none() && self.source.is::<Error>()
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self {
            code: None,
            source: Box::new(error),
        }
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError")
            .field("code", &self.code)
            .field("source", &self.source)
            .finish()
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}
