//! Many sockets and event streams on one connection.

use futures_util::future::join_all;
use towpath_tests::{
    http2::{Client, settings},
    process::Framework,
    tls::Identity,
};

use super::{Socket, ends, start};

async fn echo(mut socket: Socket, number: usize) {
    for size in [0, 1, 200, 70_000, 300_000] {
        let message = vec![u8::try_from(number).expect("few"); size];
        socket.send(message.clone()).await;
        let back = socket.message().await.into_bytes();
        assert!(back == message, "{number}: {size}");
    }
    ends(socket, 4000 + u16::try_from(number).expect("few")).await;
}

async fn hundred(mut client: Client) {
    let mut sockets = Vec::new();
    for _ in 0..100 {
        sockets.push(client.socket("/echo", &[]).await);
    }
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(client.events("/count?n=50&interval_ms=2", &[]).await);
    }
    let sockets = sockets.into_iter().enumerate();
    let sockets = join_all(sockets.map(|(number, socket)| echo(socket, number)));
    let streams = join_all(streams.into_iter().map(async |mut stream| {
        assert_eq!(stream.rest().await.len(), 50);
    }));
    tokio::join!(sockets, streams);
    client.ended().await.expect("in order");
}

#[tokio::test]
async fn a_hundred_sockets_and_twenty_streams_share_a_connection() {
    let (testbed, client) = start(&[]).await;
    hundred(client).await;
    let counts = testbed.until(|counts| counts.websockets == 0).await;
    assert_eq!(counts.upgrades_total, 100);
    assert_eq!(counts.messages_in_total, 500);
}

#[tokio::test]
async fn the_same_over_tls() {
    let identity = Identity::new();
    let [certificate, key] = [identity.certificate(), identity.key()];
    let testbed = Framework::Axum.start(&["--tls", &certificate, &key]).await;
    let stream = identity.connect(testbed.address(), &[b"h2"]).await;
    hundred(Client::over(stream, &settings()).await).await;
}

#[tokio::test]
async fn a_topic_reaches_sockets_and_streams_of_one_connection() {
    let (testbed, mut client) = start(&[]).await;
    let mut sockets = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..30 {
        sockets.push(client.socket("/topics/news/ws", &[]).await);
        streams.push(client.events("/topics/news", &[]).await);
    }
    assert_eq!(client.post("/topics/news", "from one").await.status, 201);
    sockets[7].send("from another").await;
    for socket in &mut sockets {
        let mut heard = [socket.text().await, socket.text().await];
        heard.sort();
        assert_eq!(heard, ["from another", "from one"]);
    }
    for stream in &mut streams {
        let mut heard = [stream.event().await.data, stream.event().await.data];
        heard.sort();
        assert_eq!(heard, ["from another", "from one"]);
    }
    drop(streams);
    for socket in sockets {
        ends(socket, 1000).await;
    }
    testbed
        .until(|counts| counts.websockets + counts.sse_streams == 0)
        .await;
}
