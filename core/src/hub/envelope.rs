//! The subprotocol `towpath.v1`: events with their ids, gaps and
//! acknowledgements as JSON in text frames.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{EventId, Gap, Publish};
use crate::ws::Message;

/// What a client calls its publishing: any JSON scalar, given back letter by
/// letter, so that no number loses digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference(Box<str>);

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client asks for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) publish: Publish,
    /// Without it the client wants no acknowledgement.
    pub(crate) reference: Option<Reference>,
}

/// A frame that asks for nothing that can be done; the socket stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) why: RefusalReason,
    pub(crate) reference: Option<Reference>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RefusalReason {
    #[error("not a text frame")]
    BinaryFrame,
    #[error("not a JSON object")]
    NotAnObject,
    #[error("`ref` is not a JSON scalar")]
    InvalidReference,
    #[error("neither `publish` nor `base64`")]
    NoPayload,
    #[error("both `publish` and `base64`")]
    TwoPayloads,
    #[error("`{0}` is not a string")]
    NotAString(&'static str),
    #[error("`base64` is not base64")]
    InvalidBase64,
}

/// The fields of a client's frame, still as text, so that a bad one does not hide
/// the `ref` to which the error belongs. Unknown fields are ignored.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    publish: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    base64: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    key: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "ref", deserialize_with = "present")]
    reference: Option<&'a RawValue>,
}

/// A field that is `null` is there; an `Option` alone would take it for absent.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

/// Reads what a client has sent.
pub(crate) fn parse(message: &Message) -> Result<Request, Refusal> {
    let refuse = |why| Refusal {
        why,
        reference: None,
    };
    let text = message
        .as_text()
        .ok_or_else(|| refuse(RefusalReason::BinaryFrame))?;
    // serde takes an array for a struct, too.
    let fields: Fields<'_> = text
        .trim_ascii_start()
        .starts_with('{')
        .then(|| serde_json::from_str(text).ok())
        .flatten()
        .ok_or_else(|| refuse(RefusalReason::NotAnObject))?;
    let reference = match fields.reference.map(RawValue::get) {
        Some(json) if json.starts_with(['{', '[']) => {
            return Err(refuse(RefusalReason::InvalidReference));
        }
        json => json.map(|json| Reference(json.into())),
    };
    match publish(&fields) {
        Ok(publish) => Ok(Request { publish, reference }),
        Err(why) => Err(Refusal { why, reference }),
    }
}

fn publish(fields: &Fields<'_>) -> Result<Publish, RefusalReason> {
    let message = match (fields.publish, fields.base64) {
        (None, None) => return Err(RefusalReason::NoPayload),
        (Some(_), Some(_)) => return Err(RefusalReason::TwoPayloads),
        (Some(json), None) => Message::text(string("publish", json)?),
        (None, Some(json)) => Message::binary(
            BASE64
                .decode(string("base64", json)?)
                .map_err(|_| RefusalReason::InvalidBase64)?,
        ),
    };
    let publish = Publish::new(message);
    Ok(match fields.key {
        Some(json) => publish.key(string("key", json)?),
        None => publish,
    })
}

fn string(field: &'static str, json: &RawValue) -> Result<String, RefusalReason> {
    serde_json::from_str(json.get()).map_err(|_| RefusalReason::NotAString(field))
}

