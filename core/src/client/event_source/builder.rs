use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::{
    super::{
        build::{Target, checked_header},
        connector::ByService,
        error::{BoxError, InvalidRequest},
    },
    EventSource,
    exchange::{Exchange, Over},
    http_client::{HttpClient, Route},
    pace::Pace,
};

/// What the client says itself, or what cannot be.
const RESERVED: [HeaderName; 5] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("last-event-id"),
];

/// A request made ready, or why it could not be.
pub(super) type Prepared = Pin<Box<dyn Future<Output = Result<Request<Bytes>, BoxError>> + Send>>;
/// The hook that makes it so.
pub(super) type Prepare = Box<dyn FnMut(Request<Bytes>) -> Prepared + Send>;

/// An [`EventSource`] to be: its request, settings, and the way to the server.
///
/// | setting | default | why |
/// | --- | --- | --- |
/// | [`connect_timeout`](Self::connect_timeout) | 30 s until the answer's head is there | a model may think before it answers |
/// | [`idle_timeout`](Self::idle_timeout) | 120 s without a byte | servers are advised to send a comment every 15 s (WHATWG HTML §9.2.7) |
/// | [`retry`](Self::retry) | 3 s until the server says another | as browsers |
/// | [`max_backoff`](Self::max_backoff) | 60 s upon that | a server that is down is not to be stormed |
/// | [`max_retry_after`](Self::max_retry_after) | 1 h, whatever the server asks for | a typing error in `retry:` is not to be for ever |
/// | [`max_attempts`](Self::max_attempts) | no limit | |
/// | [`max_event_size`](Self::max_event_size) | 1 MiB | |
/// | [`reconnect`](Self::reconnect) | for GET | a POST again is another one |
///
/// What cannot be (an address, a header, a zero) is an error of [`open`](Self::open).
#[must_use = "nothing is asked for before it is opened"]
pub struct EventSourceBuilder {
    request: Result<Target, InvalidRequest>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
    prepare: Option<Prepare>,
    route: Route,
    settings: Settings,
    last_event_id: String,
    reconnect: Option<bool>,
}

/// What an event source keeps to.
pub(super) struct Settings {
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_event_size: usize,
    pub(super) max_attempts: Option<u32>,
    pub(super) reconnect: bool,
    pub(super) pace: Pace,
}

/// What is asked for, each time.
pub(super) struct Template {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl EventSourceBuilder {
    /// See [`EventSource::builder`].
    pub(super) fn new<U>(uri: U) -> Self
    where
        U: TryInto<Uri, Error: fmt::Display> + fmt::Debug,
    {
        let told = format!("{uri:?}").trim_matches('"').to_owned();
        let mut headers = HeaderMap::new();
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("text/event-stream"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self {
            request: match uri.try_into() {
                Ok(uri) => target(&uri),
                Err(error) => Err(InvalidRequest::Uri(format!("{told}: {error}"))),
            },
            method: Method::GET,
            headers,
            body: Bytes::new(),
            prepare: None,
            route: Route::default(),
            settings: Settings {
                connect_timeout: Duration::from_secs(30),
                idle_timeout: Some(Duration::from_secs(120)),
                max_event_size: 1024 * 1024,
                max_attempts: None,
                reconnect: true,
                pace: Pace::new(),
            },
            last_event_id: String::new(),
            reconnect: None,
        }
    }

    /// The method, GET unless it is set. A stream that answers another one is not asked
    /// for again when it ends, unless [`reconnect`](Self::reconnect) says so.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Sets a header: credentials, a content type, another `Accept`.
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

    /// The request's body, as of the POST by which a language model is asked.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Begins behind the event of this id: it is sent as `Last-Event-ID` until the stream
    /// has told another. One with control characters, which no header holds, is not sent.
    pub fn last_event_id(mut self, id: impl Into<String>) -> Self {
        self.last_event_id = id.into();
        self
    }

    /// Has each request made ready by `prepare` before it is sent, so that a token is
    /// fresh. Its failure counts as one of the connection: it is tried again.
    ///
    /// ```
    /// use http::header::AUTHORIZATION;
    /// use towpath::client::EventSource;
    ///
    /// # async fn token() -> Result<String, std::io::Error> { Ok("…".to_owned()) }
    /// # fn open() -> Result<EventSource, towpath::client::InvalidRequest> {
    /// EventSource::builder("http://127.0.0.1:8080/feed")
    ///     .each_request(|mut request| async {
    ///         let bearer = format!("Bearer {}", token().await?).try_into()?;
    ///         request.headers_mut().insert(AUTHORIZATION, bearer);
    ///         Ok(request)
    ///     })
    ///     .open()
    /// # }
    /// ```
    pub fn each_request<H, F>(mut self, mut prepare: H) -> Self
    where
        H: FnMut(Request<Bytes>) -> F + Send + 'static,
        F: Future<Output = Result<Request<Bytes>, BoxError>> + Send + 'static,
    {
        self.prepare = Some(Box::new(move |request| Box::pin(prepare(request))));
        self
    }

    /// How long it may take until the head of the answer is there, redirects included.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.not_zero("connect_timeout", limit.is_zero());
        self.settings.connect_timeout = limit;
        self
    }

    /// A stream without a byte for so long, not even of a comment, is dead; `None` waits
    /// for ever, also for one that the network has lost.
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        let limit = limit.into();
        self.not_zero("idle_timeout", limit.is_some_and(|limit| limit.is_zero()));
        self.settings.idle_timeout = limit;
        self
    }

