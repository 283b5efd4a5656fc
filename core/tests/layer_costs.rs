//! What `WsLayer` costs the requests that are none of its business: nothing.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    task::{Context, Poll},
};

use allocation_counter::{AllocationInfo, measure};
use http::{Request, Version};
use tower_layer::Layer;
use tower_service::Service;
use towpath::ws::WsLayer;

#[derive(Clone)]
struct Reflect;

impl<B> Service<Request<B>> for Reflect {
    type Response = Request<B>;
    type Error = Infallible;
    type Future = Ready<Result<Request<B>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(request))
    }
}

fn allocations(layer: &WsLayer, request: Request<&'static str>) -> AllocationInfo {
    let mut service = layer.layer(Reflect);
    let mut seen = None;
    let info = measure(|| seen = Some(black_box(service.call(black_box(request)))));
    // It came through whole, and was not dropped where it was measured.
    let seen = seen.expect("called").into_inner().expect("infallible");
    assert_eq!(*seen.body(), "body");
    info
}

fn request(method: &str, version: Version, headers: &[(&str, &str)]) -> Request<&'static str> {
    let mut request = Request::builder().method(method).version(version).uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body("body").expect("valid")
}

#[test]
fn an_ordinary_request_passes_without_an_allocation() {
    let layers = [
        WsLayer,
        WsLayer::new().max_message_size(64 << 10),
        WsLayer.connect_as_get(),
    ];
    let headers = [
        ("host", "a.example"),
        ("connection", "keep-alive"),
        ("accept", "text/html"),
        ("cookie", "a=b"),
    ];
    for layer in &layers {
        for (method, version) in [
            ("GET", Version::HTTP_10),
            ("GET", Version::HTTP_11),
            ("POST", Version::HTTP_11),
            ("GET", Version::HTTP_2),
            ("POST", Version::HTTP_2),
        ] {
            let info = allocations(layer, request(method, version, &headers));
            assert_eq!(info.count_total, 0, "{method} {version:?} {layer:?}");
        }
    }
}

#[test]
fn the_counter_counts() {
    let upgrade = request("GET", Version::HTTP_11, &[("upgrade", "websocket")]);
    let info = allocations(&WsLayer, upgrade);
    assert!(info.count_total > 0, "the settings are in the extensions");
    // The map of the extensions and the entry, and no more with settings of one's own.
    assert!(info.count_total <= 3, "{info:?}");
}
