//! One reader of the topic, over either transport.

use std::{mem, net::SocketAddr};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use towpath::{
    sse::Parser,
    ws::{
        CloseCode, CloseFrame, Message,
        protocol::{Connection, Event, Limits, Outbox, Role},
    },
};

const TOPIC: &str = "/topics/thousand";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport {
    WebSocket,
    EventStream,
}

/// Knows the id of the last event that it was given, and resumes from there.
#[derive(Debug)]
pub(crate) struct Reader {
    address: SocketAddr,
    transport: Transport,
    pub(crate) last_id: String,
    live: Option<Live>,
}

/// A connection, from the response's head on.
#[derive(Debug)]
struct Live {
    stream: TcpStream,
    bytes: BytesMut,
    decoder: Decoder,
}

#[derive(Debug)]
enum Decoder {
    WebSocket(Connection),
    EventStream { chunks: Chunks, parser: Parser },
}

/// An event's id and data.
type Events = Vec<(String, String)>;

impl Reader {
    pub(crate) fn new(address: SocketAddr, transport: Transport) -> Self {
        Self {
            address,
            transport,
            last_id: String::new(),
            live: None,
        }
    }

    /// Drops the connection, if there is one, with all that has come, and makes a new
    /// one that resumes behind the last id.
    pub(crate) async fn connect(&mut self) {
        self.live = None;
        let query = match &*self.last_id {
            "" => String::new(),
            id => format!("?after={id}"),
        };
        let (stream, decoder) = match self.transport {
            Transport::WebSocket => {
                let stream = websocket(self.address, &query).await;
                (stream, Decoder::WebSocket(client()))
            }
            Transport::EventStream => {
                let target = format!("{TOPIC}{query}");
                let (stream, head) = request(self.address, &target, "").await;
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                assert!(
                    head.to_ascii_lowercase()
                        .contains("transfer-encoding: chunked"),
                    "{head}"
                );
                let decoder = Decoder::EventStream {
                    chunks: Chunks::Size,
                    parser: Parser::new(),
                };
                (stream, decoder)
            }
        };
        self.live = Some(Live {
            stream,
            bytes: BytesMut::with_capacity(4 << 10),
            decoder,
        });
    }

    /// Reads once, and returns the events that are whole by then.
    pub(crate) async fn receive(&mut self) -> Events {
        let live = self.live.as_mut().expect("it is connected");
        let read = live.stream.read_buf(&mut live.bytes).await;
        let count = read.expect("the connection stands");
        assert_ne!(count, 0, "{:?}: the server ended it", self.transport);
        match &mut live.decoder {
            Decoder::WebSocket(connection) => {
                let mut out = Outbox::default();
                let bytes = live.bytes.split();
                let mut input = &bytes[..];
                let mut events = Vec::new();
                while let Some(event) = connection.receive(&mut input, &mut out).expect("RFC 6455")
                {
                    events.push(enveloped(&event));
                }
                if out.has_remaining() {
                    let pong = live.stream.write_all_buf(&mut out).await;
                    pong.expect("it takes a pong");
                }
                events
            }
            Decoder::EventStream { chunks, parser } => {
                while let Some(data) = chunks.next(&mut live.bytes) {
                    parser.receive(&data).expect("small events");
                }
                let events = std::iter::from_fn(|| parser.poll_event());
                let checked = events.map(|event| {
                    assert_eq!(event.event, "message", "{event:?}");
                    (event.id, event.data)
                });
                checked.collect()
            }
        }
    }

    /// Says goodbye, where the transport has one: nothing more has come until the
    /// server's answer.
    pub(crate) async fn end(mut self) {
        let Some(mut live) = mem::take(&mut self.live) else {
            return;
        };
        let Decoder::WebSocket(mut connection) = live.decoder else {
            return;
        };
        let mut out = Outbox::default();
        let done = CloseFrame::new(CloseCode::NORMAL, "");
        connection.close(Some(&done), &mut out);
        live.stream
            .write_all_buf(&mut out)
            .await
            .expect("it takes a close");
        loop {
            let bytes = live.bytes.split();
            let mut input = &bytes[..];
            match connection.receive(&mut input, &mut out).expect("RFC 6455") {
                None => {}
                Some(Event::Close(frame)) => {
                    assert_eq!(frame.map(|frame| frame.code), Some(CloseCode::NORMAL));
                    return;
                }
                Some(Event::Message(message)) => panic!("{message:?} came behind the last"),
            }
            let count = live
                .stream
                .read_buf(&mut live.bytes)
                .await
                .expect("an answer");
            assert_ne!(count, 0, "the server ended it without an answer");
        }
    }
}

/// The protocol's end of a client.
pub(crate) fn client() -> Connection {
    let limits = Limits {
        max_frame_size: 1 << 20,
        max_message_size: 1 << 20,
        max_fragments: 16,
    };
    Connection::new(Role::Client, limits)
}

/// Taken apart strictly, so that everything else, a gap above all, fails the test.
fn enveloped(event: &Event) -> (String, String) {
    let Event::Message(Message::Text(text)) = event else {
        panic!("{event:?}");
    };
    let taken = text.strip_prefix(r#"{"id":""#).and_then(|rest| {
        let (id, rest) = rest.split_once(r#"","data":""#)?;
        Some((id.to_owned(), rest.strip_suffix(r#""}"#)?.to_owned()))
    });
    taken.unwrap_or_else(|| panic!("{text}"))
}

/// A socket on the topic that speaks `towpath.v1`, its handshake behind it.
pub(crate) async fn websocket(address: SocketAddr, query: &str) -> TcpStream {
    let (stream, head) = request(
        address,
        &format!("{TOPIC}/ws{query}"),
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: towpath.v1\r\n",
    )
    .await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(
        head.contains("\r\nsec-websocket-protocol: towpath.v1\r\n"),
        "{head}"
    );
    stream
}

/// Sends a request, and returns the response's head; what follows it is not read.
async fn request(address: SocketAddr, target: &str, headers: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it takes a request");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the head of a response"));
    }
    (stream, String::from_utf8(head).expect("ASCII"))
}

/// The body of a response in chunks (RFC 9112 §7.1).
#[derive(Debug)]
enum Chunks {
    Size,
    Data(usize),
    /// The line end behind a chunk's data.
    End,
}

impl Chunks {
    /// The next piece of the body, where it has come.
    fn next(&mut self, bytes: &mut BytesMut) -> Option<BytesMut> {
        loop {
            match *self {
                Self::Size => {
                    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
                    let line = bytes.split_to(end + 2);
                    let size = std::str::from_utf8(&line[..end]).expect("ASCII");
                    let size = usize::from_str_radix(size, 16).expect("a size");
                    assert_ne!(size, 0, "the server ended the stream");
                    *self = Self::Data(size);
                }
                Self::Data(_) if bytes.is_empty() => return None,
                Self::Data(left) => {
                    let data = bytes.split_to(left.min(bytes.len()));
                    *self = match left - data.len() {
                        0 => Self::End,
                        left => Self::Data(left),
                    };
                    return Some(data);
                }
                Self::End => {
                    if bytes.len() < 2 {
                        return None;
                    }
                    assert_eq!(&bytes.split_to(2)[..], b"\r\n");
                    *self = Self::Size;
                }
            }
        }
    }
}
