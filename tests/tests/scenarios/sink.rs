//! A handler that is slow while messages pour in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};
use towpath_tests::{
    on_both,
    ws::{WebSocket, frame},
};

use super::{Facts, LONG, begin, kib};

const SIZE: usize = 16 << 10;
/// What the two kernels, the inbox and a read keep of what the handler has not taken.
const HELD: u64 = 24 << 20;

on_both! {
    async fn a_slow_handler_is_no_dead_peer_and_stops_the_sender(framework: Framework) {
        let _one = begin(16).await;
        let testbed = framework.start(&["--heartbeat-ms", "500"]).await;
        let mut socket = WebSocket::open(testbed.address(), "/sink?delay_ms=200").await;
        let before = Facts::of(&testbed);
        let (mut read, mut write) = socket.stream().split();
        let message = frame(0x82, &[7; SIZE]);
        let written = Arc::new(AtomicU64::new(0));
        let pour = async {
            loop {
                let count = write.write(&message[..]).await.expect("it lives");
                let mut rest = &message[count..];
                written.fetch_add(count as u64, Relaxed);
                while !rest.is_empty() {
                    let count = write.write(rest).await.expect("it lives");
                    written.fetch_add(count as u64, Relaxed);
                    rest = &rest[count..];
                }
            }
        };
        // Its pings are not answered: there is no room for a pong.
        let answers = async {
            let mut pings = 0;
            let mut answers = 0;
            while answers < 40 {
                let next = timeout(LONG, read.read_u8()).await;
                let first = next.expect("an answer in time").expect("it lives");
                let length = read.read_u8().await.expect("it lives");
                let mut payload = vec![0; length.into()];
                read.read_exact(&mut payload).await.expect("it lives");
                match first {
                    0x81 => {
                        assert_eq!(payload, SIZE.to_string().as_bytes());
                        answers += 1;
                    }
                    0x89 => pings += 1,
                    other => panic!("{other:#x}"),
                }
            }
            pings
        };
        let watch = async {
            let mut most = 0;
            loop {
                most = Facts::of(&testbed).grown_since(before).max(most);
                // Whatever it grows by, it is bounded.
                assert!(most < 8 << 20, "{} KiB", kib(most));
                sleep(Duration::from_millis(50)).await;
            }
        };
        // Forty times 200 ms: sixteen heartbeats.
        let pings = tokio::select! {
            () = pour => unreachable!("it pours for ever"),
            () = watch => unreachable!("it watches for ever"),
            pings = answers => pings,
        };
        let poured = written.load(Relaxed);
        assert!(poured <= HELD, "{} KiB were taken", kib(poured));
        let grown = Facts::of(&testbed).grown_since(before);
        println!(
            "{framework}: {} KiB poured, 40 messages taken, {pings} pings, it grew by {} KiB",
            kib(poured),
            kib(grown)
        );
        assert_eq!(testbed.counts().await.websockets, 1);
    }
}
