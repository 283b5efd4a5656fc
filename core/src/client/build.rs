use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, Uri, header, uri::Scheme};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tower_service::Service;

use super::{
    connector::{self, ByService, Connector},
    error::{BoxError, ConnectError, InvalidRequest, Stage},
    handshake::{self, Opened},
    stream::Stream,
};
use crate::{
    Stats,
    backpressure::Permits,
    ws::{
        Accepted, HandlerError, IoTransport, TcpTransport, WebSocket, WsConfig, WsSettings, drive,
        handshake::Asked, protocol::Role,
    },
};

/// What the client says itself.
const RESERVED: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_VERSION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Connects to `uri`, `ws://…` or `wss://…`, when it is awaited: see [`Connect`].
pub fn connect<U>(uri: U) -> Connect
where
    U: TryInto<Uri, Error: fmt::Display>,
{
    Connect::new(uri)
}

/// A connection to be: a request, its settings, and the way to the server. Awaited it
/// connects, and gives a [`WebSocket`].
///
/// | setting | default |
/// | --- | --- |
/// | [`connect_timeout`](Self::connect_timeout) | 10 s for all until the answer is there |
/// | [`max_answer_size`](Self::max_answer_size) | 16 KiB for the answer's head |
/// | [`configure`](Self::configure) | [`WsConfig`]'s, counted in [`Stats::clients`] |
/// | [`connector`](Self::connector) | TCP, to whichever of the host's addresses answers first |
/// | `tls_config` | the platform's roots |
///
/// What cannot be (an address, a header, a subprotocol) is an error when it is awaited;
/// [`check`](Self::check) tells it before. Cloned it is the same request anew.
///
/// ```
/// use towpath::client::{self, InvalidRequest};
///
/// let error = client::connect("ftp://example.com").check().unwrap_err();
/// assert_eq!(error, InvalidRequest::Scheme("ftp".to_owned()));
/// ```
#[derive(Clone)]
#[must_use = "nothing is connected before it is awaited"]
pub struct Connect {
    target: Result<Target, InvalidRequest>,
    headers: HeaderMap,
    protocols: Vec<String>,
    config: WsConfig,
    connect_timeout: Duration,
    max_answer_size: usize,
    connector: Option<Arc<dyn Connector>>,
    tls_by_connector: bool,
    #[cfg(feature = "client-tls")]
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// A header for a request, where it is one and not `reserved` for the client itself.
pub(super) fn checked_header<N, V>(
    name: N,
    value: V,
    reserved: &[HeaderName],
) -> Result<(HeaderName, HeaderValue), InvalidRequest>
where
    N: TryInto<HeaderName, Error: fmt::Display>,
    V: TryInto<HeaderValue, Error: fmt::Display>,
{
    let name = name
        .try_into()
        .map_err(|error| InvalidRequest::Header(error.to_string()))?;
    let value = value
        .try_into()
        .map_err(|error| InvalidRequest::Header(error.to_string()))?;
    if reserved.contains(&name) {
        return Err(InvalidRequest::ReservedHeader(name));
    }
    Ok((name, value))
}

/// So long from now; a time that no clock has is in a year.
pub(super) fn in_time(wait: Duration) -> Instant {
    let now = Instant::now();
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    now.checked_add(wait).unwrap_or(now + year)
}

/// Where to, checked.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// With the scheme `http` or `https`, as connectors know it.
    uri: Uri,
    secure: bool,
}

impl Connect {
    /// See [`connect`].
    pub fn new<U>(uri: U) -> Self
    where
        U: TryInto<Uri, Error: fmt::Display>,
    {
        let target = match uri.try_into() {
            Ok(uri) => Target::new(&uri),
            Err(error) => Err(InvalidRequest::Uri(error.to_string())),
        };
        Self {
            target,
            headers: HeaderMap::new(),
            protocols: Vec::new(),
            config: WsConfig::new().stats(Stats::clients()),
            connect_timeout: Duration::from_secs(10),
            max_answer_size: 16 * 1024,
            connector: None,
            tls_by_connector: false,
            #[cfg(feature = "client-tls")]
            tls: None,
        }
    }

