//! The client that comes back, over memory and with paused time.

use std::{
    io,
    sync::{Mutex, atomic::AtomicU32, atomic::Ordering::Relaxed},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::sleep,
};
use tower::service_fn;

use super::*;
use crate::{
    client::{
        ConnectError, connect,
        tests::{Peer, answer, over, request},
    },
    ws::Error,
};

/// The moments at which it was tried to connect.
type Moments = Arc<Mutex<Vec<Instant>>>;

/// A client that nobody answers.
fn refused() -> (Connect, Moments) {
    let moments = Moments::default();
    let told = Arc::clone(&moments);
    let client = connect("ws://server.example").connector(service_fn(move |_: Uri| {
        told.lock().unwrap().push(Instant::now());
        async { Err::<TokioIo<DuplexStream>, _>(io::Error::from(io::ErrorKind::ConnectionRefused)) }
    }));
    (client, moments)
}

/// A client whose nth connection is served by `serve(n, …)`.
fn numbered<F>(serve: impl Fn(u32, Peer) -> F + Clone + Send + 'static) -> Connect
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let number = Arc::new(AtomicU32::new(0));
    over(move |peer| serve(number.fetch_add(1, Relaxed), peer))
}

/// The waits between the first `count` attempts.
async fn waits(client: Reconnect, moments: Moments, count: usize) -> Vec<Duration> {
    let socket = client.open().unwrap();
    let mut state = socket.watch();
    while moments.lock().unwrap().len() <= count {
        state.changed().await.unwrap();
    }
    let moments = moments.lock().unwrap();
    let pairs = moments.windows(2).take(count);
    pairs.map(|pair| pair[1] - pair[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn the_bounds_of_the_waits_follow_the_formula() {
    let (client, moments) = refused();
    let client = client.reconnecting().backoff(Backoff::new().jitter(false));
    let waits = waits(client, moments, 9).await;
    let seconds: Vec<_> = waits.iter().map(Duration::as_secs_f64).collect();
    assert_eq!(seconds, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]);
}

#[tokio::test(start_paused = true)]
async fn the_jitter_is_full() {
    let backoff = Backoff::new();
    let mut shares = Vec::new();
    for seed in 0..200 {
        let (client, moments) = refused();
        let waits = waits(client.reconnecting().seed(seed), moments, 8).await;
        let mut random = fastrand::Rng::with_seed(seed);
        for (attempt, wait) in (0..).zip(waits) {
            let bound = backoff.bound(attempt);
            let expected = bound.mul_f64(random.f64());
            // The clock has milliseconds.
            let off = wait.abs_diff(expected);
            assert!(
                off <= Duration::from_millis(2),
                "{attempt}: {wait:?}, not {expected:?}"
            );
            shares.push(wait.as_secs_f64() / bound.as_secs_f64());
        }
    }
    // Anywhere between nothing and the bound, evenly.
    for decile in 0..10 {
        let from = f64::from(decile) / 10.0;
        let inside = shares
            .iter()
            .filter(|&&share| (from..from + 0.1).contains(&share));
        let count = inside.count();
        assert!(
            (100..220).contains(&count),
            "{count} of {} from {from}",
            shares.len()
        );
    }
}

/// Accepts, and is gone after `after`.
async fn lasts(mut peer: Peer, after: Duration) -> io::Result<()> {
    answer(&mut peer, "", b"").await?;
    sleep(after).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_stable_begins_anew() {
    let client = numbered(|number, peer| {
        // The fourth lasts long enough, the others nearly.
        lasts(
            peer,
            Duration::from_millis(if number == 3 { 30_000 } else { 29_000 }),
        )
    });
    let client = client.configure(|config| config.heartbeat(None));
    let client = client.reconnecting().backoff(Backoff::new().jitter(false));
    let socket = client.open().unwrap();
    let mut state = socket.watch();
    let mut waits = Vec::new();
    while waits.len() < 6 {
        state.changed().await.unwrap();
        if let State::Waiting { next, why, .. } = &*state.borrow_and_update() {
            assert!(matches!(**why, Down::Lost(Error::PeerGone)), "{why:?}");
            waits.push(next.duration_since(Instant::now()).as_secs());
        }
    }
    assert_eq!(waits, [1, 2, 4, 1, 2, 4]);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_and_the_backoff_is_on_top() {
    let client = || {
        over(|mut peer| async move {
            request(&mut peer).await?;
            peer.write_all(b"HTTP/1.1 503 Busy\r\nRetry-After: 120\r\n\r\n")
                .await
        })
        .reconnecting()
        .backoff(Backoff::new().jitter(false))
    };
    for (client, expected) in [
        (client(), 121),
        (client().max_retry_after(Duration::from_secs(10)), 11),
    ] {
        let socket = client.open().unwrap();
        let mut state = socket.watch();
        let waiting = state.wait_for(|state| matches!(state, State::Waiting { .. }));
        let waiting = waiting.await.unwrap().clone();
        let State::Waiting { next, .. } = waiting else {
            unreachable!("{waiting:?}");
        };
        let wait = next.duration_since(Instant::now());
        assert_eq!(wait.as_secs(), expected);
        // And it is what is waited for.
        state.changed().await.unwrap();
        assert!(Instant::now() >= next);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_worth_it_is_not_tried_again() {
    let client = over(|mut peer| async move {
        request(&mut peer).await?;
        peer.write_all(b"HTTP/1.1 401 Who\r\nRetry-After: 1\r\n\r\n")
            .await
    });
    let mut socket = client.reconnecting().open().unwrap();
    let why = socket.recv().await.unwrap_err();
    assert!(
        matches!(&*why, Down::Connect(ConnectError::Refused(answer)) if answer.status() == 401),
        "{why:?}"
    );
    assert!(matches!(socket.state(), State::Closed { why: Some(_) }));
    let error = socket.send("too late").await.unwrap_err();
    assert!(matches!(error, SendError::Closed(Some(_))), "{error:?}");

    // What was received in front of it is given.
    let client = over(|mut peer| async move {
        answer(&mut peer, "", b"\x81\x02hi\x88\x02\x03\xf0").await?;
        peer.read_to_end(&mut Vec::new()).await.map(drop)
    });
    let mut socket = client.reconnecting().open().unwrap();
    assert_eq!(socket.recv().await.unwrap(), Some(Message::text("hi")));
    let why = socket.recv().await.unwrap_err();
    assert!(
        matches!(&*why, Down::Closed(Some(frame)) if frame.code == CloseCode::POLICY_VIOLATION),
        "{why:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_may_decide_oneself_what_is_worth_it() {
    let client = over(|mut peer| async move {
        answer(&mut peer, "", b"\x88\x02\x03\xe8").await?;
        peer.read_to_end(&mut Vec::new()).await.map(drop)
    });
    let client = client.reconnecting().retry_if(
        |down| !matches!(down, Down::Closed(Some(frame)) if frame.code == CloseCode::NORMAL),
    );
    let why = client.open().unwrap().recv().await.unwrap_err();
    assert_eq!(why.to_string(), "closed by the server with 1000");
}

#[tokio::test(start_paused = true)]
async fn each_request_is_made_anew_and_resumes_behind_the_last_message() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let client = numbered(move |number, mut peer| {
        let seen = Arc::clone(&told);
        async move {
            let mut bytes = [0; 4096];
            let read = peer.read(&mut bytes).await?;
            let head = String::from_utf8_lossy(&bytes[..read]).into_owned();
            let lines: Vec<_> = head.split("\r\n").map(str::to_owned).collect();
            let token = lines.iter().find(|line| line.starts_with("authorization"));
            seen.lock()
                .unwrap()
                .push((lines[0].clone(), token.unwrap().clone()));
            let mut all = super::super::tests::accepted(&head, "").into_bytes();
            all.extend_from_slice(b"\x81\x01");
            all.push(b'0' + u8::try_from(number).unwrap());
            // The last has no id.
            all.extend_from_slice(b"\x81\x01-");
            peer.write_all(&all).await
        }
    });
    let client = client
        .query("after", "start")
        .reconnecting()
        .each_request(|request, attempt| async move {
            if attempt == 1 {
                return Err("no token".into());
            }
            Ok(request.header("authorization", format!("token {attempt}")))
        })
        .resume_by("after", |message| {
            let text = message.as_text()?;
            text.parse::<u32>().is_ok().then(|| text.to_owned())
        });
    let mut socket = client.open().unwrap();
    for number in 0..3 {
        let expected = Some(Message::text(number.to_string()));
        assert_eq!(socket.recv().await.unwrap(), expected);
        assert_eq!(socket.recv().await.unwrap(), Some(Message::text("-")));
    }
    let expected = [("start", 0), ("0", 2), ("1", 3)].map(|(after, attempt)| {
        (
            format!("GET /chat?after={after} HTTP/1.1"),
            format!("authorization: token {attempt}"),
        )
    });
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// Accepts the second connection only, and gives what comes over it.
fn second() -> (Connect, tokio::sync::mpsc::UnboundedReceiver<Message>) {
    use crate::{testing::Fault, ws::WsUpgrade};
    let (give, taken) = tokio::sync::mpsc::unbounded_channel();
    let server = crate::testing::TestServer::new(service_fn(
        move |request: http::Request<hyper::body::Incoming>| {
            let give = give.clone();
            async move {
                let (mut parts, _) = request.into_parts();
                let upgrade = WsUpgrade::from_parts(&mut parts).unwrap();
                let answer = upgrade.on_upgrade::<_, _, String>(|mut socket| async move {
                    while let Some(message) = socket.recv().await? {
                        let _ = give.send(message);
                    }
                    Ok(())
                });
                Ok::<_, std::convert::Infallible>(answer)
            }
        },
    ));
    let number = Arc::new(AtomicU32::new(0));
    let client = connect("ws://localhost").connector(service_fn(move |_: Uri| {
        let first = number.fetch_add(1, Relaxed) == 0;
        let io = server.connect(&Fault::new());
        async move {
            if first {
                return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
            }
            Ok(TokioIo::new(io))
        }
    }));
    (client, taken)
}

/// What arrives of ten messages of 1000 bytes each that are sent while there is no
/// connection, and what was dropped.
async fn arrives(policy: WhenFull) -> (Vec<u8>, u64) {
    let (client, mut taken) = second();
    let client = client.reconnecting().queue_bytes(3000).when_full(policy);
    let mut socket = client.open().unwrap();
    let mut state = socket.watch();
    let down = state.wait_for(|state| matches!(state, State::Waiting { .. }));
    drop(down.await.unwrap());
    for number in 0..10 {
        let sent = socket.send(vec![number; 1000]).await;
        match policy {
            WhenFull::Fail if number >= 3 => {
                assert!(matches!(sent, Err(SendError::Full)), "{number}: {sent:?}");
            }
            _ => sent.unwrap(),
        }
    }
    assert_eq!(
        matches!(socket.state(), State::Open { .. }),
        policy == WhenFull::Wait
    );
    let dropped = socket.dropped();
    socket.close(CloseCode::NORMAL, "");
    drop(socket.recv().await);
    if policy != WhenFull::Wait {
        // Closed while there was no connection: what was queued is dropped.
        assert!(taken.try_recv().is_err());
        return (Vec::new(), dropped);
    }
    let mut numbers = Vec::new();
    while let Ok(message) = taken.try_recv() {
        numbers.push(message.as_bytes()[0]);
    }
    (numbers, dropped)
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_waits_fails_or_drops_as_was_asked() {
    assert_eq!(arrives(WhenFull::Wait).await, ((0..10).collect(), 0));
    assert_eq!(arrives(WhenFull::Fail).await.1, 0);
    assert_eq!(arrives(WhenFull::DropNewest).await.1, 7);
    assert_eq!(arrives(WhenFull::DropOldest).await.1, 7);
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_is_sent_over_the_next_connection_in_order() {
    for (policy, expected) in [
        (WhenFull::DropNewest, [0, 1, 2]),
        (WhenFull::DropOldest, [7, 8, 9]),
    ] {
        let (client, mut taken) = second();
        let client = client.reconnecting().queue_bytes(3000).when_full(policy);
        let mut socket = client.open().unwrap();
        let mut state = socket.watch();
        let down = state.wait_for(|state| matches!(state, State::Waiting { .. }));
        drop(down.await.unwrap());
        for number in 0..10 {
            socket.send(vec![number; 1000]).await.unwrap();
        }
        for number in expected {
            assert_eq!(taken.recv().await.unwrap().as_bytes()[0], number);
        }
        // The last handle that is dropped closes behind what it said.
        let mut sender = socket.sender();
        drop(socket);
        sender.send("last").await.unwrap();
        drop(sender);
        assert_eq!(taken.recv().await.unwrap(), Message::text("last"));
        while state.changed().await.is_ok() {}
        assert!(matches!(&*state.borrow(), State::Closed { why: None }));
    }
}

#[tokio::test(start_paused = true)]
async fn closed_while_it_waits_it_is_over_at_once() {
    let (client, moments) = refused();
    let client = client.reconnecting().backoff(Backoff::new().jitter(false));
    let mut socket = client.open().unwrap();
    sleep(Duration::from_millis(3500)).await;
    assert!(
        matches!(socket.state(), State::Waiting { attempt: 3, .. }),
        "{:?}",
        socket.state()
    );
    let start = Instant::now();
    socket.close(CloseCode::NORMAL, "");
    assert_eq!(socket.recv().await.unwrap(), None);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(matches!(
        socket.send("x").await,
        Err(SendError::Closed(None))
    ));
    sleep(Duration::from_secs(600)).await;
    assert_eq!(moments.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_made_to_wait_while_nobody_takes_its_messages() {
    let written = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&written);
    let client = over(move |mut peer| {
        let counted = Arc::clone(&counted);
        async move {
            answer(&mut peer, "", b"").await?;
            let mut frame = vec![0x82, 126, 4, 0];
            frame.resize(4 + 1024, 7);
            for _ in 0..10_000 {
                peer.write_all(&frame).await?;
                counted.fetch_add(1, Relaxed);
            }
            peer.write_all(&[0x88, 2, 3, 0xe8]).await?;
            peer.read_to_end(&mut Vec::new()).await.map(drop)
        }
    });
    let mut socket = client.reconnecting().open().unwrap();
    sleep(Duration::from_secs(5)).await;
    // Its pipe, the socket's inbox and ours, of 64 KiB each, and what is read at once.
    let waits = written.load(Relaxed);
    assert!(waits < 400, "{waits} KiB");
    for _ in 0..10_000 {
        assert_eq!(socket.recv().await.unwrap().unwrap().len(), 1024);
    }
}

#[test]
fn what_cannot_be_is_an_error_at_once() {
    let client = || connect("ws://a.example").reconnecting();
    let zero = client().queue_bytes(0).open().unwrap_err();
    assert_eq!(zero, InvalidRequest::Zero("queue_bytes"));
    let shrinks = Backoff::new().factor(0.5);
    let shrinks = client().backoff(shrinks).open().unwrap_err();
    assert_eq!(shrinks, InvalidRequest::Factor);
    let scheme = connect("ftp://a.example").reconnecting().open();
    assert_eq!(
        scheme.unwrap_err(),
        InvalidRequest::Scheme("ftp".to_owned())
    );
}
