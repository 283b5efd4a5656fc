//! WebSocket over HTTP/2 (RFC 8441), over sockets, with a client that is another's: the
//! crate `h2`.

mod ends;
mod flow;
mod handshake;
mod many;
mod servers;

use towpath_tests::{
    http2::{Client, Stream},
    process::{Framework, Testbed},
    ws::{Incoming, WebSocket},
};

type Socket = WebSocket<Stream>;

/// The testbed that speaks it, and a connection to it.
async fn start(arguments: &[&str]) -> (Testbed, Client) {
    let testbed = Framework::Axum.start(arguments).await;
    let client = Client::open(testbed.address()).await;
    (testbed, client)
}

/// Whether a connection's other streams are unharmed.
async fn works(client: &mut Client) {
    let mut socket = client.socket("/echo", &[]).await;
    socket.send("alive").await;
    assert_eq!(socket.text().await, "alive");
    ends(socket, 1000).await;
}

/// Ends a socket in order, by the client.
async fn ends(mut socket: Socket, code: u16) {
    socket.close(code).await;
    assert_eq!(socket.close_frame().await.code.get(), code);
    assert_eq!(
        socket.next().await,
        Incoming::Fin,
        "END_STREAM and no reset"
    );
    socket.shutdown().await;
}
