//! The table of what a peer may do wrong, against both testbeds over raw sockets: each of
//! its cases is answered with the one close frame that it asks for, *which arrives*, behind
//! the answers to the good messages in front; then comes a FIN, and never a reset.

use std::{net::SocketAddr, sync::Arc};

use futures_util::{StreamExt, stream};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use towpath_tests::{http::Connection, on_both, process::SOON, ws::handshake};

#[path = "../../core/tests/cases/violations.rs"]
mod cases;

use cases::{CLOSE, Case, End, PONG, Peer, TEXT};

/// So many sockets at a time.
const AT_ONCE: usize = 24;

/// Longer cases are not sent byte by byte.
const SHORT: usize = 1000;

/// How a case is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// With a megabyte behind it that is in flight when the server closes.
    WithMoreBehind,
    /// Each byte in a segment of its own, as far as the kernel lets it be one.
    ByteByByte,
    /// The last byte in one segment with the FIN.
    WithFin,
}

/// What comes up to the server's FIN.
async fn answers(address: SocketAddr, peer: Peer, case: &Case, way: Way) -> Vec<u8> {
    let mut connection = Connection::open(address).await;
    let offer = [("Sec-WebSocket-Extensions", "permessage-deflate")];
    let offer = if peer.deflate { &offer[..] } else { &[] };
    connection.write(handshake("/echo", offer).as_bytes()).await;
    let head = connection.head().await;
    assert_eq!(head.status, 101, "{head:?}");
    let agreed = head.get("sec-websocket-extensions").is_some();
    assert_eq!(agreed, peer.deflate);
    let (stream, input) = connection.into_parts();
    assert!(input.is_empty());

    let said = [&peer.frame(TEXT, b"before")[..], &case.bytes].concat();
    let (mut from, mut to) = stream.into_split();
    let write = async {
        match way {
            Way::WithMoreBehind => {
                // At once: with nothing behind it in sight, a close is the end.
                let mut said = said;
                said.resize(said.len() + (1 << 20), 0x5A);
                to.write_all(&said).await?;
            }
            Way::ByteByByte => {
                for byte in &said {
                    to.write_all(&[*byte]).await?;
                }
            }
            Way::WithFin => {
                let stream: &tokio::net::TcpStream = to.as_ref();
                SockRef::from(stream).set_tcp_cork(true)?;
                to.write_all(&said).await?;
                to.shutdown().await?;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let mut answers = Vec::new();
    let read = from.read_to_end(&mut answers);
    let (written, read) = timeout(SOON, async { tokio::join!(write, read) })
        .await
        .unwrap_or_else(|_| unreachable!("{way:?} {}: no end", case.name));
    written.unwrap_or_else(|error| unreachable!("{way:?} {}: {error}", case.name));
    read.unwrap_or_else(|error| unreachable!("{way:?} {}: {error}", case.name));
    answers
}

/// What is wrong with these answers.
fn fault(case: &Case, answers: &[u8]) -> Option<String> {
    // Pings, of which a case may have some, are answered at once.
    let mut rest = Vec::new();
    let mut frames = answers;
    while let [first, length, ..] = frames {
        let Some((frame, more)) = frames.split_at_checked(2 + usize::from(*length)) else {
            return Some(format!("half a frame: {answers:x?}"));
        };
        if *first != PONG {
            rest.extend_from_slice(frame);
        }
        frames = more;
    }
    let Some(rest) = rest.strip_prefix(b"\x81\x06before") else {
        return Some(format!("no echo: {answers:x?}"));
    };
    let code = match (case.end, rest) {
        (End::Closed(None), [CLOSE, 0]) => return None,
        (End::Breach(code) | End::Closed(Some(code)), _) => code,
        (End::Closed(None), _) => return Some(format!("not an empty close: {rest:x?}")),
    };
    let [CLOSE, length, high, low, reason @ ..] = rest else {
        return Some(format!("no close frame: {rest:x?}"));
    };
    if usize::from(*length) != reason.len() + 2 {
        return Some(format!("more than one close frame: {rest:x?}"));
    }
    let found = u16::from_be_bytes([*high, *low]);
    (found != code).then(|| format!("{found}, not {code}"))
}

async fn the_table(framework: towpath_tests::process::Framework, deflate: bool, way: Way) {
    let options = [
        ["--max-frame-size", "128KiB"],
        ["--max-message-size", "192KiB"],
        ["--max-fragments", "8"],
    ];
    assert_eq!(cases::MAX_FRAME, 128 << 10);
    assert_eq!(cases::MAX_MESSAGE, 192 << 10);
    assert_eq!(cases::MAX_FRAGMENTS, 8);
    let mut options = options.concat();
    options.extend(deflate.then_some("--deflate"));
    let testbed = framework.start(&options).await;
    let address = testbed.address();
    let peer = Peer {
        masks: true,
        deflate,
    };
    let mut table = cases::table(peer);
    if way == Way::ByteByByte {
        table.retain(|case| case.bytes.len() < SHORT);
        // What comes only behind the answer to a close meets a server that is gone.
        let closed = |case: &&mut Case| matches!(case.end, End::Closed(_));
        for case in table.iter_mut().filter(closed) {
            case.bytes.truncate(case.at);
        }
    }
    assert!(table.len() > 300, "{}", table.len());
    let table = Arc::new(table);
    let faults: Vec<String> = stream::iter(0..table.len())
        .map(|index| {
            let table = Arc::clone(&table);
            async move {
                let case = &table[index];
                let answers = answers(address, peer, case, way).await;
                fault(case, &answers).map(|fault| format!("{}: {fault}", case.name))
            }
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(|fault| async { fault })
        .collect()
        .await;
    assert!(faults.is_empty(), "{way:?}\n{}", faults.join("\n"));
    let counts = testbed.until(|counts| counts.websockets == 0).await;
    assert_eq!(counts.panics_total, 0);
    assert_eq!(counts.messages_in_total, table.len() as u64);
}

on_both! {
    async fn each_close_frame_arrives_though_more_is_in_flight(framework: Framework) {
        the_table(framework, false, Way::WithMoreBehind).await;
    }

    async fn each_byte_by_byte(framework: Framework) {
        the_table(framework, false, Way::ByteByByte).await;
    }

    async fn each_with_its_fin_in_one_segment(framework: Framework) {
        the_table(framework, false, Way::WithFin).await;
    }

    async fn each_with_compression_agreed_on(framework: Framework) {
        the_table(framework, true, Way::WithMoreBehind).await;
    }
}
