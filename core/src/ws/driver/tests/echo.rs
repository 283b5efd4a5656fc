//! Messages of all sizes, there and back.

use super::peer::{Peer, config, serve};
use crate::ws::{CloseCode, HandlerError, Message, WebSocket};

pub(super) async fn echo(mut socket: WebSocket) -> Result<(), HandlerError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn echo_of_all_sizes() {
    let mut peer = serve(config(), echo);
    for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let message = Message::binary(vec![7; len]);
        peer.io_echo(message).await;
    }
    peer.io_echo(Message::text("κόσμε")).await;
    peer.close(CloseCode::NORMAL).await;
    assert_eq!(peer.closed().await, 1000);
    let stats = peer.stats.clone();
    peer.finished().await;
    let stats = stats.snapshot();
    assert_eq!((stats.messages_in_total, stats.messages_out_total), (8, 8));
    assert_eq!((stats.websockets, stats.upgrades_total), (0, 1));
    assert_eq!(stats.buffered_bytes, 0);
}

impl Peer {
    async fn io_echo(&mut self, message: Message) {
        let frames = Self::frames([message.clone()]);
        // Both directions at once: the pipe is smaller than the message.
        let (mut read, mut write) = tokio::io::split(&mut self.io);
        let (_, echoed) = tokio::join!(
            async {
                tokio::io::AsyncWriteExt::write_all(&mut write, &frames)
                    .await
                    .unwrap()
            },
            async {
                let want = crate::ws::Broadcast::new(message.clone()).frame().clone();
                let mut got = vec![0; want.len()];
                tokio::io::AsyncReadExt::read_exact(&mut read, &mut got)
                    .await
                    .unwrap();
                assert!(got == want, "the echo of {} bytes differs", message.len());
            }
        );
        let () = echoed;
    }
}