    /// Sets a header of the request: credentials, `Origin`, a `Host` of one's own. Those
    /// of the handshake itself are refused.
    pub fn header<N, V>(mut self, name: N, value: V) -> Self
    where
        N: TryInto<HeaderName, Error: fmt::Display>,
        V: TryInto<HeaderValue, Error: fmt::Display>,
    {
        match checked_header(name, value, &RESERVED) {
            Ok((name, value)) => {
                self.headers.insert(name, value);
            }
            Err(error) => self.fail(error),
        }
        self
    }

    /// Sets a parameter of the query, in place of one of that name: a cursor to resume
    /// behind, a room.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        if let Ok(target) = &mut self.target {
            target.set_query(name, value);
        }
        self
    }

    /// Offers subprotocols, the preferred one first (RFC 6455 §1.9). The server may
    /// choose none of them: ask [`WebSocket::protocol`].
    pub fn protocols<P: Into<String>>(mut self, offered: impl IntoIterator<Item = P>) -> Self {
        for name in offered.into_iter().map(Into::into) {
            if Asked::is_subprotocol(&name) && !self.protocols.contains(&name) {
                self.protocols.push(name);
            } else {
                self.fail(InvalidRequest::Subprotocol(name));
            }
        }
        self
    }

    /// Changes the settings of the socket: limits, heartbeat, time-outs, compression,
    /// counters. A [`Drain`](crate::Drain) given there ends the socket with 1012, as it
    /// ends a server's. Origins are a server's business.
    pub fn configure(mut self, change: impl FnOnce(WsConfig) -> WsConfig) -> Self {
        self.config = change(self.config);
        self
    }

    /// How long it may take until the answer is there: the host's address, TCP, TLS and
    /// the handshake together. Zero is an error when it is awaited.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        if limit.is_zero() {
            self.fail(InvalidRequest::Zero("connect_timeout"));
        }
        self.connect_timeout = limit;
        self
    }

    /// The largest head of an answer, in bytes, with the interim ones (RFC 9110 §15.2)
    /// in front of it. Zero is an error when it is awaited.
    pub fn max_answer_size(mut self, bytes: usize) -> Self {
        if bytes == 0 {
            self.fail(InvalidRequest::Zero("max_answer_size"));
        }
        self.max_answer_size = bytes;
        self
    }

    /// Connects by `service` in place of TCP: through a proxy, over a Unix socket, in
    /// memory. It is cloned for each connection, and gets the address with the scheme
    /// `http` or `https`, as hyper's connectors expect it; to those of hyper-util that
    /// goes with `enforce_http(false)`.
    ///
    /// For `wss` TLS is put upon what it gives, unless
    /// [`tls_by_connector`](Self::tls_by_connector) says that it has done so.
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn connect() -> Result<(), towpath::client::ConnectError> {
    /// use hyper_util::rt::TokioIo;
    /// use tokio::net::UnixStream;
    /// use towpath::client;
    ///
    /// let unix = tower::service_fn(|_: http::Uri| async {
    ///     UnixStream::connect("/run/chat.sock").await.map(TokioIo::new)
    /// });
    /// let socket = client::connect("ws://localhost/chat").connector(unix).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn connector<S>(mut self, service: S) -> Self
    where
        S: Service<Uri> + Clone + Send + 'static,
        S::Response: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        self.connector = Some(Arc::new(ByService::new(service)));
        self
    }

    /// The connector speaks TLS itself where the scheme is `wss`.
    pub const fn tls_by_connector(mut self) -> Self {
        self.tls_by_connector = true;
        self
    }

    /// TLS with one's own roots, or a certificate for the client, in place of the
    /// platform's roots. Its ALPN is set to `http/1.1`.
    #[cfg(feature = "client-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "client-tls")))]
    pub fn tls_config(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.tls = Some(super::tls::prepared(config));
        self
    }

    /// The same, where it can be connected to at all.
    ///
    /// # Errors
    /// What cannot be, the first of it.
    pub fn check(self) -> Result<Self, InvalidRequest> {
        match &self.target {
            Ok(_) => Ok(self),
            Err(error) => Err(error.clone()),
        }
    }

    /// Connects, and gives the head of the answer, too: its headers may have a cookie.
    ///
    /// # Errors
    /// As [`ConnectError`] has it.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its timer enabled.
    pub async fn open(self) -> Result<(WebSocket, Response<()>), ConnectError> {
        let connection = Box::pin(self.establish()).await?;
        let (give, taken) = oneshot::channel();
        let response = connection.spawn(|socket| async {
            // Whoever awaited it may be gone: the socket is dropped then, and closed.
            drop(give.send(socket));
            Ok(())
        });
        let gone = |_| ConnectError::Disconnected {
            stage: Stage::Answer,
            source: std::io::ErrorKind::Interrupted.into(),
        };
        // The task is dropped unpolled only where the runtime ends.
        Ok((taken.await.map_err(gone)?, response))
    }

    /// Connects, and polls `handler` with the socket inside the connection's driver, as
    /// a server's handler is: a batch of messages costs one read, one poll and one
    /// write. It returns when the connection and the handler have ended.
    ///
    /// What the handler returns means what it means on a server: the end closes the
    /// socket with 1000, an error or a panic with 1011.
    ///
    /// ```no_run
    /// # async fn connect() -> Result<(), towpath::client::ConnectError> {
    /// use towpath::client;
    ///
    /// client::connect("ws://127.0.0.1:8080/echo")
    ///     .run(|mut socket| async move {
    ///         while let Some(message) = socket.recv().await? {
    ///             socket.send(message).await?;
    ///         }
    ///         Ok(())
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Why there is no connection. How one ended, the handler knows.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its timer enabled.
    pub async fn run<H, F>(self, handler: H) -> Result<(), ConnectError>
    where
        H: FnOnce(WebSocket) -> F,
        F: Future<Output = Result<(), HandlerError>>,
    {
        let connection = Box::pin(self.establish()).await?;
        connection.drive(handler).await;
        Ok(())
    }

    pub(super) const fn config(&self) -> &WsConfig {
        &self.config
    }

    fn fail(&mut self, error: InvalidRequest) {
        // The first one is told.
        if self.target.is_ok() {
            self.target = Err(error);
        }
    }

    /// All until the answer is there and checked.
    pub(super) async fn establish(self) -> Result<Established, ConnectError> {
        let target = self.target.clone()?;
        let guard = match self.config.drain_handle() {
            // What a drain has begun for is not begun anew.
            Some(drain) => Some(drain.guard()?),
            None => None,
        };
        let until = in_time(self.connect_timeout);
        let within = |stage| {
            let after = self.connect_timeout;
            move |_| ConnectError::Timeout { stage, after }
        };
        let mut stream = timeout_at(until, self.stream(&target))
            .await
            .map_err(within(Stage::Connecting))??;
        if target.secure && !self.tls_by_connector {
            #[cfg(feature = "client-tls")]
            {
                let tls = super::tls::connect(self.tls.clone(), target.host(), stream);
                stream = timeout_at(until, tls).await.map_err(within(Stage::Tls))??;
            }
            #[cfg(not(feature = "client-tls"))]
            return Err(ConnectError::TlsUnavailable);
        }
        let asked = Asked::new(&self.protocols, &self.config);
        let request = handshake::request(&target.uri, &target.host_header(), &asked, &self.headers);
        let opening = handshake::open(stream.io(), &request, &asked, self.max_answer_size);
        let Opened {
            agreed,
            response,
            read_ahead,
        } = timeout_at(until, opening)
            .await
            .map_err(within(Stage::Answer))??;
        // Not the whole address, whose query may have a token.
        let span = tracing::debug_span!(
            target: "towpath::connection",
            "websocket_client",
            host = target.host_header(),
            subprotocol = agreed.protocol.as_deref(),
        );
        let accepted = Accepted {
            settings: WsSettings::from(self.config),
            protocol: agreed.protocol,
            extensions: agreed.extensions,
            // A copy of its own: what the head stood in goes.
            read_ahead: Bytes::copy_from_slice(&read_ahead),
            guard,
            expiry: None,
            role: Role::Client,
            permits: Permits::default(),
            span,
        };
        Ok(Established {
            stream,
            accepted,
            response,
        })
    }

    async fn stream(&self, target: &Target) -> Result<Stream, ConnectError> {
        match &self.connector {
            Some(connector) => connector.connect(target.uri.clone()).await,
            None => connector::tcp(target.host(), target.port())
                .await
                .map(Stream::Tcp),
        }
    }
}

