use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use http::{Method, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{rt::TokioIo, server::conn::auto, service::TowerToHyperService};
use tokio::io::DuplexStream;
use tower_service::Service;

use super::{Fault, FaultyIo, TestRequest};
use crate::ws::WsExecutor;

/// What a connection holds in each direction before a write waits, in bytes.
const PIPE: usize = 64 * 1024;

/// A service behind in-memory connections; clones are the same server.
///
/// Each request has a connection of its own, which is served by a task of its
/// own: a server is used inside a tokio runtime.
#[derive(Clone)]
pub struct TestServer {
    // Behind a lock, since a service need not be `Sync`.
    accept: Arc<Mutex<dyn FnMut(FaultyIo<DuplexStream>) + Send>>,
}

impl TestServer {
    /// Serves `service`: whatever hyper can serve, an axum `Router` as well as a
    /// function.
    pub fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let accept = move |io| {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let mut builder = auto::Builder::new(WsExecutor);
                builder.http2().enable_connect_protocol();
                let served = builder
                    .serve_connection_with_upgrades(TokioIo::new(io), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(error, "a connection of the test server broke");
                }
            });
        };
        Self {
            accept: Arc::new(Mutex::new(accept)),
        }
    }

    /// A GET of `path`, with its query.
    pub fn get(&self, path: &str) -> TestRequest {
        self.request(Method::GET, path)
    }

    /// A request for `path`, with its query.
    pub fn request(&self, method: Method, path: &str) -> TestRequest {
        TestRequest::new(self.clone(), method, path)
    }

    /// A new connection, for bytes or an HTTP client of the test's own; the
    /// server sees `fault`.
    #[must_use]
    pub fn connect(&self, fault: &Fault) -> DuplexStream {
        let (client, server) = tokio::io::duplex(PIPE);
        let mut accept = self.accept.lock().unwrap_or_else(PoisonError::into_inner);
        accept(fault.wrap(server));
        client
    }
}

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").finish_non_exhaustive()
    }
}
