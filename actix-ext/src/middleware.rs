use std::{
    future::{Ready, ready},
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpMessage,
    dev::{Service, ServiceRequest, Transform},
    http::header,
};
use towpath::{
    Drain, Stats,
    ws::{OriginPolicy, SlowPeer, WsConfig, WsSettings},
};

/// Gives the WebSockets below it their settings: the `WsLayer` of [`towpath`], as a
/// middleware of actix.
///
/// `WsLayer` is a constant of its own type too, so that the defaults need no call. It
/// never answers a request; where there are several, the innermost one's settings count,
/// whole. Without any the defaults of [`WsConfig`] do.
///
/// ```
/// use actix_web::{App, web};
/// use towpath_actix::WsLayer;
///
/// let rooms = web::scope("/rooms").wrap(WsLayer::new().max_message_size(64 << 10));
/// let app = App::new().service(rooms).wrap(WsLayer);
/// # let _ = app;
/// ```
///
/// Settings that come from outside, and might be wrong, go through the `try_` methods of
/// [`WsConfig`]:
///
/// ```
/// use towpath::ws::{ConfigError, WsConfig};
/// use towpath_actix::WsLayer;
///
/// fn layer(max: usize) -> Result<WsLayer, ConfigError> {
///     Ok(WsConfig::new().try_max_message_size(max)?.into())
/// }
/// assert!(layer(0).is_err());
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct WsLayer {
    /// `None` for the defaults: a constant cannot own an `Arc`.
    settings: Option<WsSettings>,
}

/// The layer with the defaults: see [`struct@WsLayer`].
#[expect(
    non_upper_case_globals,
    reason = "written as the unit struct that it stands for"
)]
pub const WsLayer: WsLayer = WsLayer::new();

/// The settings that are those of [`WsConfig`].
macro_rules! settings {
    ($($name:ident: $value:ty $(, $panics:literal)?;)*) => {
        $(
            #[doc = concat!("See [`WsConfig::", stringify!($name), "`].")]
            $(
                ///
                /// # Panics
                #[doc = $panics]
            )?
            pub fn $name(self, value: $value) -> Self {
                self.change(|config| config.$name(value))
            }
        )*
    };
}

impl WsLayer {
    /// The defaults.
    pub const fn new() -> Self {
        Self { settings: None }
    }

    fn change(self, change: impl FnOnce(WsConfig) -> WsConfig) -> Self {
        let config = self
            .settings
            .map_or_else(WsConfig::new, |set| WsConfig::clone(&set));
        change(config).into()
    }

    settings! {
        max_message_size: usize, "On zero.";
        max_frame_size: usize, "On zero.";
        max_fragments: u32, "On zero.";
        heartbeat: impl Into<Option<Duration>>, "On zero.";
        close_timeout: Duration, "On zero.";
        write_timeout: impl Into<Option<Duration>>, "On zero.";
        idle_timeout: impl Into<Option<Duration>>, "On zero.";
        inbound_bytes: usize, "On zero.";
        outbound_bytes: usize, "On zero.";
        outbound_messages: usize, "On zero.";
        slow_at: impl Into<Option<u8>>, "On zero, and on more than 100.";
        on_slow: impl Fn(&SlowPeer) + Send + Sync + 'static;
        origins: OriginPolicy;
        allow_origin: &str, "Where it is not one.";
        stats: Stats;
        drain: Drain;
    }

    #[cfg(feature = "deflate")]
    settings! {
        deflate: impl Into<Option<towpath::ws::Deflate>>;
    }

    /// Allows several origins: see [`WsConfig::allow_origin`].
    ///
    /// # Panics
    /// Where one of `origins` is not one.
    pub fn allow_origins<S: AsRef<str>>(self, origins: impl IntoIterator<Item = S>) -> Self {
        let allow = |config: WsConfig, origin: S| config.allow_origin(origin.as_ref());
        self.change(|config| origins.into_iter().fold(config, allow))
    }

    /// Allows every origin: see [`OriginPolicy::Any`].
    pub fn any_origin(self) -> Self {
        self.origins(OriginPolicy::Any)
    }
}

impl From<WsConfig> for WsLayer {
    fn from(config: WsConfig) -> Self {
        Self {
            settings: Some(config.into()),
        }
    }
}

impl<S: Service<ServiceRequest>> Transform<S, ServiceRequest> for WsLayer {
    type Response = S::Response;
    type Error = S::Error;
    type Transform = WsService<S>;
    type InitError = ();
    type Future = Ready<Result<WsService<S>, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        let settings = self.settings.clone().unwrap_or_default();
        ready(Ok(WsService { inner, settings }))
    }
}

/// The service of [`struct@WsLayer`].
#[derive(Clone, Debug)]
pub struct WsService<S> {
    inner: S,
    settings: WsSettings,
}

impl<S: Service<ServiceRequest>> Service<ServiceRequest> for WsService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&self, request: ServiceRequest) -> S::Future {
        if request.headers().contains_key(header::UPGRADE) {
            // An inner layer runs later and replaces it: the more specific one wins.
            request.extensions_mut().insert(self.settings.clone());
        }
        self.inner.call(request)
    }
}