/// `{"id":"…","data":"…"}`, or `"base64"` for a binary message.
pub(crate) fn event(id: EventId, message: &Message) -> String {
    match message {
        Message::Text(text) => format!(r#"{{"id":"{id}","data":{}}}"#, quote(text.as_str())),
        Message::Binary(bytes) => {
            let mut out = format!(r#"{{"id":"{id}","base64":""#);
            BASE64.encode_string(bytes, &mut out);
            out.push_str(r#""}"#);
            out
        }
    }
}

/// `{"gap":{"reason":"…","missed":…}}`
pub(crate) fn gap(gap: Gap) -> String {
    format!(r#"{{"gap":{gap}}}"#)
}

/// `{"ack":R,"id":"…"}`
pub(crate) fn ack(reference: &Reference, id: EventId) -> String {
    format!(r#"{{"ack":{reference},"id":"{id}"}}"#)
}

/// `{"error":"…","ref":R}`, with `null` where there is no reference.
pub(crate) fn error(why: &impl fmt::Display, reference: Option<&Reference>) -> String {
    let why = quote(&why.to_string());
    match reference {
        Some(reference) => format!(r#"{{"error":{why},"ref":{reference}}}"#),
        None => format!(r#"{{"error":{why},"ref":null}}"#),
    }
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::hub::PublishError;

    fn read(text: &str) -> Result<Request, Refusal> {
        parse(&Message::text(text))
    }

    fn refused(text: &str) -> (RefusalReason, Option<String>) {
        let refusal = read(text).expect_err(text);
        (refusal.why, refusal.reference.map(|r| r.to_string()))
    }

    #[test]
    fn publishing_text_binary_and_key() {
        let request = read(r#"{"publish":"h\u00e9\n","ref":7,"more":[{"x":1}]}"#).unwrap();
        assert_eq!(request.publish, Publish::from("hé\n"));
        assert_eq!(request.reference.unwrap().to_string(), "7");

        let request = read(r#" {"base64":"AP8=","key":"k"} "#).unwrap();
        assert_eq!(request.publish, Publish::from(vec![0, 255]).key("k"));
        assert_eq!(request.reference, None);
        assert_eq!(read(r#"{"base64":""}"#).unwrap().publish, vec![].into());
    }

    #[test]
    fn ref_is_any_scalar_and_comes_back_to_the_letter() {
        for json in [
            "null",
            "true",
            "-0",
            "1e400",
            "123456789012345678901234567890",
            r#""a\u0041""#,
        ] {
            let request = read(&format!(r#"{{"ref": {json} ,"publish":""}}"#)).unwrap();
            let reference = request.reference.unwrap();
            let id = EventId::new(1, 2);
            assert_eq!(
                ack(&reference, id),
                format!(r#"{{"ack":{json},"id":"{id}"}}"#),
            );
        }
    }

    #[test]
    fn refusals_keep_the_ref() {
        use RefusalReason as Why;
        let one = || Some("1".to_owned());
        for (text, why) in [
            (r#"{"ref":1}"#, Why::NoPayload),
            (r#"{"publish":"","base64":"","ref":1}"#, Why::TwoPayloads),
            (r#"{"publish":5,"ref":1}"#, Why::NotAString("publish")),
            (r#"{"publish":null,"ref":1}"#, Why::NotAString("publish")),
            (
                r#"{"publish":"\ud800","ref":1}"#,
                Why::NotAString("publish"),
            ),
            (r#"{"base64":[],"ref":1}"#, Why::NotAString("base64")),
            (r#"{"publish":"","key":1,"ref":1}"#, Why::NotAString("key")),
            (r#"{"base64":"A","ref":1}"#, Why::InvalidBase64),
            (r#"{"base64":"AP8","ref":1}"#, Why::InvalidBase64),
            (r#"{"base64":"A P8=","ref":1}"#, Why::InvalidBase64),
        ] {
            assert_eq!(refused(text), (why, one()), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused_without_a_ref() {
        for text in [
            "",
            "hello",
            "null",
            r#""publish""#,
            r#"["a",null,null,1]"#,
            r#"{"publish":"a""#,
            r#"{"publish":"a"}x"#,
            r#"{"publish":"a","publish":"b","ref":1}"#,
        ] {
            assert_eq!(refused(text), (RefusalReason::NotAnObject, None), "{text}");
        }
        for text in [r#"{"publish":"","ref":[1]}"#, r#"{"publish":"","ref":{}}"#] {
            assert_eq!(refused(text), (RefusalReason::InvalidReference, None));
        }
        let refusal = parse(&Message::binary(&b"{}"[..])).expect_err("binary");
        assert_eq!(refusal.why, RefusalReason::BinaryFrame);
    }

    #[test]
    fn nesting_without_end_is_no_danger() {
        let deep = "[".repeat(1 << 20);
        assert!(read(&format!(r#"{{"publish":"","x":{deep}"#)).is_err());
        assert!(read(&format!(r#"{{"publish":"","ref":{deep}"#)).is_err());
    }

    #[test]
    fn answers() {
        assert_eq!(
            gap(Gap::Expired { missed: 4 }),
            r#"{"gap":{"reason":"expired","missed":4}}"#,
        );
        let refusal = read("[").expect_err("no object");
        assert_eq!(
            error(&refusal.why, refusal.reference.as_ref()),
            r#"{"error":"not a JSON object","ref":null}"#,
        );
        let reference = Reference("\"x\"".into());
        assert_eq!(
            error(&PublishError::Draining, Some(&reference)),
            r#"{"error":"draining","ref":"x"}"#,
        );
    }

    proptest! {
        #[test]
        fn events_are_json(text: String, bytes: Vec<u8>) {
            let id = EventId::new(3, 4);
            let parsed: Value = serde_json::from_str(&event(id, &text.as_str().into())).unwrap();
            prop_assert_eq!(parsed, json!({"id": id.to_string(), "data": text}));
            let parsed: Value = serde_json::from_str(&event(id, &bytes.clone().into())).unwrap();
            prop_assert_eq!(parsed, json!({"id": id.to_string(), "base64": BASE64.encode(bytes)}));
        }

        #[test]
        fn no_frame_breaks_the_parser(text in r#"[{}"a-z:,\[\]0-9\\]{0,40}"#) {
            let _ = read(&text);
        }
    }
}
