//! What is held for all connections together, and who goes where that is too much.

use std::{future::pending, time::Duration};

use bytes::Bytes;
use tokio::{sync::oneshot, time::sleep};

use super::peer::{Peer, accepted, config, serve_accepted};
use crate::{
    backpressure::{Admission, Limits, PermitSlot, PermitSlots},
    ws::{CloseCode, Error, HandlerError, WebSocket, protocol::Event},
};

const SECOND: Duration = Duration::from_secs(1);
/// What the transport takes of a peer that reads nothing.
const PIPE: usize = 100;

fn admission(budget: usize) -> Admission {
    Admission::new(Limits::new().buffer_budget(budget))
}

fn serve<F>(admission: &Admission, handler: impl FnOnce(WebSocket) -> F + Send + 'static) -> Peer
where
    F: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let mut slots = PermitSlots::default();
    // Two layers of one value count once.
    for _ in 0..2 {
        slots.push(PermitSlot::new(admission.try_admit(None).unwrap()));
    }
    let config = config().write_timeout(None).heartbeat(None);
    let change = |accepted: &mut crate::ws::Accepted| accepted.permits = slots.take();
    serve_accepted(accepted(config, None, Bytes::new()), PIPE, change, handler)
}

/// A peer for whom so many messages of a thousand bytes wait, but for what the pipe takes.
async fn behind(admission: &Admission, messages: usize) -> Peer {
    let peer = serve(admission, async move |mut socket: WebSocket| {
        for _ in 0..messages {
            socket.send(vec![7; 1000]).await?;
        }
        while socket.recv().await?.is_some() {}
        Ok(())
    });
    sleep(SECOND).await;
    peer
}

/// How many messages come, and the code behind them.
async fn rest(peer: &mut Peer) -> (usize, Option<u16>) {
    let mut count = 0;
    while let Some(Event::Message(message)) = peer.event().await {
        assert_eq!(message.len(), 1000);
        count += 1;
    }
    (count, peer.close_code())
}