impl IntoFuture for Connect {
    type Output = Result<WebSocket, ConnectError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { Ok(self.open().await?.0) })
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers have credentials.
        f.debug_struct("Connect")
            .field("target", &self.target)
            .field("protocols", &self.protocols)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A connection whose handshake is done and which nobody drives yet.
pub(super) struct Established {
    stream: Stream,
    accepted: Accepted,
    response: Response<()>,
}

impl Established {
    /// Drives it with `handler` in a task of its own.
    pub(super) fn spawn<H, F>(self, handler: H) -> Response<()>
    where
        H: FnOnce(WebSocket) -> F + Send + 'static,
        F: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        match self.stream {
            Stream::Tcp(tcp) => {
                tokio::spawn(drive(TcpTransport::new(tcp), self.accepted, handler));
            }
            Stream::Other(io) => {
                tokio::spawn(drive(IoTransport::new(io), self.accepted, handler));
            }
        }
        self.response
    }

    async fn drive<H, F>(self, handler: H)
    where
        H: FnOnce(WebSocket) -> F,
        F: Future<Output = Result<(), HandlerError>>,
    {
        match self.stream {
            Stream::Tcp(tcp) => {
                Box::pin(drive(TcpTransport::new(tcp), self.accepted, handler)).await;
            }
            Stream::Other(io) => {
                Box::pin(drive(IoTransport::new(io), self.accepted, handler)).await;
            }
        }
    }
}

