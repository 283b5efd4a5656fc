use std::{
    ops::Deref,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, Method, Request};
use tower_service::Service;

use super::{
    WsConfig,
    handshake::{RewrittenConnect, asks_for_upgrade, is_extended_connect},
};

/// The settings that the innermost [`WsLayer`](struct@super::WsLayer) above a handler
/// leaves in the extensions of a request to upgrade; they read as a [`WsConfig`].
#[derive(Clone, Debug, Default)]
pub struct WsSettings(Option<Arc<WsConfig>>);

impl WsSettings {
    pub(crate) const fn new(config: Option<Arc<WsConfig>>) -> Self {
        Self(config)
    }

    /// Those in `extensions`, or the defaults.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }
}

impl From<WsConfig> for WsSettings {
    fn from(config: WsConfig) -> Self {
        Self(Some(Arc::new(config)))
    }
}

impl Deref for WsSettings {
    type Target = WsConfig;

    fn deref(&self) -> &WsConfig {
        static DEFAULTS: WsConfig = WsConfig::new();
        self.0.as_deref().unwrap_or(&DEFAULTS)
    }
}

/// The service of [`WsLayer`](struct@super::WsLayer).
#[derive(Clone, Debug)]
pub struct WsService<S> {
    inner: S,
    settings: WsSettings,
    connect_as_get: bool,
}

impl<S> WsService<S> {
    pub(super) const fn new(inner: S, settings: WsSettings, connect_as_get: bool) -> Self {
        Self {
            inner,
            settings,
            connect_as_get,
        }
    }
}

impl<S, B> Service<Request<B>> for WsService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if asks_for_upgrade(&request) {
            if self.connect_as_get && is_extended_connect(&request) {
                *request.method_mut() = Method::GET;
                request.extensions_mut().insert(RewrittenConnect);
            }
            // An inner layer runs later and replaces it: the more specific one wins.
            request.extensions_mut().insert(self.settings.clone());
        }
        self.inner.call(request)
    }
}
