//! actix-ws and actix-web-lab's `sse`: the echo of their documentation. The broadcast is a task a subscriber on a
//! `broadcast` channel, as in axum's chat example: actix-ws's own keeps the sessions in a list and sends to one after
//! the other, which made a delivery several times dearer.

use std::{convert::Infallible, io, time::Duration};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, Responder,
    web::{self, Data, Payload},
};
use actix_web_lab::sse;
use actix_ws::{AggregatedMessage, Message};
use bench_servers::Options;
use bytestring::ByteString;
use clap::Parser;
use futures_util::StreamExt as _;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

const LARGEST: usize = 16 << 20;

type Sender = broadcast::Sender<ByteString>;

#[actix_web::main]
async fn main() -> io::Result<()> {
    let options = Options::parse();
    let listener = options.listen()?;
    let sender: Sender = broadcast::channel(1024).0;
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(sender.clone()))
            .route("/echo", web::get().to(echo))
            .route("/fan", web::get().to(fan))
            .route("/sse", web::get().to(events))
            .route("/publish", web::post().to(publish))
    })
    .workers(options.threads)
    .tcp_nodelay(true);
    let server = match options.tls()? {
        None => server.listen(listener)?,
        Some(tls) => server.listen_rustls_0_23(listener, rustls::ServerConfig::clone(&tls))?,
    };
    server.run().await
}

async fn echo(request: HttpRequest, body: Payload) -> actix_web::Result<impl Responder> {
    let (response, mut session, stream) = actix_ws::handle(&request, body)?;
    let mut stream = stream.max_frame_size(LARGEST);
    actix_web::rt::spawn(async move {
        while let Some(Ok(message)) = stream.recv().await {
            let sent = match message {
                Message::Ping(bytes) => session.pong(&bytes).await,
                Message::Text(text) => session.text(text).await,
                Message::Binary(bytes) => session.binary(bytes).await,
                Message::Close(reason) => {
                    let _ = session.close(reason).await;
                    return;
                }
                _ => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
        let _ = session.close(None).await;
    });
    Ok(response)
}

async fn fan(
    request: HttpRequest,
    body: Payload,
    sender: Data<Sender>,
) -> actix_web::Result<HttpResponse> {
    let (response, mut session, stream) = actix_ws::handle(&request, body)?;
    let mut stream = stream.aggregate_continuations();
    let mut events = sender.subscribe();
    let mut forward = session.clone();
    let forward = actix_web::rt::spawn(async move {
        while let Ok(text) = events.recv().await {
            if forward.text(text).await.is_err() {
                return;
            }
        }
    });
    actix_web::rt::spawn(async move {
        while let Some(Ok(message)) = stream.recv().await {
            match message {
                AggregatedMessage::Ping(bytes) => {
                    // A session that is gone ends the stream, too.
                    let _ = session.pong(&bytes).await;
                }
                AggregatedMessage::Text(text) => {
                    let _ = sender.send(text);
                }
                AggregatedMessage::Close(_) => break,
                _ => {}
            }
        }
        forward.abort();
        let _ = session.close(None).await;
    });
    Ok(response)
}

async fn events(sender: Data<Sender>) -> impl Responder {
    let events = BroadcastStream::new(sender.subscribe()).filter_map(async |text| {
        let event = sse::Event::Data(sse::Data::new(text.ok()?));
        Some(Ok::<_, Infallible>(event))
    });
    sse::Sse::from_stream(events).with_keep_alive(Duration::from_secs(15))
}

async fn publish(text: String, sender: Data<Sender>) -> impl Responder {
    let _ = sender.send(text.into());
    HttpResponse::Created()
}
