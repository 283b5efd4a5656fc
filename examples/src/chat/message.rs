use serde::{Deserialize, Serialize};

use super::Name;

/// The longest text of a message, in characters.
const LONGEST_TEXT: usize = 4_000;
/// The longest `m`, in bytes; a UUID has 36.
const LONGEST_MARK: usize = 64;

/// What the page publishes.
#[derive(Deserialize)]
struct Said {
    m: String,
    text: String,
}

/// What everybody in the room gets.
#[derive(Serialize)]
struct Heard<'a> {
    m: &'a str,
    from: &'a Name,
    text: &'a str,
    at: u64,
}

/// A line that nobody wrote; it has no `from`.
#[derive(Serialize)]
struct Notice<'a> {
    m: &'a str,
    system: &'a str,
    text: &'a str,
    at: u64,
}

/// Why a message is not passed on; its text is shown to whoever wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not the JSON of a message.
    #[error("a message is {{\"m\":…,\"text\":…}}")]
    NoMessage,
    /// An `m` that is empty, too long or not made of printable ASCII.
    #[error("m has 1 to 64 printable ASCII characters")]
    BadMark,
    /// Nothing but white space.
    #[error("the text is empty")]
    EmptyText,
    /// More than 4,000 characters.
    #[error("the text is longer than 4,000 characters")]
    LongText,
}

/// Checks what `from` sent, and makes of it what the room gets at `at`, in
/// milliseconds since 1970: who wrote it, and when, is never the client's word.
pub(super) fn heard(from: &Name, payload: &str, at: u64) -> Result<String, Refusal> {
    let Said { m, text } = serde_json::from_str(payload).map_err(|_| Refusal::NoMessage)?;
    if m.is_empty() || m.len() > LONGEST_MARK || !m.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::BadMark);
    }
    if text.trim().is_empty() {
        return Err(Refusal::EmptyText);
    }
    if text.chars().count() > LONGEST_TEXT {
        return Err(Refusal::LongText);
    }
    Ok(json(&Heard {
        m: &m,
        from,
        text: &text,
        at,
    }))
}

/// A line of the kind `system`: `join`, `leave` or `shutdown`.
pub(super) fn notice(m: &str, system: &str, text: &str, at: u64) -> String {
    json(&Notice {
        m,
        system,
        text,
        at,
    })
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain structs of texts and numbers always serialise")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn say(payload: &Value) -> Result<Value, Refusal> {
        let ada = "ada".parse().unwrap();
        heard(&ada, &payload.to_string(), 1_700).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn the_server_sets_from_and_at() {
        let forged =
            json!({"m": "1", "text": "<b>hi</b>\n", "from": "grace", "at": 7, "system": "join"});
        let heard = json!({"m": "1", "from": "ada", "text": "<b>hi</b>\n", "at": 1_700});
        assert_eq!(say(&forged), Ok(heard));
    }

    #[test]
    fn refuses_what_is_no_message() {
        for none in [
            json!(7),
            json!({"m": "1"}),
            json!({"text": "a"}),
            json!({"m": 1, "text": "a"}),
        ] {
            assert_eq!(say(&none), Err(Refusal::NoMessage), "{none}");
        }
        for m in ["", "a b", "ä", &"m".repeat(65)] {
            assert_eq!(
                say(&json!({"m": m, "text": "a"})),
                Err(Refusal::BadMark),
                "{m}"
            );
        }
        assert_eq!(
            say(&json!({"m": "1", "text": " \n"})),
            Err(Refusal::EmptyText)
        );
    }

    #[test]
    fn text_is_counted_in_characters() {
        assert!(say(&json!({"m": "1", "text": "ü".repeat(4_000)})).is_ok());
        assert_eq!(
            say(&json!({"m": "1", "text": "ü".repeat(4_001)})),
            Err(Refusal::LongText)
        );
    }
}
