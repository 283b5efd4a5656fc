use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::{Method, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use tokio::time::sleep;

use super::*;
use crate::client::BoxError;

type Body = UnsyncBoxBody<Bytes, BoxError>;

/// One answer, as a function, so that time may pass in it.
type Answer = Box<
    dyn FnOnce(
            Request<Full<Bytes>>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>
        + Send,
>;

/// What was asked, and when.
type Asked = Vec<(Instant, Request<Bytes>)>;

/// A server that has one answer after the other, and knows what it was asked.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Asked>>,
}

impl Server {
    fn answers(answers: impl IntoIterator<Item = Answer>) -> Self {
        let server = Self::default();
        server.answers.lock().unwrap().extend(answers);
        server
    }

    fn open(&self, builder: EventSourceBuilder) -> EventSource {
        builder.open_over(self.clone()).unwrap()
    }

    fn events(&self) -> EventSource {
        self.open(EventSource::builder("http://server/feed?x=1"))
    }

    /// When it was asked, in milliseconds since the first time.
    fn times(&self) -> Vec<u64> {
        let asked = self.asked.lock().unwrap();
        let since = |at: &Instant| (*at - asked[0].0).as_millis().try_into().unwrap();
        asked.iter().map(|(at, _)| since(at)).collect()
    }

    fn headers(&self, name: &str) -> Vec<Option<String>> {
        let asked = self.asked.lock().unwrap();
        let value = |request: &Request<Bytes>| {
            let value = request.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        asked.iter().map(|(_, request)| value(request)).collect()
    }
}

impl tower_service::Service<Request<Full<Bytes>>> for Server {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let (parts, mut body) = request.clone().into_parts();
        let body = body.frame().now_or_never().flatten();
        let body = body.and_then(|frame| frame.ok()?.into_data().ok());
        let kept = Request::from_parts(parts, body.unwrap_or_default());
        self.asked.lock().unwrap().push((Instant::now(), kept));
        let answer = self.answers.lock().unwrap().pop_front();
        match answer {
            Some(answer) => answer(request),
            None => Box::pin(ready(Err("nobody is there".into()))),
        }
    }
}

fn body(parts: Vec<Result<&'static str, BoxError>>, then: Option<Duration>) -> Body {
    let parts = parts
        .into_iter()
        .map(|part| part.map(|text| Frame::data(Bytes::from(text))));
    let rest = stream::once(async move {
        if let Some(pause) = then {
            sleep(pause).await;
        }
        Ok(Frame::data(Bytes::new()))
    });
    BodyExt::boxed_unsync(StreamBody::new(stream::iter(parts).chain(rest)))
}

fn answer(status: u16, headers: &[(&str, &str)], body: Body) -> Answer {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let response = response.body(body).unwrap();
    Box::new(|_| Box::pin(ready(Ok(response))))
}

const EVENT_STREAM: (&str, &str) = ("content-type", "text/event-stream");

/// A stream that ends in order.
fn feed(text: &'static str) -> Answer {
    answer(200, &[EVENT_STREAM], body(vec![Ok(text)], None))
}

/// A stream that breaks.
fn broken(text: &'static str) -> Answer {
    answer(
        200,
        &[EVENT_STREAM],
        body(vec![Ok(text), Err("cut".into())], None),
    )
}

fn status(status: u16) -> Answer {
    answer(status, &[], body(vec![], None))
}

fn fails() -> Answer {
    Box::new(|_| Box::pin(ready(Err("refused".into()))))
}

async fn data(events: &mut EventSource) -> Vec<String> {
    let events = events.map(|event| event.map_or_else(|e| format!("! {e}"), |event| event.data));
    events.collect().await
}

#[tokio::test(start_paused = true)]
async fn it_comes_back_with_the_last_id_after_the_time_that_the_server_said() {
    let server = Server::answers([
        feed("retry: 700\nid: a\ndata: 1\n\nid: b\ndata: 2\n\ndata: cut off"),
        feed("data: 3\n\nid\ndata: 4\n\n"),
        feed("data: 5\n\n"),
        status(204),
    ]);
    let mut events = server.events();
    assert_eq!(data(&mut events).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(server.times(), [0, 700, 1400, 2100]);
    let b = || Some("b".to_owned());
    // An empty id takes it back.
    assert_eq!(server.headers("last-event-id"), [None, b(), None, None]);
    let accept = Some("text/event-stream".to_owned());
    assert_eq!(server.headers("accept")[3], accept);
    assert!(matches!(
        *events.state().borrow(),
        EventSourceState::Closed { why: None }
    ));
}

#[tokio::test(start_paused = true)]
async fn an_event_inherits_the_id_of_the_stream_before() {
    let server = Server::answers([feed("id: 7\ndata: 1\n\n"), feed("data: 2\n\n"), status(204)]);
    let events: Vec<_> = server
        .events()
        .map(|event| event.unwrap().id)
        .collect()
        .await;
    assert_eq!(events, ["7", "7"]);
}

#[tokio::test(start_paused = true)]
async fn failures_are_told_in_its_state_and_come_ever_more_seldom() {
    let retry = "retry: 1000\ndata: 1\n\n";
    let server = Server::answers([
        feed(retry),
        fails(),
        fails(),
        fails(),
        broken("data: 2\n\n"),
        status(204),
    ]);
    let mut events = server.events();
    let mut state = events.state();
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        while state.changed().await.is_ok() {
            seen.push(match &*state.borrow_and_update() {
                EventSourceState::Connecting { attempt } => format!("connecting {attempt}"),
                EventSourceState::Open => "open".to_owned(),
                EventSourceState::Waiting { why, until } => {
                    assert!(*until > Instant::now());
                    format!("waiting: {why}")
                }
                EventSourceState::Closed { why } => format!("closed: {why:?}"),
            });
            tokio::task::yield_now().await;
        }
        seen
    });
    assert_eq!(data(&mut events).await, ["1", "2"]);
    drop(events);
    let times = server.times();
    let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits[0], 1000, "an end in order is no failure");
    for (wait, most) in waits[1..].iter().zip([2000, 4000, 8000, 2000]) {
        assert!((1000..=most).contains(wait), "{waits:?}");
    }
    let seen = seen.await.unwrap();
    let refused = "waiting: the request failed: refused";
    for state in [
        "waiting: the stream ended",
        refused,
        "waiting: the stream broke: cut",
    ] {
        assert!(seen.iter().any(|seen| seen == state), "{state}: {seen:?}");
    }
    assert_eq!(seen.last().unwrap(), "closed: None");
}

