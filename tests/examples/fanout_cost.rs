//! The way from a hub to many sockets without a kernel: what `tests/costs.rs` counts
//! the instructions of.
//!
//! `fanout_cost MESSAGES plain|compressed|burst` publishes so many JSON texts of 1 KiB to
//! 1,000 sockets, which have agreed on compression or not: one at a time, or eight.

use std::{
    env, fmt,
    io::{self, Error, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use towpath::{
    hub::Hub,
    ws::{
        Accepted, Deflate, HandlerError, Negotiation, Outbox, Received, Transport, WebSocket,
        WsConfig, drive,
        handshake::{HttpVersion, RequestHead},
    },
};

const SOCKETS: usize = 1000;
const PAYLOAD: usize = 1024;
const TOPIC: &str = "prices";

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let (Some(messages), Some(kind)) = (arguments.next(), arguments.next()) else {
        return Err(Error::other(
            "usage: fanout_cost MESSAGES plain|compressed|burst",
        ));
    };
    let messages: usize = messages.parse().map_err(Error::other)?;
    let (compressed, burst) = match &*kind {
        "plain" => (false, 1),
        "compressed" => (true, 1),
        "burst" => (false, 8),
        _ => return Err(Error::other("neither plain nor compressed, nor burst")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let bytes = runtime.block_on(run(messages, compressed, burst))?;
    writeln!(io::stdout(), "{bytes} bytes delivered")
}

async fn run(messages: usize, compressed: bool, burst: usize) -> io::Result<usize> {
    let hub = Hub::new();
    let peers = Arc::new(Peers::default());
    for _ in 0..SOCKETS {
        let subscription = hub.subscribe(TOPIC).await.map_err(Error::other)?;
        let memory = Memory(Arc::clone(&peers));
        let handler = async move |mut socket: WebSocket| {
            socket.forward(subscription);
            while socket.recv().await?.is_some() {}
            Ok::<_, HandlerError>(())
        };
        tokio::spawn(drive(memory, accepted(compressed)?, handler));
    }
    for number in 0..messages {
        let published = hub.publish(TOPIC, prices(number)).await;
        published.map_err(Error::other)?;
        if (number + 1) % burst > 0 {
            continue;
        }
        while peers.frames.load(Relaxed) < (number + 1) * SOCKETS {
            tokio::task::yield_now().await;
        }
    }
    // RFC 7692 §6: RSV1 tells that a message is compressed.
    let expected = if compressed { messages * SOCKETS } else { 0 };
    if peers.compressed.load(Relaxed) != expected {
        return Err(Error::other(format!("{peers:?}")));
    }
    Ok(peers.bytes.load(Relaxed))
}

/// What a handshake comes to in which the client offers compression.
fn accepted(compressed: bool) -> io::Result<Accepted> {
    let lines = [
        ("host", "localhost"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-extensions", "permessage-deflate"),
    ];
    let head = RequestHead {
        method: "GET",
        version: HttpVersion::Http11,
        authority: None,
        protocol: None,
        lines: &lines[..],
    };
    let config = WsConfig::new();
    let config = if compressed {
        config.deflate(Deflate::new())
    } else {
        config
    };
    let negotiation = Negotiation::new(&head, config.into()).map_err(Error::other)?;
    Ok(negotiation.accept(Bytes::new()))
}

/// A JSON text of 1 KiB, another one for each number.
fn prices(number: usize) -> String {
    let mut random = fastrand::Rng::with_seed(number as u64);
    let mut text = format!(r#"{{"number":{number},"prices":["#);
    while text.len() < PAYLOAD - 64 {
        let name: String = (0..4).map(|_| random.uppercase()).collect();
        let (units, cents) = (random.u16(1..500), random.u8(10..100));
        text.push_str(&format!(r#"{{"name":"{name}","price":{units}.{cents}}},"#));
    }
    text.push('"');
    while text.len() < PAYLOAD - 3 {
        text.push('.');
    }
    text.push_str(r#""]}"#);
    text
}

/// What all peers together have got.
#[derive(Default)]
struct Peers {
    frames: AtomicUsize,
    compressed: AtomicUsize,
    bytes: AtomicUsize,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [frames, compressed] = [&self.frames, &self.compressed].map(|n| n.load(Relaxed));
        write!(f, "{compressed} of {frames} frames are compressed")
    }
}

/// A peer that takes whatever there is, and says nothing.
struct Memory(Arc<Peers>);

impl Transport for Memory {
    fn poll_receive(
        &mut self,
        _: &mut Context<'_>,
        _: &mut BytesMut,
        _: usize,
    ) -> Poll<io::Result<Received>> {
        Poll::Pending
    }

    fn poll_send(&mut self, _: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<usize>> {
        let count = out.remaining();
        // All that waits is one slice: small frames stand behind each other.
        let mut frames = out.chunk();
        while let [first, length, rest @ ..] = frames {
            let (header, length) = match (length, rest) {
                (126, [high, low, ..]) => (4, usize::from(u16::from_be_bytes([*high, *low]))),
                (length, _) => (2, usize::from(*length)),
            };
            self.0.frames.fetch_add(1, Relaxed);
            let compressed = usize::from(first >> 6 & 1);
            self.0.compressed.fetch_add(compressed, Relaxed);
            frames = frames.get(header + length..).unwrap_or_default();
        }
        out.advance(count);
        self.0.bytes.fetch_add(count, Relaxed);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {}
}
