use std::{fmt, ops::Deref};

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header::ContentType},
};
use towpath::ws::handshake;

/// Why a request is not upgraded: the one of [`towpath`], as an error of actix.
///
/// Its response has the status, the headers, and the reason as plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeRejection(handshake::UpgradeRejection);

impl UpgradeRejection {
    /// The reason.
    #[must_use]
    pub fn into_inner(self) -> handshake::UpgradeRejection {
        self.0
    }
}

impl From<handshake::UpgradeRejection> for UpgradeRejection {
    fn from(rejection: handshake::UpgradeRejection) -> Self {
        Self(rejection)
    }
}

impl Deref for UpgradeRejection {
    type Target = handshake::UpgradeRejection;

    fn deref(&self) -> &handshake::UpgradeRejection {
        &self.0
    }
}

impl fmt::Display for UpgradeRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for UpgradeRejection {}

impl ResponseError for UpgradeRejection {
    fn status_code(&self) -> StatusCode {
        // Ours are valid, so the fall-back is never used.
        StatusCode::from_u16(self.0.status()).unwrap_or(StatusCode::BAD_REQUEST)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        for (name, value) in self.0.headers() {
            match name {
                // actix writes it, by the connection's type.
                "Connection" => {}
                "Upgrade" => drop(response.upgrade(&*value)),
                name => drop(response.insert_header((name, &*value))),
            }
        }
        response
            .content_type(ContentType::plaintext())
            .body(self.to_string())
    }
}
