use std::future::{Future, poll_fn};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use towpath::ws::Message;
use towpath::ws::protocol::{Connection, Limits, Role};

use super::*;

/// A server that upgrades every request and gives `driver` its transport.
struct Server {
    addr: SocketAddr,
    handle: ServerHandle,
}

impl Server {
    fn start<F, Fut>(prepared: bool, driver: F) -> Self
    where
        F: Fn(PumpTransport, Option<Socket>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (told, handle) = mpsc::channel();
        thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || {
                    let driver = driver.clone();
                    App::new().default_service(web::to(
                        move |req: HttpRequest, payload: web::Payload| {
                            let socket = req.conn_data::<Socket>().cloned();
                            let (body, transport) = pump(payload.into_inner(), socket.clone());
                            actix_web::rt::spawn(driver(transport, socket));
                            async {
                                HttpResponse::SwitchingProtocols()
                                    .upgrade("websocket")
                                    .body(body)
                            }
                        },
                    ))
                };
                let mut server = HttpServer::new(app)
                    .workers(1)
                    .disable_signals()
                    .client_disconnect_timeout(Duration::ZERO);
                if prepared {
                    server = server.on_connect(crate::on_connect);
                }
                let server = server.listen(listener).unwrap().run();
                told.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self {
            addr,
            handle: handle.recv().unwrap(),
        }
    }

    fn connect(&self) -> TcpStream {
        let mut peer = TcpStream::connect(self.addr).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        peer.write_all(
            b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        )
        .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            peer.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        peer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The request is in the channel at once; nobody has to wait for its answer.
        drop(self.handle.stop(false));
    }
}

async fn receive(transport: &mut PumpTransport) -> io::Result<Option<Bytes>> {
    let received = poll_fn(|cx| transport.poll_receive(cx, &mut BytesMut::new(), 1 << 16)).await?;
    match received {
        Received::Chunk(bytes) => Ok(Some(bytes)),
        Received::End => Ok(None),
        Received::Filled(_) => panic!("a pump copies nothing"),
    }
}

async fn send(transport: &mut PumpTransport, out: &mut Outbox) -> io::Result<()> {
    while out.has_remaining() {
        poll_fn(|cx| transport.poll_send(cx, out)).await?;
    }
    Ok(())
}

/// One message of so many bytes, as its frame.
fn frame(len: usize) -> Outbox {
    let limits = Limits {
        max_frame_size: usize::MAX,
        max_message_size: usize::MAX,
        max_fragments: 1,
    };
    let mut out = Outbox::default();
    Connection::new(Role::Server, limits).send(Message::Binary(vec![7; len].into()), &mut out);
    out
}

/// Sends until the peer takes nothing for 200 ms.
async fn fill(transport: &mut PumpTransport) {
    let mut out = frame(64 << 20);
    let stuck = async {
        loop {
            let sent = poll_fn(|cx| transport.poll_send(cx, &mut out));
            match tokio::time::timeout(Duration::from_millis(200), sent).await {
                Ok(sent) => assert!(sent.unwrap() > 0),
                Err(_) => break,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), stuck)
        .await
        .expect("64 MiB fit nowhere");
}

fn next<T>(told: &Receiver<T>) -> T {
    told.recv_timeout(Duration::from_secs(5))
        .expect("the driver tells it in time")
}

#[test]
fn passes_bytes_both_ways_and_ends_behind_them() {
    let server = Server::start(true, |mut transport, _| async move {
        let mut got = 0;
        while got < 300_000 {
            got += receive(&mut transport).await.unwrap().unwrap().len();
        }
        send(&mut transport, &mut frame(300_000)).await.unwrap();
        poll_fn(|cx| transport.poll_flush(cx)).await.unwrap();
        assert_eq!(transport.unsent(), Some(0));
        poll_fn(|cx| transport.poll_shutdown(cx)).await.unwrap();
    });
    let mut peer = server.connect();
    peer.write_all(&vec![1; 300_000]).unwrap();
    let mut read = Vec::new();
    peer.read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), 300_010);
    assert!(read[10..].iter().all(|byte| *byte == 7));
}

