//! The `echo-server` and the chat (`server`) examples of tokio-tungstenite.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bench_servers::Options;
use clap::Parser;
use futures_util::{StreamExt as _, TryStreamExt as _, future};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Error, Message,
        handshake::server::{Request, Response},
    },
};

type Peers = Arc<Mutex<HashMap<SocketAddr, mpsc::UnboundedSender<Message>>>>;

fn main() -> io::Result<()> {
    let options = Options::parse();
    options.runtime()?.block_on(async {
        let listener = options.listen_tokio()?;
        let peers = Peers::default();
        let acceptor = options.tls()?.map(TlsAcceptor::from);
        loop {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let peers = Arc::clone(&peers);
            match acceptor.clone() {
                None => drop(tokio::spawn(connection(stream, address, peers))),
                Some(acceptor) => drop(tokio::spawn(async move {
                    let stream = acceptor.accept(stream).await?;
                    connection(stream, address, peers).await
                })),
            }
        }
    })
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
    peers: Peers,
) -> Result<(), Error> {
    let mut fan = false;
    #[expect(clippy::result_large_err, reason = "the callback's type is given")]
    let callback = |request: &Request, response: Response| {
        fan = request.uri().path() == "/fan";
        Ok(response)
    };
    let socket = accept_hdr_async(stream, callback).await?;
    let (sink, stream) = socket.split();
    if !fan {
        return stream
            .try_filter(|message| future::ready(message.is_text() || message.is_binary()))
            .forward(sink)
            .await;
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    let locked = || peers.lock().unwrap_or_else(PoisonError::into_inner);
    locked().insert(address, sender);
    let broadcast = stream.try_for_each(|message| {
        if message.is_text() || message.is_binary() {
            for peer in locked().values() {
                let _ = peer.send(message.clone());
            }
        }
        future::ok(())
    });
    let forward = UnboundedReceiverStream::new(receiver).map(Ok).forward(sink);
    future::select(broadcast, forward).await;
    locked().remove(&address);
    Ok(())
}
