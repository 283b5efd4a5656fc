//! Topics over both transports: replay, gaps, and `towpath.v1` to the letter.

use std::net::SocketAddr;

use serde_json::{Value, json};
use towpath::ws::Message;
use towpath_tests::{
    http, on_both,
    sse::EventStream,
    ws::{Incoming, WebSocket},
};

/// Publishes a text; its id.
async fn publish(address: SocketAddr, topic: &str, text: &str) -> String {
    let response = http::post(address, &format!("/topics/{topic}"), text).await;
    assert_eq!(response.status, 201, "{response:?}");
    assert_eq!(response.get("content-type"), Some("application/json"));
    let body: Value = serde_json::from_slice(&response.body).expect("JSON");
    let id = body["id"].as_str().expect("an id").to_owned();
    assert_eq!(body, json!({ "id": id }));
    id
}

/// Publishes the numbers from 1 on; their ids.
async fn publish_numbers(address: SocketAddr, topic: &str, n: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 1..=n {
        ids.push(publish(address, topic, &number.to_string()).await);
    }
    ids
}

/// The data of the next so many events.
async fn data(stream: &mut EventStream, n: usize) -> Vec<String> {
    let mut data = Vec::new();
    for _ in 0..n {
        data.push(stream.event().await.data);
    }
    data
}

