//! Families of handshakes against both testbeds, over raw sockets: each answer has to carry
//! what it must, and nothing else.

use std::{net::SocketAddr, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::{StreamExt, stream};
use sha1::{Digest, Sha1};
use tokio::{io::AsyncReadExt, time::timeout};
use towpath_tests::{
    http::{Body, Connection, Head},
    on_both,
    process::{Framework, SOON},
    ws::frame,
};

#[path = "../../core/tests/cases/handshakes/mod.rs"]
mod cases;

use cases::{Case, Expected};

/// So many sockets at a time.
const AT_ONCE: usize = 16;

/// RFC 6455 §4.2.2 (5.4).
fn accept(key: &str) -> String {
    let guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    BASE64_STANDARD.encode(Sha1::digest(format!("{key}{guid}")))
}

/// The one line of that name: none, or several, are a fault.
fn single<'a>(head: &'a Head, name: &str) -> Result<&'a str, String> {
    let lines: Vec<_> = head
        .headers
        .iter()
        .filter(|(found, _)| found == name)
        .collect();
    match &lines[..] {
        [(_, value)] => Ok(value),
        other => Err(format!("{} lines of {name}", other.len())),
    }
}

fn none(head: &Head, name: &str) -> Result<(), String> {
    head.get(name)
        .map_or(Ok(()), |value| Err(format!("{name}: {value}")))
}

fn is(head: &Head, name: &str, expected: &str) -> Result<(), String> {
    let found = single(head, name)?;
    (found == expected)
        .then_some(())
        .ok_or_else(|| format!("{name}: {found}, not {expected}"))
}

/// The one line `Upgrade: websocket`, and the one line of `Connection` that names it.
fn names_the_upgrade(head: &Head) -> Result<(), String> {
    is(head, "upgrade", "websocket")?;
    let options = single(head, "connection")?;
    options
        .split(',')
        .any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
        .then_some(())
        .ok_or_else(|| format!("connection: {options}"))
}

async fn check(address: SocketAddr, case: &Case, expected: &Expected) -> Result<(), String> {
    let mut connection = Connection::open(address).await;
    connection.write(&case.request).await;
    let head = connection.head().await;
    let checked = match expected {
        Expected::Accepted { key, protocol } => {
            accepted(&head, key, *protocol)?;
            speaks(connection, *protocol).await
        }
        Expected::Refused(status) => {
            refused(&head, *status)?;
            let mut body = Body::new(connection, &head);
            let reason = timeout(SOON, body.chunk()).await;
            match reason.map_err(|_| "no reason")? {
                Ok(Some(_)) => Ok(()),
                other => Err(format!("no reason: {other:?}")),
            }
        }
        Expected::Malformed(statuses) => {
            none(&head, "sec-websocket-accept")?;
            statuses
                .contains(&head.status)
                .then_some(())
                .ok_or_else(|| format!("{}", head.status))
        }
    };
    checked.map_err(|fault| format!("{fault} in {head:?}"))
}

fn accepted(head: &Head, key: &str, protocol: Option<&str>) -> Result<(), String> {
    if head.status != 101 {
        return Err(format!("{head:?}"));
    }
    names_the_upgrade(head)?;
    is(head, "sec-websocket-accept", &accept(key))?;
    match protocol {
        Some(protocol) => is(head, "sec-websocket-protocol", protocol)?,
        None => none(head, "sec-websocket-protocol")?,
    }
    for name in [
        "sec-websocket-extensions",
        "sec-websocket-version",
        "content-length",
        "transfer-encoding",
        "content-type",
    ] {
        none(head, name)?;
    }
    Ok(())
}

/// What comes behind the 101 is frames and nothing else.
async fn speaks(mut connection: Connection, protocol: Option<&str>) -> Result<(), String> {
    connection.write(&frame(0x81, b"there?")).await;
    let (mut stream, input) = connection.into_parts();
    let mut found = input.to_vec();
    let echo = b"\x81\x06there?".to_vec();
    let named = |name: &str| {
        [
            &[0x81, u8::try_from(name.len()).unwrap_or(0)],
            name.as_bytes(),
        ]
        .concat()
    };
    let read = async {
        while found.len() < 4 {
            if stream
                .read_buf(&mut found)
                .await
                .is_ok_and(|count| count > 0)
            {
                continue;
            }
            break;
        }
    };
    timeout(SOON, read)
        .await
        .map_err(|_| "nothing behind the head")?;
    let expected = [echo, named(protocol.unwrap_or("none"))];
    expected
        .iter()
        .any(|expected| expected.starts_with(&found) || found.starts_with(expected))
        .then_some(())
        .ok_or_else(|| format!("behind the head {found:x?}"))
}

/// Our own refusal, with all that belongs to it.
fn refused(head: &Head, status: u16) -> Result<(), String> {
    if head.status != status {
        return Err(format!("{head:?}"));
    }
    // RFC 6455 §4.4: it says what is spoken here.
    is(head, "sec-websocket-version", "13")?;
    is(head, "content-type", "text/plain; charset=utf-8")?;
    none(head, "sec-websocket-accept")?;
    none(head, "sec-websocket-protocol")?;
    if status == 426 {
        // RFC 9110 §15.5.22, §7.8.
        names_the_upgrade(head)
    } else {
        none(head, "upgrade")
    }
}