    /// The reconnection time until the server says another. At least 100 ms are waited.
    pub fn retry(mut self, time: Duration) -> Self {
        self.settings.pace.retry = time;
        self
    }

    /// The most that is waited upon the reconnection time: after the n-th failure in a
    /// row a random part of the reconnection time × (2ⁿ − 1), at most so much.
    pub fn max_backoff(mut self, most: Duration) -> Self {
        self.settings.pace.cap = most;
        self
    }

    /// The most that the server's `retry` and `Retry-After` may have it wait.
    pub fn max_retry_after(mut self, most: Duration) -> Self {
        self.not_zero("max_retry_after", most.is_zero());
        self.settings.pace.max_retry_after = most;
        self
    }

    /// Gives up after so many attempts in a row that came to nothing: the last one's
    /// error is the last item.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.not_zero("max_attempts", attempts == 0);
        self.settings.max_attempts = Some(attempts);
        self
    }

    /// The largest event, in bytes of its name, data and id together. A larger one is the
    /// stream's last item, as an error.
    pub fn max_event_size(mut self, bytes: usize) -> Self {
        self.not_zero("max_event_size", bytes == 0);
        self.settings.max_event_size = bytes;
        self
    }

    /// Whether it asks again when the stream has ended or could not be had. If not, a
    /// stream's end in order is the end, and every failure is the last item.
    pub const fn reconnect(mut self, reconnect: bool) -> Self {
        self.reconnect = Some(reconnect);
        self
    }

    /// Connects by `service` in place of TCP: see
    /// [`Connect::connector`](super::super::Connect::connector).
    pub fn connector<S>(mut self, service: S) -> Self
    where
        S: Service<Uri> + Clone + Send + 'static,
        S::Response: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        self.route.connector = Some(Arc::new(ByService::new(service)));
        self
    }

    /// The connector speaks TLS itself where the scheme is `https`.
    pub const fn tls_by_connector(mut self) -> Self {
        self.route.tls_by_connector = true;
        self
    }

    /// TLS with one's own roots, or a certificate for the client, in place of the
    /// platform's roots. Its ALPN is set to `http/1.1`.
    #[cfg(feature = "client-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "client-tls")))]
    pub fn tls_config(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.route.tls = Some(super::super::tls::prepared(config));
        self
    }

    /// The event source, over HTTP/1.1 with a connection for each request. It asks when
    /// it is first polled.
    ///
    /// # Errors
    /// What cannot be, the first of it.
    pub fn open(mut self) -> Result<EventSource, InvalidRequest> {
        let route = std::mem::take(&mut self.route);
        self.open_by(Arc::new(Over::new(HttpClient::new(route))))
    }

    /// The event source over a service: a client of one's own (hyper-util's, say, for
    /// HTTP/2), with whatever layers, or a server's router without a network. It is
    /// cloned for each request; redirects are followed above it.
    ///
    /// ```
    /// # async fn read() -> Result<(), Box<dyn std::error::Error>> {
    /// use futures_util::StreamExt;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use bytes::Bytes;
    /// use towpath::client::EventSource;
    ///
    /// let service = tower::service_fn(|_: Request<Full<Bytes>>| async {
    ///     let stream = Response::builder().header("content-type", "text/event-stream");
    ///     stream.body(Full::new(Bytes::from("data: hello\n\n")))
    /// });
    /// let mut events = EventSource::builder("http://in.memory/feed").open_over(service)?;
    /// assert_eq!(events.next().await.unwrap()?.data, "hello");
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    /// #     .block_on(read()).unwrap();
    /// ```
    ///
    /// # Errors
    /// What cannot be, the first of it.
    pub fn open_over<S, B>(self, service: S) -> Result<EventSource, InvalidRequest>
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError> + Send,
    {
        self.open_by(Arc::new(Over::new(service)))
    }

    fn open_by(self, exchange: Arc<dyn Exchange>) -> Result<EventSource, InvalidRequest> {
        let mut settings = self.settings;
        settings.reconnect = self.reconnect.unwrap_or(self.method == Method::GET);
        let template = Template {
            method: self.method,
            uri: self.request?.uri().clone(),
            headers: self.headers,
            body: self.body,
        };
        let prepare = self.prepare;
        Ok(EventSource::new(
            template,
            prepare,
            exchange,
            settings,
            self.last_event_id,
        ))
    }

    fn not_zero(&mut self, setting: &'static str, is_zero: bool) {
        if is_zero {
            self.fail(InvalidRequest::Zero(setting));
        }
    }

    fn fail(&mut self, error: InvalidRequest) {
        // The first one is told.
        if self.request.is_ok() {
            self.request = Err(error);
        }
    }
}

fn target(uri: &Uri) -> Result<Target, InvalidRequest> {
    match uri.scheme_str() {
        Some("ws" | "wss") => Err(InvalidRequest::Uri(format!(
            "{uri}: an event stream's scheme is http or https"
        ))),
        _ => Target::new(uri),
    }
}

impl fmt::Debug for EventSourceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and body have credentials.
        f.debug_struct("EventSourceBuilder")
            .field("request", &self.request)
            .field("method", &self.method)
            .field("last_event_id", &self.last_event_id)
            .finish_non_exhaustive()
    }
}
