use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Request, Response, Version};
use hyper::ext::Protocol;
use proptest::prelude::*;
use serde_json::Value;

use super::{parts::RewrittenConnect, *};
use crate::{
    Drain,
    ws::{OriginPolicy, WsConfig},
};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

type Lines = Vec<(String, String)>;

/// Status and headers, as a server that supports `supported` would answer.
fn answer(
    result: Result<Handshake, UpgradeRejection>,
    supported: &[&str],
) -> (u16, Vec<(String, String)>) {
    match result {
        Ok(handshake) => {
            let chosen = handshake.offered().choose(supported).copied();
            let answer = handshake.answer(chosen);
            let headers = answer.headers();
            (
                answer.status(),
                headers.map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            )
        }
        Err(rejection) => {
            let headers = rejection.headers();
            (
                rejection.status(),
                headers
                    .map(|(n, v)| (n.to_owned(), v.to_string()))
                    .collect(),
            )
        }
    }
}

fn check_lines(
    method: &str,
    version: HttpVersion,
    lines: &[(String, String)],
    policy: &OriginPolicy,
) -> Result<Handshake, UpgradeRejection> {
    let head = RequestHead {
        method,
        version,
        authority: None,
        protocol: None,
        lines,
    };
    check(&head, policy)
}

/// A request of `http` 1, where its types can hold the case.
fn parts(method: &str, version: Version, lines: &[(String, String)]) -> http::request::Parts {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    *request.version_mut() = version;
    for (name, value) in lines {
        request.headers_mut().append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    request.into_parts().0
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn the_table_of_handshakes() {
    let table: Vec<Value> =
        serde_json::from_str(include_str!("../../../tests/cases/ws_handshake.json")).unwrap();
    let (mut run, mut accepted) = (0, 0);
    // A credential is the business of the middleware in front.
    for case in table
        .iter()
        .filter(|case| !case["status"].as_array().unwrap().contains(&401.into()))
    {
        let name = text(&case["name"]);
        let lines: Lines = case["headers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| (text(&line[0]).to_owned(), text(&line[1]).to_owned()))
            .collect();
        let (version, typed) = match text(&case["version"]) {
            "HTTP/1.0" => (HttpVersion::Http10, Version::HTTP_10),
            "HTTP/1.1" => (HttpVersion::Http11, Version::HTTP_11),
            other => panic!("{name}: {other}"),
        };
        let supported: &[&str] = match text(&case["path"]) {
            "/protocols" => &["chat.v2", "chat.v1"],
            _ => &[],
        };
        let method = text(&case["method"]);
        let result = check_lines(method, version, &lines, &OriginPolicy::Any);
        let over_parts = check_parts(
            &parts(method, typed, &lines),
            &WsConfig::new().origins(OriginPolicy::Any),
        );
        assert_eq!(result, over_parts, "{name}");

        let (status, headers) = answer(result, supported);
        assert!(
            case["status"].as_array().unwrap().contains(&status.into()),
            "{name}: {status}"
        );
        let find = |name: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        for (header, value) in case["response_has"].as_object().unwrap() {
            assert_eq!(
                find(header).map(|(_, v)| v.as_str()),
                value.as_str(),
                "{name}: {header}"
            );
        }
        for header in case["response_lacks"].as_array().unwrap() {
            assert_eq!(find(text(header)), None, "{name}");
        }
        run += 1;
        accepted += usize::from(status == 101);
    }
    assert_eq!((run, table.len() - run, accepted), (133, 1, 45));
}

fn valid() -> Lines {
    [
        ("Host", "a.example"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

fn with(name: &str, value: &str) -> Lines {
    let mut lines = valid();
    lines.push((name.to_owned(), value.to_owned()));
    lines
}

#[test]
fn an_origin_is_refused_with_both_values() {
    let refused = |lines: &Lines, policy: &OriginPolicy| {
        let rejection = check_lines("GET", HttpVersion::Http11, lines, policy).unwrap_err();
        assert_eq!(rejection.status(), 403);
        rejection.to_string()
    };
    let lines = with("Origin", "https://evil.example");
    assert_eq!(
        refused(&lines, &OriginPolicy::SameHost),
        "the origin https://evil.example is not allowed here, only the host a.example"
    );
    let list = OriginPolicy::Allow(vec!["https://b.example".parse().unwrap()]);
    assert_eq!(
        refused(&lines, &list),
        "the origin https://evil.example is not allowed here, only https://b.example"
    );
    let long = refused(&with("Origin", &"x".repeat(5000)), &OriginPolicy::SameHost);
    assert!(long.len() < 300, "{}", long.len());
}

#[test]
fn without_an_origin_every_policy_passes() {
    for policy in [
        OriginPolicy::SameHost,
        OriginPolicy::SameForwardedHost,
        OriginPolicy::Any,
        OriginPolicy::Allow(Vec::new()),
    ] {
        assert!(check_lines("GET", HttpVersion::Http11, &valid(), &policy).is_ok());
    }
}

#[test]
fn the_forwarded_host_counts_where_it_is_asked_for() {
    let mut lines = with("Origin", "https://public.example");
    lines.push((
        "X-Forwarded-Host".to_owned(),
        "public.example, inner".to_owned(),
    ));
    let check = |lines: &Lines, policy| check_lines("GET", HttpVersion::Http11, lines, &policy);
    assert!(check(&lines, OriginPolicy::SameForwardedHost).is_ok());
    assert!(check(&lines, OriginPolicy::SameHost).is_err());
    let direct = with("Origin", "https://a.example");
    assert!(check(&direct, OriginPolicy::SameForwardedHost).is_ok());
}

#[test]
fn the_request_target_is_stronger_than_host() {
    let lines = with("Origin", "https://target.example");
    let head = RequestHead {
        method: "GET",
        version: HttpVersion::Http11,
        authority: Some("target.example:443"),
        protocol: None,
        lines: &lines[..],
    };
    assert!(check(&head, &OriginPolicy::SameHost).is_ok());
}

fn connect(protocol: Option<&str>, lines: &[(&str, &str)]) -> Result<Handshake, UpgradeRejection> {
    let head = RequestHead {
        method: "CONNECT",
        version: HttpVersion::Http2,
        authority: Some("a.example"),
        protocol,
        lines,
    };
    check(&head, &OriginPolicy::SameHost)
}

#[test]
fn an_extended_connect_is_answered_without_a_key() {
    let handshake = connect(
        Some("websocket"),
        &[
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat.v1"),
            ("origin", "https://a.example"),
        ],
    )
    .unwrap();
    assert!(handshake.is_extended_connect());
    let answer = handshake.answer(Some("chat.v1"));
    assert_eq!(answer.status(), 200);
    let headers: Vec<_> = answer.headers().collect();
    assert_eq!(headers, [("Sec-WebSocket-Protocol", "chat.v1")]);
}

#[test]
fn an_extended_connect_is_checked() {
    let version = ("sec-websocket-version", "13");
    for (protocol, lines, status) in [
        (None, &[version][..], 400),
        (Some("connect-udp"), &[version], 501),
        (Some("websockets"), &[version], 501),
        (Some("websocket"), &[], 426),
        (Some("websocket"), &[("sec-websocket-version", "8")], 426),
        (Some("websocket"), &[version, ("host", "b.example")], 400),
        (
            Some("websocket"),
            &[version, ("host", "a"), ("host", "a")],
            400,
        ),
        (Some("websocket"), &[version, ("content-length", "1")], 400),
        (
            Some("websocket"),
            &[version, ("origin", "https://b.example")],
            403,
        ),
        (
            Some("websocket"),
            &[version, ("sec-websocket-protocol", "a b")],
            400,
        ),
    ] {
        let rejection = connect(protocol, lines).unwrap_err();
        assert_eq!(rejection.status(), status, "{protocol:?} {lines:?}");
        // RFC 9113 §8.2.2: neither may stand in a message of HTTP/2.
        let mut headers = rejection.headers();
        assert!(!headers.any(|(name, _)| matches!(name, "Upgrade" | "Connection")));
    }
    assert!(connect(Some("WebSocket"), &[version, ("host", "A.example:443")]).is_ok());
}

#[test]
fn a_get_over_http_2_is_no_handshake_unless_it_was_rewritten() {
    let lines = [
        ("host".to_owned(), "a.example".to_owned()),
        ("sec-websocket-version".to_owned(), "13".to_owned()),
    ];
    let mut parts = parts("GET", Version::HTTP_2, &lines);
    parts.extensions.insert(Protocol::from_static("websocket"));
    let config = WsConfig::new();
    let rejection = check_parts(&parts, &config).unwrap_err();
    assert!(rejection.is_upgrade_required());
    assert_eq!(rejection.status(), 426);
    parts.extensions.insert(RewrittenConnect);
    assert!(check_parts(&parts, &config).unwrap().is_extended_connect());
    parts.method = Method::POST;
    assert!(check_parts(&parts, &config).is_err());
    parts.method = Method::GET;
    parts.extensions.remove::<Protocol>();
    assert_eq!(
        check_parts(&parts, &config),
        Err(UpgradeRejection::PlainConnect)
    );
}

#[test]
fn a_connect_is_never_an_ordinary_request() {
    for version in [HttpVersion::Http11, HttpVersion::Http2, HttpVersion::Http3] {
        let rejection = check_lines("CONNECT", version, &valid(), &OriginPolicy::Any).unwrap_err();
        assert!(!rejection.is_upgrade_required(), "{version:?}");
    }
}

#[test]
fn a_subprotocol_that_was_not_offered_is_not_answered() {
    let lines = with("Sec-WebSocket-Protocol", "chat.v1");
    let handshake = check_lines("GET", HttpVersion::Http11, &lines, &OriginPolicy::Any).unwrap();
    let names: Vec<_> = handshake.answer(Some("chat.v2")).headers().collect();
    assert_eq!(names.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_a_response() {
    let drain = Drain::new(Duration::from_secs(5)).retry_margin(Duration::ZERO);
    drain.start();
    let rejection = UpgradeRejection::from(drain.guard().unwrap_err());
    let response = Response::<String>::from(&rejection);
    assert_eq!(response.status(), 503);
    let seconds: u64 = response.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((5..=8).contains(&seconds), "{seconds}");
    assert_eq!(response.headers()["sec-websocket-version"], "13");
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; charset=utf-8"
    );
    assert_eq!(*response.body(), rejection.to_string());
    let method = UpgradeRejection::MethodNotAllowed {
        method: "PUT".to_owned(),
    };
    assert_eq!(Response::<String>::from(&method).headers()["allow"], "GET");
}

/// Names that are looked at, and values that are nearly right.
fn line() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = prop::sample::select(vec![
        "host",
        "Upgrade",
        "connection",
        "Sec-WebSocket-Key",
        "sec-websocket-version",
        "Sec-WebSocket-Protocol",
        "origin",
        "Content-Length",
        "transfer-encoding",
        "X-Forwarded-Host",
        "x-other",
    ]);
    let likely = prop::sample::select(vec![
        "a.example",
        "[::1]:1",
        "websocket",
        "upgrade, keep-alive",
        KEY,
        "13",
        "chat.v1, b",
        "https://a.example",
        "http://[::1]:1",
        "0",
        "",
        ",",
    ]);
    let value = prop_oneof![
        likely.prop_map(|value| value.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..30),
        "[\\[\\]:/.@%a-f0-9*, \t\"-]{0,24}".prop_map(String::into_bytes),
    ];
    (name.prop_map(str::to_owned), value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_head_gets_an_answer(
        method in prop::sample::select(vec!["GET", "CONNECT", "POST", "get", ""]),
        version in prop::sample::select(vec![
            HttpVersion::Http09, HttpVersion::Http10, HttpVersion::Http11,
            HttpVersion::Http2, HttpVersion::Http3,
        ]),
        authority in prop::option::of("[a-z\\[\\]:@.%0-9]{0,12}"),
        protocol in prop::option::of(prop::sample::select(vec!["websocket", "", "x"])),
        complete: bool,
        mut lines in prop::collection::vec(line(), 0..8),
        forwarded: bool,
    ) {
        if complete {
            lines.extend(valid().into_iter().map(|(name, value)| (name, value.into_bytes())));
        }
        let policy = if forwarded {
            OriginPolicy::SameForwardedHost
        } else {
            OriginPolicy::SameHost
        };
        let head = RequestHead {
            method,
            version,
            authority: authority.as_deref(),
            protocol,
            lines: &lines[..],
        };
        match check(&head, &policy) {
            Ok(handshake) => {
                let favourite = handshake.offered().iter().next();
                for (_, value) in handshake.answer(favourite).headers() {
                    prop_assert!(HeaderValue::try_from(value).is_ok());
                }
            }
            Err(rejection) => {
                prop_assert!(matches!(rejection.status(), 400 | 403 | 405 | 426 | 501));
                prop_assert!(rejection.headers().any(|h| h.0 == "Sec-WebSocket-Version"));
                let message = rejection.to_string();
                prop_assert!(!message.is_empty() && message.len() < 2000);
                prop_assert!(!message.contains(['\r', '\n', '\0']));
            }
        }
    }

    /// One byte wrong in a handshake is either no change of meaning or a refusal, and
    /// the accept value is the one of the key that was sent.
    #[test]
    fn an_accepted_key_is_the_one_sent(at in 0..24_usize, byte: u8) {
        let mut key = KEY.as_bytes().to_vec();
        key[at] = byte;
        let mut lines: Vec<_> = valid().into_iter().map(|(n, v)| (n, v.into_bytes())).collect();
        lines[3].1 = key.clone();
        let head = RequestHead {
            method: "GET",
            version: HttpVersion::Http11,
            authority: None,
            protocol: None,
            lines: &lines[..],
        };
        if let Ok(handshake) = check(&head, &OriginPolicy::SameHost) {
            let answer = handshake.answer(None);
            let accept = answer.headers().find(|h| h.0 == "Sec-WebSocket-Accept").unwrap().1;
            prop_assert_eq!(accept == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", key == KEY.as_bytes());
        }
    }
}
