use std::{collections::VecDeque, task::Waker};

use tokio::io::ReadBuf;

use super::*;
use crate::ws::protocol::{Connection, Limits, Message, Role};

/// Takes a write whole, whatever it is, where it has room; as hyper's does.
#[derive(Default)]
struct Stream {
    room: usize,
    writes: VecDeque<Vec<u8>>,
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.room -= 1;
        self.writes.push_back(bytes.to_vec());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.room {
            0 => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn outbox(messages: &[usize]) -> Outbox {
    let limits = Limits {
        max_frame_size: usize::MAX,
        max_message_size: usize::MAX,
        max_fragments: u32::MAX,
    };
    let mut connection = Connection::new(Role::Server, limits);
    let mut out = Outbox::default();
    for &len in messages {
        let payload: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
        connection.send(Message::binary(payload), &mut out);
    }
    out
}

#[test]
fn a_write_is_a_frame_at_most_and_none_is_a_header_alone() {
    for messages in [
        &[1 << 20][..],
        &[5, CHUNK, 0, 7],
        &[CHUNK - 4, CHUNK],
        &[10; 4000],
        &[4097; 40],
    ] {
        let mut out = outbox(messages);
        let mut whole = Vec::new();
        let mut copy = outbox(messages);
        while copy.has_remaining() {
            let chunk = copy.chunk();
            whole.extend_from_slice(chunk);
            copy.advance(chunk.len());
        }
        let mut transport = Http2Transport::new(Stream::default(), None);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(transport.poll_send(&mut cx, &mut out).is_pending());
        assert_eq!(out.len(), whole.len(), "nothing is taken without room");
        transport.io.as_mut().unwrap().room = usize::MAX;
        while !out.is_empty() {
            assert!(transport.poll_send(&mut cx, &mut out).is_ready());
        }
        let writes = transport.io.unwrap().writes;
        let count = writes.len();
        for (index, write) in writes.iter().enumerate() {
            assert!(write.len() <= CHUNK);
            let last = index + 1 == count;
            assert!(last || write.len() > 4096, "{} of {index}", write.len());
        }
        assert_eq!(writes.into_iter().flatten().collect::<Vec<_>>(), whole);
    }
}

#[test]
fn without_a_task_to_stop_an_abort_leaves_the_stream_to_its_drop() {
    let mut transport = Http2Transport::new(Stream::default(), None);
    transport.abort();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        transport.poll_flush(&mut cx).is_pending(),
        "it is still there"
    );
}