#[test]
fn what_was_queued_goes_out_when_the_driver_is_dropped() {
    let server = Server::start(true, |mut transport, _| async move {
        let mut out = frame(1000);
        poll_fn(|cx| transport.poll_send(cx, &mut out))
            .await
            .unwrap();
    });
    let mut read = Vec::new();
    server.connect().read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), 1004);
}

#[test]
fn a_large_chunk_is_given_in_parts() {
    let server = Server::start(true, |mut transport, _| async move {
        let mut got = 0;
        while got < 50_000 {
            let part = poll_fn(|cx| transport.poll_receive(cx, &mut BytesMut::new(), 100)).await;
            let Received::Chunk(part) = part.unwrap() else {
                panic!("{got} of 50,000")
            };
            assert!((1..=100).contains(&part.len()));
            got += part.len();
        }
    });
    let mut peer = server.connect();
    peer.write_all(&vec![1; 50_000]).unwrap();
    assert_eq!(
        peer.read(&mut [0]).unwrap(),
        0,
        "the driver has seen all of it"
    );
}

#[test]
fn an_end_comes_behind_the_data() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(true, move |mut transport, _| {
        let tell = tell.clone();
        async move {
            // Data and FIN come together.
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut got = Vec::new();
            while let Some(bytes) = receive(&mut transport).await.unwrap() {
                got.extend_from_slice(&bytes);
            }
            tell.send(got).unwrap();
        }
    });
    let mut peer = server.connect();
    peer.write_all(b"last words").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(next(&told), b"last words");
}

#[test]
fn a_reset_is_told_as_one() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(true, move |mut transport, _| {
        let tell = tell.clone();
        async move {
            let received = receive(&mut transport).await;
            let sent = send(&mut transport, &mut frame(1)).await;
            tell.send((received.map_err(|e| e.kind()), sent.map_err(|e| e.kind())))
                .unwrap();
        }
    });
    let peer = server.connect();
    socket2::SockRef::from(&peer)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(peer);
    assert_eq!(
        next(&told),
        (
            Err(ErrorKind::ConnectionReset),
            Err(ErrorKind::ConnectionReset)
        )
    );
}

#[test]
fn a_driver_that_waits_for_room_learns_that_the_peer_is_gone() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(true, move |mut transport, _| {
        let tell = tell.clone();
        async move {
            fill(&mut transport).await;
            tell.send(None).unwrap();
            let error = send(&mut transport, &mut frame(1 << 20)).await.unwrap_err();
            tell.send(Some(error.kind())).unwrap();
        }
    });
    let peer = server.connect();
    assert_eq!(next(&told), None);
    drop(peer); // with unread data: a reset
    assert_eq!(next(&told), Some(ErrorKind::ConnectionReset));
}

#[test]
fn reading_goes_on_while_the_peer_reads_nothing() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(true, move |mut transport, _| {
        let tell = tell.clone();
        async move {
            fill(&mut transport).await;
            tell.send(0).unwrap();
            let mut got = 0;
            while got < 1 << 20 {
                got += receive(&mut transport).await.unwrap().unwrap().len();
            }
            tell.send(got).unwrap();
        }
    });
    let mut peer = server.connect();
    assert_eq!(next(&told), 0);
    peer.write_all(&vec![1; 1 << 20]).unwrap();
    assert_eq!(next(&told), 1 << 20);
}

#[test]
fn a_driver_that_does_not_read_stops_its_peer() {
    let server = Server::start(true, |transport, _| async move {
        let _kept = transport;
        std::future::pending::<()>().await;
    });
    let mut peer = server.connect();
    peer.set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let block = vec![1; 1 << 20];
    let written = (0..256)
        .take_while(|_| peer.write_all(&block).is_ok())
        .count();
    assert!(written < 64, "{written} MiB were taken that nobody reads");
}

