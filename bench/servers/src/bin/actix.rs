//! actix-ws and actix-web-lab's `sse`: the echo of their documentation, and the broadcast of the chat example.

use std::{io, sync::Arc, time::Duration};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, Responder,
    web::{self, Data, Payload},
};
use actix_web_lab::sse;
use actix_ws::{AggregatedMessage, Message, Session};
use bench_servers::Options;
use clap::Parser;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::{Mutex, mpsc};

const LARGEST: usize = 16 << 20;

#[derive(Clone, Default)]
struct Rooms {
    sessions: Arc<Mutex<Vec<Session>>>,
    streams: Arc<Mutex<Vec<mpsc::Sender<sse::Event>>>>,
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    let options = Options::parse();
    let listener = options.listen()?;
    let rooms = Rooms::default();
    HttpServer::new(move || {
        App::new()
            .app_data(Data::new(rooms.clone()))
            .route("/echo", web::get().to(echo))
            .route("/fan", web::get().to(fan))
            .route("/sse", web::get().to(events))
            .route("/publish", web::post().to(publish))
    })
    .workers(options.threads)
    .tcp_nodelay(true)
    .listen(listener)?
    .run()
    .await
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
    rooms: Data<Rooms>,
) -> actix_web::Result<HttpResponse> {
    let (response, mut session, stream) = actix_ws::handle(&request, body)?;
    let mut stream = stream.aggregate_continuations();
    rooms.sessions.lock().await.push(session.clone());
    actix_web::rt::spawn(async move {
        while let Some(Ok(message)) = stream.recv().await {
            match message {
                AggregatedMessage::Ping(bytes) => {
                    // A session that is gone ends the stream, too.
                    let _ = session.pong(&bytes).await;
                }
                AggregatedMessage::Text(text) => {
                    let mut sessions = rooms.sessions.lock().await;
                    let mut sends = FuturesUnordered::new();
                    for mut session in sessions.drain(..) {
                        let text = text.clone();
                        sends.push(async move { session.text(text).await.map(|()| session) });
                    }
                    while let Some(sent) = sends.next().await {
                        sessions.extend(sent);
                    }
                }
                AggregatedMessage::Close(reason) => {
                    let _ = session.close(reason).await;
                    return;
                }
                _ => {}
            }
        }
        let _ = session.close(None).await;
    });
    Ok(response)
}

async fn events(rooms: Data<Rooms>) -> impl Responder {
    let (sender, receiver) = mpsc::channel(1024);
    rooms.streams.lock().await.push(sender);
    sse::Sse::from_infallible_receiver(receiver).with_keep_alive(Duration::from_secs(15))
}

async fn publish(text: String, rooms: Data<Rooms>) -> impl Responder {
    let event = sse::Event::Data(sse::Data::new(text));
    let mut streams = rooms.streams.lock().await;
    let mut kept = Vec::with_capacity(streams.len());
    for stream in streams.drain(..) {
        if stream.send(event.clone()).await.is_ok() {
            kept.push(stream);
        }
    }
    *streams = kept;
    HttpResponse::Created()
}