async fn the_families_with(framework: Framework, options: &[&str]) {
    let testbed = framework.start(options).await;
    let address = testbed.address();
    let cases = Arc::new(cases::cases());
    assert!(cases.len() > 500, "{}", cases.len());
    let expected = |case: &Case| {
        let own = match framework {
            Framework::Axum => &case.hyper,
            Framework::Actix => &case.actix,
        };
        own.clone().unwrap_or_else(|| case.expected.clone())
    };
    let faults: Vec<String> = stream::iter(0..cases.len())
        .map(|index| {
            let cases = Arc::clone(&cases);
            async move {
                let case = &cases[index];
                let fault = check(address, case, &expected(case)).await.err()?;
                Some(format!("{}: {fault}", case.name))
            }
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(|fault| async { fault })
        .collect()
        .await;
    assert!(
        faults.is_empty(),
        "{} of {}\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
    let accepted = |case: &&Case| matches!(expected(case), Expected::Accepted { .. });
    let accepted = cases.iter().filter(accepted).count();
    let counts = testbed.until(|counts| counts.websockets == 0).await;
    assert_eq!(counts.upgrades_total, accepted as u64);
}

on_both! {
    async fn the_families(framework: Framework) {
        the_families_with(framework, &[]).await;
    }

    /// None of their offers is one that can be accepted.
    async fn the_families_where_compression_is_on(framework: Framework) {
        the_families_with(framework, &["--deflate"]).await;
    }

    /// RFC 6455 §10.2, RFC 6454 §6.2: what a page of another site may not.
    async fn origins(framework: Framework) {
        let testbed = framework
            .start(&["--allow-origin", "https://chat.example", "--allow-origin", "http://localhost:3000"])
            .await;
        let address = testbed.address();
        for allowed in [
            &[][..],
            &["https://chat.example"],
            &["https://chat.example:443"],
            &["HTTPS://Chat.Example"],
            &["\thttps://chat.example "],
            &["http://localhost:3000"],
        ] {
            let mut connection = Connection::open(address).await;
            connection.write(&cases::from_origins(allowed)).await;
            let head = connection.head().await;
            let checked = accepted(&head, cases::KEY, None);
            assert_eq!(checked, Ok(()), "{allowed:?}");
        }
        for origin in [
            "",
            "null",
            "NULL",
            "*",
            "chat.example",
            "//chat.example",
            "https://",
            "https:chat.example",
            "http://chat.example",
            "ws://chat.example",
            "wss://chat.example",
            "https://chat.example:80",
            "https://chat.example:444",
            "https://chat.example:4430",
            "https://chat.example:",
            "https://chat.example/",
            "https://chat.example/echo",
            "https://chat.example?a",
            "https://chat.example#a",
            "https://chat.example.",
            "https://chat.example.evil.example",
            "https://chat.example-evil.example",
            "https://evilchat.example",
            "https://evil.chat.example",
            "https://chat.example@evil.example",
            "https://user@chat.example",
            "https://evil.example#https://chat.example",
            "https://evil.example/https://chat.example",
            "https://chat.example https://evil.example",
            "https://chat.example, https://evil.example",
            "https://evil.example, https://chat.example",
            "https://server.example",
            "http://localhost",
            "http://localhost:3001",
            "http://localhost:30000",
            "http://127.0.0.1:3000",
            "https://localhost:3000",
            "file://",
            "chrome-extension://abc",
        ] {
            let mut connection = Connection::open(address).await;
            connection.write(&cases::from_origins(&[origin])).await;
            let head = connection.head().await;
            assert_eq!(refused(&head, 403), Ok(()), "{origin}: {head:?}");
            let mut body = Body::new(connection, &head);
            let reason = body.chunk().await.expect("whole").expect("a reason");
            let reason = String::from_utf8_lossy(&reason);
            assert!(reason.contains(&format!("origin {origin}")), "{reason}");
            assert!(reason.contains("https://chat.example"), "{reason}");
        }
        for twice in [
            ["https://chat.example", "https://chat.example"],
            ["https://chat.example", "https://evil.example"],
            ["https://evil.example", "https://chat.example"],
        ] {
            let mut connection = Connection::open(address).await;
            connection.write(&cases::from_origins(&twice)).await;
            let head = connection.head().await;
            assert_eq!(refused(&head, 400), Ok(()), "{twice:?}");
        }
    }

    /// What is in the handshake's segment, and behind it, however both are cut.
    async fn what_is_pipelined_is_read_wherever_it_is_cut(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let address = testbed.address();
        let mut bytes = cases::from_origins(&[]);
        let head_len = bytes.len();
        bytes.extend(frame(0x81, b"early"));
        bytes.extend(frame(0x02, b"in two"));
        bytes.extend(frame(0x80, b" pieces"));
        bytes.extend(frame(0x88, b"\x03\xe8"));
        let cuts = (0..head_len).step_by(7).chain(head_len - 4..=bytes.len());
        let faults: Vec<_> = stream::iter(cuts)
            .map(|cut| {
                let bytes = &bytes;
                async move {
                    let mut connection = Connection::open(address).await;
                    connection.write(&bytes[..cut]).await;
                    connection.write(&bytes[cut..]).await;
                    let head = connection.head().await;
                    assert_eq!(accepted(&head, cases::KEY, None), Ok(()));
                    let (mut stream, input) = connection.into_parts();
                    let mut found = input.to_vec();
                    let read = timeout(SOON, stream.read_to_end(&mut found)).await;
                    read.expect("an end").expect("in order");
                    let expected = b"\x81\x05early\x82\x0din two pieces\x88\x02\x03\xe8";
                    (found != expected).then(|| format!("cut at {cut}: {found:x?}"))
                }
            })
            .buffer_unordered(AT_ONCE)
            .filter_map(|fault| async { fault })
            .collect()
            .await;
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
