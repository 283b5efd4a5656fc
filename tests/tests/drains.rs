//! The examples of a drain as users copy them: real processes, a real SIGTERM.

use tokio::{net::TcpStream, time::timeout};
use towpath_tests::{
    http,
    process::{Program, SOON, Server},
    sse::EventStream,
    ws::{WebSocket, handshake},
};

/// Makes a test for each of the three examples.
macro_rules! on_all {
    ($(async fn $name:ident($program:ident: Program) $body:block)+) => {$(
        mod $name {
            use super::*;

            async fn test($program: Program) $body

            #[tokio::test]
            async fn axum() {
                test(Program::DRAIN_AXUM).await;
            }

            #[tokio::test]
            async fn actix() {
                test(Program::DRAIN_ACTIX).await;
            }

            #[tokio::test]
            async fn hyper() {
                test(Program::DRAIN_HYPER).await;
            }
        }
    )+};
}

async fn start(program: Program, seconds: &str) -> Server {
    Server::start(&program.path(), &["127.0.0.1:0", seconds]).await
}

/// Waits until the process drains.
async fn drains(server: &Server) {
    let draining = async { while http::get(server.address(), "/healthz").await.status != 503 {} };
    timeout(SOON, draining).await.expect("it drains");
}

/// The last time that a stream told, in milliseconds.
fn last_retry(text: &str) -> u64 {
    let mut times = text.lines().filter_map(|line| line.strip_prefix("retry: "));
    let last = times.next_back().expect("a time");
    last.parse().expect("a number")
}

on_all! {
    async fn each_ends_in_its_own_way_and_the_process_with_0(program: Program) {
        let mut server = start(program, "60").await;
        let address = server.address();
        assert_eq!(http::get(address, "/healthz").await.status, 200);
        let mut socket = WebSocket::open(address, "/echo").await;
        socket.send("hello").await;
        assert_eq!(socket.text().await, "hello");
        let mut ticks = EventStream::open(address, "/ticks").await;
        assert_eq!(ticks.event().await.id, "1");
        let mut export = EventStream::open(address, "/export").await;
        assert_eq!(export.event().await.id, "1");
        // Asks for nothing, and is owed nothing.
        let _silent = TcpStream::connect(address).await.expect("connected");

        server.terminate();
        drains(&server).await;
        assert_eq!(socket.text().await, "restarting");
        assert_eq!(socket.closed().await.code.get(), 1012);
        ticks.rest().await;
        // The next process is there by then.
        assert!((50_000..=64_000).contains(&last_retry(ticks.text())), "{:?}", ticks.text());

        // The listener still stands: programs are refused, browsers told to come back.
        let mut refused = http::Connection::open(address).await;
        refused.write(handshake("/echo", &[]).as_bytes()).await;
        let head = refused.head().await;
        assert_eq!((head.status, head.get("retry-after").is_some()), (503, true));
        drop(refused);
        assert_eq!(http::get(address, "/export").await.status, 503);
        let mut told = EventStream::open(address, "/ticks").await;
        assert_eq!(told.rest().await.len(), 0);
        assert!(last_retry(told.text()) >= 40_000, "{:?}", told.text());

        assert!(!server.has_ended(), "the export runs");
        let rest = export.rest().await;
        assert_eq!(rest.last().map(|event| event.id.as_str()), Some("30"));
        // Long before the deadline.
        assert_eq!(server.exit(SOON).await.code(), Some(0));
    }

    async fn what_the_deadline_cuts_is_told_by_a_1(program: Program) {
        let mut server = start(program, "1").await;
        let mut export = EventStream::open(server.address(), "/export").await;
        assert_eq!(export.event().await.id, "1");
        server.terminate();
        assert_eq!(server.exit(SOON).await.code(), Some(1));
    }

    async fn a_second_sigterm_ends_it_at_once(program: Program) {
        let mut server = start(program, "3600").await;
        let mut export = EventStream::open(server.address(), "/export").await;
        assert_eq!(export.event().await.id, "1");
        server.terminate();
        drains(&server).await;
        server.terminate();
        assert_eq!(server.exit(SOON).await.code(), Some(1));
    }
}
