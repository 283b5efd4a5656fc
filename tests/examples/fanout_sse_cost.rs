//! The way from a hub to many event streams without a kernel: what `tests/costs.rs`
//! counts the instructions of.
//!
//! `fanout_sse_cost MESSAGES plain|burst` publishes so many texts of 64 bytes to 1,000
//! streams, each polled by a task of its own: one at a time, or eight.

use std::{
    env,
    future::poll_fn,
    io::{self, Error, Write},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use axum::body::HttpBody;
use towpath::{
    hub::{Events, Hub},
    sse::Sse,
};

const STREAMS: usize = 1000;
const PAYLOAD: usize = 64;
const TOPIC: &str = "prices";

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let (Some(messages), Some(kind)) = (arguments.next(), arguments.next()) else {
        return Err(Error::other("usage: fanout_sse_cost MESSAGES plain|burst"));
    };
    let messages: usize = messages.parse().map_err(Error::other)?;
    let burst = match &*kind {
        "plain" => 1,
        "burst" => 8,
        _ => return Err(Error::other("neither plain nor burst")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let got = runtime.block_on(run(messages, burst))?;
    let [bytes, chunks] = got;
    writeln!(io::stdout(), "{bytes} bytes delivered in {chunks} chunks")
}

/// The bytes and the chunks that all streams together have given.
async fn run(messages: usize, burst: usize) -> io::Result<[usize; 2]> {
    let hub = Hub::new();
    let got: Arc<[AtomicUsize; 2]> = Arc::default();
    let [bytes, chunks] = [0, 1].map(|index| {
        let got = Arc::clone(&got);
        move || got[index].load(Relaxed)
    });
    for _ in 0..STREAMS {
        let subscription = hub.subscribe(TOPIC).await.map_err(Error::other)?;
        let body = Sse::<Events>::from(subscription).into_body();
        let body = body.map_err(Error::other)?;
        let got = Arc::clone(&got);
        tokio::spawn(async move {
            let mut body = pin!(body);
            while let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                let chunk = frame.data_ref().map_or(0, bytes::Bytes::len);
                got[0].fetch_add(chunk, Relaxed);
                got[1].fetch_add(1, Relaxed);
            }
        });
    }
    // The comment that every stream begins with.
    let mut expected = STREAMS * ":\n\n".len();
    until(|| bytes() >= expected).await;
    let opened = chunks();
    for number in 0..messages {
        let published = hub.publish(TOPIC, prices(number)).await;
        let id = published.map_err(Error::other)?;
        expected += STREAMS * (format!("id: {id}\ndata: \n\n").len() + PAYLOAD);
        if (number + 1) % burst == 0 {
            until(|| bytes() >= expected).await;
        }
    }
    // What was published together goes out together.
    let got = [bytes(), chunks()];
    if got != [expected, opened + messages / burst * STREAMS] {
        return Err(Error::other(format!("{got:?} of {expected} bytes")));
    }
    Ok(got)
}

async fn until(is_done: impl Fn() -> bool) {
    while !is_done() {
        tokio::task::yield_now().await;
    }
}

/// A text of 64 bytes, another one for each number.
fn prices(number: usize) -> String {
    format!("{number:>PAYLOAD$}")
}
