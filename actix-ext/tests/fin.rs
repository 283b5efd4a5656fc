//! A peer that sends its FIN right behind what it says, in one segment with it: it may
//! still read, and what it is owed arrives, whether actix allows half-closed connections
//! or not.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use actix_web::{App, HttpServer, dev::ServerHandle};
use socket2::SockRef;
use towpath::ws::{HandlerError, WebSocket};
use towpath_actix::{WsLayer, WsUpgrade, on_connect, ws};

/// What depends on how two tasks and a kernel meet shows up in so many times.
const TIMES: usize = 40;

struct Server(SocketAddr, ServerHandle);

impl Server {
    fn start(half_closed: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (told, handle) = mpsc::channel();
        thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = || App::new().wrap(WsLayer).route("/", ws(upgrade));
                let server = HttpServer::new(app)
                    .workers(1)
                    .disable_signals()
                    .client_disconnect_timeout(Duration::ZERO)
                    .h1_allow_half_closed(half_closed)
                    .on_connect(on_connect)
                    .listen(listener)
                    .unwrap()
                    .run();
                told.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self(address, handle.recv().unwrap())
    }

    /// A connection whose first bytes are the handshake's, and the rest of the segment.
    fn open(&self, rest: &[u8]) -> TcpStream {
        let peer = TcpStream::connect(self.0).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut bytes = b"GET / HTTP/1.1\r\nhost: a.example\r\n\
            connection: upgrade\r\nupgrade: websocket\r\n\
            sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            sec-websocket-version: 13\r\n\r\n"
            .to_vec();
        bytes.extend_from_slice(rest);
        (&peer).write_all(&bytes).unwrap();
        peer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The command is in the channel at once; nobody has to wait for its answer.
        drop(self.1.stop(false));
    }
}

async fn upgrade(upgrade: WsUpgrade) -> actix_web::HttpResponse {
    upgrade.on_upgrade(echo)
}

async fn echo(mut socket: WebSocket) -> Result<(), HandlerError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

fn read_head(peer: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
}

/// Sends these bytes, and the FIN in the last one's segment.
fn send_last(peer: &TcpStream, bytes: &[u8]) {
    let socket = SockRef::from(peer);
    socket.set_tcp_cork(true).unwrap();
    (&*peer).write_all(bytes).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
}

/// All that comes up to the FIN; a reset fails.
fn read_rest(peer: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).unwrap();
    rest
}

/// A frame masked with zeros.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = bare(first, payload);
    frame[1] |= 0x80;
    let header = frame.len() - payload.len();
    frame.splice(header..header, [0; 4]);
    frame
}

fn bare(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(short @ ..=125) => frame.push(short),
        _ => {
            frame.push(126);
            let length = u16::try_from(payload.len()).unwrap();
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// What goes in, in one segment with the FIN, and what must come out in front of the
/// server's.
fn check(said: &[u8], expected: &[u8]) {
    for half_closed in [false, true] {
        let server = Server::start(half_closed);
        for time in 0..TIMES {
            let mut peer = server.open(b"");
            read_head(&mut peer);
            send_last(&peer, said);
            let rest = read_rest(&mut peer);
            assert_eq!(rest, expected, "half closed {half_closed}, time {time}");
        }
    }
}

#[test]
fn a_text_is_answered() {
    check(&masked(0x81, b"last"), &bare(0x81, b"last"));
}

#[test]
fn a_text_and_a_close_are_answered() {
    let said = [masked(0x81, b"last"), masked(0x88, b"\x03\xe8")].concat();
    let answered = [bare(0x81, b"last"), bare(0x88, b"\x03\xe8")].concat();
    check(&said, &answered);
}

#[test]
fn a_ping_is_answered() {
    check(&masked(0x89, b"there?"), &bare(0x8a, b"there?"));
}

#[test]
fn a_violation_gets_its_close_frame_behind_the_answers() {
    let said = [masked(0x81, b"good"), masked(0x83, b"")].concat();
    let close = bare(0x88, b"\x03\xeareserved opcode 0x3");
    check(&said, &[bare(0x81, b"good"), close].concat());
}

/// More than a task may do by tokio's budget before it yields, for which there is no
/// time any more; and more than an inbox takes at once.
#[test]
fn a_thousand_messages_are_answered() {
    let said: Vec<u8> = (0..1000_u16)
        .flat_map(|n| masked(0x82, &n.to_be_bytes()))
        .collect();
    let answered: Vec<u8> = (0..1000_u16)
        .flat_map(|n| bare(0x82, &n.to_be_bytes()))
        .collect();
    check(&said, &answered);
}

#[test]
fn nothing_is_said_to_one_who_said_nothing() {
    check(b"", b"");
    // Half a frame.
    check(&masked(0x81, b"never")[..8], b"");
}

#[test]
fn what_came_with_the_handshake_is_answered() {
    for half_closed in [false, true] {
        let server = Server::start(half_closed);
        for _ in 0..TIMES {
            let mut peer = server.open(&masked(0x81, b"early"));
            read_head(&mut peer);
            send_last(&peer, &masked(0x81, b"late"));
            let answered = [bare(0x81, b"early"), bare(0x81, b"late")].concat();
            assert_eq!(read_rest(&mut peer), answered);
        }
    }
}
