//! The opening handshake on a stream: the request is written, the head of the answer
//! read, with a bound on both its size and its number of headers.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, header};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    error::{ConnectError, Stage},
    stream::Io,
};
use crate::ws::handshake::{Agreed, Asked};

/// The most headers of an answer.
const MAX_HEADERS: usize = 128;
/// As much of a refusal's body is read.
const MAX_BODY: usize = 16 * 1024;
/// What is read at once.
const READ_SIZE: usize = 4 * 1024;
/// How every answer begins that this can read.
const BEGINNING: &[u8] = b"HTTP/1.";

/// What came of a handshake.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) agreed: Agreed,
    pub(super) response: Response<()>,
    /// What came behind the answer: frames already.
    pub(super) read_ahead: Bytes,
}

/// The request, as it is on the wire. Nothing of it can have a line break: they are
/// tokens, header values and a path of `http`'s types.
pub(super) fn request(uri: &Uri, host: &str, asked: &Asked, headers: &HeaderMap) -> Vec<u8> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    // A query alone has no path.
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut request = format!("GET {slash}{path} HTTP/1.1\r\n").into_bytes();
    let mut line = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            request.extend_from_slice(part);
        }
    };
    if !headers.contains_key(header::HOST) {
        line("Host", host.as_bytes());
    }
    for (name, value) in asked.headers() {
        line(name, value.as_bytes());
    }
    for (name, value) in headers {
        line(name.as_str(), value.as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request
}

/// Sends the request and reads the answer; the head of which, with whatever goes
/// before it, may be of `limit` bytes.
pub(super) async fn open(
    io: &mut dyn Io,
    request: &[u8],
    asked: &Asked,
    limit: usize,
) -> Result<Opened, ConnectError> {
    let stage = Stage::Answer;
    let broken = |source| ConnectError::Disconnected { stage, source };
    let written = async {
        io.write_all(request).await?;
        io.flush().await
    };
    // A server may refuse without reading on: what it says counts.
    let written = written.await;
    let mut input = BytesMut::new();
    let mut left = limit;
    loop {
        let (head, len) = match head(io, &mut input, left).await {
            Ok(head) => head,
            Err(Head::Broken(error)) => return Err(broken(written.err().unwrap_or(error))),
            Err(Head::TooLarge) => return Err(ConnectError::AnswerTooLarge { limit }),
            Err(Head::NotHttp) => return Err(ConnectError::NotHttp),
            Err(Head::Malformed(error)) => {
                return Err(ConnectError::MalformedAnswer(error.to_string()));
            }
        };
        let status = head.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let agreed = asked.check(head.headers())?;
            return Ok(Opened {
                agreed,
                response: head,
                read_ahead: input.split_off(len).freeze(),
            });
        }
        let _ = input.split_to(len);
        if status.is_informational() {
            // Another answer follows (RFC 9110 §15.2), within the same limit.
            left -= len;
            continue;
        }
        let body = body(io, &mut input, head.headers()).await;
        let response = Box::new(head.map(|()| body));
        let redirects = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        return Err(
            if redirects && response.headers().contains_key(header::LOCATION) {
                ConnectError::Redirected(response)
            } else {
                ConnectError::Refused(response)
            },
        );
    }
}

/// Why there is no head.
enum Head {
    Broken(std::io::Error),
    TooLarge,
    NotHttp,
    Malformed(httparse::Error),
}

/// Reads a head of at most `limit` bytes, and tells where in `input` it ends.
async fn head(
    io: &mut dyn Io,
    input: &mut BytesMut,
    limit: usize,
) -> Result<(Response<()>, usize), Head> {
    let mut searched = 0;
    loop {
        let known = input.len().min(BEGINNING.len());
        if input[..known] != BEGINNING[..known] {
            return Err(Head::NotHttp);
        }
        if let Some(end) = end_of_head(input, searched) {
            if end > limit {
                return Err(Head::TooLarge);
            }
            return parse(&input[..end]).map(|head| (head, end));
        }
        if input.len() >= limit {
            return Err(Head::TooLarge);
        }
        searched = input.len();
        read(io, input, READ_SIZE).await.map_err(Head::Broken)?;
    }
}

/// Where the empty line behind the head ends; a lone line feed ends a line, too
/// (RFC 9112 §2.2). Nothing was found in front of `searched`.
fn end_of_head(input: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(3);
    let rest = &input[from..];
    let with_return = memmem::find(rest, b"\n\r\n").map(|at| from + at + 3);
    let without = memmem::find(rest, b"\n\n").map(|at| from + at + 2);
    with_return.into_iter().chain(without).min()
}

fn parse(head: &[u8]) -> Result<Response<()>, Head> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Head::Malformed(httparse::Error::NewLine)),
        Err(httparse::Error::TooManyHeaders) => return Err(Head::TooLarge),
        Err(error) => return Err(Head::Malformed(error)),
    }
    let mut response = Response::new(());
    *response.status_mut() = parsed
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(Head::Malformed(httparse::Error::Status))?;
    for line in parsed.headers {
        let name = HeaderName::from_bytes(line.name.as_bytes())
            .map_err(|_| Head::Malformed(httparse::Error::HeaderName))?;
        let value = HeaderValue::from_bytes(line.value)
            .map_err(|_| Head::Malformed(httparse::Error::HeaderValue))?;
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

/// What of a refusal's body is worth having, as far as it comes.
async fn body(io: &mut dyn Io, input: &mut BytesMut, headers: &HeaderMap) -> Bytes {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let wanted = length.unwrap_or(0).min(MAX_BODY);
    while input.len() < wanted {
        let missing = wanted - input.len();
        if read(io, input, missing.min(READ_SIZE)).await.is_err() {
            break;
        }
    }
    input.truncate(wanted);
    input.split().freeze()
}

/// Appends at least one byte, and at most `max`.
async fn read(io: &mut dyn Io, into: &mut BytesMut, max: usize) -> std::io::Result<()> {
    use bytes::BufMut;
    into.reserve(max);
    match io.read_buf(&mut into.limit(max)).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
