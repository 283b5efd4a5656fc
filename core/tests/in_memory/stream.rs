use std::time::Duration;

use tokio::time::{Instant, timeout};
use towpath::{
    sse::MessageEvent,
    testing::{RequestError, TestStream},
    ws::CloseCode,
};

use super::service::{SECOND, Site};

/// The events up to number `last`.
pub(crate) async fn read_to(stream: &mut TestStream, last: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|seen| seen != last) {
        let event = stream.next().await.expect("no break").expect("no end");
        let MessageEvent {
            event, data, id, ..
        } = event;
        assert_eq!((event.as_str(), &data), ("message", &id));
        seen.push(id);
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn the_first_bytes_come_at_once() {
    let site = Site::new();
    for request in site.both("/ticks?last_event_id=5") {
        let began = Instant::now();
        let mut stream = request.stream().await.expect("open");
        let headers = stream.response().headers();
        assert_eq!(headers["content-type"], "text/event-stream");
        assert_eq!(headers["cache-control"], "no-cache, no-transform");
        let chunk = stream.chunk().await.expect("no break").expect("no end");
        assert_eq!(chunk, "retry: 3000\n\n", "there is no event to wait for");
        assert_eq!(stream.retry(), Some(3 * SECOND));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_kept_alive() {
    let site = Site::new();
    for request in site.both("/ticks") {
        let mut stream = request.stream().await.expect("open");
        read_to(&mut stream, "5").await;
        for _ in 0..3 {
            let began = Instant::now();
            let chunk = stream.chunk().await.expect("no break").expect("no end");
            assert_eq!(
                (chunk.as_ref(), began.elapsed()),
                (&b":\n\n"[..], 15 * SECOND)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_resumes_where_it_was_left() {
    let site = Site::new();
    for request in site.both("/count?last_event_id=1") {
        let mut stream = request.last_event_id("3").stream().await.expect("open");
        assert_eq!(
            read_to(&mut stream, "5").await,
            ["4", "5"],
            "the header wins"
        );
        assert!(stream.next().await.expect("no break").is_none());
        assert_eq!(stream.last_event_id(), "5");
    }
    for request in site.both("/count") {
        let mut stream = request.last_event_id("5").stream().await.expect("open");
        assert!(stream.next().await.expect("no break").is_none());
        assert_eq!(stream.last_event_id(), "5", "to resume with again");
    }
    site.nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_leaves_ends_its_stream() {
    let site = Site::new();
    for request in site.both("/ticks") {
        let mut stream = request.stream().await.expect("open");
        read_to(&mut stream, "5").await;
        assert_eq!(site.stats.snapshot().sse_streams, 1);
        drop(stream);
        site.nothing_is_left().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_streams_with_a_retry_and_sockets_with_1012() {
    let site = Site::new();
    let [http1, http2] = site.both("/ticks");
    let mut streams = [
        http1.stream().await.expect("open"),
        http2.stream().await.expect("open"),
    ];
    let [http1, http2] = site.both("/echo");
    let mut sockets = [
        http1.socket().await.expect("upgraded"),
        http2.socket().await.expect("upgraded"),
    ];
    site.drain.start();
    for stream in &mut streams {
        read_to(stream, "5").await;
        let end = timeout(5 * SECOND, stream.next()).await.expect("ended");
        assert!(end.expect("no break").is_none());
        let retry = stream.retry().expect("told");
        assert!((7 * SECOND..=9 * SECOND).contains(&retry), "{retry:?}");
    }
    for socket in &mut sockets {
        let closed = timeout(5 * SECOND, socket.closed()).await.expect("closed");
        let code = closed.expect("in order").expect("a code").code;
        assert_eq!(code, CloseCode::SERVICE_RESTART);
    }
    site.drain.finished().await;
    for request in site.both("/ticks") {
        let Err(RequestError::Refused(response)) = request.stream().await else {
            panic!("a refusal was expected");
        };
        assert_eq!(response.status().as_u16(), 503);
        assert!(response.headers().contains_key("retry-after"));
    }
    site.nothing_is_left().await;
}
