use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use http::{Extensions, Method, Request};
use tower_service::Service;

use super::{
    WsConfig,
    handshake::{RewrittenConnect, asks_for_upgrade, is_extended_connect},
};
use crate::backpressure::Outbound;

/// The settings that the innermost [`WsLayer`](struct@super::WsLayer) above a handler
/// leaves in the extensions of a request to upgrade; they read as a [`WsConfig`].
#[derive(Clone, Debug, Default)]
pub struct WsSettings(Option<Arc<Settings>>);

#[derive(Debug)]
struct Settings {
    config: WsConfig,
    /// The same below layers that say something of each connection: made once, since each
    /// socket would have a copy of its own.
    under: Under,
}

/// What was made below one set of layers each.
type Made = Vec<(Outbound, WsSettings)>;

/// Boxed, since a socket with settings of its own would pay for its room; a lock that is
/// poisoned is used all the same, since nothing under it can panic halfway.
#[derive(Debug)]
struct Under(Mutex<Option<Box<Made>>>);

/// So many are kept: an app has a few layers, made when it starts.
const MOST_KEPT: usize = 16;

static DEFAULTS: Settings = Settings::new(WsConfig::new());

impl Settings {
    const fn new(config: WsConfig) -> Self {
        Self {
            config,
            under: Under(Mutex::new(None)),
        }
    }
}

impl WsSettings {
    /// The defaults.
    pub(crate) const fn defaults() -> Self {
        Self(None)
    }

    /// Those in `extensions`, or the defaults.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }

    /// The config, to be changed.
    pub(crate) fn into_config(self) -> WsConfig {
        match self.0.map(Arc::try_unwrap) {
            None => WsConfig::new(),
            Some(Ok(settings)) => settings.config,
            Some(Err(shared)) => shared.config.clone(),
        }
    }

    fn settings(&self) -> &Settings {
        self.0.as_deref().unwrap_or(&DEFAULTS)
    }

    /// What these do not say is as the layers around the socket have it.
    pub(crate) fn under(self, layers: Outbound) -> Self {
        if layers == Outbound::default() {
            return self;
        }
        let settings = self.settings();
        let kept = settings.under.0.lock();
        let mut kept = kept.unwrap_or_else(PoisonError::into_inner);
        let all = kept.get_or_insert_default();
        if let Some((_, made)) = all.iter().find(|(of, _)| *of == layers) {
            return made.clone();
        }
        let made = Self::from(settings.config.clone().under(layers));
        if all.len() < MOST_KEPT {
            all.push((layers, made.clone()));
        }
        made
    }
}

impl From<WsConfig> for WsSettings {
    fn from(config: WsConfig) -> Self {
        Self(Some(Arc::new(Settings::new(config))))
    }
}

impl Deref for WsSettings {
    type Target = WsConfig;

    fn deref(&self) -> &WsConfig {
        &self.settings().config
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

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::{Ready, ready},
    };

    use http::{Version, header};
    use hyper::ext::Protocol;
    use tower_layer::Layer;

    use super::*;
    use crate::{
        Stats,
        backpressure::{Admission, Limits, PermitSlot, PermitSlots},
        ws::{WsLayer, handshake::check_parts},
    };

    fn layers<const N: usize>(limits: [Limits; N]) -> PermitSlots {
        let mut slots = PermitSlots::default();
        for limits in limits {
            let permit = Admission::new(limits).try_admit(None);
            slots.push(PermitSlot::new(permit.unwrap()));
        }
        slots
    }

    /// Answers with the request, as the handler got it.
    #[derive(Clone)]
    struct Reflect;

