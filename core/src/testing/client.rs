//! The client's half of HTTP.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response};
use http_body::Body;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{io::DuplexStream, task::yield_now, time::sleep};

use super::RequestError;

/// How often it is asked for settings without any time passing.
const TURNS: u32 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

type Http2Connection = http2::Connection<TokioIo<DuplexStream>, String, TokioExecutor>;

/// A connection over which one request is sent.
pub(super) enum Client {
    Http1(http1::SendRequest<String>),
    Http2(http2::SendRequest<String>, Box<Http2Connection>),
}

impl Client {
    pub(super) async fn handshake(
        io: DuplexStream,
        protocol: Protocol,
    ) -> Result<Self, hyper::Error> {
        let io = TokioIo::new(io);
        match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                spawn(connection.with_upgrades());
                Ok(Self::Http1(sender))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                Ok(Self::Http2(sender, Box::new(connection)))
            }
        }
    }

    pub(super) async fn send(
        self,
        request: Request<String>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        match self {
            Self::Http1(mut sender) => sender.send_request(request).await,
            Self::Http2(mut sender, mut connection) => {
                if request.method() != Method::CONNECT || settings(&mut connection).await? {
                    spawn(*connection);
                }
                sender.send_request(request).await
            }
        }
    }
}

/// Waits for the server's settings: before them an extended CONNECT must not be
/// sent (RFC 8441 §3). False where the connection has ended.
///
/// They arrive in a task of hyper's, which tells nobody. It has had its turns
/// after a few of ours, unless the connection is slow: so only then time passes.
async fn settings(connection: &mut Http2Connection) -> Result<bool, hyper::Error> {
    for turn in 0.. {
        let ended = poll_fn(|cx| Poll::Ready(Pin::new(&mut *connection).poll(cx))).await;
        if let Poll::Ready(ended) = ended {
            return ended.map(|()| false);
        }
        if connection.is_extended_connect_protocol_enabled() {
            break;
        }
        if turn < TURNS {
            yield_now().await;
        } else {
            sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(true)
}

fn spawn(connection: impl Future<Output = Result<(), hyper::Error>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of the test client broke");
        }
    });
}

/// The next bytes of a body; `None` at its end.
pub(super) async fn chunk(body: &mut Incoming) -> Result<Option<Bytes>, hyper::Error> {
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        let Some(frame) = frame.transpose()? else {
            return Ok(None);
        };
        // Trailers say nothing here.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

pub(super) async fn collect(response: Response<Incoming>) -> Result<Response<Bytes>, RequestError> {
    let (parts, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(data) = chunk(&mut body).await? {
        bytes.extend_from_slice(&data);
    }
    Ok(Response::from_parts(parts, bytes.freeze()))
}
