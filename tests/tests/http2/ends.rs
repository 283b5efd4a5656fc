//! How a socket's stream ends.

use std::time::Duration;

use h2::Reason;
use tokio::time::Instant;
use towpath_tests::{
    process::{SOON, Testbed},
    ws::{Incoming, frame},
};

use super::{ends, start, works};

async fn all_gone(testbed: &Testbed) {
    let counts = testbed.until(|counts| counts.websockets == 0).await;
    assert_eq!(counts.buffered_bytes, 0);
}

#[tokio::test]
async fn the_clients_close_is_answered_and_the_stream_ended() {
    let (testbed, mut client) = start(&[]).await;
    for code in [1000, 1001, 3000, 4999] {
        let mut socket = client.socket("/echo", &[]).await;
        socket.send("before").await;
        assert_eq!(socket.text().await, "before");
        ends(socket, code).await;
    }
    all_gone(&testbed).await;
    client.ended().await.expect("in order");
}

#[tokio::test]
async fn the_servers_close_ends_the_stream_behind_the_answer() {
    let (testbed, mut client) = start(&[]).await;
    let mut socket = client.socket("/flood?n=3&size=70000", &[]).await;
    for _ in 0..3 {
        assert_eq!(socket.message().await.len(), 70_000);
    }
    assert_eq!(socket.closed().await.code.get(), 1000);
    all_gone(&testbed).await;

    let mut socket = client.socket("/panic", &[]).await;
    socket.send("now").await;
    assert_eq!(socket.closed().await.code.get(), 1011);
    all_gone(&testbed).await;
    works(&mut client).await;
}

#[tokio::test]
async fn a_violation_gets_its_close_frame_and_the_others_live() {
    let (testbed, mut client) = start(&["--max-message-size", "1000"]).await;
    let cases = [
        (frame(0xc1, b"x"), 1002),
        (vec![0x81, 1, b'x'], 1002),
        (frame(0x81, b"\xff"), 1007),
        (frame(0x82, &[0; 1001]), 1009),
    ];
    for (bytes, code) in cases {
        let mut socket = client.socket("/echo", &[]).await;
        socket.send("in front").await;
        socket.write(&bytes).await;
        assert_eq!(socket.text().await, "in front");
        assert_eq!(socket.close_frame().await.code.get(), code);
        assert_eq!(
            socket.next().await,
            Incoming::Fin,
            "END_STREAM and no reset"
        );
        socket.shutdown().await;
    }
    all_gone(&testbed).await;
    works(&mut client).await;
}

#[tokio::test]
async fn end_stream_without_a_close_is_a_peer_that_is_gone() {
    let (testbed, mut client) = start(&[]).await;
    let mut socket = client.socket("/echo", &[]).await;
    socket.send("last words").await;
    socket.shutdown().await;
    // What is said to what was received still comes, and no close frame.
    assert_eq!(socket.text().await, "last words");
    assert_eq!(socket.next().await, Incoming::Fin);
    all_gone(&testbed).await;

    // In the middle of a message.
    let mut socket = client.socket("/echo", &[]).await;
    socket.write(&frame(0x82, &[0; 1000])[..500]).await;
    socket.shutdown().await;
    assert_eq!(socket.next().await, Incoming::Fin);
    all_gone(&testbed).await;
    works(&mut client).await;
}

#[tokio::test]
async fn a_reset_stream_is_a_peer_that_is_gone_and_the_others_live() {
    let (testbed, mut client) = start(&[]).await;
    let mut other = client.socket("/echo", &[]).await;
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::NO_ERROR] {
        let mut socket = client.socket("/echo", &[]).await;
        socket.send("here").await;
        assert_eq!(socket.text().await, "here");
        socket.stream().reset(reason);
        let counts = testbed.until(|counts| counts.websockets == 1).await;
        assert_eq!(counts.buffered_bytes, 0);
    }
    // One that is being written to.
    let mut socket = client.socket("/flood?n=1000000&size=10000", &[]).await;
    assert_eq!(socket.message().await.len(), 10_000);
    socket.stream().reset(Reason::CANCEL);
    testbed.until(|counts| counts.websockets == 1).await;
    other.send("alive").await;
    assert_eq!(other.text().await, "alive");
    ends(other, 1000).await;
    all_gone(&testbed).await;
}

#[tokio::test]
async fn a_connection_that_is_gone_is_the_end_of_all_its_sockets() {
    let (testbed, mut client) = start(&[]).await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(client.socket("/echo", &[]).await);
    }
    assert_eq!(testbed.counts().await.websockets, 10);
    client.cut();
    all_gone(&testbed).await;
    drop(sockets);
}

#[tokio::test]
async fn a_silent_peers_stream_is_reset_with_cancel() {
    let (testbed, mut client) = start(&["--heartbeat-ms", "200"]).await;
    let mut silent = client.socket("/echo", &[]).await;
    let start = Instant::now();
    // Pings come, and nobody answers them.
    let reason = silent.stream().until_reset().await;
    assert_eq!(reason, Reason::CANCEL);
    assert!(start.elapsed() >= Duration::from_millis(350));
    all_gone(&testbed).await;
    works(&mut client).await;
}

#[tokio::test]
async fn a_close_that_is_not_answered_ends_in_a_reset_with_cancel() {
    let (testbed, mut client) = start(&["--close-timeout-ms", "300"]).await;
    let mut socket = client.socket("/flood?n=1&size=3", &[]).await;
    socket.message().await;
    assert_eq!(socket.close_frame().await.code.get(), 1000);
    assert_eq!(socket.next().await, Incoming::Reset);
    assert_eq!(socket.stream().was_reset(), Some(Reason::CANCEL));
    all_gone(&testbed).await;
    works(&mut client).await;
}

#[tokio::test]
async fn a_client_that_does_not_end_its_stream_is_asked_to_without_an_error() {
    let (testbed, mut client) = start(&["--close-timeout-ms", "300"]).await;
    let mut socket = client.socket("/echo", &[]).await;
    socket.close(1000).await;
    assert_eq!(socket.close_frame().await.code.get(), 1000);
    assert_eq!(
        socket.next().await,
        Incoming::Fin,
        "END_STREAM comes at once"
    );
    // RFC 9113 §8.1: all was sent, and what the client sends is of no use.
    assert_eq!(socket.stream().until_reset().await, Reason::NO_ERROR);
    all_gone(&testbed).await;
    works(&mut client).await;
}

#[tokio::test]
async fn the_drain_ends_sockets_and_streams() {
    let (mut testbed, mut client) = start(&[]).await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(client.socket("/echo", &[]).await);
    }
    let mut events = client.events("/topics/news", &[]).await;
    testbed.terminate();
    for mut socket in sockets {
        assert_eq!(socket.closed().await.code.get(), 1012);
    }
    assert!(events.rest().await.is_empty());
    drop((events, client));
    assert!(testbed.exit(SOON).await.success());
}
