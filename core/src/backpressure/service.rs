use std::{
    fmt,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    Admission, AdmittedBody, Held, PermitSlot, PermitSlots, Refused, ResponseFuture, layer::KeyOf,
};
use crate::Stats;

/// The service of [`BackpressureLayer`](super::BackpressureLayer).
#[derive(Clone)]
pub struct BackpressureService<S> {
    inner: S,
    admission: Admission,
    key_of: Option<KeyOf>,
    stats: Stats,
}

impl<S> BackpressureService<S> {
    pub(super) const fn new(
        inner: S,
        admission: Admission,
        key_of: Option<KeyOf>,
        stats: Stats,
    ) -> Self {
        Self {
            inner,
            admission,
            key_of,
            stats,
        }
    }

    /// Takes the request's place, and leaves it where an upgrade finds it.
    fn admit<B>(&self, request: Request<B>) -> Result<(Request<B>, Held), Refused> {
        let (mut parts, body) = request.into_parts();
        let key = self.key_of.as_ref().and_then(|key_of| key_of(&parts));
        let slot = PermitSlot::new(self.admission.try_admit(key)?);
        let slots = parts.extensions.get_or_insert_default::<PermitSlots>();
        slots.push(slot.clone());
        Ok((Request::from_parts(parts, body), Held::new(slot)))
    }
}

impl<S, B, R> Service<Request<B>> for BackpressureService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: http_body::Body,
{
    type Response = Response<AdmittedBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // Nothing is reserved: whoever is ready may never call.
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.admit(request) {
            Ok((request, held)) => {
                ResponseFuture::admitted(self.inner.call(request), held, self.stats.clone())
            }
            Err(refused) => {
                self.stats.count_rejected();
                ResponseFuture::refused(refused)
            }
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for BackpressureService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackpressureService")
            .field("inner", &self.inner)
            .field("admission", &self.admission)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::{Pending, pending},
        pin::pin,
    };

    use bytes::Bytes;
    use futures_util::FutureExt;
    use http::Extensions;
    use http_body_util::{BodyExt, Full};
    use tower_layer::Layer;

    use super::*;
    use crate::backpressure::{BackpressureLayer, Limits};

    type Answer = Result<Response<Full<Bytes>>, Infallible>;

    fn layer(count: usize) -> BackpressureLayer {
        BackpressureLayer::new(Limits::new().max_connections(count)).stats(&Stats::new())
    }

    fn hello()
    -> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone {
        tower::service_fn(async |_: Request<()>| -> Answer { Ok(Response::new("hello".into())) })
    }

    /// The response of a service that is ready at once.
    fn call<S, R>(service: &mut S) -> Response<R>
    where
        S: Service<Request<()>, Response = Response<R>, Error = Infallible>,
    {
        let response = service.call(Request::new(())).now_or_never();
        response.expect("ready at once").expect("an answer")
    }

    #[test]
    fn one_value_is_one_limit_for_all_its_services() {
        let layer = layer(1);
        let mut services = [layer.layer(hello()), layer.clone().layer(hello())];
        let first = call(&mut services[0]);
        assert_eq!(call(&mut services[1]).status(), 503);
        drop(first);
        assert_eq!(call(&mut services[1]).status(), 200);
    }

    #[test]
    fn the_place_is_the_bodys_and_not_the_heads() {
        let layer = layer(1);
        let (head, body) = call(&mut layer.layer(hello())).into_parts();
        drop(head);
        assert_eq!(layer.admission().live(), 1);
        let collected = body.collect().now_or_never().expect("ready at once");
        assert_eq!(collected.expect("a body").to_bytes(), "hello");
        assert_eq!(layer.admission().live(), 0);
    }

    #[test]
    fn an_empty_body_has_none() {
        let layer = layer(1);
        let empty = tower::service_fn(async |_: Request<()>| -> Answer { Ok(Response::default()) });
        let response = call(&mut layer.layer(empty));
        assert_eq!(layer.admission().live(), 0);
        drop(response);
    }

    #[test]
    fn a_refusal_says_when_to_come_back_and_counts() {
        let stats = Stats::new();
        let layer = layer(1).stats(&stats);
        let mut service = layer.layer(hello());
        let _first = call(&mut service);
        let refused = call(&mut service);
        assert_eq!(refused.headers()["retry-after"], "5");
        assert_eq!(stats.snapshot().rejected_total, 1);
        let collected = refused.into_body().collect().now_or_never();
        let text = collected
            .expect("ready at once")
            .expect("a body")
            .to_bytes();
        assert_eq!(text, "too many connections: come back in 5 s");
    }

    #[test]
    fn a_request_that_is_given_up_gives_its_place_back_though_its_extensions_live() {
        let layer = layer(1);
        let mut kept = None;
        let keeps = tower::service_fn(|request: Request<()>| {
            kept = Some(request.extensions().clone());
            pending::<Answer>()
        });
        let mut service = layer.layer(keeps);
        {
            let mut given_up = pin!(service.call(Request::new(())));
            assert!(given_up.as_mut().now_or_never().is_none());
            assert_eq!(layer.admission().live(), 1);
        }
        drop(service);
        assert_eq!(layer.admission().live(), 0);
        assert!(
            kept.is_some_and(|extensions: Extensions| extensions.get::<PermitSlots>().is_some())
        );
    }

    #[test]
    fn a_failure_and_a_panic_give_it_back() {
        let layer = layer(1);
        let fails = tower::service_fn(async |_: Request<()>| Err::<Response<Full<Bytes>>, _>("no"));
        let failed = layer.layer(fails).call(Request::new(())).now_or_never();
        assert!(failed.expect("ready at once").is_err());
        assert_eq!(layer.admission().live(), 0);

        let panics =
            tower::service_fn(|_: Request<()>| -> Pending<Answer> { panic!("on purpose") });
        let mut service = layer.layer(panics);
        let call = std::panic::AssertUnwindSafe(|| drop(service.call(Request::new(()))));
        assert!(std::panic::catch_unwind(call).is_err());
        assert_eq!(layer.admission().live(), 0);
    }

    #[test]
    fn each_layer_has_a_place_and_an_upgrade_takes_all() {
        let (outer, inner) = (layer(2), layer(1));
        let mut taken = None;
        let upgrades = tower::service_fn(|request: Request<()>| {
            let slots = request.extensions().get::<PermitSlots>().cloned();
            taken = Some(slots.expect("they came through").take());
            std::future::ready::<Answer>(Ok(Response::default()))
        });
        drop(call(&mut outer.layer(inner.layer(upgrades))));
        assert_eq!((outer.admission().live(), inner.admission().live()), (1, 1));
        drop(taken);
        assert_eq!((outer.admission().live(), inner.admission().live()), (0, 0));
    }

    #[test]
    fn the_key_sees_what_layers_outside_have_said() {
        #[derive(Clone)]
        struct User(u64);
        let layer = BackpressureLayer::new(Limits::new().max_per_key(1))
            .stats(&Stats::new())
            .by_key(|parts| parts.extensions.get::<User>().map(|user| user.0));
        let mut service = layer.layer(hello());
        let mut come = |user| {
            let mut request = Request::new(());
            request.extensions_mut().insert(User(user));
            let response = service.call(request).now_or_never();
            response.expect("ready at once").expect("an answer")
        };
        let first = come(1);
        assert_eq!(come(1).status(), 429);
        assert_eq!(come(2).status(), 200);
        drop(first);
        assert_eq!(come(1).status(), 200);
    }
}