impl Target {
    pub(super) fn new(uri: &Uri) -> Result<Self, InvalidRequest> {
        let invalid = |why: &str| InvalidRequest::Uri(format!("{uri}: {why}"));
        let secure = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            Some(other) => return Err(InvalidRequest::Scheme(other.to_owned())),
            None => return Err(invalid("it has no scheme")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("credentials belong in a header"));
        }
        if authority.host().is_empty() {
            return Err(invalid("it has no host"));
        }
        // `http` takes a port that is none for the lack of one.
        let told = authority.as_str().len() > authority.host().len();
        if told && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(invalid("its port is none"));
        }
        let mut parts = uri.clone().into_parts();
        parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
        let uri = Uri::from_parts(parts).map_err(|error| invalid(&error.to_string()))?;
        Ok(Self { uri, secure })
    }

    pub(super) const fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(super) const fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host, as it is looked up: the address of IPv6 without its brackets.
    pub(super) fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    const fn default_port(&self) -> u16 {
        if self.secure { 443 } else { 80 }
    }

    pub(super) fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or_else(|| self.default_port())
    }

    /// The value of `Host`: without the port that goes without saying.
    pub(super) fn host_header(&self) -> String {
        let host = self.uri.host().unwrap_or_default();
        if self.port() == self.default_port() {
            host.to_owned()
        } else {
            format!("{host}:{}", self.port())
        }
    }

    fn set_query(&mut self, name: &str, value: &str) {
        let kept = self.uri.query().unwrap_or_default().split('&');
        let kept = kept.filter(|pair| {
            let mut known = form_urlencoded::parse(pair.as_bytes());
            !pair.is_empty() && known.next().is_none_or(|(known, _)| known != name)
        });
        let added = form_urlencoded::Serializer::new(String::new())
            .append_pair(name, value)
            .finish();
        let query: Vec<_> = kept.chain([&*added]).collect();
        let path = format!("{}?{}", self.uri.path(), query.join("&"));
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = path.parse().ok();
        // What was a query with an escaped pair behind it is one.
        if let Ok(uri) = Uri::from_parts(parts) {
            self.uri = uri;
        }
    }
}
