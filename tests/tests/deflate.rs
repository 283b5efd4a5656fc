//! permessage-deflate (RFC 7692) with both testbeds, over raw sockets.

use bytes::BytesMut;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::{io::AsyncReadExt, time::timeout};
use towpath_tests::{
    http,
    http::Connection,
    on_both,
    process::SOON,
    ws::{WebSocket, frame, handshake},
};

const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// A socket as its bytes, since those are what this is about.
struct Raw {
    stream: tokio::net::TcpStream,
    input: BytesMut,
    agreed: Option<String>,
}

impl Raw {
    async fn open(address: std::net::SocketAddr, path: &str, offers: &[&str]) -> Self {
        let offers: Vec<_> = offers
            .iter()
            .map(|offer| ("Sec-WebSocket-Extensions", *offer))
            .collect();
        Self::open_with(address, path, &offers).await
    }

    async fn open_with(address: std::net::SocketAddr, path: &str, lines: &[(&str, &str)]) -> Self {
        let mut connection = Connection::open(address).await;
        connection.write(handshake(path, lines).as_bytes()).await;
        let head = connection.head().await;
        assert_eq!(head.status, 101, "{head:?}");
        let agreed = head.get("sec-websocket-extensions").map(str::to_owned);
        let (stream, input) = connection.into_parts();
        Self {
            stream,
            input: BytesMut::from(&input[..]),
            agreed,
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        tokio::io::AsyncWriteExt::write_all(&mut self.stream, bytes)
            .await
            .expect("open");
    }

    async fn take(&mut self, count: usize) -> BytesMut {
        while self.input.len() < count {
            let read = timeout(SOON, self.stream.read_buf(&mut self.input)).await;
            assert!(read.expect("soon").expect("open") > 0, "the end");
        }
        self.input.split_to(count)
    }

    /// The next frame: its first byte and its payload.
    async fn frame(&mut self) -> (u8, BytesMut) {
        let header = self.take(2).await;
        let len = match header[1] {
            126 => u64::from(u16::from_be_bytes(
                self.take(2).await[..].try_into().expect("two"),
            )),
            127 => u64::from_be_bytes(self.take(8).await[..].try_into().expect("eight")),
            short => short.into(),
        };
        let len = usize::try_from(len).expect("small");
        (header[0], self.take(len).await)
    }
}

fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 64);
    Compress::new(Compression::new(6), false)
        .compress_vec(payload, &mut out, FlushCompress::Sync)
        .expect("compressed");
    out.truncate(out.len() - 4);
    out
}

fn inflated(payload: &[u8], most: usize) -> Vec<u8> {
    let body = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut out = Vec::with_capacity(most);
    Decompress::new(false)
        .decompress_vec(&body, &mut out, FlushDecompress::Sync)
        .expect("inflated");
    out
}

