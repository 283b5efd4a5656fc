//! The echo path without a kernel: what `tests/costs.rs` counts the
//! instructions of, and what a profiler is pointed at.
//!
//! `echo_cost MESSAGES text|binary` echoes so many messages of 16 bytes, 16 of them
//! with each read, through a driver over memory.

use std::{
    env,
    io::{self, Error, Write},
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use towpath::ws::{
    Accepted, HandlerError, Outbox, Received, Transport, WebSocket, WsSettings, drive,
    protocol::{Extensions, Role},
};

/// Messages that arrive with one read.
const BATCH: usize = 16;
/// Bytes of a message.
const PAYLOAD: &[u8; 16] = b"sixteen bytes ..";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let (Some(messages), Some(kind)) = (arguments.next(), arguments.next()) else {
        return Err(Error::other("usage: echo_cost MESSAGES text|binary"));
    };
    let messages: usize = messages.parse().map_err(Error::other)?;
    let opcode = match &*kind {
        "text" => 1,
        "binary" => 2,
        _ => return Err(Error::other("neither text nor binary")),
    };
    let echoed = run(messages, opcode)?;
    writeln!(io::stdout(), "{echoed} bytes echoed")
}

fn run(messages: usize, opcode: u8) -> io::Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let (done, echoed) = tokio::sync::oneshot::channel();
    let memory = Memory {
        batch: batch(opcode),
        left: messages / BATCH,
        quiet: false,
        echoed: 0,
        done: Some(done),
    };
    let accepted = Accepted {
        settings: WsSettings::default(),
        protocol: None,
        extensions: Extensions::default(),
        read_ahead: Bytes::new(),
        guard: None,
        role: Role::Server,
        expiry: None,
        permits: Default::default(),
        span: tracing::Span::none(),
    };
    let echoed = runtime.block_on(async {
        tokio::spawn(drive(memory, accepted, echo)).await?;
        echoed.await.map_err(Error::other)
    })?;
    // Each comes back in a frame with a header of two bytes, and the close at the end.
    let expected = messages / BATCH * BATCH * (PAYLOAD.len() + 2);
    if echoed < expected {
        return Err(Error::other(format!("{echoed} bytes of {expected}")));
    }
    Ok(echoed)
}

/// What everyone writes.
async fn echo(mut socket: WebSocket) -> Result<(), HandlerError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

fn batch(opcode: u8) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, 0x80 | 16];
    frame.extend(MASK);
    let masked = PAYLOAD.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, key)| byte ^ key));
    frame.repeat(BATCH)
}

/// A peer that sends a batch, falls silent until the driver sleeps, and sends the
/// next: as a socket does whose peer waits for its echoes. It ends without a close.
struct Memory {
    batch: Vec<u8>,
    left: usize,
    quiet: bool,
    echoed: usize,
    done: Option<tokio::sync::oneshot::Sender<usize>>,
}

impl Transport for Memory {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        _: usize,
    ) -> Poll<io::Result<Received>> {
        if self.quiet {
            self.quiet = false;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.left == 0 {
            return Poll::Ready(Ok(Received::End));
        }
        self.left -= 1;
        self.quiet = true;
        into.extend_from_slice(&self.batch);
        Poll::Ready(Ok(Received::Filled(self.batch.len())))
    }

    fn poll_send(&mut self, _: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<usize>> {
        let count = out.remaining();
        out.advance(count);
        self.echoed += count;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {}
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            // Nobody waits where the run has failed.
            let _ = done.send(self.echoed);
        }
    }
}
