//! More clients than there are places.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{io::AsyncWriteExt, time::sleep};
use towpath_tests::{
    http::{self, Connection},
    on_both,
    ws::{WebSocket, handshake},
};

use super::{Facts, LONG, begin, crowd, many};

const COUNT: &str = "/count?n=1000000000&interval_ms=100";

on_both! {
    async fn never_more_than_there_are_places_and_each_comes_back(framework: Framework) {
        let places = many(200, 50);
        let clients = many(20_000, 1_500);
        let at_a_time = places * 3;
        let _one = begin(at_a_time).await;
        let limit = places.to_string();
        let testbed = framework
            .start(&["--max-connections", &limit, "--close-timeout-ms", "500"])
            .await;
        let address = testbed.address();
        let ended = Arc::new(AtomicBool::new(false));
        let storm = async {
            let met = crowd::all(0..clients, at_a_time, |number| async move {
                let mut connection = Connection::open(address).await;
                let socket = number % 3 != 0;
                let request = if socket {
                    handshake("/echo", &[])
                } else {
                    http::head("GET", COUNT, &[])
                };
                connection.write(request.as_bytes()).await;
                let head = connection.head().await;
                match head.status {
                    503 => {
                        let after = head.get("retry-after").and_then(|value| value.parse::<u64>().ok());
                        assert!(after.is_some_and(|after| after >= 1), "{head:?}");
                        return 0;
                    }
                    101 if socket => {}
                    200 if !socket => {}
                    _ => panic!("{head:?}"),
                }
                sleep(Duration::from_millis(10)).await;
                let (mut stream, input) = connection.into_parts();
                match number % 4 {
                    0 => crowd::reset(&stream),
                    1 if socket => {
                        let mut socket = WebSocket::answered(stream, input, head);
                        socket.close(1000).await;
                        socket.closed().await;
                    }
                    2 => stream.shutdown().await.expect("open"),
                    // The rest just goes.
                    _ => {}
                }
                1_u64
            });
            let met = met.await;
            ended.store(true, Relaxed);
            met.into_iter().sum::<u64>()
        };
        let watch = async {
            let mut most = 0;
            while !ended.load(Relaxed) {
                let counts = testbed.counts().await;
                most = most.max(counts.websockets + counts.sse_streams);
                sleep(Duration::from_millis(5)).await;
            }
            most
        };
        let (met, most) = tokio::join!(storm, watch);
        assert!(most <= places as u64, "{most} at once, of {places}");
        let counts = testbed
            .until_within(LONG, |counts| counts.websockets + counts.sse_streams == 0)
            .await;
        // What was refused has cost no socket.
        assert_eq!(counts.rejected_total, clients as u64 - met);
        println!("{framework}: {met} of {clients} came in, {most} at once; {:?}", Facts::of(&testbed));

        // All places are there again, and no more than that.
        let held = crowd::all(0..places, 64, move |_| async move { come_in(address).await }).await;
        assert_eq!(held.len(), places);
        for path in ["/echo", "/sink?delay_ms=1"] {
            let mut late = Connection::open(address).await;
            late.write(handshake(path, &[]).as_bytes()).await;
            let head = late.head().await;
            assert!(head.status == 503 && head.get("retry-after").is_some(), "{head:?}");
        }
    }
}

/// A socket, once there is a place.
async fn come_in(address: std::net::SocketAddr) -> WebSocket {
    let come = async {
        loop {
            let mut connection = Connection::open(address).await;
            connection.write(handshake("/echo", &[]).as_bytes()).await;
            let head = connection.head().await;
            if head.status == 101 {
                let (stream, input) = connection.into_parts();
                break WebSocket::answered(stream, input, head);
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, come).await.expect("a place")
}
