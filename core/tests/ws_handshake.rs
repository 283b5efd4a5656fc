//! The table of handshakes over a socket: what hyper makes of each request before it
//! comes to us, and what arrives of our answer.

use std::{convert::Infallible, fmt::Write, time::Duration};

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use towpath::ws::{OriginPolicy, WsConfig, handshake::check_parts};

type Body = Full<bytes::Bytes>;

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let supported: &[&str] = match request.uri().path() {
        "/protocols" => &["chat.v2", "chat.v1"],
        _ => &[],
    };
    let (parts, _) = request.into_parts();
    let config = WsConfig::new().origins(OriginPolicy::Any);
    let handshake = match check_parts(&parts, &config) {
        Ok(handshake) => handshake,
        Err(rejection) => {
            let response = Response::<String>::from(&rejection);
            return Ok(response.map(Body::from));
        }
    };
    let answer = handshake.answer(handshake.offered().choose(supported).copied());
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        response = response.header(name, value);
    }
    Ok(response.body(Body::default()).expect("valid"))
}

/// A server for one connection, and the head of what it answers: status and headers.
async fn exchange(request: &str) -> (u16, Vec<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("accepted");
        // A refusal of hyper's own ends the connection with an error.
        let _ = auto::Builder::new(TokioExecutor::new())
            .serve_connection_with_upgrades(TokioIo::new(stream), service_fn(answer))
            .await;
    });
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    server.abort();
    let head = String::from_utf8(head).expect("text");
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    (
        status.expect("a status").parse().expect("a number"),
        headers,
    )
}

fn has(headers: &[(String, String)], name: &str, expected: &str) -> bool {
    headers
        .iter()
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .any(|(_, value)| match name {
            "Upgrade" | "Connection" => value
                .split(',')
                .any(|token| token.trim().eq_ignore_ascii_case(expected)),
            _ => value == expected,
        })
}

#[tokio::test]
async fn the_table_over_hyper() {
    let table: Vec<Value> =
        serde_json::from_str(include_str!("cases/ws_handshake.json")).expect("JSON");
    let mut upgraded = 0;
    // A credential is the business of the middleware in front.
    for case in table
        .iter()
        .filter(|case| case["status"] != serde_json::json!([401]))
    {
        let text = |field: &str| case[field].as_str().expect(field);
        let list = |field: &str| case[field].as_array().expect(field);
        let name = text("name");
        let mut request = format!(
            "{} {} {}\r\n",
            text("method"),
            text("path"),
            text("version")
        );
        for line in list("headers") {
            let (name, value) = (line[0].as_str(), line[1].as_str());
            write!(
                request,
                "{}: {}\r\n",
                name.expect("name"),
                value.expect("value")
            )
            .expect("to memory");
        }
        request.push_str("\r\n");

        let (status, headers) = timeout(Duration::from_secs(5), exchange(&request))
            .await
            .unwrap_or_else(|_| panic!("{name}: no answer"));
        assert!(list("status").contains(&status.into()), "{name}: {status}");
        for (header, value) in case["response_has"].as_object().expect("an object") {
            let value = value.as_str().expect("a value");
            assert!(
                has(&headers, header, value),
                "{name}: {header} in {headers:?}"
            );
        }
        for header in list("response_lacks") {
            let header = header.as_str().expect("a name");
            let found = headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(header));
            assert!(!found, "{name}: {header}");
        }
        upgraded += usize::from(status == StatusCode::SWITCHING_PROTOCOLS);
    }
    assert_eq!((table.len(), upgraded), (134, 45));
}
