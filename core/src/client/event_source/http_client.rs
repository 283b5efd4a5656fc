//! The client that is taken where no service is given: HTTP/1.1, a connection for each
//! request. A stream has its connection for itself, and one that has died in silence is
//! not asked again.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tower_service::Service;

use super::super::{
    build::Target,
    connector::{self, Connector},
    error::{BoxError, ConnectError},
    stream::Stream,
};

/// The most of an answer's head, and of a stream's bytes that were not taken yet.
const MAX_BUFFER: usize = 64 * 1024;

/// How to get to a server.
#[derive(Clone, Default)]
pub(super) struct Route {
    pub(super) connector: Option<Arc<dyn Connector>>,
    pub(super) tls_by_connector: bool,
    #[cfg(feature = "client-tls")]
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
}

impl Route {
    async fn connect(&self, target: &Target) -> Result<Stream, ConnectError> {
        let stream = match &self.connector {
            Some(connector) => connector.connect(target.uri().clone()).await?,
            None => Stream::Tcp(connector::tcp(target.host(), target.port()).await?),
        };
        if !target.is_secure() || self.tls_by_connector {
            return Ok(stream);
        }
        #[cfg(feature = "client-tls")]
        return super::super::tls::connect(self.tls.clone(), target.host(), stream).await;
        #[cfg(not(feature = "client-tls"))]
        Err(ConnectError::TlsUnavailable)
    }
}

#[derive(Clone)]
pub(super) struct HttpClient(Arc<Route>);

impl HttpClient {
    pub(super) fn new(route: Route) -> Self {
        Self(Arc::new(route))
    }
}

impl Service<Request<Full<Bytes>>> for HttpClient {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> Self::Future {
        let route = Arc::clone(&self.0);
        Box::pin(async move {
            let target = Target::new(request.uri()).map_err(ConnectError::from)?;
            let mut stream = route.connect(&target).await?;
            if !request.headers().contains_key(header::HOST) {
                let host = HeaderValue::try_from(target.host_header())?;
                request.headers_mut().insert(header::HOST, host);
            }
            let path = request.uri().path_and_query();
            let path = path.map_or("/", |path| path.as_str());
            *request.uri_mut() = path.parse::<Uri>()?;
            if let Stream::Tcp(tcp) = &mut stream {
                tcp.set_nodelay(true)?;
            }
            let mut builder = http1::Builder::new();
            builder.max_buf_size(MAX_BUFFER);
            let (mut sender, connection) = builder.handshake(TokioIo::new(stream.boxed())).await?;
            // It ends with the answer's body, whose error says how.
            tokio::spawn(connection);
            Ok(sender.send_request(request).await?)
        })
    }
}
