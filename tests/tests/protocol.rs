//! What a peer does wrong, and what it is told, over raw sockets.

use std::time::Duration;

use tokio::{
    io::AsyncReadExt,
    time::{Instant, timeout},
};
use towpath::ws::Message;
use towpath_tests::{
    on_both,
    process::SOON,
    ws::{Incoming, WebSocket, frame},
};

/// A FIN comes so soon after the closing handshake.
const FIN: Duration = Duration::from_millis(100);

/// A masked frame's header with a length of its own.
fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first, 0xff];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

on_both! {
    async fn a_violation_gets_its_close_frame(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let long_control = frame(0x89, &[b'x'; 126]);
        let cases: [(&str, Vec<u8>, u16); 22] = [
            ("unmasked", b"\x81\x05hello".to_vec(), 1002),
            ("RSV1", frame(0xc1, b"x"), 1002),
            ("RSV2", frame(0xa1, b"x"), 1002),
            ("RSV3", frame(0x91, b"x"), 1002),
            ("opcode 3", frame(0x83, b""), 1002),
            ("opcode 7", frame(0x87, b""), 1002),
            ("opcode 11", frame(0x8b, b""), 1002),
            ("opcode 15", frame(0x8f, b""), 1002),
            ("length 125 in 16 bits", b"\x81\xfe\x00\x7d\0\0\0\0".to_vec(), 1002),
            ("length 65,535 in 64 bits", header(0x81, 0xffff), 1002),
            ("length above 2^63", header(0x82, 1 << 63), 1002),
            ("fragmented ping", frame(0x09, b"x"), 1002),
            ("fragmented close", frame(0x08, b""), 1002),
            ("long ping", long_control, 1002),
            ("stray continuation", frame(0x80, b"x"), 1002),
            ("a message inside another", [frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002),
            ("close payload of one byte", frame(0x88, b"\x03"), 1002),
            ("close code 1005", frame(0x88, &1005_u16.to_be_bytes()), 1002),
            ("close code 999", frame(0x88, &999_u16.to_be_bytes()), 1002),
            ("close code 1016", frame(0x88, &1016_u16.to_be_bytes()), 1002),
            ("close reason that is not UTF-8", frame(0x88, b"\x03\xe8\xff"), 1007),
            ("text that is not UTF-8", frame(0x81, b"caf\xe9"), 1007),
        ];
        for (name, bytes, code) in cases {
            let mut socket = WebSocket::open(testbed.address(), "/echo").await;
            socket.send("before").await;
            socket.write(&bytes).await;
            assert_eq!(socket.text().await, "before", "{name}");
            let frame = socket.close_frame().await;
            assert_eq!(frame.code.get(), code, "{name}: {frame:?}");
            // Our answer, at last; and the end in order.
            socket.try_write(&towpath_tests::ws::frame(0x88, &code.to_be_bytes())).await.expect(name);
            assert_eq!(socket.next().await, Incoming::Fin, "{name}");
        }
        testbed.until(|counts| counts.websockets == 0).await;
    }

    async fn bad_utf8_is_found_at_its_first_byte(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        // The first fragment of a message, and of its frame only the beginning.
        let mut begun = header(0x01, 1 << 20);
        begun.extend_from_slice(b"fine \xf0\x28");
        socket.write(&begun).await;
        assert_eq!(socket.close_frame().await.code.get(), 1007);
    }

    async fn a_close_frame_arrives_though_the_peer_goes_on_sending(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        let mut bytes = b"\x81\x05hello".to_vec();
        bytes.extend(frame(0x82, &vec![0; 1 << 20]));
        // The kernel may take less than all of it.
        let written = timeout(Duration::from_secs(1), socket.try_write(&bytes)).await;
        let reset = matches!(written, Ok(Err(_)));
        assert!(!reset, "no reset in front of the close frame");
        assert_eq!(socket.close_frame().await.code.get(), 1002);
    }

    async fn what_is_too_big_is_refused_from_its_header_on(framework: Framework) {
        let testbed = framework
            .start(&["--max-message-size", "2KiB", "--max-frame-size", "1KiB"])
            .await;
        for (name, bytes) in [
            ("frame", header(0x82, (1 << 20) + 1)),
            ("message", [frame(0x02, &[0; 1024]), frame(0x00, &[0; 1024]), frame(0x80, b"x")[..7].to_vec()].concat()),
        ] {
            let mut socket = WebSocket::open(testbed.address(), "/echo").await;
            socket.write(&bytes).await;
            assert_eq!(socket.close_frame().await.code.get(), 1009, "{name}");
        }
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        socket.send(vec![1; 1024]).await;
        assert_eq!(socket.message().await, Message::binary(vec![1; 1024]));
        let exactly = [frame(0x02, &[2; 1024]), frame(0x80, &[2; 1024])].concat();
        socket.write(&exactly).await;
        assert_eq!(socket.message().await, Message::binary(vec![2; 2048]));
    }

    async fn too_many_fragments_are_against_the_policy(framework: Framework) {
        let testbed = framework.start(&["--max-fragments", "3"]).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        let three = [frame(0x01, b"a"), frame(0x00, b"b"), frame(0x80, b"c")].concat();
        socket.write(&three).await;
        assert_eq!(socket.text().await, "abc");
        let four = [frame(0x01, b"a"), frame(0x00, b"b"), frame(0x00, b"c"), frame(0x80, b"d")];
        socket.write(&four.concat()).await;
        assert_eq!(socket.close_frame().await.code.get(), 1008);
    }

    async fn fragments_and_control_frames_between_them(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        let bytes = [
            frame(0x01, b"h\xc3"),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x8a, b"unasked"),
            frame(0x80, b"\xa9"),
        ];
        socket.write(&bytes.concat()).await;
        let mut answer = [0; 11];
        let read = timeout(SOON, socket.stream().read_exact(&mut answer)).await;
        read.expect("an answer").expect("open");
        assert_eq!(&answer, b"\x8a\x04ping\x81\x03h\xc3\xa9");
    }

    async fn byte_by_byte(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        let bytes = [
            frame(0x01, "h\u{e9}llo \u{1f980}".as_bytes()),
            frame(0x80, &[b'x'; 300]),
            frame(0x82, b"\x00\xff"),
        ];
        for byte in bytes.concat() {
            socket.write(&[byte]).await;
        }
        let text = format!("h\u{e9}llo \u{1f980}{}", "x".repeat(300));
        assert_eq!(socket.text().await, text);
        assert_eq!(socket.message().await, Message::binary(&b"\x00\xff"[..]));
    }

    async fn messages_of_all_sizes_come_back(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        for size in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20, 16 << 20] {
            let text = "é".repeat(size / 2) + &"x".repeat(size % 2);
            socket.send(text.as_str()).await;
            assert!(socket.text().await == text, "text of {size}");
            let bytes: Vec<u8> = (0..=255).cycle().take(size).collect();
            socket.send(bytes.clone()).await;
            assert!(socket.message().await == Message::binary(bytes), "binary of {size}");
        }
        let counts = testbed.counts().await;
        assert_eq!((counts.messages_in_total, counts.messages_out_total), (18, 18));
    }

    async fn a_batch_comes_back_whole_and_in_order(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        let batch: Vec<u8> = (0..2_000).flat_map(|n: u32| frame(0x81, n.to_string().as_bytes())).collect();
        socket.write(&batch).await;
        for n in 0..2_000 {
            assert_eq!(socket.text().await, n.to_string());
        }
    }

    async fn a_close_is_answered_with_its_code_and_a_fin(framework: Framework) {
        let testbed = framework.start(&[]).await;
        for code in [1000, 1001, 1003, 1007, 1008, 1011, 1012, 1013, 3000, 4999] {
            let mut socket = WebSocket::open(testbed.address(), "/echo").await;
            socket.send("last").await;
            socket.close(code).await;
            assert_eq!(socket.text().await, "last");
            assert_eq!(socket.close_frame().await.code.get(), code);
            let answered = Instant::now();
            assert_eq!(socket.next().await, Incoming::Fin);
            assert!(answered.elapsed() < FIN, "{code}: {:?}", answered.elapsed());
        }
        // One without a code is answered so.
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        socket.write(&frame(0x88, b"")).await;
        assert_eq!(socket.next().await, Incoming::Close(None));
        assert_eq!(socket.next().await, Incoming::Fin);
    }

    async fn a_server_that_closes_ends_the_connection_first(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut socket = WebSocket::open(testbed.address(), "/flood?n=3&size=5").await;
        for _ in 0..3 {
            assert_eq!(socket.message().await, Message::binary(vec![0; 5]));
        }
        let start = Instant::now();
        assert_eq!(socket.closed().await.code.get(), 1000);
        assert!(start.elapsed() < FIN, "{:?}", start.elapsed());
        testbed.until(|counts| counts.websockets == 0).await;
    }

    async fn a_panic_is_told_and_counted(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut socket = WebSocket::open(testbed.address(), "/panic").await;
        socket.send("now").await;
        assert_eq!(socket.closed().await.code.get(), 1011);
        let counts = testbed.until(|counts| counts.websockets == 0).await;
        assert_eq!(counts.panics_total, 1);
    }

    async fn a_slow_handler_answers_all_in_order(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut socket = WebSocket::open(testbed.address(), "/sink?delay_ms=1").await;
        for size in 0..50 {
            socket.send(vec![0; size]).await;
        }
        for size in 0..50 {
            assert_eq!(socket.text().await, size.to_string());
        }
    }

    async fn a_fin_without_a_close_ends_the_socket_behind_its_answers(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut socket = WebSocket::open(testbed.address(), "/echo").await;
        socket.send("last").await;
        socket.shutdown().await;
        assert_eq!(socket.text().await, "last");
        assert_eq!(socket.next().await, Incoming::Fin);
        testbed.until(|counts| counts.websockets == 0).await;
    }
}