on_both! {
    async fn the_first_acceptable_offer_is_accepted(framework: Framework) {
        let testbed = framework.start(&["--deflate"]).await;
        let narrow = format!("{AGREED}; server_max_window_bits=8; client_max_window_bits=9");
        let cases: [(&[&str], Option<&str>); 7] = [
            (&[], None),
            (&["permessage-deflate"], Some(AGREED)),
            (&["permessage-deflate; client_max_window_bits"], Some(AGREED)),
            (&["permessage-deflate; server_max_window_bits=8; client_max_window_bits=\"9\""], Some(&narrow)),
            (&["x-other", "permessage-deflate; foo, permessage-deflate"], Some(AGREED)),
            (&["permessage-deflate; server_max_window_bits=16"], None),
            (&["permessage-deflate; client_no_context_takeover; client_no_context_takeover"], None),
        ];
        for (offers, agreed) in cases {
            let socket = Raw::open(testbed.address(), "/echo", offers).await;
            assert_eq!(socket.agreed.as_deref(), agreed, "{offers:?}");
        }
        let plain = framework.start(&[]).await;
        let socket = Raw::open(plain.address(), "/echo", &["permessage-deflate"]).await;
        assert_eq!(socket.agreed, None);
    }

    async fn messages_come_back_compressed(framework: Framework) {
        let testbed = framework.start(&["--deflate"]).await;
        for window in 8..=15 {
            let offer = format!("permessage-deflate; server_max_window_bits={window}");
            let mut socket = Raw::open(testbed.address(), "/echo", &[&offer]).await;
            let text: String = (0..3000).map(|n| format!("{n}, ")).collect();
            let body = deflated(text.as_bytes());
            socket.write(&frame(0xc1, &body)).await;
            // In fragments, a ping between them; and not compressed at all.
            let (left, right) = body.split_at(body.len() / 2);
            socket.write(&frame(0x41, left)).await;
            socket.write(&frame(0x89, b"between")).await;
            socket.write(&frame(0x80, right)).await;
            socket.write(&frame(0x81, text.as_bytes())).await;
            let mut echoes = 0;
            while echoes < 3 {
                let (first, payload) = socket.frame().await;
                if first == 0x8a {
                    continue;
                }
                assert_eq!(first, 0xc1);
                assert!(payload.len() < text.len() / 2);
                assert_eq!(inflated(&payload, 1 << 16), text.as_bytes());
                echoes += 1;
            }
            // Shorter than what is worth it.
            socket.write(&frame(0xc1, &deflated(b"hello"))).await;
            let (first, payload) = socket.frame().await;
            assert_eq!((first, &payload[..]), (0x81, &b"hello"[..]));
        }
    }

    async fn a_violation_gets_its_close_frame(framework: Framework) {
        let testbed = framework.start(&["--deflate", "--max-message-size", "100000"]).await;
        let body = deflated(b"hello");
        let bomb = deflated(&vec![0; 50 << 20]);
        let cases: [(&str, Vec<u8>, u16); 7] = [
            ("RSV1 on a ping", frame(0xc9, b""), 1002),
            ("RSV1 on a close", frame(0xc8, b""), 1002),
            ("RSV1 on a continuation", [frame(0x41, &body), frame(0xc0, b"")].concat(), 1002),
            ("RSV2 beside it", frame(0xe1, &body), 1002),
            ("no deflate", frame(0xc1, b"\x07"), 1007),
            ("no UTF-8", frame(0xc1, &deflated(b"\xff")), 1007),
            ("a bomb", frame(0xc2, &bomb), 1009),
        ];
        for (name, bytes, code) in cases {
            let mut socket = Raw::open(testbed.address(), "/echo", &["permessage-deflate"]).await;
            socket.write(&bytes).await;
            let (first, payload) = socket.frame().await;
            assert_eq!(first, 0x88, "{name}");
            assert_eq!(payload[..2], u16::to_be_bytes(code), "{name}");
        }
        let mut plain = WebSocket::open(testbed.address(), "/echo").await;
        plain.write(&frame(0xc1, &body)).await;
        assert_eq!(plain.close_frame().await.code.get(), 1002);
    }

    async fn a_topic_reaches_compressed_sockets_in_the_same_bytes(framework: Framework) {
        let testbed = framework.start(&["--deflate"]).await;
        let address = testbed.address();
        let open = async |offer: &str, protocol: Option<&str>| {
            let offer = (!offer.is_empty()).then_some(("Sec-WebSocket-Extensions", offer));
            let protocol = protocol.map(|name| ("Sec-WebSocket-Protocol", name));
            let lines: Vec<_> = offer.into_iter().chain(protocol).collect();
            Raw::open_with(address, "/topics/news/ws", &lines).await
        };
        let mut plain = open("", None).await;
        let mut wide = open("permessage-deflate", None).await;
        let mut covering = open("permessage-deflate; server_max_window_bits=9", None).await;
        let mut narrow = open("permessage-deflate; server_max_window_bits=8", None).await;
        let mut enveloped = open("permessage-deflate", Some("towpath.v1")).await;
        assert_eq!(wide.agreed.as_deref(), Some(AGREED));
        let text = "news ".repeat(100);
        for _ in 0..2 {
            let posted = http::post(address, "/topics/news", &text).await;
            assert_eq!(posted.status, 201, "{posted:?}");
            assert_eq!(plain.frame().await, (0x81, BytesMut::from(&*text)));
            let (first, shared) = wide.frame().await;
            assert_eq!((first, &*inflated(&shared, 4096)), (0xc1, text.as_bytes()));
            assert!(shared.len() < 50);
            assert_eq!(covering.frame().await, (first, shared));
            let (first, payload) = narrow.frame().await;
            assert_eq!((first, &*inflated(&payload, 4096)), (0xc1, text.as_bytes()));
            let (first, payload) = enveloped.frame().await;
            assert_eq!(first, 0xc1);
            let envelope: serde_json::Value =
                serde_json::from_slice(&inflated(&payload, 4096)).expect("JSON");
            assert_eq!(envelope["data"], text);
        }
    }

    async fn contexts_are_taken_over_where_both_want_that(framework: Framework) {
        let testbed = framework.start(&["--deflate", "--deflate-takeover"]).await;
        let text: String = (0..500).map(|n| format!("{n}, ")).collect();
        for (parameters, smaller) in [
            ("", true),
            ("; server_max_window_bits=15", true),
            ("; client_no_context_takeover", true),
            ("; server_no_context_takeover", false),
        ] {
            let offer = format!("permessage-deflate{parameters}");
            let mut socket = Raw::open(testbed.address(), "/echo", &[&offer]).await;
            assert_eq!(socket.agreed.as_deref(), Some(&*offer));
            let mut window = Decompress::new(false);
            let mut sizes = Vec::new();
            for _ in 0..3 {
                socket.write(&frame(0xc1, &deflated(text.as_bytes()))).await;
                let (first, payload) = socket.frame().await;
                assert_eq!(first, 0xc1, "{offer}");
                sizes.push(payload.len());
                let body = [&payload[..], &[0, 0, 0xff, 0xff]].concat();
                let mut out = Vec::with_capacity(1 << 16);
                window
                    .decompress_vec(&body, &mut out, FlushDecompress::Sync)
                    .expect("inflated");
                assert_eq!(out, text.as_bytes(), "{offer}");
            }
            assert_eq!(sizes[1] < sizes[0] / 4, smaller, "{offer}: {sizes:?}");
            assert_eq!(sizes[2] < sizes[0] / 4, smaller, "{offer}: {sizes:?}");
        }
    }
}
