use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use towpath::{
    testing::Fault,
    ws::{CloseCode, Error, Message, WsLayer},
};

use super::{
    service::{SECOND, Site},
    stream::read_to,
};

#[tokio::test(start_paused = true)]
async fn a_split_connection_gives_the_same_results() {
    let mut site = Site::new();
    for request in site.both("/echo") {
        let fault = Fault::new();
        fault.split();
        let request = request.protocols(["chat.v1"]).fault(&fault);
        let mut socket = request.socket().await.expect("upgraded");
        assert_eq!(socket.protocol(), Some("chat.v1"));
        for message in [
            Message::text("grüße"),
            Message::binary(vec![]),
            Message::binary(vec![7; 70_000]),
        ] {
            socket.send(message.clone()).await.expect("sent");
            assert_eq!(socket.message().await, Ok(message));
        }
        socket.close(CloseCode::NORMAL, "").await.expect("sent");
        let closed = socket.closed().await.expect("in order").expect("a code");
        assert_eq!(closed.code, CloseCode::NORMAL);
        assert_eq!(site.handler_end().await, Ok(()));
    }
    for request in site.both("/count") {
        let fault = Fault::new();
        fault.split();
        let mut stream = request.fault(&fault).stream().await.expect("open");
        assert_eq!(read_to(&mut stream, "5").await, ["1", "2", "3", "4", "5"]);
        assert!(stream.next().await.expect("no break").is_none());
    }
    site.nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_half_open_peer_is_gone_after_two_heartbeats() {
    let mut site = Site::with(WsLayer.heartbeat(7 * SECOND));
    for request in site.both("/echo") {
        let mut socket = request.socket().await.expect("upgraded");
        socket.send("here").await.expect("sent");
        assert_eq!(socket.message().await, Ok("here".into()));
        socket.fault().half_open();
        let vanished = Instant::now();
        socket.send("lost").await.expect("taken by the pipe");
        assert_eq!(site.handler_end().await, Err(Error::PeerGone));
        assert_eq!(vanished.elapsed(), 14 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_pings_lives() {
    let site = Site::with(WsLayer.heartbeat(7 * SECOND));
    for request in site.both("/echo") {
        let mut socket = request.socket().await.expect("upgraded");
        let silence = timeout(100 * SECOND, socket.recv()).await;
        assert!(silence.is_err(), "{silence:?}");
        socket.send("here").await.expect("sent");
        assert_eq!(socket.message().await, Ok("here".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_cut_by_the_write_timeout() {
    let mut site = Site::with(WsLayer.write_timeout(9 * SECOND));
    for request in site.both("/flood") {
        let socket = request.socket().await.expect("upgraded");
        socket.fault().stop_reading();
        let stopped = Instant::now();
        assert_eq!(site.handler_end().await, Err(Error::WriteTimeout));
        assert_eq!(stopped.elapsed(), 9 * SECOND);
    }
    site.nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_on_in_time_loses_nothing() {
    let site = Site::with(WsLayer.write_timeout(9 * SECOND));
    for request in site.both("/echo") {
        let mut socket = request.socket().await.expect("upgraded");
        for round in 0..3 {
            socket.fault().stop_reading();
            for n in 0..20 {
                socket.send(format!("{round} {n}")).await.expect("sent");
            }
            sleep(8 * SECOND).await;
            socket.fault().read_on();
            for n in 0..20 {
                assert_eq!(socket.message().await, Ok(format!("{round} {n}").into()));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_that_nobody_answers_ends_by_the_close_timeout() {
    let mut site = Site::with(WsLayer.close_timeout(3 * SECOND));
    for request in site.both("/bye") {
        let socket = request.socket().await.expect("upgraded");
        socket.fault().half_open();
        let vanished = Instant::now();
        assert_eq!(site.handler_end().await, Err(Error::PeerGone));
        assert_eq!(vanished.elapsed(), 3 * SECOND);
    }
    site.nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_does_not_outlast_a_drain() {
    for version in 0..2 {
        let mut site = Site::new();
        let request = site.both("/flood").into_iter().nth(version);
        let socket = request.expect("two").socket().await.expect("upgraded");
        socket.fault().stop_reading();
        site.drain.start();
        let soon = timeout(5 * SECOND, site.drain.finished()).await;
        soon.expect("before the deadline");
        assert!(site.handler_end().await.is_err());
        site.nothing_is_left().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_a_peer_that_is_gone() {
    let mut site = Site::new();
    for request in site.both("/echo") {
        let mut socket = request.socket().await.expect("upgraded");
        socket.fault().reset();
        assert_eq!(site.handler_end().await, Err(Error::PeerGone));
        assert_eq!(socket.message().await, Err(Error::PeerGone));
    }
    // In the midst of the second message: the first is answered.
    let mut socket = site.server.get("/echo").socket().await.expect("upgraded");
    socket.fault().reset_after(20);
    socket.send("1234").await.expect("sent");
    assert_eq!(socket.message().await, Ok("1234".into()));
    socket
        .send("not to be seen")
        .await
        .expect("taken by the pipe");
    assert_eq!(socket.message().await, Err(Error::PeerGone));
    assert_eq!(site.handler_end().await, Err(Error::PeerGone));
    site.nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_within_the_handshake_starts_nothing() {
    let site = Site::new();
    for request in site.both("/echo") {
        let fault = Fault::new();
        fault.reset_after(30);
        let error = request.fault(&fault).socket().await.expect_err("broken");
        assert!(error.response().is_none(), "{error}");
    }
    assert_eq!(site.stats.snapshot().upgrades_total, 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_connection_is_only_slow() {
    let site = Site::with(WsLayer.heartbeat(7 * SECOND).write_timeout(9 * SECOND));
    let socket = site.server.get("/echo").socket().await;
    let mut socket = socket.expect("upgraded");
    socket.fault().delay(2 * SECOND);
    for _ in 0..10 {
        let began = Instant::now();
        socket.send("far").await.expect("sent");
        assert_eq!(socket.message().await, Ok("far".into()));
        assert_eq!(began.elapsed(), 4 * SECOND, "there and back");
    }
    for request in site.both("/echo") {
        let fault = Fault::new();
        fault.delay(Duration::from_millis(50));
        let mut socket = request.fault(&fault).socket().await.expect("upgraded");
        let big = Message::binary(vec![7; 1 << 20]);
        socket.send(big.clone()).await.expect("sent");
        assert_eq!(socket.message().await, Ok(big));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_waits_for_a_reader_that_stopped() {
    let site = Site::new();
    for request in site.both("/ticks") {
        let mut stream = request.stream().await.expect("open");
        stream.fault().stop_reading();
        sleep(100 * SECOND).await;
        stream.fault().read_on();
        let seen = timeout(SECOND, read_to(&mut stream, "5")).await;
        assert_eq!(seen.expect("there"), ["1", "2", "3", "4", "5"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_gone_with_its_connection() {
    let site = Site::new();
    for request in site.both("/ticks") {
        let mut stream = request.stream().await.expect("open");
        read_to(&mut stream, "5").await;
        stream.fault().reset();
        assert!(stream.next().await.is_err(), "broken, not ended");
        site.nothing_is_left().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_to_a_half_open_reader_is_silent() {
    let site = Site::new();
    for request in site.both("/ticks") {
        let mut stream = request.stream().await.expect("open");
        read_to(&mut stream, "5").await;
        stream.fault().half_open();
        let silence = timeout(100 * SECOND, stream.chunk()).await;
        assert!(silence.is_err(), "no keep-alive, no end: {silence:?}");
        // What finds it is the kernel, by comments that nobody acknowledges.
        assert_eq!(site.stats.snapshot().sse_streams, 1);
        stream.fault().reset();
        assert!(stream.chunk().await.is_err());
        site.nothing_is_left().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_stream_is_only_slow() {
    let site = Site::new();
    for request in site.both("/count") {
        let fault = Fault::new();
        fault.delay(2 * SECOND);
        let began = Instant::now();
        let mut stream = request.fault(&fault).stream().await.expect("open");
        assert_eq!(read_to(&mut stream, "5").await.len(), 5);
        assert!(stream.next().await.expect("no break").is_none());
        assert!(began.elapsed() >= 4 * SECOND, "there and back");
    }
}