    impl Service<Request<()>> for Reflect {
        type Response = Request<()>;
        type Error = Infallible;
        type Future = Ready<Result<Request<()>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<()>) -> Self::Future {
            ready(Ok(request))
        }
    }

    fn through<S>(mut service: S, request: Request<()>) -> Request<()>
    where
        S: Service<Request<()>, Future = Ready<Result<Request<()>, Infallible>>>,
    {
        service.call(request).into_inner().unwrap()
    }

    fn upgrade() -> Request<()> {
        let request = Request::get("/").header(header::UPGRADE, "websocket");
        request.body(()).unwrap()
    }

    fn connect(protocol: Option<&'static str>) -> Request<()> {
        let mut request = Request::connect("https://a.example/chat")
            .version(Version::HTTP_2)
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .body(())
            .unwrap();
        if let Some(name) = protocol {
            request.extensions_mut().insert(Protocol::from_static(name));
        }
        request
    }

    #[test]
    fn the_inner_layer_wins_whole() {
        let outer = WsLayer::new().max_message_size(1).max_fragments(1);
        let inner = WsLayer.max_message_size(2);
        let seen = through(outer.layer(inner.layer(Reflect)), upgrade());
        let settings = WsSettings::of(seen.extensions());
        assert_eq!(settings.message_limit(), 2);
        assert_eq!(settings.fragment_limit(), WsConfig::new().fragment_limit());
    }

    #[test]
    fn builder_methods_leave_clones_alone() {
        let first = WsLayer.max_message_size(1);
        let second = first.clone().max_message_size(2).stats(Stats::new());
        for (layer, limit) in [(first, 1), (second, 2), (WsLayer, 1 << 20)] {
            let seen = through(layer.layer(Reflect), upgrade());
            assert_eq!(WsSettings::of(seen.extensions()).message_limit(), limit);
        }
    }

    #[test]
    fn what_is_said_nearer_to_the_socket_wins() {
        let limits = Limits::new();
        let layers = layers([
            limits.outbound_bytes(1).outbound_messages(1).slow_at(50),
            limits.outbound_bytes(2).write_timeout(None),
        ]);
        let said = WsConfig::new().outbound_messages(3);
        let settings = WsSettings::from(said).under(layers.outbound());
        let seen = |settings: &WsConfig| {
            (
                settings.outbound_bound(),
                settings.outbound_message_bound(),
                settings.slow_percent(),
                settings.write_limit(),
            )
        };
        assert_eq!(seen(&settings), (2, 3, Some(50), None));
        let configured = WsConfig::clone(&settings).outbound_bytes(4).slow_at(80);
        assert_eq!(seen(&configured), (4, 3, Some(80), None));
        let settings = WsSettings::default().under(layers.outbound());
        assert_eq!(seen(&settings), (2, 1, Some(50), None));
        // A default that is said is one that is said.
        let said = WsConfig::new().outbound_bytes(1 << 20);
        assert_eq!(
            WsSettings::from(said)
                .under(layers.outbound())
                .outbound_bound(),
            1 << 20
        );
    }

    #[test]
    fn sockets_share_what_layers_make_of_their_settings() {
        let slots = layers([Limits::new().outbound_bytes(5)]);
        let settings = WsSettings::from(WsConfig::new());
        let made = [(); 2].map(|()| settings.clone().under(slots.outbound()));
        assert!(std::ptr::eq(&*made[0], &*made[1]));
        // Whoever makes a layer for each request has no list that grows for ever.
        for bytes in 1..=100 {
            let slots = layers([Limits::new().outbound_bytes(bytes)]);
            let made = settings.clone().under(slots.outbound());
            assert_eq!(made.outbound_bound(), bytes);
        }
        let kept = settings.settings().under.0.lock().unwrap();
        assert_eq!(kept.as_ref().map(|all| all.len()), Some(MOST_KEPT));
        drop(kept);
        // Nothing is made where nothing is said.
        let same = settings.clone().under(layers([Limits::new()]).outbound());
        assert!(std::ptr::eq(&*same, &*settings));
    }

    #[test]
    fn without_a_layer_the_defaults_count() {
        let settings = WsSettings::of(&Extensions::new());
        assert_eq!(settings.message_limit(), 1 << 20);
    }

    #[test]
    fn an_ordinary_request_gets_nothing() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let request = Request::post("/").version(version).body(()).unwrap();
            let seen = through(WsLayer.connect_as_get().layer(Reflect), request);
            assert!(seen.extensions().is_empty(), "{version:?}");
            assert_eq!(seen.method(), Method::POST);
        }
    }

    #[test]
    fn an_extended_connect_becomes_a_get_that_is_still_one() {
        let layer = WsLayer.max_message_size(1).connect_as_get();
        // As a router would have it: a layer of its own behind the rewriting one.
        let inner = WsLayer.max_message_size(2);
        let seen = through(
            layer.layer(inner.layer(Reflect)),
            connect(Some("websocket")),
        );
        assert_eq!(seen.method(), Method::GET);
        let (parts, ()) = seen.into_parts();
        let settings = WsSettings::of(&parts.extensions);
        assert_eq!(settings.message_limit(), 2);
        assert!(
            check_parts(&parts, &settings)
                .unwrap()
                .is_extended_connect()
        );
    }

    #[test]
    fn a_connect_for_something_else_stays_one() {
        for protocol in [None, Some("connect-udp")] {
            let seen = through(WsLayer.connect_as_get().layer(Reflect), connect(protocol));
            assert_eq!(seen.method(), Method::CONNECT);
            let (parts, ()) = seen.into_parts();
            assert!(check_parts(&parts, &WsConfig::new()).is_err());
        }
        let seen = through(WsLayer.layer(Reflect), connect(Some("websocket")));
        assert_eq!(seen.method(), Method::CONNECT, "only where it is asked for");
    }
}
