//! What a message to very many sockets costs, without a kernel.

use std::{
    cell::Cell,
    future::{Future, pending},
    io,
    pin::Pin,
    rc::Rc,
};

use bytes::{Buf, Bytes, BytesMut};

use super::*;
use crate::{
    backpressure::Permits,
    ws::{
        Accepted, HandlerError, Outbox, Received, Transport, WebSocket, WsConfig, drive,
        protocol::{Extensions, Role},
    },
};

const SOCKETS: usize = 10_000;

/// A peer that takes whatever there is, and says nothing.
struct Memory {
    writes: Rc<Cell<usize>>,
    bytes: Rc<Cell<usize>>,
}

impl Transport for Memory {
    fn poll_receive(
        &mut self,
        _: &mut Context<'_>,
        _: &mut BytesMut,
        _: usize,
    ) -> Poll<io::Result<Received>> {
        Poll::Pending
    }

    fn poll_send(&mut self, _: &mut Context<'_>, out: &mut Outbox) -> Poll<io::Result<usize>> {
        let count = out.remaining();
        out.advance(count);
        self.writes.set(self.writes.get() + 1);
        self.bytes.set(self.bytes.get() + count);
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

fn socket(hub: &Hub, writes: &Rc<Cell<usize>>, bytes: &Rc<Cell<usize>>) -> impl Future + use<> {
    let subscription = now(hub.subscribe("t")).unwrap();
    let memory = Memory {
        writes: Rc::clone(writes),
        bytes: Rc::clone(bytes),
    };
    let accepted = Accepted {
        settings: WsConfig::new().into(),
        protocol: None,
        extensions: Extensions::default(),
        read_ahead: Bytes::new(),
        guard: None,
        expiry: None,
        role: Role::Server,
        permits: Permits::default(),
        span: tracing::Span::none(),
    };
    drive(memory, accepted, async move |mut socket: WebSocket| {
        socket.forward(subscription);
        pending::<Result<(), HandlerError>>().await
    })
}

#[test]
fn a_message_to_ten_thousand_sockets_allocates_nothing_for_each_and_is_one_write() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let hub = Hub::builder().history(16).build().unwrap();
    let (writes, bytes) = (Rc::default(), Rc::default());
    let mut sockets: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
    for _ in 0..SOCKETS {
        let socket = socket(&hub, &writes, &bytes);
        sockets.push(Box::pin(async move { drop(socket.await) }));
    }
    let mut deliver = |messages: usize| {
        for _ in 0..messages {
            publish(&hub, "t", "sixteen bytes it");
        }
        for socket in &mut sockets {
            let polled = socket
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
        }
    };
    // The log, the rooms for wakers and the thread's own buffers grow first.
    for _ in 0..20 {
        deliver(8);
    }
    for messages in [1, 8] {
        writes.set(0);
        bytes.set(0);
        let info = allocation_counter::measure(|| deliver(messages));
        assert_eq!(
            (writes.get(), bytes.get()),
            (SOCKETS, SOCKETS * messages * 18)
        );
        let most = 8 * messages as u64;
        assert!(info.count_total <= most, "{messages}: {info:?}");
        // What is kept took the place of what is kept no longer.
        assert!(info.bytes_current.abs() < 200, "{messages}: {info:?}");
    }
}

#[test]
fn a_kept_event_costs_little_beside_its_bytes() {
    const EVENTS: usize = 1000;
    let hub = Hub::builder().history(2 * EVENTS).build().unwrap();
    let _reader = now(hub.subscribe("t")).unwrap();
    let arrived = Bytes::from(vec![b'x'; 64 * 1024]);
    let info = allocation_counter::measure(|| {
        for _ in 0..EVENTS {
            now(hub.publish("t", arrived.slice(..100))).unwrap();
        }
    });
    assert!(arrived.is_unique(), "the buffer it came in is pinned");
    let each = info.bytes_current / EVENTS as i64 - 100;
    assert!(each < 200, "{each} bytes beside the payload");
}
