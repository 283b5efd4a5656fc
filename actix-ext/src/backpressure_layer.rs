use std::{
    fmt,
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use actix_web::{
    HttpMessage, HttpResponse,
    body::{BodySize, EitherBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
    http::{
        StatusCode,
        header::{CONTENT_TYPE, ContentType, RETRY_AFTER},
    },
};
use bytes::Bytes;
use pin_project_lite::pin_project;
use towpath::{
    Stats,
    backpressure::{
        Admission, Charge, Held, Key, Limits, Meter, Permit, PermitSlot, PermitSlots, Refused,
    },
};

type KeyOf = Arc<dyn Fn(&ServiceRequest) -> Option<Key> + Send + Sync>;

/// Admits so many live sockets and streams, in all and of each key, and refuses the next
/// before anything is spent on it: the `BackpressureLayer` of [`towpath`], as a
/// middleware of actix.
///
/// It belongs around the routes that upgrade or stream; each request through it takes a
/// place, and gives it back with its socket, or with its response's body. An ordinary
/// response has its place for no longer than it takes to be sent.
///
/// What its [`Limits`] say of what waits for a peer are defaults for the sockets and streams
/// below: the table of all bounds, and which of two settings counts, are in the docs of
/// [`towpath::backpressure::BackpressureLayer`].
///
/// All clones count together: made outside of the app's factory, one is the limit of all
/// workers.
///
/// ```
/// use actix_web::{App, HttpMessage, HttpResponse, web};
/// use towpath_actix::{WsUpgrade, backpressure::{BackpressureLayer, Limits}, ws};
///
/// #[derive(Clone)]
/// struct User(String); // whatever authentication puts into the extensions
///
/// async fn chat(upgrade: WsUpgrade) -> HttpResponse {
///     upgrade.on_upgrade(|_socket| async { Ok(()) })
/// }
///
/// let live = BackpressureLayer::new(Limits::new().max_connections(10_000).max_per_key(5))
///     .by_key(|request| request.extensions().get::<User>().map(|user| user.0.clone()));
/// let factory = move || App::new().service(
///     web::resource("/chat").wrap(live.clone()).route(ws(chat))
/// );
/// # let _ = factory();
/// ```
#[derive(Clone)]
#[must_use]
pub struct BackpressureLayer {
    admission: Admission,
    key_of: Option<KeyOf>,
    stats: Option<Stats>,
}

/// The [`Key`] of the peer's address, for [`BackpressureLayer::by_key`]. Behind a proxy
/// it is the proxy's.
///
/// ```
/// use towpath_actix::backpressure::{BackpressureLayer, Limits, peer_key};
///
/// let live = BackpressureLayer::new(Limits::new().max_per_key(20)).by_key(peer_key);
/// # let _ = live;
/// ```
#[must_use]
pub fn peer_key(request: &ServiceRequest) -> Option<Key> {
    request.peer_addr().map(|peer| Key::peer(peer.ip()))
}

impl BackpressureLayer {
    /// With nobody in it.
    pub fn new(limits: Limits) -> Self {
        Self::with_admission(Admission::new(limits))
    }

    /// One that counts together with all else that shares `admission`.
    pub const fn with_admission(admission: Admission) -> Self {
        Self {
            admission,
            key_of: None,
            stats: None,
        }
    }

    /// Whose connections are counted together. It sees what the middleware around this
    /// one, as authentication, has put into the extensions; `None` counts for no key.
    pub fn by_key<F, K>(mut self, key: F) -> Self
    where
        F: Fn(&ServiceRequest) -> Option<K> + Send + Sync + 'static,
        K: Into<Key>,
    {
        self.key_of = Some(Arc::new(move |request| key(request).map(Into::into)));
        self
    }

    /// Where refusals are counted, in place of the process's counters.
    pub fn stats(mut self, stats: &Stats) -> Self {
        self.stats = Some(stats.clone());
        self
    }

    /// Who is in.
    #[must_use]
    pub const fn admission(&self) -> &Admission {
        &self.admission
    }

    fn counters(&self) -> Stats {
        self.stats.clone().unwrap_or_else(Stats::global)
    }

    fn admit(&self, request: &ServiceRequest) -> Result<Held, Refused> {
        let key = self.key_of.as_ref().and_then(|key_of| key_of(request));
        let slot = PermitSlot::new(self.admission.try_admit(key)?);
        let mut extensions = request.extensions_mut();
        if let Some(slots) = extensions.get_mut::<PermitSlots>() {
            slots.push(slot.clone());
        } else {
            let mut slots = PermitSlots::default();
            slots.push(slot.clone());
            extensions.insert(slots);
        }
        Ok(Held::new(slot))
    }
}

impl fmt::Debug for BackpressureLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackpressureLayer")
            .field("admission", &self.admission)
            .finish_non_exhaustive()
    }
}

