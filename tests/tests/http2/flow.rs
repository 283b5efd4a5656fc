//! Flow control is the back-pressure (RFC 9113 §5.2).

use std::time::Duration;

use h2::Reason;
use tokio::{io::AsyncWriteExt, time::timeout};
use towpath_tests::{
    http2::{Client, settings},
    process::Framework,
    ws::{Incoming, frame},
};

use super::{ends, start, works};

/// Sends 16 KiB messages until no more is taken for a while; how many bytes were.
async fn fill(socket: &mut super::Socket) -> usize {
    const PAUSE: Duration = Duration::from_secs(1);
    let message = frame(0x82, &[7; 16 << 10]);
    let mut taken = 0;
    loop {
        let mut rest = &message[..];
        while !rest.is_empty() {
            let Ok(count) = timeout(PAUSE, socket.stream().write(rest)).await else {
                return taken;
            };
            let count = count.expect("open");
            rest = &rest[count..];
            taken += count;
            assert!(taken < 16 << 20, "without end");
        }
    }
}

#[tokio::test]
async fn a_handler_that_does_not_read_stops_the_window_of_its_stream_alone() {
    let (testbed, mut client) = start(&[]).await;
    // More than the connection's window would be, were it not for each stream.
    let mut stuck = Vec::new();
    for _ in 0..4 {
        stuck.push(client.socket("/sink?delay_ms=1000000", &[]).await);
    }
    for socket in &mut stuck {
        let taken = fill(socket).await;
        // The window, the inbox and a message; what else is in the way is small.
        assert!((64 << 10..512 << 10).contains(&taken), "{taken}");
    }
    works(&mut client).await;
    let mut echo = client.socket("/echo", &[]).await;
    for _ in 0..20 {
        echo.send(vec![1; 100_000]).await;
        assert_eq!(echo.message().await.len(), 100_000);
    }
    ends(echo, 1000).await;
    // The echo is gone, once the end of its stream was read; these stay.
    testbed.until(|counts| counts.websockets == 4).await;
    for mut socket in stuck {
        socket.stream().reset(Reason::CANCEL);
    }
}

#[tokio::test]
async fn a_peer_that_gives_no_window_blocks_itself_alone() {
    let testbed = Framework::Axum.start(&[]).await;
    let window = 20_000;
    let mut client =
        Client::open_with(testbed.address(), settings().initial_window_size(window)).await;
    let mut stuck = Vec::new();
    for _ in 0..4 {
        stuck.push(client.socket("/flood?n=200&size=100000", &[]).await);
    }
    let counts = testbed
        .until(|counts| counts.buffered_bytes > 4 << 20)
        .await;
    // What a handler may say ahead, 1 MiB, and the message with which that is passed.
    assert!(
        counts.buffered_bytes < 4 * ((1 << 20) + 200_000),
        "{counts:?}"
    );
    works(&mut client).await;
    let counts = testbed.counts().await;
    // hyper's share is some 16 KiB for each, and the windows are full.
    assert!(counts.messages_out_total <= 4 * 3, "{counts:?}");
    // As soon as they are read all of it comes.
    for mut socket in stuck {
        for _ in 0..200 {
            assert_eq!(socket.message().await.len(), 100_000);
        }
        assert_eq!(socket.closed().await.code.get(), 1000);
    }
    testbed.until(|counts| counts.websockets == 0).await;
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_reset_with_cancel_and_the_others_live() {
    let (testbed, mut client) = {
        let testbed = Framework::Axum.start(&["--write-timeout-ms", "700"]).await;
        let settings = &mut settings();
        let client = Client::open_with(testbed.address(), settings.initial_window_size(20_000));
        let client = client.await;
        (testbed, client)
    };
    let mut stuck = client.socket("/flood?n=1000&size=100000", &[]).await;
    assert_eq!(stuck.stream().until_reset().await, Reason::CANCEL);
    let counts = testbed.until(|counts| counts.websockets == 0).await;
    assert_eq!(counts.buffered_bytes, 0);
    works(&mut client).await;
}

#[tokio::test]
async fn a_slow_but_steady_reader_of_a_large_message_lives() {
    let testbed = Framework::Axum.start(&["--write-timeout-ms", "1000"]).await;
    let mut settings = settings();
    let settings = settings.initial_window_size(16 << 10);
    let mut client = Client::open_with(testbed.address(), settings).await;
    // One message, for which it needs three times the write time-out.
    let mut slow = client.socket("/flood?n=2&size=480000", &[]).await;
    let mut left = 2 * (480_000 + 10);
    let mut piece = vec![0; 32 << 10];
    while left > piece.len() {
        tokio::io::AsyncReadExt::read_exact(slow.stream(), &mut piece)
            .await
            .expect("not cut");
        left -= piece.len();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut rest = vec![0; left];
    tokio::io::AsyncReadExt::read_exact(slow.stream(), &mut rest)
        .await
        .expect("not cut");
    assert_eq!(testbed.counts().await.websockets, 1);
    assert_eq!(slow.closed().await.code.get(), 1000);
    assert_eq!(slow.next().await, Incoming::Fin);
}
