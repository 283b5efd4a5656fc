use std::{error::Error, fmt};

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
    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        // Core's statuses are valid, so the fall-back is never used.
        StatusCode::from_u16(self.0.status()).unwrap_or(StatusCode::BAD_REQUEST)
    }

    /// The reason.
    #[must_use]
    pub const fn reason(&self) -> &handshake::UpgradeRejection {
        &self.0
    }
}

impl From<handshake::UpgradeRejection> for UpgradeRejection {
    fn from(rejection: handshake::UpgradeRejection) -> Self {
        Self(rejection)
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

impl ResponseError for UpgradeRejection {
    fn status_code(&self) -> StatusCode {
        self.status()
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
