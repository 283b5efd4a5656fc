//! One table of requests against both testbeds: what they answer is the same.
//!
//! What differs is listed here, and with its reason in `docs/differences.md`.

use std::collections::BTreeSet;

use towpath_tests::{
    http::{self, Response},
    process::Framework,
    ws,
};

/// A request, and what may differ in the answers to it.
#[derive(Clone, Copy)]
struct Case {
    method: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static [u8],
    /// What both answer.
    status: u16,
    may_differ: &'static [Difference],
}

/// A row of `docs/differences.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// The text of a rejection by the framework's own extractor.
    ExtractorText,
    /// Whether a 405 names the methods that are allowed.
    Allow,
    /// Whether the connection of a refused upgrade can be used again.
    ConnectionClose,
}

const UPGRADE: &[(&str, &str)] = &[
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", ws::KEY),
];

/// Both, where the request has a body that is not read, or an upgrade is refused.
const EXTRACTOR_CLOSES: &[Difference] = &[Difference::ExtractorText, Difference::ConnectionClose];

const fn get(path: &'static str, status: u16) -> Case {
    Case {
        method: "GET",
        path,
        headers: &[],
        body: b"",
        status,
        may_differ: &[],
    }
}

const fn upgrade(path: &'static str, status: u16) -> Case {
    Case {
        headers: UPGRADE,
        ..get(path, status)
    }
}

const fn post(path: &'static str, body: &'static [u8], status: u16) -> Case {
    Case {
        method: "POST",
        body,
        ..get(path, status)
    }
}

const fn method(method: &'static str, path: &'static str) -> Case {
    Case {
        method,
        may_differ: &[Difference::Allow],
        ..get(path, 405)
    }
}

const fn differs(case: Case, may_differ: &'static [Difference]) -> Case {
    Case { may_differ, ..case }
}

const fn with(case: Case, headers: &'static [(&'static str, &'static str)]) -> Case {
    Case { headers, ..case }
}

const TABLE: &[Case] = &[
    get("/healthz", 200),
    get("/stats", 200),
    get("/nowhere", 404),
    get("/", 404),
    get("/metrics", 404),
    // Upgrades that are none.
    get("/echo", 426),
    get("/protocols", 426),
    get("/flood?n=1&size=1", 426),
    get("/sink?delay_ms=1", 426),
    get("/panic", 426),
    get("/topics/a/ws", 426),
    with(
        get("/echo", 426),
        &[("Upgrade", "h2c"), ("Connection", "Upgrade")],
    ),
    differs(
        with(
            get("/echo", 400),
            &[
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Version", "13"),
            ],
        ),
        &[Difference::ConnectionClose],
    ),
    with(
        get("/echo", 426),
        &[
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "7"),
            ("Sec-WebSocket-Key", ws::KEY),
        ],
    ),
    differs(
        with(
            get("/echo", 403),
            &[
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", ws::KEY),
                ("Origin", "https://evil.example"),
            ],
        ),
        &[Difference::ConnectionClose],
    ),
    // Upgrades.
    upgrade("/echo", 101),
    upgrade("/flood?n=0&size=0", 101),
    upgrade("/sink?delay_ms=0", 101),
    upgrade("/panic", 101),
    upgrade("/topics/a/ws", 101),
    upgrade("/topics/a/ws?after=&last=3", 101),
    differs(
        upgrade("/topics/a%20b/ws", 400),
        &[Difference::ConnectionClose],
    ),
    differs(upgrade("/flood?n=-1&size=1", 400), EXTRACTOR_CLOSES),
    differs(upgrade("/flood?n=1", 400), EXTRACTOR_CLOSES),
    differs(upgrade("/sink", 400), EXTRACTOR_CLOSES),
    // Authentication.
    get("/private/echo", 401),
    differs(
        upgrade("/private/echo", 401),
        &[Difference::ConnectionClose],
    ),
    with(
        get("/private/echo", 426),
        &[("Authorization", "Bearer secret")],
    ),
    with(
        upgrade("/private/echo", 101),
        &[
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", ws::KEY),
            ("Authorization", "Bearer secret"),
        ],
    ),
    // Streams.
    get("/count?n=3&interval_ms=0", 200),
    get("/count?n=0&interval_ms=0", 200),
    get("/count?n=5&interval_ms=0&last_event_id=3", 200),
    with(
        get("/count?n=5&interval_ms=0&after=1", 200),
        &[("Last-Event-ID", "4")],
    ),
    with(
        get("/count?n=5&interval_ms=0", 200),
        &[("Last-Event-ID", "many")],
    ),
    differs(
        get("/count?n=x&interval_ms=0", 400),
        &[Difference::ExtractorText],
    ),
    differs(get("/count", 400), &[Difference::ExtractorText]),
    get("/topics/a%20b", 400),
    get("/topics/%C3%A9", 400),
    get("/topics/a/b", 404),
    // Publications; the first two fill the log that `/stats` at the end does not show.
    post("/topics/a", b"one", 201),
    post("/topics/a?key=k", b"two", 201),
    post("/topics/a", b"", 201),
    post("/topics/a", b"\xff", 400),
    with(
        post("/topics/a", b"\xff", 201),
        &[("Content-Type", "application/octet-stream")],
    ),
    with(
        post("/topics/a", b"\xff", 201),
        &[("Content-Type", "application/octet-stream; charset=binary")],
    ),
    post("/topics/a%20b", b"one", 400),
    post("/topics/%2E", b"one", 201),
    differs(post("/topics/a", &[b'x'; 2_000], 413), EXTRACTOR_CLOSES),
    // Methods.
    method("HEAD", "/count?n=1&interval_ms=0"),
    method("HEAD", "/topics/a"),
    method("PUT", "/topics/a"),
    method("DELETE", "/count"),
    method("POST", "/echo"),
    method("POST", "/stats"),
    method("PUT", "/healthz"),
    get("/stats", 200),
];

