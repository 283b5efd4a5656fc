//! The table of handshakes against both testbeds, over raw sockets.

use std::fmt::Write as _;

use serde_json::Value;
use towpath_tests::{
    http::Connection,
    on_both,
    process::{Framework, SOON},
};

type Headers<'a> = &'a [(&'a str, &'a str)];

/// What actix answers before a handler sees the request; `docs/differences.md` says why.
const ACTIX_REFUSES: [&str; 4] = [
    "upgrade value in a list",
    "upgrade list with empty elements",
    "upgrade list with tabs",
    "another protocol with a version in the list",
];

/// What actix answers with an empty 400, which lacks our headers.
const ACTIX_REFUSES_ITSELF: [&str; 3] = ["no host", "two hosts", "the same host twice"];

fn has(found: &[(String, String)], name: &str, expected: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut values = found
        .iter()
        .filter(|(found, _)| *found == name)
        .map(|(_, value)| value);
    match name.as_str() {
        "upgrade" | "connection" => values
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(expected)),
        _ => values.any(|value| value == expected),
    }
}

/// The table against a testbed with these options.
async fn the_table_with(framework: Framework, options: &[&str]) {
    let table: Vec<Value> =
        serde_json::from_str(include_str!("../../core/tests/cases/ws_handshake.json"))
            .expect("JSON");
    let testbed = framework.start(options).await;
    let (mut upgraded, mut refused) = (0, 0);
    let mut failures = Vec::new();
    for case in &table {
        let text = |field: &str| case[field].as_str().expect(field);
        let list = |field: &str| case[field].as_array().expect(field);
        let mut request = format!(
            "{} {} {}\r\n",
            text("method"),
            text("path"),
            text("version")
        );
        for line in list("headers") {
            let part = |index: usize| line[index].as_str().expect("text");
            let _ = write!(request, "{}: {}\r\n", part(0), part(1));
        }
        request.push_str("\r\n");

        let mut connection = Connection::open(testbed.address()).await;
        connection.write(request.as_bytes()).await;
        let head = connection.head().await;
        if framework == Framework::Actix && ACTIX_REFUSES.contains(&text("name")) {
            assert_eq!(head.status, 426, "{}", text("name"));
            refused += 1;
            continue;
        }
        if framework == Framework::Actix && ACTIX_REFUSES_ITSELF.contains(&text("name")) {
            assert_eq!(head.status, 400, "{}", text("name"));
            continue;
        }
        let mut fail = |what: String| failures.push(format!("{}: {what}", text("name")));
        if !list("status").contains(&head.status.into()) {
            fail(format!("{head:?}"));
        }
        for (name, value) in case["response_has"].as_object().expect("an object") {
            if !has(&head.headers, name, value.as_str().expect("text")) {
                fail(format!("{name}: {value} is not in {head:?}"));
            }
        }
        for name in list("response_lacks") {
            let name = name.as_str().expect("text").to_ascii_lowercase();
            if head.get(&name).is_some() {
                fail(format!("{name} is in {head:?}"));
            }
        }
        upgraded += u64::from(head.status == 101);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!((table.len(), upgraded + refused), (134, 45));
    // The sockets of the table are gone with their clients.
    let counts = testbed
        .until_within(SOON, |counts| counts.websockets == 0)
        .await;
    assert_eq!(counts.upgrades_total, upgraded);
}

on_both! {
    async fn the_table(framework: Framework) {
        the_table_with(framework, &[]).await;
    }

    async fn the_table_with_deflate(framework: Framework) {
        the_table_with(framework, &["--deflate"]).await;
    }

    async fn a_refusal_says_what_was_wrong(framework: Framework) {
        let testbed = framework.start(&["--allow-origin", "https://chat.example"]).await;
        let key = ("Sec-WebSocket-Key", towpath_tests::ws::KEY);
        let cases: [(Headers<'_>, u16, &str); 4] = [
            (&[], 426, "Upgrade"),
            (&[("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")], 400, "Sec-WebSocket-Key"),
            (&[("Upgrade", "websocket"), ("Connection", "Upgrade"), key, ("Sec-WebSocket-Version", "8")], 426, "ersion"),
            (
                &[
                    ("Upgrade", "websocket"),
                    ("Connection", "Upgrade"),
                    key,
                    ("Sec-WebSocket-Version", "13"),
                    ("Origin", "https://evil.example"),
                ],
                403,
                "https://evil.example",
            ),
        ];
        for (headers, status, said) in cases {
            let response = towpath_tests::http::request(
                testbed.address(), "GET", "/echo", headers, b"",
            ).await;
            assert_eq!(response.status, status, "{response:?}");
            assert!(response.text().contains(said), "{:?}", response.text());
        }
        assert_eq!(testbed.counts().await.rejected_total, 4);

        let allowed = [("Origin", "https://chat.example")];
        towpath_tests::ws::WebSocket::open_with(testbed.address(), "/echo", &allowed).await;
        // A program sends no origin.
        towpath_tests::ws::WebSocket::open(testbed.address(), "/echo").await;
    }

    async fn what_is_pipelined_behind_the_handshake_is_read(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut connection = Connection::open(testbed.address()).await;
        let mut bytes = towpath_tests::ws::handshake("/echo", &[]).into_bytes();
        bytes.extend(towpath_tests::ws::frame(0x81, b"early"));
        let (head, tail) = bytes.split_at(bytes.len() - 3);
        connection.write(head).await;
        assert_eq!(connection.head().await.status, 101);
        connection.write(tail).await;
        let (mut stream, mut input) = connection.into_parts();
        let echo = b"\x81\x05early";
        while input.len() < echo.len() {
            let read = tokio::io::AsyncReadExt::read_buf(&mut stream, &mut input);
            let read = tokio::time::timeout(SOON, read).await;
            assert!(read.expect("an answer").expect("open") > 0);
        }
        assert_eq!(&input[..], echo);
    }

    async fn the_preferred_subprotocol_is_chosen(framework: Framework) {
        let testbed = framework.start(&[]).await;
        for (offered, agreed) in [
            (None, None),
            (Some("chat.v1"), Some("chat.v1")),
            (Some("chat.v1, chat.v2"), Some("chat.v2")),
            (Some("chat.v3"), None),
        ] {
            let headers: Vec<_> = offered
                .map(|offered| ("Sec-WebSocket-Protocol", offered))
                .into_iter()
                .collect();
            let mut socket =
                towpath_tests::ws::WebSocket::open_with(testbed.address(), "/protocols", &headers)
                    .await;
            assert_eq!(socket.head().get("sec-websocket-protocol"), agreed);
            assert_eq!(socket.text().await, agreed.unwrap_or("none"));
        }
    }

    async fn a_private_socket_needs_the_token(framework: Framework) {
        let testbed = framework.start(&[]).await;
        for credential in [None, Some("Bearer wrong"), Some("Bearer secrets"), Some("Basic secret")] {
            let mut connection = Connection::open(testbed.address()).await;
            let headers: Vec<_> = credential
                .map(|credential| ("Authorization", credential))
                .into_iter()
                .collect();
            let request = towpath_tests::ws::handshake("/private/echo", &headers);
            connection.write(request.as_bytes()).await;
            let head = connection.head().await;
            assert_eq!(head.status, 401, "{credential:?}");
            assert!(head.get("www-authenticate").is_some(), "{head:?}");
            assert_eq!(head.get("upgrade"), None);
        }
        let credential = [("Authorization", "Bearer secret")];
        let mut socket =
            towpath_tests::ws::WebSocket::open_with(testbed.address(), "/private/echo", &credential)
                .await;
        socket.send("hello").await;
        assert_eq!(socket.text().await, "hello");
    }
}
