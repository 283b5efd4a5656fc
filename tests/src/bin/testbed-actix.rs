//! The testbed over actix-web.

use std::{io, process::ExitCode, time::Duration};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::{
    App, Error, HttpResponse, HttpServer, Responder, Route,
    dev::ServiceRequest,
    error::InternalError,
    http::{StatusCode, header},
    rt::net::TcpStream,
    web::{self, Data, PayloadConfig, ServiceConfig},
};
use actix_web_httpauth::{
    extractors::{AuthenticationError, bearer::BearerAuth},
    headers::www_authenticate::bearer::Bearer,
    middleware::HttpAuthentication,
};
use bytes::Bytes;
use rustls::ServerConfig;
use towpath::{
    hub::TOWPATH_V1,
    sse::{self, OnDrain},
};
use towpath_actix::{
    LastEventId, Sse, WsLayer, WsUpgrade, backpressure::BackpressureLayer, on_connect_through, ws,
};
use towpath_tests::{
    Options, Testbed, drain_on_sigterm, fail,
    routes::{self, CountQuery, FloodQuery, PublishQuery, Refused, SinkQuery},
};

/// Once the last socket and stream is gone the answers under way have so long.
const LAST_WORDS: Duration = Duration::from_millis(250);

type Query<T> = Result<web::Query<T>, Error>;

fn main() -> ExitCode {
    let options = match Options::from_args() {
        Ok(options) => options,
        Err(code) => return code,
    };
    let code = actix_web::rt::System::new().block_on(run(options));
    code.unwrap_or_else(fail)
}

async fn run(options: Options) -> io::Result<ExitCode> {
    let testbed = match Testbed::start(options.clone()).await {
        Ok(testbed) => testbed,
        Err(code) => return Ok(code),
    };
    let listener = testbed.listen()?;
    let address = listener.local_addr()?;
    let drain = testbed.drain().clone();
    let server = HttpServer::new({
        let testbed = testbed.clone();
        move || {
            App::new()
                .wrap(WsLayer::from(testbed.ws().clone()))
                .app_data(PayloadConfig::new(testbed.options().max_message_size))
                .app_data(Data::new(testbed.clone()))
                .configure(|config| app(config, &testbed))
        }
    })
    .workers(options.threads)
    .on_connect(on_connect_through(
        options.write_timeout(),
        |tls: &TlsStream<TcpStream>| tls.get_ref().0,
    ))
    .client_request_timeout(options.handshake_timeout())
    .tls_handshake_timeout(options.handshake_timeout())
    // A FIN at once, where by default it would wait for the peer's.
    .client_disconnect_timeout(Duration::ZERO)
    // A reader's FIN is its end, as hyper has it, not only when it is next written to.
    .h1_allow_half_closed(false)
    .disable_signals();
    let server = match testbed.tls() {
        Some(tls) => server.listen_rustls_0_23(listener, ServerConfig::clone(tls))?,
        None => server.listen(listener)?,
    };
    let server = server.run();
    let handle = server.handle();

    drain_on_sigterm(drain.clone())?;
    testbed.announce(address)?;
    let finished = drain.finished();
    let stopped = async {
        finished.await;
        // Whoever has not asked by now is owed nothing.
        let _ = tokio::time::timeout(LAST_WORDS, handle.stop(true)).await;
        Ok(())
    };
    let outcome = drain.run(async {
        tokio::select! {
            result = server => result,
            result = stopped => result,
        }
    });
    let outcome = outcome.await;
    let code = outcome.exit_code();
    outcome.into_output().transpose()?;
    Ok(code)
}

