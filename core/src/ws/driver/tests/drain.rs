//! A drain, as a socket sees it: the sentences of `Drain` that are not in `ends/drain.rs`.

use std::{future::pending, io::Write, time::Duration};

use bytes::Bytes;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

use super::{
    echo::echo,
    peer::{Peer, accepted, config, serve_with},
};
use crate::{
    drain::{Drain, DrainGuard},
    hub::Hub,
    ws::{
        CloseCode, HandlerError, Message, TcpTransport, WebSocket, WsConfig, drive, protocol::Event,
    },
};

const SECOND: Duration = Duration::from_secs(1);
const PIPE: usize = 64 * 1024;

fn serve<F>(
    config: WsConfig,
    drain: &Drain,
    handler: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Peer
where
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    serve_with(config, Some(drain), PIPE, Bytes::new(), handler)
}

/// So many that live beside it, and were there before it.
fn others(drain: &Drain, n: usize) -> Vec<DrainGuard> {
    (0..n).map(|_| drain.guard().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn until_its_moment_a_socket_lives_as_ever() {
    let drain = Drain::new(5 * SECOND);
    let others = others(&drain, 2_000);
    let mut peer = serve(config(), &drain, echo);
    drain.start();
    let start = Instant::now();
    for n in 0..19 {
        peer.send(n.to_string()).await;
        assert_eq!(peer.text().await, n.to_string());
        sleep(SECOND / 10).await;
    }
    assert_eq!(peer.closed().await, 1012);
    // The 2,001st of 2,001 over two seconds.
    let moment = start.elapsed();
    assert!(
        moment > SECOND * 199 / 100 && moment <= 2 * SECOND,
        "{moment:?}"
    );
    drop(others);
}

#[tokio::test(start_paused = true)]
async fn the_code_is_the_drains_whatever_returns() {
    for (code, expected) in [(None, 1012), (Some(CloseCode::GOING_AWAY), 1001)] {
        let mut drain = Drain::new(5 * SECOND);
        if let Some(code) = code {
            drain = drain.close_code(code);
        }
        // It returns, which closes with 1000 at any other time.
        let mut returns = serve(config(), &drain, async |mut socket: WebSocket| {
            assert_eq!(socket.recv().await, Ok(None));
            Ok(())
        });
        let mut asks = serve(config(), &drain, async |mut socket: WebSocket| {
            assert_eq!(socket.recv().await, Ok(None));
            assert_eq!(socket.recv().await, Ok(None));
            pending().await
        });
        tokio::task::yield_now().await;
        drain.start();
        assert_eq!(returns.closed().await, expected);
        assert_eq!(asks.closed().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_message_goes_out_behind_all_else() {
    let drain = Drain::new(5 * SECOND);
    let hub = Hub::new();
    let subscription = hub.subscribe("topic").await.unwrap();
    let mut peer = serve(config(), &drain, async move |mut socket: WebSocket| {
        socket.forward(subscription);
        socket.last_message("not this");
        socket.last_message("until then");
        while let Some(message) = socket.recv().await? {
            sleep(SECOND / 10).await;
            socket.send(message).await?;
        }
        socket.send("goodbye").await?;
        Ok(())
    });
    tokio::task::yield_now().await;
    for n in 0..100 {
        hub.publish("topic", n.to_string()).await.unwrap();
    }
    peer.send_raw(&Peer::frames(["a", "b"].map(Message::from)))
        .await;
    drain.start();
    let mut texts = Vec::new();
    while let Some(Event::Message(message)) = peer.event().await {
        texts.push(message.as_text().unwrap().to_owned());
    }
    assert_eq!(peer.close_code(), Some(1012));
    assert_eq!(texts.len(), 104, "{texts:?}");
    assert_eq!(texts[101..], ["b", "goodbye", "until then"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_message_is_told_where_the_handler_is_busy() {
    let drain = Drain::new(5 * SECOND);
    let mut peer = serve(config(), &drain, async |mut socket: WebSocket| {
        socket.sender().last_message("until then");
        socket.send("busy").await?;
        pending().await
    });
    assert_eq!(peer.text().await, "busy");
    drain.start();
    let start = Instant::now();
    assert_eq!(peer.text().await, "until then");
    assert_eq!(start.elapsed().as_millis(), 4_500);
    assert_eq!(peer.closed().await, 1012);
    assert!(!drain.run(drain.finished()).await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn without_a_drain_there_is_no_last_message() {
    let drain = Drain::new(5 * SECOND);
    let mut returns = serve(config(), &drain, async |mut socket: WebSocket| {
        socket.last_message("never");
        Ok(())
    });
    assert_eq!(returns.closed().await, 1000);
    let mut closes = serve(config(), &drain, async |mut socket: WebSocket| {
        socket.last_message("never");
        while socket.recv().await?.is_some() {}
        Ok(())
    });
    closes.close(CloseCode::NORMAL).await;
    assert_eq!(closes.closed().await, 1000);
    // Whoever closes in a drain with a code of its own has said what there is to say.
    let mut own = serve(config(), &drain, async |mut socket: WebSocket| {
        socket.last_message("never");
        while socket.recv().await?.is_some() {}
        let code = CloseCode::new(4_000).unwrap();
        socket.close(code, "elsewhere").await?;
        Ok(())
    });
    tokio::task::yield_now().await;
    drain.start();
    assert_eq!(own.closed().await, 4_000);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_close_is_reset_before_the_deadline_and_counts_as_gone() {
    let drain = Drain::new(5 * SECOND);
    let mut peer = serve(config().close_timeout(60 * SECOND), &drain, echo);
    tokio::task::yield_now().await;
    drain.start();
    let start = Instant::now();
    assert!(matches!(peer.event().await, Some(Event::Close(_))));
    assert!(start.elapsed() < SECOND / 100);
    let outcome = drain.run(drain.finished()).await;
    assert_eq!(start.elapsed().as_millis(), 4_750);
    assert!(outcome.is_clean());
    assert!(peer.read_raw().await.is_none());
}

/// What the kernel has and the runtime was not yet told of.
#[tokio::test]
async fn a_message_that_came_just_before_the_drain_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let drain = Drain::new(5 * SECOND);
    let accepted = accepted(config(), Some(&drain), Bytes::new());
    let driver = tokio::spawn(drive(TcpTransport::new(server), accepted, echo));
    // It waits for its peer.
    client.write_all(&masked(0x82, b"first")).unwrap();
    let mut first = [0; 7];
    let mut client = TcpStream::from_std(nonblocking(client)).unwrap();
    client.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"\x82\x05first");
    let client = client.into_std().unwrap();
    (&client).write_all(&masked(0x82, b"last")).unwrap();
    drain.start();
    let mut client = TcpStream::from_std(client).unwrap();
    let mut answered = [0; 6 + 4];
    client.read_exact(&mut answered).await.unwrap();
    assert_eq!(&answered, b"\x82\x04last\x88\x0a\x03\xf4");
    drop(client);
    driver.await.unwrap();
}

fn nonblocking(stream: std::net::TcpStream) -> std::net::TcpStream {
    stream.set_nonblocking(true).unwrap();
    stream
}

/// A frame that is masked with zero.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = 0x80 | u8::try_from(payload.len()).unwrap();
    [&[first, len, 0, 0, 0, 0], payload].concat()
}
