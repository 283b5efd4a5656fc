use std::{error::Error, fmt, sync::Arc};

/// What was wrong with an event.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// CR or LF in an id would end its line.
    #[error("a line break in an event's id")]
    LineBreakInId,
    /// Readers ignore an id with NUL (WHATWG HTML §9.2.6).
    #[error("a NUL in an event's id")]
    NulInId,
    /// The id's own `Display` failed.
    #[error("an event's id cannot be written")]
    Unwritable(#[source] fmt::Error),
    /// CR or LF in an event's name would end its line.
    #[error("a line break in an event's name")]
    LineBreakInName,
    /// The value cannot be JSON.
    #[cfg(feature = "json")]
    #[error("an event's data cannot be JSON")]
    Json(#[source] Arc<dyn Error + Send + Sync>),
    /// There is no event: this is the error of the stream that was to give it.
    #[error("the stream of events failed")]
    Stream(#[source] Arc<dyn Error + Send + Sync>),
}