impl<S, B> Transform<S, ServiceRequest> for BackpressureLayer
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>>,
    B: MessageBody,
{
    type Response = ServiceResponse<EitherBody<AdmittedBody<B>>>;
    type Error = S::Error;
    type Transform = BackpressureService<S>;
    type InitError = ();
    type Future = Ready<Result<BackpressureService<S>, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        let layer = self.clone();
        ready(Ok(BackpressureService { inner, layer }))
    }
}

/// The service of [`BackpressureLayer`].
#[derive(Clone, Debug)]
pub struct BackpressureService<S> {
    inner: S,
    layer: BackpressureLayer,
}

impl<S, B> Service<ServiceRequest> for BackpressureService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>>,
    B: MessageBody,
{
    type Response = ServiceResponse<EitherBody<AdmittedBody<B>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        match self.layer.admit(&request) {
            Ok(held) => ResponseFuture::Admitted {
                inner: self.inner.call(request),
                held,
                stats: self.layer.counters(),
            },
            Err(refused) => {
                self.layer.counters().count_rejected();
                let response = request.into_response(refusal(&refused));
                ResponseFuture::Refused {
                    response: Some(response),
                }
            }
        }
    }
}

fn refusal(refused: &Refused) -> HttpResponse {
    let status = StatusCode::from_u16(refused.status());
    HttpResponse::build(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE))
        .insert_header((RETRY_AFTER, refused.retry_after()))
        .content_type(ContentType::plaintext())
        .body(refused.to_string())
}

pin_project! {
    /// The response of a [`BackpressureService`].
    #[derive(Debug)]
    #[project = ResponseFutureProj]
    #[allow(missing_docs)]
    pub enum ResponseFuture<F> {
        Admitted { #[pin] inner: F, held: Held, stats: Stats },
        Refused { response: Option<ServiceResponse> },
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<ServiceResponse<B>, E>>,
    B: MessageBody,
{
    type Output = Result<ServiceResponse<EitherBody<AdmittedBody<B>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            ResponseFutureProj::Admitted { inner, held, stats } => {
                let response = ready!(inner.poll(cx))?;
                // A socket has taken it by now.
                let permit = held.take();
                let response_head = response.response();
                if let (Some(permit), Some(stream)) = (&permit, response_head.extensions().get()) {
                    permit.tell(stream);
                }
                let streams = response_head.body().size() == BodySize::Stream;
                let content_type = response_head.headers().get(CONTENT_TYPE);
                let is_event_stream = content_type
                    .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
                let meter = permit
                    .as_ref()
                    .filter(|_| streams)
                    .and_then(|permit| permit.meter(is_event_stream, stats));
                let admit = |_: &mut _, body| {
                    EitherBody::left(AdmittedBody {
                        body: Some(body),
                        meter,
                        last: None,
                        permit,
                    })
                };
                Poll::Ready(Ok(response.map_body(admit)))
            }
            ResponseFutureProj::Refused { response } => {
                #[expect(clippy::expect_used, reason = "the contract of futures")]
                let response = response.take().expect("polled after it was ready");
                Poll::Ready(Ok(response.map_body(|_, body| EitherBody::right(body))))
            }
        }
    }
}

pin_project! {
    /// A response's body that has its place for as long as it lives.
    #[derive(Debug)]
    pub struct AdmittedBody<B> {
        #[pin]
        body: Option<B>,
        meter: Option<Meter>,
        // What was given last, which counts until more is asked for: actix copies it.
        last: Option<Charge>,
        // Behind the body: its place is free only once it is gone.
        permit: Option<Permit>,
    }
}

impl<B: MessageBody> MessageBody for AdmittedBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body
            .as_ref()
            .map_or(BodySize::Stream, MessageBody::size)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, B::Error>>> {
        let mut this = self.project();
        *this.last = None;
        if let Some(meter) = this.meter.take_if(|meter| meter.is_cut(cx.waker())) {
            meter.count_cut();
            this.body.set(None);
        }
        let Some(body) = this.body.as_pin_mut() else {
            return Poll::Ready(None);
        };
        let chunk = ready!(body.poll_next(cx));
        if let (Some(Ok(chunk)), Some(meter)) = (&chunk, &this.meter) {
            *this.last = Some(meter.charge(chunk.len()));
        }
        Poll::Ready(chunk)
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        let Self {
            body,
            meter,
            last,
            permit,
        } = self;
        let Some(body) = body else {
            return Ok(Bytes::new());
        };
        body.try_into_bytes().map_err(|body| Self {
            body: Some(body),
            meter,
            last,
            permit,
        })
    }
}
