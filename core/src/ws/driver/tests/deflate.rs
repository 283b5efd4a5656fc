//! What is compressed, by the handler's choice, and for how long a context is kept.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt;
use tokio::{sync::mpsc, time::sleep};

use super::peer::{Peer, config, serve_extended};
use crate::{
    hub::{Hub, Publish},
    ws::{
        Broadcast, HandlerError, Message, WebSocket, WsConfig,
        protocol::{Direction, Extensions, Terms},
    },
};

const TEXT: u8 = 0x81;
const COMPRESSED: u8 = 0xC1;

fn serve<F>(
    config: WsConfig,
    takeover: bool,
    handler: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Peer
where
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let direction = Direction {
        takeover,
        window_bits: 15,
    };
    let extensions = Extensions {
        deflate: Some(Terms {
            server: direction,
            client: direction,
            threshold: 100,
            level: 6,
        }),
    };
    serve_extended(config, None, 64 * 1024, Bytes::new(), extensions, handler)
}

/// The next data frames: their first bytes, and their payloads.
async fn frames(peer: &mut Peer, count: usize) -> Vec<(u8, Bytes)> {
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    while frames.len() < count {
        let (at, len) = match input.get(1) {
            Some(126) if input.len() >= 4 => {
                (4, usize::from(u16::from_be_bytes([input[2], input[3]])))
            }
            Some(short @ ..126) => (2, usize::from(*short)),
            _ => (0, usize::MAX),
        };
        if input.len() - at < len {
            input.extend_from_slice(&peer.read_raw().await.expect("more"));
            continue;
        }
        let first = input[0];
        let payload = input.split_to(at + len).freeze().slice(at..);
        if first & 0x08 == 0 {
            frames.push((first, payload));
        }
    }
    assert!(input.is_empty(), "{count} frames and no more");
    frames
}

/// By whatever way a message is sent, it is compressed or not as it was said.
#[tokio::test(start_paused = true)]
async fn each_message_is_compressed_unless_it_was_said_otherwise() {
    for takeover in [false, true] {
        let mut peer = serve(config(), takeover, async |mut socket: WebSocket| {
            let text = || "towpath ".repeat(25);
            socket.send(text()).await?;
            socket.uncompressed().send(text()).await?;
            socket.reserve().await?.send(text())?;
            socket.reserve().await?.uncompressed().send(text())?;
            SinkExt::send(&mut socket, Message::from(text())).await?;
            let broadcast = Broadcast::new(text());
            socket.send(&broadcast).await?;
            socket.uncompressed().send(&broadcast).await?;
            socket.reserve().await?.uncompressed().send(broadcast)?;
            socket.send(Broadcast::uncompressed(text())).await?;
            let (mut sender, _receiver) = socket.split();
            sender.send(text()).await?;
            sender.uncompressed().send(text()).await?;
            sender.send("short").await?;
            std::future::pending().await
        });
        let frames = frames(&mut peer, 12).await;
        let firsts: Vec<_> = frames.iter().map(|(first, _)| *first).collect();
        assert_eq!(
            firsts,
            [
                COMPRESSED, TEXT, COMPRESSED, TEXT, COMPRESSED, COMPRESSED, TEXT, TEXT, TEXT,
                COMPRESSED, TEXT, TEXT
            ]
        );
        let counters = peer.stats.snapshot();
        assert_eq!(counters.messages_out_total, 12);
    }
}

#[tokio::test(start_paused = true)]
async fn all_ways_of_sending_are_understood_in_any_order() {
    let mut peer = serve(config(), true, async |mut socket: WebSocket| {
        let broadcast = Broadcast::new("to all of them ".repeat(20));
        for number in 0..50 {
            let text = format!("{number} ").repeat(100);
            match number % 4 {
                0 => socket.uncompressed().send(text).await?,
                1 => socket.send(&broadcast).await?,
                _ => socket.send(text).await?,
            }
        }
        Ok(())
    });
    for number in 0..50 {
        let expected = match number % 4 {
            1 => "to all of them ".repeat(20),
            _ => format!("{number} ").repeat(100),
        };
        assert_eq!(peer.text().await, expected);
    }
    assert_eq!(peer.closed().await, 1000);
}

/// Encode once: what a hub gives to many is compressed unless it was published
/// otherwise.
#[tokio::test(start_paused = true)]
async fn a_hubs_events_are_compressed_unless_they_were_published_otherwise() {
    let hub = Hub::new();
    let text = || "towpath ".repeat(25);
    let mut peers = Vec::new();
    for takeover in [false, true] {
        let subscription = hub.subscribe("news").await.unwrap();
        peers.push(serve(
            config(),
            takeover,
            async move |mut socket: WebSocket| {
                socket.forward(subscription);
                std::future::pending().await
            },
        ));
    }
    let publish = [
        Publish::from(text()),
        Publish::from(text()).uncompressed(),
        Publish::from("short"),
        Publish::from(text()).key("k"),
    ];
    for publish in publish {
        hub.publish("news", publish).await.unwrap();
    }
    let mut seen = Vec::new();
    for peer in &mut peers {
        let frames = frames(peer, 4).await;
        let firsts: Vec<_> = frames.iter().map(|(first, _)| *first).collect();
        assert_eq!(firsts, [COMPRESSED, TEXT, TEXT, COMPRESSED]);
        seen.push(frames);
    }
    assert_eq!(seen[0], seen[1], "the same bytes for both");
}

/// An idle connection owns no compressor, whatever its heartbeat does.
#[tokio::test(start_paused = true)]
async fn a_context_is_kept_for_thirty_seconds_behind_the_last_message() {
    for heartbeat in [Duration::ZERO, Duration::from_secs(7)] {
        let config = config().heartbeat(Some(heartbeat).filter(|interval| !interval.is_zero()));
        let (say, mut said) = mpsc::channel::<()>(1);
        let mut peer = serve(config, true, async move |mut socket: WebSocket| {
            let text: String = (0..300).map(|number| number.to_string()).collect();
            while said.recv().await.is_some() {
                socket.send(text.clone()).await?;
            }
            Ok(())
        });
        let mut lengths = Vec::new();
        for pause in [0, 1, 29, 31, 29, 1000, 1] {
            // Pongs and pings go on meanwhile, and are not messages.
            for _ in 0..pause {
                sleep(Duration::from_secs(1)).await;
                peer.send_raw(&[0x8A, 0x80, 0, 0, 0, 0]).await;
                peer.send_raw(&[0x89, 0x80, 0, 0, 0, 0]).await;
            }
            say.send(()).await.unwrap();
            let frames = frames(&mut peer, 1).await;
            assert_eq!(frames[0].0, COMPRESSED);
            lengths.push(frames[0].1.len());
        }
        let fresh = lengths[0];
        let kept: Vec<_> = lengths.iter().map(|len| *len < fresh / 4).collect();
        let expected = [false, true, true, false, true, false, true];
        assert_eq!(kept, expected, "{heartbeat:?}: {lengths:?}");
    }
}