/// Headers as a set: in which order they stand says nothing. Their values compare as
/// they are, but where they tell times and sizes of chunks, not what was answered.
fn headers(response: &Response) -> BTreeSet<(String, String)> {
    let told = response.headers.iter().filter(|(name, _)| name != "date");
    told.map(|(name, value)| match name.as_str() {
        "connection" => (name.clone(), value.to_ascii_lowercase()),
        "allow" => {
            let mut methods: Vec<_> = value.split(',').map(str::trim).collect();
            methods.sort_unstable();
            (name.clone(), methods.join(","))
        }
        _ => (name.clone(), value.clone()),
    })
    .collect()
}

/// The body, without the epoch of ids, which is random.
fn body(response: &Response) -> String {
    let text = String::from_utf8_lossy(&response.body).into_owned();
    match text
        .strip_prefix(r#"{"id":""#)
        .and_then(|rest| rest.split_once('-'))
    {
        Some((_, sequence)) => format!(r#"{{"id":"epoch-{sequence}"#),
        None => text,
    }
}

/// What differs between the answers, one line each.
fn compare(
    case: &Case,
    may_differ: &[Difference],
    axum: &Response,
    actix: &Response,
) -> Vec<String> {
    let mut differences = Vec::new();
    let may = |difference| may_differ.contains(&difference);
    for (framework, response) in [("axum", axum), ("actix", actix)] {
        if response.status != case.status {
            differences.push(format!("{framework} answers {}", response.status));
        }
    }
    let ignored = |name: &str| match name {
        "content-length" => may(Difference::ExtractorText),
        "connection" => may(Difference::ConnectionClose),
        "allow" => may(Difference::Allow),
        _ => false,
    };
    let (left, right) = (headers(axum), headers(actix));
    for (name, value) in left.symmetric_difference(&right) {
        if !ignored(name) {
            let side = if left.contains(&(name.clone(), value.clone())) {
                "axum"
            } else {
                "actix"
            };
            differences.push(format!("only {side} has {name}: {value}"));
        }
    }
    if !may(Difference::ExtractorText) && body(axum) != body(actix) {
        differences.push(format!("{:?} against {:?}", body(axum), body(actix)));
    }
    differences
}

#[tokio::test]
async fn both_answer_the_same() {
    let options = [
        "--max-message-size=1000",
        "--allow-origin=https://good.example",
        "--close-timeout-ms=200",
    ];
    let axum = Framework::Axum.start(&options).await;
    let actix = Framework::Actix.start(&options).await;
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    for case in TABLE {
        // What the request before has left behind is over.
        for testbed in [&axum, &actix] {
            testbed
                .until(|counts| counts.websockets == 0 && counts.sse_streams == 0)
                .await;
        }
        let ask = |address| http::request(address, case.method, case.path, case.headers, case.body);
        let (left, right) = (ask(axum.address()).await, ask(actix.address()).await);
        for difference in compare(case, case.may_differ, &left, &right) {
            all.push(format!("{} {}: {difference}", case.method, case.path));
        }
        // What may differ and does: without this one row there would be a difference.
        for row in case.may_differ {
            let others: Vec<_> = case
                .may_differ
                .iter()
                .copied()
                .filter(|other| other != row)
                .collect();
            if !compare(case, &others, &left, &right).is_empty() {
                seen.insert(*row);
            }
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
    let listed: BTreeSet<_> = TABLE
        .iter()
        .flat_map(|case| case.may_differ)
        .copied()
        .collect();
    assert_eq!(seen, listed, "what is listed differs");
}
