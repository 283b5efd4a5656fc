use std::{error::Error, fmt};

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use towpath::ws::handshake;

/// Why a request got no [`WsUpgrade`](crate::WsUpgrade). As a response it has its
/// [`status`](Self::status), the headers that go with it, and the reason as text.
///
/// ```
/// use axum::{http::StatusCode, response::{IntoResponse, Response}};
/// use towpath_axum::{UpgradeRejection, WsUpgrade};
///
/// async fn chat(upgrade: Result<WsUpgrade, UpgradeRejection>) -> Response {
///     match upgrade {
///         Ok(upgrade) => upgrade.on_upgrade(|_| async { Ok(()) }),
///         Err(refused) if refused.status() == StatusCode::FORBIDDEN => {
///             (refused.status(), "not from there").into_response()
///         }
///         Err(refused) => refused.into_response(),
///     }
/// }
/// # let _: axum::Router = axum::Router::new().route("/", towpath_axum::ws(chat));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeRejection(handshake::UpgradeRejection);

impl UpgradeRejection {
    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        // Core's statuses are valid: its own responses are made of them.
        StatusCode::from_u16(self.0.status()).unwrap_or(StatusCode::BAD_REQUEST)
    }

    /// The reason.
    #[must_use]
    pub const fn reason(&self) -> &handshake::UpgradeRejection {
        &self.0
    }
}

impl fmt::Display for UpgradeRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for UpgradeRejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl From<handshake::UpgradeRejection> for UpgradeRejection {
    fn from(reason: handshake::UpgradeRejection) -> Self {
        Self(reason)
    }
}

impl IntoResponse for UpgradeRejection {
    fn into_response(self) -> Response {
        Response::from(&self.0)
    }
}