on_both! {
    async fn one_event_over_every_transport(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let address = testbed.address();
        let mut stream = EventStream::open(address, "/topics/news").await;
        let mut bare = WebSocket::open(address, "/topics/news/ws").await;
        let mut told = WebSocket::open_as(address, "/topics/news/ws", "towpath.v1").await;
        // The heads are there: so are the subscriptions.
        let text = "\"h\u{e9}llo\"";
        let id = publish(address, "news", text).await;
        publish(address, "other", "unseen").await;

        let event = stream.event().await;
        assert_eq!((event.event.as_str(), event.data.as_str()), ("message", text));
        assert_eq!(event.id, id);
        assert_eq!(bare.text().await, text);
        let frame = format!(r#"{{"id":"{id}","data":"\"h{}llo\""}}"#, '\u{e9}');
        assert_eq!(told.text().await, frame);

        let own = publish(address, "news", "next").await;
        assert_eq!(stream.event().await.id, own);
        assert_eq!(testbed.counts().await.gaps_total, 0);
    }

    async fn binary_data(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let address = testbed.address();
        let mut stream = EventStream::open(address, "/topics/b").await;
        let mut bare = WebSocket::open(address, "/topics/b/ws").await;
        let mut told = WebSocket::open_as(address, "/topics/b/ws", "towpath.v1").await;
        let headers = [("Content-Type", "application/octet-stream")];
        let response = http::request(address, "POST", "/topics/b", &headers, b"\x00\xff").await;
        assert_eq!(response.status, 201);

        let event = stream.event().await;
        assert_eq!((event.event.as_str(), event.data.as_str()), ("binary", "AP8="));
        assert_eq!(bare.message().await, Message::binary(&b"\x00\xff"[..]));
        assert_eq!(told.json().await, json!({"id": event.id, "base64": "AP8="}));
    }

    async fn line_ends_arrive_as_lf(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut stream = EventStream::open(testbed.address(), "/topics/lines").await;
        let mut bare = WebSocket::open(testbed.address(), "/topics/lines/ws").await;
        let text = "a\r\nb\rc\nd\n";
        publish(testbed.address(), "lines", text).await;
        assert_eq!(stream.event().await.data, "a\nb\nc\nd\n");
        assert_eq!(bare.text().await, text);
        publish(testbed.address(), "lines", "").await;
        assert_eq!(stream.event().await.data, "");
        assert_eq!(bare.text().await, "");
    }

    async fn ids_are_dense_and_of_one_epoch(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let a = publish_numbers(testbed.address(), "a", 3).await;
        let b = publish_numbers(testbed.address(), "b", 1).await;
        let (epoch, first) = a[0].rsplit_once('-').expect("epoch and sequence");
        assert_eq!(first, "1");
        assert_eq!(a[2], format!("{epoch}-3"));
        assert!(b[0].ends_with("-1"));
        let again = framework.start(&[]).await;
        assert_ne!(publish_numbers(again.address(), "a", 1).await, a[..1]);
    }

    async fn resuming_goes_on_behind_the_id(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let address = testbed.address();
        let ids = publish_numbers(address, "t", 5).await;
        let after = |id: &str| format!("/topics/t?after={id}");

        let mut stream = EventStream::resume(address, "/topics/t", &ids[2]).await;
        assert_eq!(data(&mut stream, 2).await, ["4", "5"]);
        let mut stream = EventStream::open(address, &after(&ids[3])).await;
        assert_eq!(data(&mut stream, 1).await, ["5"]);
        let by_name = format!("/topics/t?last_event_id={}&last=1", ids[1]);
        let mut stream = EventStream::open(address, &by_name).await;
        assert_eq!(data(&mut stream, 3).await, ["3", "4", "5"]);
        // The header wins; an empty one is none.
        let mut stream = EventStream::resume(address, &after(&ids[0]), &ids[3]).await;
        assert_eq!(data(&mut stream, 1).await, ["5"]);
        let mut stream = EventStream::resume(address, &after(&ids[3]), "").await;
        assert_eq!(data(&mut stream, 1).await, ["5"]);
        // The newest that is kept, then live ones.
        let mut newest = EventStream::open(address, "/topics/t?last=2").await;
        assert_eq!(data(&mut newest, 2).await, ["4", "5"]);
        let mut all = EventStream::open(address, "/topics/t?last=1000").await;
        assert_eq!(data(&mut all, 5).await, ["1", "2", "3", "4", "5"]);
        // Neither is nothing of what was.
        let mut live = EventStream::open(address, "/topics/t?after=").await;

        let mut socket = WebSocket::open(address, &format!("/topics/t/ws?after={}", ids[3])).await;
        assert_eq!(socket.text().await, "5");
        publish(address, "t", "6").await;
        assert_eq!(socket.text().await, "6");
        for stream in [&mut newest, &mut all, &mut live] {
            assert_eq!(data(stream, 1).await, ["6"]);
        }
        assert_eq!(testbed.counts().await.gaps_total, 0);
    }

    async fn a_gap_is_told(framework: Framework) {
        let testbed = framework.start(&["--history", "3"]).await;
        let address = testbed.address();
        let ids = publish_numbers(address, "t", 6).await;
        let (epoch, _) = ids[0].rsplit_once('-').expect("epoch and sequence");
        let future = format!("{epoch}-7");
        let foreign = format!("{}-2", "0".repeat(epoch.len()));
        let expired = json!({"reason": "expired", "missed": 2});
        let unknown = json!({"reason": "unknown", "missed": null});
        for (id, gap) in [
            (ids[0].as_str(), &expired),
            ("no id at all", &unknown),
            (&future, &unknown),
            (&foreign, &unknown),
        ] {
            let mut stream = EventStream::resume(address, "/topics/t", id).await;
            let event = stream.event().await;
            assert_eq!(event.event, "gap");
            let told: Value = serde_json::from_str(&event.data).expect("JSON");
            assert_eq!(&told, gap, "{id}");
            assert_eq!(data(&mut stream, 3).await, ["4", "5", "6"], "{id}");
            let (in_front, _) = stream.text().split_once("event: gap").expect("a gap");
            let block = in_front.rsplit("\n\n").next().expect("a block");
            assert!(!block.contains("id:"), "{:?}", stream.text());

            let path = format!("/topics/t/ws?after={}", id.replace(' ', "%20"));
            let mut told = WebSocket::open_as(address, &path, "towpath.v1").await;
            assert_eq!(told.json().await, json!({ "gap": gap }), "{id}");
            assert_eq!(told.json().await["data"], "4", "{id}");
            let mut bare = WebSocket::open(address, &path).await;
            assert_eq!(bare.text().await, "4", "{id}");
        }
        assert_eq!(testbed.counts().await.gaps_total, 12);
        // Nothing is missing where all that follows is kept.
        let mut stream = EventStream::resume(address, "/topics/t", &ids[2]).await;
        assert_eq!(data(&mut stream, 3).await, ["4", "5", "6"]);
        assert_eq!(testbed.counts().await.gaps_total, 12);
    }

    async fn a_gap_before_anything_is_kept_is_told_at_once(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut stream = EventStream::resume(testbed.address(), "/topics/new", "0-1").await;
        assert_eq!(stream.event().await.event, "gap");
    }

    async fn publishing_over_towpath_v1(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let path = "/topics/t/ws";
        let mut socket = WebSocket::open_as(testbed.address(), path, "towpath.v1").await;
        let mut bare = WebSocket::open(testbed.address(), path).await;
        for (reference, again) in [("7", "7"), ("\"a\"", "\"a\""), ("true", "true"), ("null", "null")] {
            let frame = format!(r#"{{"publish":"x","ref":{reference},"unknown":[1]}}"#);
            socket.send(frame).await;
            // Which of the two is first is not said.
            let mut told = [socket.text().await, socket.text().await];
            told.sort();
            let [ack, event] = told;
            let parsed: Value = serde_json::from_str(&event).expect("JSON");
            let id = parsed["id"].as_str().expect("an id");
            assert_eq!(event, format!(r#"{{"id":"{id}","data":"x"}}"#));
            assert_eq!(ack, format!(r#"{{"ack":{again},"id":"{id}"}}"#));
            assert_eq!(bare.text().await, "x");
        }
        // Without a `ref` there is no acknowledgement.
        socket.send(r#"{"base64":"AP8=","key":"k"}"#).await;
        assert_eq!(socket.json().await["base64"], "AP8=");
        assert_eq!(bare.message().await, Message::binary(&b"\x00\xff"[..]));
    }

    async fn a_towpath_v1_frame_that_asks_for_nothing(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let path = "/topics/t/ws";
        let mut socket = WebSocket::open_as(testbed.address(), path, "towpath.v1").await;
        for (frame, reference) in [
            ("no JSON", Value::Null),
            ("[]", Value::Null),
            ("{}", Value::Null),
            (r#"{"ref":1}"#, json!(1)),
            (r#"{"publish":"a","base64":"","ref":"two"}"#, json!("two")),
            (r#"{"base64":"?","ref":false}"#, json!(false)),
            (r#"{"publish":5,"ref":5}"#, json!(5)),
            (r#"{"publish":"a","ref":{}}"#, Value::Null),
        ] {
            socket.send(frame).await;
            let answer = socket.json().await;
            assert!(answer["error"].is_string(), "{frame}: {answer}");
            assert_eq!(answer["ref"], reference, "{frame}");
            assert_eq!(answer.as_object().map(serde_json::Map::len), Some(2), "{frame}");
        }
        socket.send(b"{\"publish\":\"a\"}".to_vec()).await;
        assert!(socket.json().await["error"].is_string());
        // The socket stays.
        socket.send(r#"{"publish":"still here"}"#).await;
        assert_eq!(socket.json().await["data"], "still here");
    }

    async fn a_bare_socket_publishes_and_gets_its_own(framework: Framework) {
        let testbed = framework.start(&[]).await;
        let mut one = WebSocket::open(testbed.address(), "/topics/t/ws").await;
        let mut two = WebSocket::open(testbed.address(), "/topics/t/ws").await;
        let mut stream = EventStream::open(testbed.address(), "/topics/t").await;
        one.send("from one").await;
        assert_eq!(one.text().await, "from one");
        assert_eq!(two.text().await, "from one");
        assert_eq!(stream.event().await.data, "from one");
        two.send(vec![1, 2]).await;
        assert_eq!(one.message().await, Message::binary(vec![1, 2]));
        assert_eq!(stream.event().await.event, "binary");
    }

    async fn bad_publications(framework: Framework) {
        let testbed = framework.start(&["--max-message-size", "1KiB"]).await;
        let address = testbed.address();
        let status = async |path: &str, body: &[u8]| http::post(address, path, body).await.status;
        assert_eq!(status("/topics/t", b"\xff").await, 400);
        assert_eq!(status("/topics/t", &[b'x'; 1024]).await, 201);
        assert_eq!(status("/topics/t", &[b'x'; 1025]).await, 413);
        let longest = format!("/topics/{}", "x".repeat(128));
        assert_eq!(status(&longest, b"x").await, 201);
        assert_eq!(status(&format!("{longest}x"), b"x").await, 400);
        assert_eq!(status("/topics/AZaz09._:-?key=k", b"x").await, 201);
        for name in ["a%20b", "a%2Fb", "%C3%A9", "a+b", "a~b"] {
            assert_eq!(status(&format!("/topics/{name}"), b"x").await, 400, "{name}");
        }
        // Posts are no rejections; what asks for a stream or a socket is.
        assert_eq!(testbed.counts().await.rejected_total, 0);
        assert_eq!(http::get(address, "/topics/a%20b").await.status, 400);
        let mut connection = http::Connection::open(address).await;
        let request = towpath_tests::ws::handshake("/topics/a%20b/ws", &[]);
        connection.write(request.as_bytes()).await;
        assert_eq!(connection.head().await.status, 400);
        assert_eq!(testbed.counts().await.rejected_total, 2);
    }

    async fn a_subscriber_that_lags_is_disconnected(framework: Framework) {
        let testbed = framework
            .start(&["--history", "100", "--queue", "10", "--close-timeout-ms", "30000"])
            .await;
        let address = testbed.address();
        let mut told = WebSocket::open_as(address, "/topics/t/ws", "towpath.v1").await;
        let mut stream = EventStream::open(address, "/topics/t").await;
        let mut quick = WebSocket::open(address, "/topics/t/ws").await;
        // More than the kernels keep for readers that do not read.
        let text = "x".repeat(1 << 19);
        for _ in 0..80 {
            publish(address, "t", &text).await;
            assert_eq!(quick.text().await.len(), text.len());
        }
        // The stream's lag is found when its reader takes bytes again.
        testbed.until(|counts| counts.lagged_total > 10).await;
        let mut delivered = 0;
        let frame = loop {
            match told.next().await {
                Incoming::Message(_) => delivered += 1,
                Incoming::Close(frame) => break frame.expect("a code"),
                other => unreachable!("{other:?}"),
            }
        };
        assert_eq!(frame.code.get(), 1013);
        assert!((1..80).contains(&delivered), "{delivered}");
        // A stream ends without a gap, for its id resumes.
        let events = stream.rest().await;
        assert!(events.iter().all(|event| event.event == "message"));
        let last = events.last().expect("some came").id.clone();
        let mut resumed = EventStream::resume(address, "/topics/t", &last).await;
        let next = resumed.event().await.id;
        let sequence = |id: &str| id.rsplit_once('-').and_then(|(_, n)| n.parse::<u64>().ok());
        assert_eq!(sequence(&next), sequence(&last).map(|n| n + 1));
        assert_eq!(testbed.counts().await.gaps_total, 0);
    }
}
