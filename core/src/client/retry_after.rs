use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

/// How long a server asks to wait: `Retry-After`, in seconds or as a date
/// (RFC 9110 §10.2.3).
pub(super) fn parse(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // Digits that no number holds are a time that nobody lives to see.
    if !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit()) {
        return Some(Duration::MAX);
    }
    let at = httpdate::parse_http_date(value).ok()?;
    // A date that has passed is now.
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}
