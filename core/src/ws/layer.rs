use std::time::Duration;

use tower_layer::Layer;

#[cfg(feature = "deflate")]
use super::deflate::Deflate;
use super::{
    SlowPeer, WsConfig,
    origin::OriginPolicy,
    service::{WsService, WsSettings},
};
use crate::{Drain, Stats};

/// Gives the WebSockets below it their settings.
///
/// `WsLayer` is a constant of its own type too, so that the defaults need no call.
/// It never answers a request; where there are several, the innermost one's settings
/// count, whole. Without any the defaults of [`WsConfig`] do.
///
/// ```
/// use towpath::ws::WsLayer;
/// # fn layer<L: tower_layer::Layer<()>>(_: L) {}
/// layer(WsLayer);
/// layer(WsLayer::new().max_message_size(64 << 10).allow_origin("https://chat.example"));
/// ```
///
/// Settings that come from outside, and might be wrong, go through the `try_`
/// methods of [`WsConfig`]:
///
/// ```
/// use towpath::ws::{ConfigError, WsConfig, WsLayer};
/// fn layer(max: usize) -> Result<WsLayer, ConfigError> {
///     Ok(WsConfig::new().try_max_message_size(max)?.into())
/// }
/// assert!(layer(0).is_err());
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct WsLayer {
    settings: WsSettings,
    connect_as_get: bool,
}

/// The layer with the defaults: see [`struct@WsLayer`].
#[expect(
    non_upper_case_globals,
    reason = "written as the unit struct that it stands for"
)]
pub const WsLayer: WsLayer = WsLayer::new();

impl WsLayer {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            settings: WsSettings::defaults(),
            connect_as_get: false,
        }
    }

    fn change(mut self, change: impl FnOnce(WsConfig) -> WsConfig) -> Self {
        let config = std::mem::take(&mut self.settings).into_config();
        self.settings = change(config).into();
        self
    }

    /// See [`WsConfig::max_message_size`].
    ///
    /// # Panics
    /// On zero.
    pub fn max_message_size(self, bytes: usize) -> Self {
        self.change(|config| config.max_message_size(bytes))
    }

    /// See [`WsConfig::max_frame_size`].
    ///
    /// # Panics
    /// On zero.
    pub fn max_frame_size(self, bytes: usize) -> Self {
        self.change(|config| config.max_frame_size(bytes))
    }

    /// See [`WsConfig::max_fragments`].
    ///
    /// # Panics
    /// On zero.
    pub fn max_fragments(self, frames: u32) -> Self {
        self.change(|config| config.max_fragments(frames))
    }

    /// See [`WsConfig::heartbeat`].
    ///
    /// # Panics
    /// On zero.
    pub fn heartbeat(self, interval: impl Into<Option<Duration>>) -> Self {
        self.change(|config| config.heartbeat(interval))
    }

    /// See [`WsConfig::close_timeout`].
    ///
    /// # Panics
    /// On zero.
    pub fn close_timeout(self, timeout: Duration) -> Self {
        self.change(|config| config.close_timeout(timeout))
    }

    /// See [`WsConfig::write_timeout`].
    ///
    /// # Panics
    /// On zero.
    pub fn write_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.change(|config| config.write_timeout(timeout))
    }

    /// See [`WsConfig::idle_timeout`].
    ///
    /// # Panics
    /// On zero.
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.change(|config| config.idle_timeout(timeout))
    }

    /// See [`WsConfig::inbound_bytes`].
    ///
    /// # Panics
    /// On zero.
    pub fn inbound_bytes(self, bytes: usize) -> Self {
        self.change(|config| config.inbound_bytes(bytes))
    }

    /// See [`WsConfig::outbound_bytes`].
    ///
    /// # Panics
    /// On zero.
    pub fn outbound_bytes(self, bytes: usize) -> Self {
        self.change(|config| config.outbound_bytes(bytes))
    }

    /// See [`WsConfig::outbound_messages`].
    ///
    /// # Panics
    /// On zero.
    pub fn outbound_messages(self, messages: usize) -> Self {
        self.change(|config| config.outbound_messages(messages))
    }

    /// See [`WsConfig::slow_at`].
    ///
    /// # Panics
    /// On zero, and on more than 100.
    pub fn slow_at(self, percent: impl Into<Option<u8>>) -> Self {
        self.change(|config| config.slow_at(percent))
    }

    /// See [`WsConfig::on_slow`].
    pub fn on_slow(self, tell: impl Fn(&SlowPeer) + Send + Sync + 'static) -> Self {
        self.change(|config| config.on_slow(tell))
    }

    /// See [`WsConfig::deflate`].
    #[cfg(feature = "deflate")]
    #[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
    pub fn deflate(self, deflate: impl Into<Option<Deflate>>) -> Self {
        self.change(|config| config.deflate(deflate))
    }

    /// See [`WsConfig::origins`].
    pub fn origins(self, policy: OriginPolicy) -> Self {
        self.change(|config| config.origins(policy))
    }

    /// See [`WsConfig::allow_origin`].
    ///
    /// # Panics
    /// Where `origin` is not one.
    pub fn allow_origin(self, origin: &str) -> Self {
        self.change(|config| config.allow_origin(origin))
    }

    /// Allows several origins: see [`WsConfig::allow_origin`].
    ///
    /// # Panics
    /// Where one of `origins` is not one.
    pub fn allow_origins<S: AsRef<str>>(self, origins: impl IntoIterator<Item = S>) -> Self {
        let origins = origins.into_iter();
        self.change(|config| {
            origins.fold(config, |config, origin| {
                config.allow_origin(origin.as_ref())
            })
        })
    }

    /// Allows every origin: see [`OriginPolicy::Any`].
    pub fn any_origin(self) -> Self {
        self.origins(OriginPolicy::Any)
    }

    /// See [`WsConfig::stats`].
    pub fn stats(self, stats: Stats) -> Self {
        self.change(|config| config.stats(stats))
    }

    /// See [`WsConfig::drain`].
    pub fn drain(self, drain: Drain) -> Self {
        self.change(|config| config.drain(drain))
    }

    /// Turns the extended CONNECT of HTTP/2 (RFC 8441) into a GET of the same path,
    /// so that a finished app whose routes know only GET gets WebSockets over HTTP/2.
    ///
    /// It has to stand in front of the routing. A CONNECT without `:protocol
    /// websocket` is left as it is.
    pub const fn connect_as_get(mut self) -> Self {
        self.connect_as_get = true;
        self
    }
}

impl From<WsConfig> for WsLayer {
    fn from(config: WsConfig) -> Self {
        Self {
            settings: config.into(),
            connect_as_get: false,
        }
    }
}

impl<S> Layer<S> for WsLayer {
    type Service = WsService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WsService::new(inner, self.settings.clone(), self.connect_as_get)
    }
}
