//! The client against servers that are not there, not what they say, or hostile: raw
//! sockets, and an error of its own for each.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use towpath::{
    client::{self, AnswerError, Connect, ConnectError, Stage},
    ws::{CloseCode, Error, Message},
};
use towpath_tests::{process::SOON, tls::Identity};

/// What is waited for in vain.
const IN_VAIN: Duration = Duration::from_millis(300);

/// A listener whose connections are each given to `serve`.
async fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Reads the request and answers with what `answer` makes of its key; the peer is then
/// held until it goes.
async fn answered(answer: impl Fn(&str) -> Vec<u8> + Clone + Send + 'static) -> SocketAddr {
    listen(move |stream| {
        let answer = answer.clone();
        async move {
            let mut stream = BufReader::new(stream);
            let key = key(&mut stream).await;
            if stream.write_all(&answer(&key)).await.is_ok() {
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        }
    })
    .await
}

async fn key(stream: &mut (impl AsyncBufReadExt + Unpin)) -> String {
    let mut key = String::new();
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await.unwrap_or(0) <= 2 {
            return key;
        }
        if let Some(value) = line.strip_prefix("Sec-WebSocket-Key: ") {
            value.trim().clone_into(&mut key);
        }
    }
}

/// A right answer, with these lines in it.
fn accepting(key: &str, more: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use sha1::{Digest, Sha1};
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{more}\r\n",
        STANDARD.encode(digest)
    )
}

/// Fails to connect, before anyone loses patience.
async fn failure(client: Connect) -> ConnectError {
    let opened = timeout(SOON, client.into_future()).await;
    opened.expect("in time").expect_err("no socket")
}

fn plain(address: SocketAddr) -> Connect {
    client::connect(format!("ws://{address}/chat")).connect_timeout(SOON / 2)
}