fn app(app: &mut ServiceConfig, testbed: &Testbed) {
    // Resources: with a bare route another method would be 404.
    let at = |path: &str, route: Route| web::resource(path.to_owned()).route(route);
    let backpressure = testbed.admission().map(|admission| {
        BackpressureLayer::with_admission(admission.clone())
            .by_key(|request| routes::user(request.uri().query()))
            .stats(testbed.stats())
    });
    // Around what lives, not around the requests that are over at once.
    let live = |path: &str, route: Route| match &backpressure {
        Some(layer) => at(path, route.wrap(layer.clone())),
        None => at(path, route),
    };
    let authentication = HttpAuthentication::bearer(authorize);
    app.service(live("/echo", ws(echo)))
        .service(live("/protocols", ws(protocols)))
        .service(live("/private/echo", ws(echo)).wrap(authentication))
        .service(live("/flood", ws(flood)))
        .service(live("/sink", ws(sink)))
        .service(live("/panic", ws(panic)))
        .service(live("/count", web::get().to(count)))
        .service(live("/topics/{topic}", web::get().to(topic)).route(web::post().to(publish)))
        .service(live("/topics/{topic}/ws", ws(topic_ws)))
        .service(at("/stats", web::get().to(stats)))
        .service(at("/healthz", web::get().to(healthz)));
}

async fn echo(upgrade: WsUpgrade) -> impl Responder {
    upgrade.on_upgrade(routes::echo)
}

async fn protocols(upgrade: WsUpgrade) -> impl Responder {
    let upgrade = upgrade.protocols(routes::PROTOCOLS);
    upgrade.on_upgrade(routes::protocols)
}

async fn flood(
    upgrade: WsUpgrade,
    testbed: Data<Testbed>,
    query: Query<FloodQuery>,
) -> Result<impl Responder, Error> {
    let query = testbed.counted(query)?.into_inner();
    Ok(upgrade.on_upgrade(move |socket| routes::flood(socket, query)))
}

async fn sink(
    upgrade: WsUpgrade,
    testbed: Data<Testbed>,
    query: Query<SinkQuery>,
) -> Result<impl Responder, Error> {
    let query = testbed.counted(query)?.into_inner();
    Ok(upgrade.on_upgrade(move |socket| routes::sink(socket, query)))
}

async fn panic(upgrade: WsUpgrade) -> impl Responder {
    upgrade.on_upgrade(routes::panic)
}

async fn count(
    testbed: Data<Testbed>,
    last: LastEventId,
    query: Query<CountQuery>,
) -> Result<impl Responder, Error> {
    let query = testbed.counted(query)?.into_inner();
    let events = sse::Sse::new(routes::count(query, &last));
    Ok(Sse::from(testbed.sse(events).on_drain(OnDrain::Finish)))
}

async fn topic(
    testbed: Data<Testbed>,
    topic: web::Path<String>,
    last: LastEventId,
) -> Result<impl Responder, InternalError<Refused>> {
    let serve = routes::serve(&testbed, topic.into_inner(), &last).await;
    let events = serve.map_err(refused)?.into_sse();
    Ok(Sse::from(testbed.sse(events)))
}

async fn topic_ws(
    upgrade: WsUpgrade,
    testbed: Data<Testbed>,
    topic: web::Path<String>,
    last: LastEventId,
) -> Result<impl Responder, InternalError<Refused>> {
    let serve = routes::serve(&testbed, topic.into_inner(), &last).await;
    let serve = serve.map_err(refused)?;
    let upgrade = upgrade.protocols([TOWPATH_V1]);
    Ok(upgrade.on_upgrade(|socket| serve.run(socket)))
}

async fn publish(
    testbed: Data<Testbed>,
    topic: web::Path<String>,
    query: web::Query<PublishQuery>,
    request: actix_web::HttpRequest,
    body: Bytes,
) -> Result<impl Responder, InternalError<Refused>> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.map(|value| value.as_bytes());
    let query = query.into_inner();
    let published = routes::publish(testbed.hub(), &topic, query, content_type, body).await;
    Ok(HttpResponse::Created().json(published.map_err(refused)?))
}

async fn stats(testbed: Data<Testbed>) -> impl Responder {
    web::Json(testbed.counts())
}

async fn healthz(testbed: Data<Testbed>) -> impl Responder {
    let (code, text) = testbed.health();
    (text, status(code))
}

fn refused(refused: Refused) -> InternalError<Refused> {
    let status = status(refused.status());
    InternalError::new(refused, status)
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn authorize(
    request: ServiceRequest,
    credential: BearerAuth,
) -> Result<ServiceRequest, (Error, ServiceRequest)> {
    if routes::is_authorized(credential.token().as_bytes()) {
        return Ok(request);
    }
    let challenge = AuthenticationError::new(Bearer::default());
    Err((challenge.into(), request))
}