#[tokio::test(start_paused = true)]
async fn the_one_furthest_behind_goes_and_the_others_stay() {
    let admission = admission(100_000);
    let mut peers = [
        behind(&admission, 20).await,
        behind(&admission, 70).await,
        behind(&admission, 5).await,
    ];
    let held = admission.buffered().unwrap();
    assert!((94_000..100_000).contains(&held), "{held}");
    let sum = |peers: &[Peer]| -> u64 {
        peers
            .iter()
            .map(|peer| peer.stats.snapshot().buffered_bytes)
            .sum()
    };
    assert_eq!(sum(&peers), held as u64);

    let (tell, told) = oneshot::channel();
    let mut last = serve(&admission, async move |mut socket: WebSocket| {
        socket.send(vec![7; 6000]).await?;
        tell.send(()).unwrap();
        pending().await
    });
    told.await.unwrap();
    // What it was sent and is not begun is gone, also what was encoded.
    assert_eq!(rest(&mut peers[1]).await, (1, Some(1013)));
    assert_eq!(peers[1].stats.snapshot().shed_total, 1);
    assert!(admission.buffered().unwrap() < 40_000);
    assert_eq!(last.message().await.len(), 6000);
    for (index, expected) in [(0, 20), (2, 5)] {
        for _ in 0..expected {
            assert_eq!(peers[index].message().await.len(), 1000);
        }
        assert_eq!(peers[index].stats.snapshot().shed_total, 0);
    }
    assert_eq!(admission.buffered(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn while_it_is_used_up_nobody_comes_in() {
    let admission = admission(10_000);
    let (tell, told) = oneshot::channel();
    let mut peer = serve(&admission, async move |mut socket: WebSocket| {
        // Begun, it is finished: nothing of it can be let go.
        socket.send(vec![7; 50_000]).await?;
        let end = socket.recv().await.unwrap_err();
        let _ = tell.send((end, socket.send("late").await));
        Ok(())
    });
    sleep(SECOND).await;
    let refused = admission.try_admit(None).unwrap_err();
    assert_eq!((refused.status(), refused.retry_after()), (503, 5));
    assert_eq!(peer.message().await.len(), 50_000);
    let Some(Event::Close(Some(frame))) = peer.event().await else {
        panic!("a close frame was expected");
    };
    assert_eq!(
        (frame.code.get(), frame.reason.as_str()),
        (1013, "over budget")
    );
    let (end, sent) = told.await.unwrap();
    assert!(matches!(end, Error::Closed { code: Some(code), .. } if code.get() == 1013));
    assert!(sent.is_err());
    assert_eq!(admission.buffered(), Some(0));
    assert!(admission.try_admit(None).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_being_received_counts() {
    let admission = admission(100_000);
    let mut peer = serve(&admission, async |mut socket: WebSocket| {
        while socket.recv().await?.is_some() {}
        Ok(())
    });
    // A binary message of 200,000 bytes, masked with a key of zeros.
    let mut header = vec![0x82, 0xff];
    header.extend(200_000_u64.to_be_bytes());
    header.extend([0; 4]);
    peer.send_raw(&header).await;
    peer.send_raw(&[0; 60_000]).await;
    sleep(SECOND).await;
    let held = admission.buffered().unwrap();
    assert_eq!(held, 60_000);
    assert_eq!(peer.stats.snapshot().buffered_bytes, 60_000);
    for _ in 0..5 {
        peer.send_raw(&[0; 10_000]).await;
    }
    assert_eq!(peer.closed().await, 1013);
    assert_eq!(admission.buffered(), Some(0), "what came of it is let go");
    peer.finished().await;
    assert_eq!(admission.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_closes_in_order_can_be_cut_too() {
    // Where the close frame is encoded behind what is discarded, it would say that all
    // had arrived: such a socket is reset.
    for (messages, expected, told) in [(120, (1, Some(1013)), 1013), (60, (0, None), 1000)] {
        let admission = admission(messages * 1500);
        let (tell, end) = oneshot::channel();
        let mut peer = serve(&admission, async move |mut socket: WebSocket| {
            for _ in 0..messages {
                socket.send(vec![7; 1000]).await?;
            }
            socket.close(CloseCode::NORMAL, "").await?;
            let _ = tell.send(socket.closed().await);
            Ok(())
        });
        sleep(SECOND).await;
        let other = behind(&admission, messages * 9 / 10).await;
        assert_eq!(rest(&mut peer).await, expected);
        assert_eq!(other.stats.snapshot().shed_total, 0);
        assert_eq!(peer.stats.snapshot().shed_total, 1);
        // Whoever wrote the handler sees the code that the peer sees.
        let end = end.await.unwrap();
        assert!(matches!(end, Error::Closed { code: Some(code), .. } if code.get() == told));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_a_close_can_be_cut_too() {
    let admission = admission(180_000);
    let mut peer = behind(&admission, 120).await;
    peer.send_raw(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await;
    sleep(SECOND).await;
    let other = behind(&admission, 108).await;
    assert_eq!(rest(&mut peer).await, (1, Some(1013)));
    assert_eq!(other.stats.snapshot().shed_total, 0);
}

#[tokio::test(start_paused = true)]
async fn a_cut_peer_that_takes_nothing_is_reset_within_the_close_time_out() {
    let admission = admission(10_000);
    let peer = behind(&admission, 20).await;
    sleep(5 * SECOND).await;
    assert_eq!(admission.buffered(), Some(0));
    assert_eq!(peer.stats.snapshot().buffered_bytes, 0);
    assert_eq!(admission.live(), 0);
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_held_once_they_are_gone_however_they_went() {
    let admission = admission(1_000_000);
    let mut closes = behind(&admission, 10).await;
    let goes = behind(&admission, 20).await;
    let dropped = behind(&admission, 30).await;
    let panics = serve(&admission, async |mut socket: WebSocket| {
        socket.send(vec![7; 5_000]).await?;
        sleep(2 * SECOND).await;
        panic!("on purpose")
    });
    sleep(SECOND).await;
    assert!(admission.buffered().unwrap() > 60_000);
    closes.send_raw(&[0x88, 0x80, 0, 0, 0, 0]).await;
    assert_eq!(rest(&mut closes).await.0, 10);
    closes.finished().await;
    drop(goes);
    dropped.driver.abort();
    sleep(10 * SECOND).await;
    drop(panics);
    sleep(SECOND).await;
    assert_eq!((admission.buffered(), admission.live()), (Some(0), 0));
}