#[tokio::test]
async fn each_wrong_answer_is_an_error_of_its_own() {
    type Is = fn(&ConnectError) -> bool;
    type Row = (&'static str, fn(&str) -> String, Is);
    let table: &[Row] = &[
        (
            "no HTTP at all",
            |_| "220 smtp.example ESMTP\r\n".into(),
            |error| matches!(error, ConnectError::NotHttp),
        ),
        (
            "an alert of TLS",
            |_| "\x15\x03\x01\x00\x02\x02\x16".into(),
            |error| matches!(error, ConnectError::NotHttp),
        ),
        (
            "another HTTP",
            |_| "HTTP/2.0 200 OK\r\n\r\n".into(),
            |error| matches!(error, ConnectError::NotHttp),
        ),
        (
            "a malformed head",
            |_| "HTTP/1.1 101 OK\r\na b\0: c\r\n\r\n".into(),
            |error| matches!(error, ConnectError::MalformedAnswer(_)),
        ),
        (
            "a malformed status",
            |_| "HTTP/1.1 1x1 OK\r\n\r\n".into(),
            |error| matches!(error, ConnectError::MalformedAnswer(_)),
        ),
        (
            "an endless header",
            |_| format!("HTTP/1.1 101 OK\r\nX: {}", "x".repeat(1 << 20)),
            |error| matches!(error, ConnectError::AnswerTooLarge { limit: 16_384 }),
        ),
        (
            "endless headers",
            |_| format!("HTTP/1.1 101 OK\r\n{}\r\n", "a: b\r\n".repeat(129)),
            |error| matches!(error, ConnectError::AnswerTooLarge { limit: 16_384 }),
        ),
        (
            "200",
            |_| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".into(),
            |error| {
                matches!(error, ConnectError::Refused(response)
                if response.status() == 200 && response.body() == "hi")
            },
        ),
        (
            "429",
            |_| "HTTP/1.1 429 Slowly\r\nRetry-After: 9\r\n\r\n".into(),
            |error| {
                matches!(error, ConnectError::Refused(_))
                    && error.retry_after() == Some(Duration::from_secs(9))
            },
        ),
        (
            "a redirect",
            |_| "HTTP/1.1 308 There\r\nLocation: /x\r\n\r\n".into(),
            |error| {
                matches!(error, ConnectError::Redirected(response)
                if response.status() == 308 && response.headers()["location"] == "/x")
            },
        ),
        (
            "a wrong accept value",
            |_| accepting("dGhlIHNhbXBsZSBub25jZQ==", ""),
            |error| matches!(error, ConnectError::BadAnswer(AnswerError::WrongAccept)),
        ),
        (
            "no upgrade",
            |key| accepting(key, "").replace("websocket", "h2c"),
            |error| matches!(error, ConnectError::BadAnswer(AnswerError::NotUpgraded)),
        ),
        (
            "a subprotocol unasked",
            |key| accepting(key, "Sec-WebSocket-Protocol: b\r\n"),
            |error| {
                matches!(error, ConnectError::BadAnswer(AnswerError::UnexpectedSubprotocol(name))
                if name == "b")
            },
        ),
        (
            "an extension unasked",
            |key| accepting(key, "Sec-WebSocket-Extensions: x-y\r\n"),
            |error| {
                matches!(error, ConnectError::BadAnswer(AnswerError::UnexpectedExtension(name))
                if name == "x-y")
            },
        ),
    ];
    for (what, answer, is) in table {
        let answer = *answer;
        let address = answered(move |key| answer(key).into_bytes()).await;
        let error = failure(plain(address).protocols(["a"])).await;
        assert!(is(&error), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn an_end_before_the_answer_is_told_from_a_silence() {
    let address = listen(async |mut stream: TcpStream| {
        let mut some = [0; 16];
        let _ = stream.read_exact(&mut some).await;
    })
    .await;
    let error = failure(plain(address)).await;
    assert!(
        matches!(
            error,
            ConnectError::Disconnected {
                stage: Stage::Answer,
                ..
            }
        ),
        "{error:?}"
    );

    let address = answered(|_| b"HTTP/1.1 101".to_vec()).await;
    let error = failure(plain(address).connect_timeout(IN_VAIN)).await;
    let stage = Stage::Answer;
    assert!(
        matches!(error, ConnectError::Timeout { stage: told, after: IN_VAIN } if told == stage),
        "{error:?}"
    );
}

#[tokio::test]
async fn nobody_there_is_told_from_a_black_hole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let error = failure(plain(address)).await;
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error:?}");
    let error = failure(client::connect("ws://no-such-host.invalid/")).await;
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error:?}");

    // Whose queue is full takes no more: Linux answers a SYN with nothing then.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    full.bind(&any.into()).expect("a port");
    full.listen(1).expect("listening");
    let address = full
        .local_addr()
        .ok()
        .and_then(|address| address.as_socket());
    let address = address.expect("an address");
    let mut waiting = Vec::new();
    while let Ok(connected) = timeout(IN_VAIN, TcpStream::connect(address)).await {
        waiting.push(connected.expect("connected"));
        assert!(waiting.len() < 64, "its queue has no end");
    }
    let error = failure(plain(address).connect_timeout(IN_VAIN)).await;
    assert!(
        matches!(
            error,
            ConnectError::Timeout {
                stage: Stage::Connecting,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_frame_of_ten_gibibytes_is_refused_by_its_header() {
    let address = answered(|key| {
        let mut all = accepting(key, "").into_bytes();
        all.extend_from_slice(b"\x81\x02ok\x82\x7f");
        all.extend_from_slice(&(10_u64 << 30).to_be_bytes());
        all.extend_from_slice(&[0; 4096]);
        all
    })
    .await;
    let mut socket = plain(address).await.expect("a socket");
    assert_eq!(socket.recv().await, Ok(Some(Message::text("ok"))));
    let end = timeout(SOON, socket.recv()).await.expect("in time");
    assert!(
        matches!(end, Err(Error::Protocol(error)) if error.close_code() == CloseCode::MESSAGE_TOO_BIG),
        "{end:?}"
    );
    let closed = timeout(SOON, socket.closed()).await;
    closed.expect("its server hangs up on it");
}

/// A certificate for `name`, valid in these years.
fn certificate(name: &str, years: [i32; 2]) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().expect("a key");
    let mut parameters = CertificateParams::new([name.to_owned()]).expect("a name");
    parameters.not_before = rcgen::date_time_ymd(years[0], 1, 1);
    parameters.not_after = rcgen::date_time_ymd(years[1], 1, 1);
    let certificate = parameters.self_signed(&key).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    (certificate.der().clone(), key)
}

/// A server with that certificate that accepts the handshake and echoes one frame, and
/// a client that trusts it.
async fn tls(name: &str, years: [i32; 2]) -> (SocketAddr, Arc<ClientConfig>) {
    let (certificate, key) = certificate(name, years);
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = listen(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                greet(stream).await;
            }
        }
    })
    .await;
    (address, trusting(certificate))
}

fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

async fn greet(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut stream = BufReader::new(stream);
    let key = key(&mut stream).await;
    let mut answer = accepting(&key, "").into_bytes();
    answer.extend_from_slice(b"\x81\x02hi");
    let _ = stream.write_all(&answer).await;
    let _ = stream.flush().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

fn secure(address: SocketAddr, config: Arc<ClientConfig>) -> Connect {
    let port = address.port();
    let client = client::connect(format!("wss://localhost:{port}/"));
    client.tls_config(config).connect_timeout(SOON / 2)
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_trusted() {
    let (address, config) = tls("localhost", [2020, 4000]).await;
    let mut socket = secure(address, config).await.expect("a socket");
    assert_eq!(socket.recv().await, Ok(Some(Message::text("hi"))));
}

#[tokio::test]
async fn each_fault_of_tls_is_an_error_of_its_own() {
    let (address, config) = tls("elsewhere.example", [2020, 4000]).await;
    let error = failure(secure(address, config)).await;
    assert!(matches!(error, ConnectError::WrongName(_)), "{error:?}");

    let (address, config) = tls("localhost", [2000, 2001]).await;
    let error = failure(secure(address, config)).await;
    assert!(matches!(error, ConnectError::Expired(_)), "{error:?}");

    let (address, _) = tls("localhost", [2020, 4000]).await;
    let (other, _) = certificate("localhost", [2020, 4000]);
    let error = failure(secure(address, trusting(other.clone()))).await;
    assert!(matches!(error, ConnectError::Untrusted(_)), "{error:?}");
    // The platform's roots have not signed it either.
    let port = address.port();
    let error = failure(client::connect(format!("wss://localhost:{port}/"))).await;
    assert!(
        matches!(error, ConnectError::Untrusted(_) | ConnectError::NoRoots(_)),
        "{error:?}"
    );

    let http = listen(async |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let error = failure(secure(http, trusting(other.clone()))).await;
    assert!(matches!(error, ConnectError::NotTls(_)), "{error:?}");

    let gone = listen(async |stream: TcpStream| drop(stream)).await;
    let error = failure(secure(gone, trusting(other.clone()))).await;
    assert!(
        matches!(
            error,
            ConnectError::Disconnected {
                stage: Stage::Tls,
                ..
            }
        ),
        "{error:?}"
    );

    let silent = listen(async |mut stream: TcpStream| {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let client = secure(silent, trusting(other)).connect_timeout(IN_VAIN);
    let error = failure(client).await;
    assert!(
        matches!(
            error,
            ConnectError::Timeout {
                stage: Stage::Tls,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn plain_bytes_to_a_port_of_tls_are_no_http() {
    let (address, _) = tls("localhost", [2020, 4000]).await;
    let error = failure(plain(address)).await;
    // An alert of TLS, where it is not the end at once.
    assert!(
        matches!(
            error,
            ConnectError::NotHttp | ConnectError::Disconnected { .. }
        ),
        "{error:?}"
    );
}

towpath_tests::on_both! {
    async fn a_testbed_with_tls_echoes(framework: Framework) {
        let identity = Identity::new();
        let (certificate, key) = (identity.certificate(), identity.key());
        let testbed = framework.start(&["--tls", &certificate, &key, "--deflate"]).await;
        let client = client::connect(format!("wss://localhost:{}/echo", testbed.address().port()));
        let client = client
            .tls_config(identity.trusting())
            .configure(|config| config.deflate(towpath::ws::Deflate::new()));
        let mut socket = client.await.expect("a socket");
        for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
            let message = Message::binary(vec![7; size]);
            socket.send(message.clone()).await.expect("sent");
            assert_eq!(socket.recv().await, Ok(Some(message)));
        }
        socket.close(CloseCode::NORMAL, "").await.expect("closing");
        assert_eq!(socket.recv().await, Ok(None));
        timeout(SOON, socket.closed()).await.expect("in time");
    }
}
