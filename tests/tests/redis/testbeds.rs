use std::time::Duration;

use serde_json::{Value, json};
use towpath_tests::{
    http, on_both,
    process::Framework,
    redis::Redis,
    sse::EventStream,
    ws::{Incoming, WebSocket},
};

fn broker(redis: &Redis) -> String {
    format!("--broker=redis://{}", redis.address())
}

async fn publish(address: std::net::SocketAddr, text: &str) -> String {
    let response = http::post(address, "/topics/t", text).await;
    assert_eq!(response.status, 201, "{response:?}");
    let body: Value = serde_json::from_slice(&response.body).expect("JSON");
    body["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_client_goes_on_at_another_node_in_another_framework() {
    let redis = Redis::start().await;
    let axum = Framework::Axum.start(&[&broker(&redis)]).await;
    let actix = Framework::Actix.start(&[&broker(&redis)]).await;
    let mut stream = EventStream::open(axum.address(), "/topics/t").await;
    let first = publish(actix.address(), "one").await;
    assert_eq!(stream.event().await.id, first);
    drop(stream);
    let second = publish(axum.address(), "two").await;
    let path = format!("/topics/t/ws?after={first}");
    let mut socket = WebSocket::open_as(actix.address(), &path, "towpath.v1").await;
    assert_eq!(socket.json().await, json!({ "id": second, "data": "two" }));
    socket.send(r#"{"publish":"three","ref":1}"#).await;
    let (one, other) = (socket.json().await, socket.json().await);
    let event = if one.get("ack").is_some() { other } else { one };
    assert_eq!(event["data"], "three");
    let mut resumed = EventStream::resume(axum.address(), "/topics/t", &second).await;
    assert_eq!(resumed.event().await.data, "three");
}

on_both! {
    async fn a_broker_that_cannot_be_used_is_one_line(framework: Framework) {
        let output = framework.output(&["--broker", "redis://127.0.0.1:1"]).await;
        assert!(!output.status.success());
        assert_eq!(output.stdout, b"");
        let line = String::from_utf8(output.stderr).expect("text");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains("--broker redis://127.0.0.1:1: ") && line.contains("refused"), "{line}");
    }

    async fn what_is_not_acknowledged_is_503_and_closes_bare_sockets(framework: Framework) {
        let redis = Redis::start().await;
        let testbed = framework.start(&[&broker(&redis), "--keep-alive-ms=500"]).await;
        let address = testbed.address();
        let mut stream = EventStream::open(address, "/topics/t").await;
        let mut bare = WebSocket::open(address, "/topics/t/ws").await;
        let mut told = WebSocket::open_as(address, "/topics/t/ws", "towpath.v1").await;
        redis.freeze();
        bare.send("unheard").await;
        told.send(r#"{"publish":"unheard","ref":7}"#).await;
        let posted = http::post(address, "/topics/t", "unheard").await;
        assert_eq!(posted.status, 503);
        let Incoming::Close(Some(frame)) = bare.next().await else {
            unreachable!("not closed");
        };
        assert_eq!(frame.code.get(), 1013);
        let refused = told.json().await;
        assert_eq!(refused["ref"], 7);
        assert!(refused["error"].is_string(), "{refused}");
        redis.thaw();
        // Nobody else was disconnected, and what was unheard may have been stored.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while http::post(address, "/topics/t", "heard").await.status != 201 {
            assert!(tokio::time::Instant::now() < deadline, "not published again");
        }
        while stream.event().await.data != "heard" {}
        while told.json().await["data"] != "heard" {}
    }

    async fn publishing_goes_on_while_a_drain_lasts(framework: Framework) {
        let redis = Redis::start().await;
        let testbed = framework.start(&[&broker(&redis)]).await;
        let mut told = WebSocket::open_as(testbed.address(), "/topics/t/ws", "towpath.v1").await;
        // Begun before, heard behind the drain's begin: in time for the socket's moment.
        told.send(r#"{"publish":"last","ref":1}"#).await;
        testbed.terminate();
        let mut seen = Vec::new();
        let code = loop {
            match told.next().await {
                Incoming::Message(message) => seen.push(message.as_text().unwrap_or("").to_owned()),
                Incoming::Close(Some(frame)) => break frame.code.get(),
                other => unreachable!("{other:?}"),
            }
        };
        assert_eq!(code, 1012);
        assert!(seen.iter().any(|text| text.contains(r#""ack":1"#)), "{seen:?}");
    }
}