#[cfg(target_os = "linux")]
#[test]
fn an_abort_resets_a_stuck_peer_at_once() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(true, move |mut transport, _| {
        let tell = tell.clone();
        async move {
            fill(&mut transport).await;
            let started = Instant::now();
            transport.abort();
            let received = receive(&mut transport).await;
            tell.send((received.map_err(|e| e.kind()), started.elapsed()))
                .unwrap();
        }
    });
    let mut peer = server.connect();
    let (received, took) = next(&told);
    assert_eq!(
        received.map_err(|e| e == ErrorKind::ConnectionReset),
        Err(true)
    );
    assert!(took < Duration::from_millis(500), "{took:?}");
    let read = peer.read_to_end(&mut Vec::new());
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn without_on_connect_an_abort_ends_what_the_peer_still_reads() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(false, move |mut transport, socket| {
        let tell = tell.clone();
        async move {
            assert!(socket.is_none());
            fill(&mut transport).await;
            transport.abort();
            tell.send(()).unwrap();
        }
    });
    let mut peer = server.connect();
    next(&told);
    let mut read = Vec::new();
    // An end or a reset, as the kernels meet; but no time-out.
    let end = peer.read_to_end(&mut read);
    assert!(
        end.as_ref()
            .map_or_else(|e| e.kind() == ErrorKind::ConnectionReset, |_| true),
        "{end:?}"
    );
    assert!(read.len() < 64 << 20);
}

#[cfg(target_os = "linux")]
#[test]
fn the_drivers_clock_takes_the_place_of_the_kernels() {
    let (tell, told) = mpsc::channel();
    let server = Server::start(true, move |mut transport, socket| {
        let tell = tell.clone();
        async move {
            let socket = socket.unwrap();
            // With its header of four bytes.
            send(&mut transport, &mut frame(FEW - 4)).await.unwrap();
            tell.send(socket.timeout().unwrap()).unwrap();
            // What actix has to flush keeps the connection for the second look.
            fill(&mut transport).await;
            tell.send(socket.timeout().unwrap()).unwrap();
            drop(transport);
            tell.send(socket.timeout().unwrap()).unwrap();
        }
    });
    let _peer = server.connect();
    let kernels = Some(Duration::from_secs(30));
    assert_eq!(next(&told), kernels, "nobody is slow to take so little");
    assert_eq!(next(&told), None);
    assert_eq!(next(&told), Some(Duration::from_secs(30)));
}

fn queue(lens: &[usize]) -> Pipe {
    let mut pipe = Pipe::new(Payload::None);
    for len in lens {
        pipe.push(&mut Bytes::from(vec![0; *len]));
    }
    pipe
}

fn pop_all(pipe: &mut Pipe) -> Vec<usize> {
    std::iter::from_fn(|| pipe.pop())
        .map(|chunk| chunk.len())
        .collect()
}

#[test]
fn the_queue_is_bounded_and_its_chunks_are_too() {
    let mut pipe = queue(&[10, 70_000, 5]);
    assert_eq!(pipe.queued, QUEUE);
    assert_eq!(pop_all(&mut pipe), [10, CHUNK, CHUNK, CHUNK, CHUNK - 10]);
    assert_eq!((pipe.queued, pipe.queue.capacity()), (0, 0));
}

#[test]
fn a_slow_peer_gets_smaller_chunks_until_the_queue_is_empty() {
    let mut pipe = queue(&[10_000]);
    pipe.full_since = Instant::now().checked_sub(2 * SLOW);
    assert_eq!(
        pop_all(&mut pipe),
        [SLOW_CHUNK, SLOW_CHUNK, 10_000 - 2 * SLOW_CHUNK]
    );
    pipe.push(&mut Bytes::from(vec![0; 10_000]));
    assert_eq!(pop_all(&mut pipe), [10_000]);
}
