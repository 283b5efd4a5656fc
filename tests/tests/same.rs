//! Both extension crates have the same names with the same methods: one source
//! compiles against either, and serves the same.

mod axum {
    use ::axum::response::Response;
    use towpath_axum as ext;

    include!("same/source.rs");
}

mod actix {
    use actix_web::HttpResponse as Response;
    use towpath_actix as ext;

    include!("same/source.rs");
}

#[tokio::test]
async fn the_same_source_routes_in_axum() {
    use ::axum::{Router, routing::get};
    use axum::{count, fallible, infallible, topic, upgrade, ws};

    let hub = axum::Hub::new();
    let drain = axum::Drain::new(std::time::Duration::from_secs(1));
    let mut app: Router = Router::new()
        .route("/upgrade", ws(upgrade))
        .route("/infallible", ws(infallible))
        .route("/count", get(count))
        .route("/fallible", get(fallible))
        .route(
            "/topic",
            get(move |last| async move { topic(hub, drain, last).await.unwrap() }),
        );
    for layer in axum::layers() {
        app = app.layer(layer);
    }
    for (path, status) in ANSWERS {
        let request = ::axum::http::Request::get(path)
            .body(::axum::body::Body::empty())
            .unwrap();
        let response = tower::ServiceExt::oneshot(app.clone(), request)
            .await
            .unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
    let rejection = towpath::ws::handshake::UpgradeRejection::PlainConnect;
    assert!(axum::reason(&rejection.into()).starts_with("400 Bad Request 400 CONNECT"));
}

#[test]
fn the_same_source_routes_in_actix() {
    actix_web::rt::System::new().block_on(serve_with_actix());
}

async fn serve_with_actix() {
    use actix::{count, fallible, infallible, topic, upgrade, ws};
    use actix_web::{App, test, web};

    let hub = actix::Hub::new();
    let drain = actix::Drain::new(std::time::Duration::from_secs(1));
    let [first, second, third, fourth] = actix::layers();
    let app = test::init_service(
        App::new()
            .wrap(first)
            .wrap(second)
            .wrap(third)
            .wrap(fourth)
            .route("/upgrade", ws(upgrade))
            .route("/infallible", ws(infallible))
            .route("/count", web::get().to(count))
            .route("/fallible", web::get().to(fallible))
            .route(
                "/topic",
                web::get().to(move |last| {
                    let (hub, drain) = (hub.clone(), drain.clone());
                    async move { topic(hub, drain, last).await.expect("a topic") }
                }),
            ),
    )
    .await;
    for (path, status) in ANSWERS {
        let request = test::TestRequest::get().uri(path).to_request();
        let response = test::call_service(&app, request).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
    let rejection = towpath::ws::handshake::UpgradeRejection::PlainConnect;
    assert!(actix::reason(&rejection.into()).starts_with("400 Bad Request 400 CONNECT"));
}

/// A plain GET is no handshake.
const ANSWERS: [(&str, u16); 5] = [
    ("/upgrade", 426),
    ("/infallible", 426),
    ("/count", 200),
    ("/fallible", 200),
    ("/topic", 200),
];
