use std::{
    collections::VecDeque,
    task::{Wake, Waker},
};

use futures_core::Stream;
use futures_util::stream;
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::*;
use crate::{
    Drain, Snapshot,
    sse::{Parser, Sse},
};

const SECOND: Duration = Duration::from_secs(1);

/// What comes out of a channel.
struct Channel(mpsc::UnboundedReceiver<Event>);

impl Stream for Channel {
    type Item = Event;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll_recv(cx)
    }
}

fn channel() -> (mpsc::UnboundedSender<Event>, Channel) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Channel(receiver))
}

fn event(data: impl AsRef<str>) -> Event {
    Event::new().data(data)
}

fn body<S: Source>(sse: Sse<S>) -> Pin<Box<SseBody<S>>> {
    Box::pin(sse.into_body().unwrap())
}

type Pinned<S> = Pin<Box<SseBody<S>>>;

/// The next chunk as text; `None` at the end.
async fn next<S: Source>(body: &mut Pinned<S>) -> Option<String> {
    let frame = body.frame().await?.unwrap();
    let chunk = frame.into_data().unwrap();
    assert!(chunk.len() <= 16 * 1024 && !chunk.is_empty());
    Some(String::from_utf8(chunk.to_vec()).unwrap())
}

/// All that is still to come.
async fn rest<S: Source>(body: &mut Pinned<S>) -> String {
    let mut text = String::new();
    while let Some(chunk) = next(body).await {
        text.push_str(&chunk);
    }
    text
}

async fn is_quiet_for<S: Source>(body: &mut Pinned<S>, time: Duration) -> bool {
    tokio::time::timeout(time, next(body)).await.is_err()
}

/// The milliseconds of a text that is nothing but a `retry:` block.
fn retry(text: &str) -> u64 {
    text.strip_prefix("retry: ")
        .unwrap()
        .strip_suffix("\n\n")
        .unwrap()
        .parse()
        .unwrap()
}

fn with_stats<S: Source>(sse: Sse<S>) -> (Pinned<S>, impl Fn() -> Snapshot) {
    let stats = Stats::new();
    (body(sse.stats(&stats)), move || stats.snapshot())
}

#[tokio::test(start_paused = true)]
async fn the_first_bytes_are_there_at_once() {
    let (_sender, channel) = channel();
    let mut plain = body(Sse::new(channel));
    assert_eq!(next(&mut plain).await.unwrap(), ":\n\n");

    let mut with_retry = body(Sse::new(stream::pending::<Event>()).retry(SECOND));
    assert_eq!(next(&mut with_retry).await.unwrap(), "retry: 1000\n\n");
}

#[tokio::test(start_paused = true)]
async fn with_a_drain_a_stream_begins_with_the_normal_retry() {
    let drain = Drain::new(5 * SECOND);
    let mut normal = body(Sse::new(stream::iter([event("a")])).drain(&drain));
    assert_eq!(
        next(&mut normal).await.unwrap(),
        "retry: 3000\n\ndata: a\n\n"
    );
    let mut set = body(
        Sse::new(stream::pending::<Event>())
            .drain(&drain)
            .retry(9 * SECOND),
    );
    assert_eq!(next(&mut set).await.unwrap(), "retry: 9000\n\n");
}

#[tokio::test(start_paused = true)]
async fn ready_events_are_one_chunk() {
    let (sender, channel) = channel();
    let mut body = body(Sse::new(channel));
    sender.send(event("a")).unwrap();
    assert_eq!(next(&mut body).await.unwrap(), ":\n\ndata: a\n\n");
    for data in ["b", "c", "d"] {
        sender.send(event(data)).unwrap();
    }
    assert_eq!(
        next(&mut body).await.unwrap(),
        "data: b\n\ndata: c\n\ndata: d\n\n"
    );
}

/// Spends the task's budget with its first poll, and has no events.
struct Spender(bool);