#[tokio::test(start_paused = true)]
async fn a_status_for_good_ends_it_and_one_for_now_is_tried_again() {
    for code in [400, 401, 403, 404, 405, 410, 501, 505, 304, 201] {
        let server = Server::answers([status(code), feed("data: 1\n\n")]);
        let mut events = server.events();
        let error = events.next().await.unwrap().unwrap_err();
        assert_eq!(error.status().unwrap().as_u16(), code);
        assert!(error.is_final());
        assert!(events.next().await.is_none(), "{code}");
    }
    for code in [408, 425, 429, 500, 502, 503, 504] {
        let server = Server::answers([status(code), feed("data: 1\n\n"), status(204)]);
        assert_eq!(data(&mut server.events()).await, ["1"], "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured() {
    let full = answer(503, &[("retry-after", "90")], body(vec![], None));
    let server = Server::answers([full, feed("data: 1\n\n"), status(204)]);
    assert_eq!(data(&mut server.events()).await, ["1"]);
    let waited = server.times()[1];
    assert!((90_000..=93_000).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn another_type_of_content_ends_it() {
    for kind in [
        &[][..],
        &[("content-type", "text/html")],
        &[("content-type", "text/event-streams")],
    ] {
        let server = Server::answers([answer(200, kind, body(vec![Ok("data: 1\n\n")], None))]);
        let mut events = server.events();
        let error = events.next().await.unwrap().unwrap_err();
        assert!(matches!(error, EventSourceError::ContentType(_)), "{error}");
        assert!(events.next().await.is_none());
    }
    let kind = ("content-type", "Text/Event-Stream ;charset=UTF-8");
    let server = Server::answers([
        answer(200, &[kind], body(vec![Ok("data: 1\n\n")], None)),
        status(204),
    ]);
    assert_eq!(data(&mut server.events()).await, ["1"]);
}

#[tokio::test(start_paused = true)]
async fn redirects_are_followed_and_credentials_stay() {
    let to = |status, location: &str| answer(status, &[("location", location)], body(vec![], None));
    let server = Server::answers([
        to(301, "/moved"),
        to(307, "http://other/feed"),
        feed("data: 1\n\n"),
        status(204),
    ]);
    let builder = EventSource::builder("http://server/feed").header("authorization", "Bearer x");
    assert_eq!(data(&mut server.open(builder)).await, ["1"]);
    let asked: Vec<_> = server
        .asked
        .lock()
        .unwrap()
        .iter()
        .map(|(_, r)| r.uri().to_string())
        .collect();
    assert_eq!(
        asked,
        [
            "http://server/feed",
            "http://server/moved",
            "http://other/feed",
            "http://server/feed"
        ],
    );
    let bearer = || Some("Bearer x".to_owned());
    assert_eq!(
        server.headers("authorization"),
        [bearer(), bearer(), None, bearer()]
    );

    let server = Server::answers([to(302, "http://server/feed")]);
    let mut events = server.open(EventSource::builder("https://server/feed"));
    let error = events.next().await.unwrap().unwrap_err();
    assert_eq!(error.status().unwrap(), 302, "not into the clear");

    let server = Server::answers((0..30).map(|n| to(302, &format!("/{n}"))));
    let error = server.events().next().await.unwrap().unwrap_err();
    assert_eq!(error.status().unwrap(), 302);
    assert_eq!(server.times().len(), 21);
}

#[tokio::test(start_paused = true)]
async fn a_post_is_sent_once_with_its_body() {
    let post = || {
        EventSource::builder("http://server/ask")
            .method(Method::POST)
            .header(header::CONTENT_TYPE, "application/json")
            .body(r#"{"stream":true}"#)
    };
    let server = Server::answers([feed("data: a\n\ndata: b\n\n"), feed("data: again\n\n")]);
    assert_eq!(data(&mut server.open(post())).await, ["a", "b"]);
    {
        let asked = server.asked.lock().unwrap();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].1.method(), Method::POST);
        assert_eq!(asked[0].1.body(), r#"{"stream":true}"#);
    }
    let server = Server::answers([broken("data: a\n\n")]);
    assert_eq!(
        data(&mut server.open(post())).await,
        ["a", "! the stream broke: cut"]
    );
    let server = Server::answers([status(503)]);
    assert_eq!(
        data(&mut server.open(post())).await,
        ["! refused with 503 Service Unavailable"]
    );
    let server = Server::answers([broken("data: a\n\n"), feed("data: b\n\n"), status(204)]);
    assert_eq!(
        data(&mut server.open(post().reconnect(true))).await,
        ["a", "b"]
    );
}

#[tokio::test(start_paused = true)]
async fn each_request_is_prepared_anew() {
    let server = Server::answers([feed("data: 1\n\n"), feed("data: 2\n\n"), status(204)]);
    let mut tokens = 0;
    let builder = EventSource::builder("http://server/").each_request(move |mut request| {
        tokens += 1;
        async move {
            if tokens == 2 {
                return Err("no token".into());
            }
            request.headers_mut().insert("token", tokens.into());
            Ok(request)
        }
    });
    assert_eq!(data(&mut server.open(builder)).await, ["1", "2"]);
    let tokens: Vec<_> = server.headers("token").into_iter().flatten().collect();
    assert_eq!(
        tokens,
        ["1", "3", "4"],
        "the second had none, and was tried again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_found_out() {
    let hangs: Answer = Box::new(|_| Box::pin(std::future::pending()));
    let silent = answer(
        200,
        &[EVENT_STREAM],
        body(vec![Ok("data: 1\n\n")], Some(Duration::from_secs(86_400))),
    );
    let server = Server::answers([hangs, silent, status(204)]);
    let builder = EventSource::builder("http://server/")
        .connect_timeout(Duration::from_secs(5))
        .idle_timeout(Duration::from_secs(20))
        .retry(Duration::from_secs(1))
        .max_backoff(Duration::ZERO);
    assert_eq!(data(&mut server.open(builder)).await, ["1"]);
    assert_eq!(server.times(), [0, 6_000, 27_000]);
}

#[tokio::test(start_paused = true)]
async fn comments_keep_it_alive() {
    let (tx, rx) = tokio::sync::mpsc::channel(1);
    let body = StreamBody::new(stream::unfold(rx, |mut rx| async {
        Some((Ok(Frame::data(rx.recv().await?)), rx))
    }));
    let server = Server::answers([
        answer(200, &[EVENT_STREAM], BodyExt::boxed_unsync(body)),
        status(204),
    ]);
    let builder = EventSource::builder("http://server/").idle_timeout(Duration::from_secs(20));
    let mut events = server.open(builder);
    tokio::spawn(async move {
        for _ in 0..10 {
            sleep(Duration::from_secs(15)).await;
            tx.send(Bytes::from(":\n\n")).await.unwrap();
        }
        tx.send(Bytes::from("data: 1\n\n")).await.unwrap();
    });
    assert_eq!(data(&mut events).await, ["1"]);
    assert_eq!(server.times(), [0, 153_000]);
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_where_it_is_told_to() {
    let server = Server::answers([
        fails(),
        feed("data: 1\n\n"),
        fails(),
        fails(),
        fails(),
        fails(),
    ]);
    let builder = EventSource::builder("http://server/").max_attempts(3);
    let seen = data(&mut server.open(builder)).await;
    assert_eq!(seen, ["1", "! the request failed: refused"]);
    assert_eq!(server.times().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_event_too_big_is_the_last_item_behind_those_that_were_not() {
    let server = Server::answers([feed(
        "data: 1\n\ndata: 2\n\ndata: 0123456789012345\n\ndata: 3\n\n",
    )]);
    let builder = EventSource::builder("http://server/").max_event_size(12);
    let seen = data(&mut server.open(builder)).await;
    assert_eq!(seen, ["1", "2", "! an event of more than 12 bytes"]);
    assert_eq!(server.times().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn closed_it_asks_no_more() {
    let server = Server::answers([feed("data: 1\n\n"), feed("data: 2\n\n")]);
    let mut events = server.events();
    events.next().await.unwrap().unwrap();
    events.close();
    assert!(events.next().await.is_none());
    assert_eq!(server.times().len(), 1);
}

#[test]
fn what_cannot_be_is_told_when_it_is_opened() {
    let open = |builder: EventSourceBuilder| builder.open().unwrap_err();
    let get = || EventSource::builder("http://server/");
    for (builder, error) in [
        (
            EventSource::builder("nowhere"),
            "no address to connect to: nowhere: it has no scheme",
        ),
        (
            EventSource::builder("http://a b/"),
            "no address to connect to: http://a b/: invalid uri character",
        ),
        (
            EventSource::builder("ws://server/"),
            "no address to connect to: ws://server/: an event stream's scheme is http or https",
        ),
        (
            get().header("a b", "c"),
            "no header: invalid HTTP header name",
        ),
        (
            get().header("last-event-id", "c"),
            "last-event-id is set by the client itself",
        ),
        (
            get().connect_timeout(Duration::ZERO),
            "connect_timeout must not be zero",
        ),
        (
            get().idle_timeout(Duration::ZERO),
            "idle_timeout must not be zero",
        ),
        (
            get().max_retry_after(Duration::ZERO),
            "max_retry_after must not be zero",
        ),
        (get().max_attempts(0), "max_attempts must not be zero"),
        (get().max_event_size(0), "max_event_size must not be zero"),
    ] {
        assert_eq!(open(builder).to_string(), error);
    }
}

#[tokio::test(start_paused = true)]
async fn neither_address_nor_credentials_are_shown() {
    let builder = EventSource::builder("http://server/feed?ticket=secret")
        .header("authorization", "Bearer secret");
    assert!(!format!("{:?}", builder.open().unwrap()).contains("secret"));
}