impl Source for Spender {
    fn poll_event(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        while !self.0 {
            match tokio::task::coop::poll_proceed(cx) {
                Poll::Ready(one) => one.made_progress(),
                Poll::Pending => self.0 = true,
            }
        }
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_does_not_lose_the_timer() {
    let mut body = body(Sse::new(Spender(false)));
    assert_eq!(next(&mut body).await.unwrap(), ":\n\n");
    let comment = tokio::time::timeout(60 * SECOND, next(&mut body)).await;
    assert_eq!(comment.unwrap().unwrap(), ":\n\n");
}

#[tokio::test(start_paused = true)]
async fn the_end_has_to_be_asked_for() {
    let mut body = body(Sse::new(stream::iter([event("a")])));
    assert!(!body.is_end_stream());
    assert_eq!(next(&mut body).await.unwrap(), ":\n\ndata: a\n\n");
    // Whoever watches a body for its end sees it only there.
    assert!(!body.is_end_stream());
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test(start_paused = true)]
async fn any_mix_of_sizes_arrives_whole_in_bounded_chunks() {
    let sizes = [
        1, 20_000, 5, 16_384, 16_376, 16_377, 0, 100_000, 3, 8_000, 9_000,
    ];
    let events: Vec<Event> = sizes.map(|size| event("x".repeat(size))).into();
    let mut body = body(Sse::new(stream::iter(events)));
    let mut parser = Parser::new();
    parser.receive(rest(&mut body).await.as_bytes()).unwrap();
    for size in sizes {
        assert_eq!(parser.poll_event().unwrap().data.len(), size);
    }
    assert_eq!(parser.poll_event(), None);
}

#[tokio::test(start_paused = true)]
async fn a_shared_event_goes_out_as_it_is() {
    let text = event("x".repeat(20_000)).encode().unwrap();
    let shared = Event::from_encoded(text.clone());
    let mut body = body(Sse::new(stream::iter([shared])));
    assert_eq!(next(&mut body).await.unwrap(), ":\n\n");
    let chunk = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(chunk.as_ptr(), text.as_ptr());
}

#[tokio::test(start_paused = true)]
async fn comments_are_sent_only_when_nothing_else_was() {
    let (sender, channel) = channel();
    let mut body = body(Sse::new(channel));
    let start = Instant::now();
    assert_eq!(next(&mut body).await.unwrap(), ":\n\n");
    for _ in 0..3 {
        assert!(is_quiet_for(&mut body, 10 * SECOND).await);
        sender.send(event("a")).unwrap();
        assert_eq!(next(&mut body).await.unwrap(), "data: a\n\n");
    }
    for seconds in [45, 60, 75] {
        assert_eq!(next(&mut body).await.unwrap(), ":\n\n");
        assert_eq!(start.elapsed(), seconds * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn comments_can_be_set_and_turned_off() {
    let pending = stream::pending::<Event>;
    let keep_alive = KeepAlive::new().interval(SECOND).text("here");
    let mut often = body(Sse::new(pending()).keep_alive(keep_alive));
    assert_eq!(next(&mut often).await.unwrap(), ":\n\n");
    assert_eq!(next(&mut often).await.unwrap(), ": here\n\n");

    for keep_alive in [KeepAlive::off(), KeepAlive::new().interval(Duration::MAX)] {
        let mut never = body(Sse::new(pending()).keep_alive(keep_alive));
        assert_eq!(next(&mut never).await.unwrap(), ":\n\n");
        assert!(is_quiet_for(&mut never, 3600 * SECOND).await);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_ends_the_stream_after_what_came_before() {
    let items = [Ok(event("a")), Err("broken"), Ok(event("b"))];
    let (mut body, stats) = with_stats(Sse::new(stream::iter(items)));
    assert_eq!(rest(&mut body).await, ":\n\ndata: a\n\n");
    assert_eq!(stats().messages_out_total, 1);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_event_ends_the_stream() {
    let items = [event("a"), event("b").id("1\n2"), event("c")];
    let (mut body, stats) = with_stats(Sse::new(stream::iter(items)));
    assert_eq!(rest(&mut body).await, ":\n\ndata: a\n\n");
    assert_eq!(stats().messages_out_total, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_counted_and_ends_the_stream() {
    let mut left = 2;
    let source = stream::poll_fn(move |_| {
        left -= 1;
        assert!(left > 0, "on purpose");
        Poll::Ready(Some(event("a")))
    });
    let (mut body, stats) = with_stats(Sse::new(source));
    assert_eq!(rest(&mut body).await, ":\n\ndata: a\n\n");
    assert_eq!(stats().panics_total, 1);
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_drop_is_counted_and_stays_inside() {
    for end_first in [true, false] {
        let bomb = PanicsInDrop;
        let source = stream::poll_fn(move |_| {
            let _ = &bomb;
            Poll::Ready(None::<Event>)
        });
        let (mut body, stats) = with_stats(Sse::new(source));
        if end_first {
            assert_eq!(rest(&mut body).await, ":\n\n");
            assert_eq!(stats().panics_total, 1);
        }
        drop(body);
        assert_eq!((stats().panics_total, stats().sse_streams), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn streams_and_events_are_counted_and_nothing_else() {
    let items = [
        event("a"),
        Event::new().comment("c"),
        Event::new().retry(SECOND),
        Event::new().id("7"),
        Event::new(),
        event(""),
    ];
    let (mut body, stats) = with_stats(Sse::new(stream::iter(items)));
    assert_eq!(stats().sse_streams, 1);
    let expected = ":\n\ndata: a\n\n: c\n\nretry: 1000\n\nid: 7\n\ndata:\n\n";
    assert_eq!(rest(&mut body).await, expected);
    assert_eq!(stats().messages_out_total, 2);
    drop(body);
    assert_eq!(stats().sse_streams, 0);
}

#[test]
fn a_source_of_nothing_lets_others_run() {
    struct Flag(std::sync::atomic::AtomicBool);
    impl Wake for Flag {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }
    let mut body = body(Sse::new(stream::repeat_with(Event::new)).keep_alive(KeepAlive::off()));
    let flag = std::sync::Arc::new(Flag(false.into()));
    let waker = Waker::from(std::sync::Arc::clone(&flag));
    let mut cx = Context::from_waker(&waker);
    assert!(body.as_mut().poll_frame(&mut cx).is_ready(), "the opening");
    assert!(body.as_mut().poll_frame(&mut cx).is_pending());
    assert!(flag.0.load(Relaxed), "it goes on");
}

#[tokio::test(start_paused = true)]
async fn a_drained_stream_gives_what_is_ready_then_tells_when_to_come_back() {
    let drain = Drain::new(5 * SECOND);
    let (sender, channel) = channel();
    let mut body = body(Sse::new(channel).drain(&drain));
    assert_eq!(next(&mut body).await.unwrap(), "retry: 3000\n\n");
    assert!(is_quiet_for(&mut body, SECOND).await);
    sender.send(event("a")).unwrap();
    drain.start();
    let last = rest(&mut body).await;
    let told = retry(last.strip_prefix("data: a\n\n").unwrap());
    assert!((7000..=9000).contains(&told), "{told}");
    assert_eq!(drain.live(), 1, "until the body is dropped");
    drop(body);
    assert!(drain.run(drain.finished()).await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_stream_wakes_at_its_moment_and_lives_until_then() {
    let drain = Drain::new(5 * SECOND);
    let others: Vec<_> = (0..2000).map(|_| drain.guard().unwrap()).collect();
    let (sender, channel) = channel();
    let mut body = body(Sse::new(channel).drain(&drain));
    next(&mut body).await.unwrap();
    let reader = tokio::spawn(async move {
        let event = next(&mut body).await.unwrap();
        let before = Instant::now();
        (event, before, retry(&rest(&mut body).await), Instant::now())
    });
    tokio::time::sleep(SECOND).await;
    drain.start();
    let start = Instant::now();
    tokio::time::sleep(SECOND).await;
    sender.send(event("a")).unwrap();
    let (event, before, told, end) = reader.await.unwrap();
    assert_eq!((event.as_str(), before), ("data: a\n\n", start + SECOND));
    // The 2,001st of 2,001 over two seconds.
    assert!(
        end > start + SECOND * 199 / 100 && end <= start + 2 * SECOND,
        "{:?}",
        end - start
    );
    assert!((5000..=7010).contains(&told), "{told}");
    drop(others);
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_loses_nothing_of_what_is_ready() {
    let drain = Drain::new(5 * SECOND);
    let (sender, channel) = channel();
    let mut body = body(Sse::new(channel).drain(&drain));
    next(&mut body).await.unwrap();
    for n in 0..1000 {
        sender.send(event(n.to_string())).unwrap();
    }
    drain.start();
    let mut parser = Parser::new();
    parser.receive(rest(&mut body).await.as_bytes()).unwrap();
    for n in 0..1000 {
        assert_eq!(parser.poll_event().unwrap().data, n.to_string());
    }
    assert!(parser.retry().unwrap() >= 7 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_always_ready_ends_in_time() {
    let drain = Drain::new(5 * SECOND);
    let mut body = body(Sse::new(stream::repeat_with(|| event("a"))).drain(&drain));
    drain.start();
    let start = Instant::now();
    let mut last = String::new();
    while let Some(chunk) = next(&mut body).await {
        last = chunk;
        tokio::time::sleep(SECOND / 100).await;
    }
    assert!(start.elapsed() < 3 * SECOND, "{:?}", start.elapsed());
    assert!(last.contains("retry: "), "{last}");
    drop(body);
    assert!(drain.run(drain.finished()).await.is_clean());
}

/// Has more to give after its drain, each a second later.
struct Subscription {
    left: VecDeque<Event>,
    drained: bool,
    pause: Pin<Box<Sleep>>,
}

impl Source for Subscription {
    fn poll_event(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if !self.drained {
            return Poll::Pending;
        }
        ready!(self.pause.as_mut().poll(cx));
        self.pause = Box::pin(tokio::time::sleep(SECOND));
        Poll::Ready(self.left.pop_front())
    }

    fn drain(mut self: Pin<&mut Self>) -> Remainder {
        self.drained = true;
        self.pause = Box::pin(tokio::time::sleep(SECOND));
        Remainder::UntilEnd
    }
}

fn subscription(events: usize) -> Subscription {
    Subscription {
        left: std::iter::repeat_n(event("a"), events).collect(),
        drained: false,
        pause: Box::pin(tokio::time::sleep(SECOND)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_knows_of_the_drain_delivers_to_its_end() {
    let drain = Drain::new(5 * SECOND);
    let mut body = body(Sse::new(subscription(2)).drain(&drain));
    next(&mut body).await.unwrap();
    drain.start();
    let start = Instant::now();
    assert_eq!(next(&mut body).await.unwrap(), "data: a\n\n");
    assert_eq!(next(&mut body).await.unwrap(), "data: a\n\n");
    let told = retry(&rest(&mut body).await);
    assert_eq!(start.elapsed(), 3 * SECOND);
    assert!((4000..=6000).contains(&told), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_end_is_ended_before_the_deadline() {
    let drain = Drain::new(5 * SECOND);
    let mut body = body(Sse::new(subscription(100)).drain(&drain));
    drain.start();
    let start = Instant::now();
    let text = rest(&mut body).await;
    assert_eq!(text.matches("data: a").count(), 4);
    assert_eq!(text.matches("retry: ").count(), 2);
    assert_eq!(start.elapsed(), 5 * SECOND - CLOSING_TIME);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_finishes_runs_to_its_own_end() {
    let drain = Drain::new(5 * SECOND);
    let (sender, channel) = channel();
    let mut body = body(Sse::new(channel).drain(&drain).on_drain(OnDrain::Finish));
    next(&mut body).await.unwrap();
    drain.start();
    tokio::spawn(async move {
        tokio::time::sleep(4 * SECOND).await;
        sender.send(event("last")).unwrap();
    });
    let text = rest(&mut body).await;
    let told = retry(text.strip_prefix("data: last\n\n").unwrap());
    assert!((3000..=5000).contains(&told), "{told}");
    drop(body);
    assert!(drain.run(drain.finished()).await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn the_deadline_cuts_a_stream_that_does_not_finish() {
    let drain = Drain::new(5 * SECOND);
    let (_sender, channel) = channel();
    let mut body = body(Sse::new(channel).drain(&drain).on_drain(OnDrain::Finish));
    next(&mut body).await.unwrap();
    drain.start();
    let start = Instant::now();
    assert!(retry(&rest(&mut body).await) >= 2000);
    assert_eq!(start.elapsed(), 5 * SECOND);
    drop(body);
    assert!(!drain.run(drain.finished()).await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_draining_process_refuses_streams() {
    let drain = Drain::new(5 * SECOND);
    drain.start();
    let stats = Stats::new();
    let sse = || {
        Sse::new(stream::iter([event("a")]))
            .drain(&drain)
            .stats(&stats)
    };
    let refused = sse().into_body().unwrap_err();
    assert_eq!(refused.status(), 503);
    assert!((7..=9).contains(&refused.retry_after()));
    assert_eq!(stats.snapshot().rejected_total, 1);

    let mut answered = body(sse().sse_retry());
    assert!((7000..=9000).contains(&retry(&rest(&mut answered).await)));
    assert_eq!(stats.snapshot().rejected_total, 1);
    assert_eq!((stats.snapshot().sse_streams, drain.live()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn at_its_expiry_a_stream_ends_and_says_nothing_of_it() {
    let (sender, channel) = channel();
    let start = Instant::now();
    let (mut body, stats) = with_stats(Sse::new(channel).expires_at(20 * SECOND));
    sender.send(event("in time")).unwrap();
    assert_eq!(next(&mut body).await.unwrap(), ":\n\ndata: in time\n\n");
    assert_eq!(next(&mut body).await.unwrap(), ":\n\n", "the keep-alive");
    assert_eq!(next(&mut body).await, None);
    assert_eq!(start.elapsed().as_secs(), 20);
    assert!(sender.is_closed(), "the source is gone");
    assert_eq!(stats().sse_streams, 1, "until its body is dropped");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_refreshed_lives_on_and_one_that_is_revoked_ends() {
    let expiry = Expiry::from(10 * SECOND);
    let off = KeepAlive::off();
    let sse = || Sse::new(stream::pending::<Event>()).keep_alive(off.clone());
    let mut streams = [(); 2].map(|()| body(sse().expires_at(expiry.clone())));
    for body in &mut streams {
        assert_eq!(next(body).await.unwrap(), ":\n\n");
    }
    assert!(is_quiet_for(&mut streams[0], 9 * SECOND).await);
    expiry.refresh(100 * SECOND);
    let [first, second] = &mut streams;
    let quiet = async { is_quiet_for(first, 99 * SECOND).await };
    let waits = tokio::spawn({
        let expiry = expiry.clone();
        async move {
            tokio::time::sleep(50 * SECOND).await;
            expiry.expire();
        }
    });
    let start = Instant::now();
    assert_eq!(next(second).await, None);
    assert_eq!(start.elapsed().as_secs(), 50, "woken, not by its timer");
    waits.await.unwrap();
    assert!(!quiet.await, "both share it");
}

#[tokio::test(start_paused = true)]
async fn what_the_source_has_at_the_expiry_is_not_taken() {
    let (sender, channel) = channel();
    let mut body = body(Sse::new(channel).expires_at(SECOND));
    assert_eq!(next(&mut body).await.unwrap(), ":\n\n");
    tokio::time::advance(2 * SECOND).await;
    sender.send(event("too late")).unwrap();
    assert_eq!(next(&mut body).await, None);
}

#[test]
fn a_body_is_send_when_its_source_is() {
    fn is_send<T: Send>(_: &T) {}
    let sse = Sse::new(stream::pending::<Result<Event, std::io::Error>>());
    is_send(&sse);
    is_send(&sse.into_body().unwrap());
}
