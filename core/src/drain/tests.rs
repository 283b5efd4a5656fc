use std::{
    future::{pending, poll_fn, ready},
    process::ExitCode,
    sync::atomic::AtomicUsize,
    task::{Context, Poll, Wake, Waker},
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Counts its wakes, and takes the drain's lock in each and in its drop: a
/// dead lock if either ran under it.
struct Counting {
    wakes: AtomicUsize,
    drain: Drain,
}

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        let _ = self.drain.live();
        self.wakes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let _ = self.drain.live();
    }
}

fn counting(drain: &Drain) -> (Arc<Counting>, Waker) {
    let counting = Arc::new(Counting {
        wakes: AtomicUsize::new(0),
        drain: drain.clone(),
    });
    (Arc::clone(&counting), Waker::from(counting))
}

fn guards(drain: &Drain, n: usize) -> Vec<DrainGuard> {
    (0..n).map(|_| drain.guard().unwrap()).collect()
}

fn moments(guards: &mut [DrainGuard]) -> Vec<Instant> {
    let mut cx = Context::from_waker(Waker::noop());
    let moment = |guard: &mut DrainGuard| match guard.poll_moment(&mut cx) {
        Poll::Ready(moment) => moment,
        Poll::Pending => panic!("the drain has begun"),
    };
    guards.iter_mut().map(moment).collect()
}

#[tokio::test(start_paused = true)]
async fn four_sockets_end_at_once() {
    let drain = Drain::new(5 * SECOND);
    let mut guards = guards(&drain, 4);
    drain.start();
    assert_eq!(moments(&mut guards), [Instant::now(); 4]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_sockets_end_over_a_second() {
    let drain = Drain::new(5 * SECOND);
    let mut guards = guards(&drain, 1000);
    drain.start();
    let start = Instant::now();
    let moments = moments(&mut guards);
    assert_eq!(moments[3], start);
    assert!((moments[500] - start).abs_diff(SECOND / 2) < Duration::from_micros(1));
    assert!(moments.is_sorted());
    assert!(moments[999] > start + SECOND * 99 / 100 && moments[999] < start + SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_spread_is_at_most_half_the_deadline() {
    let drain = Drain::new(5 * SECOND);
    let mut guards = guards(&drain, 5000);
    drain.start();
    let half = Instant::now() + SECOND * 5 / 2;
    let moments = moments(&mut guards);
    assert!(moments[4999] < half && moments[4999] > half - SECOND / 100);
}

#[tokio::test(start_paused = true)]
async fn holes_left_by_those_gone_do_not_stretch_the_spread() {
    let drain = Drain::new(5 * SECOND);
    let mut all = guards(&drain, 5000);
    let mut n = 0;
    all.retain(|_| {
        n += 1;
        n % 500 == 0
    });
    assert_eq!(drain.live(), 10);
    drain.start();
    let last = moments(&mut all)[9];
    assert!(last > Instant::now() && last <= Instant::now() + Duration::from_millis(10));
}

#[test]
fn slots_are_used_again() {
    let drain = Drain::new(SECOND);
    for _ in 0..100 {
        drop(guards(&drain, 3));
    }
    let slots: Vec<u32> = guards(&drain, 3).iter().map(|guard| guard.slot).collect();
    assert!(slots.iter().all(|slot| *slot < 3), "{slots:?}");
}

#[test]
fn start_wakes_every_guard_once_and_never_under_the_lock() {
    let drain = Drain::new(SECOND);
    let mut guards = guards(&drain, 10);
    let (first, first_waker) = counting(&drain);
    let (second, second_waker) = counting(&drain);
    for guard in &mut guards {
        assert!(
            guard
                .poll_moment(&mut Context::from_waker(&first_waker))
                .is_pending()
        );
    }
    for guard in &mut guards[..3] {
        for _ in 0..2 {
            assert!(
                guard
                    .poll_moment(&mut Context::from_waker(&second_waker))
                    .is_pending()
            );
        }
    }
    drop((first_waker, second_waker));
    drain.start();
    drain.start();
    assert_eq!(first.wakes.load(Ordering::Relaxed), 7);
    assert_eq!(second.wakes.load(Ordering::Relaxed), 3);
}

#[test]
fn a_guard_that_is_gone_holds_no_waker() {
    let drain = Drain::new(SECOND);
    let mut guard = drain.guard().unwrap();
    let (counting, waker) = counting(&drain);
    assert!(
        guard
            .poll_moment(&mut Context::from_waker(&waker))
            .is_pending()
    );
    drop((guard, waker));
    assert_eq!(Arc::strong_count(&counting), 1);
    drain.start();
    assert_eq!(counting.wakes.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_draining_process_refuses_and_says_when_to_come_back() {
    let drain = Drain::new(5 * SECOND);
    let guard = drain.guard().unwrap();
    drain.start();
    assert!(drain.is_draining());
    for _ in 0..100 {
        let refused = drain.guard().unwrap_err();
        assert!(
            refused.retry() >= 7 * SECOND && refused.retry() <= 9 * SECOND,
            "{refused:?}"
        );
        assert!((7..=9).contains(&refused.retry_after()));
    }
    tokio::time::advance(4 * SECOND).await;
    assert!(guard.retry() >= 3 * SECOND && guard.retry() <= 5 * SECOND);
    let retries: std::collections::HashSet<_> = (0..100).map(|_| guard.retry()).collect();
    assert!(retries.len() > 50, "no wave");
}

#[tokio::test(start_paused = true)]
async fn settings_hold_for_clones_made_before() {
    let drain = Drain::new(SECOND);
    let clone = drain.clone();
    assert_eq!(
        clone.guard().unwrap().close_code(),
        CloseCode::SERVICE_RESTART
    );
    let _ = drain
        .close_code(CloseCode::GOING_AWAY)
        .retry_margin(60 * SECOND);
    assert_eq!(clone.guard().unwrap().close_code(), CloseCode::GOING_AWAY);
    assert!(clone.retry() >= 61 * SECOND);
}

#[test]
fn a_drain_without_end_does_not_overflow() {
    let drain = Drain::new(Duration::MAX).retry_margin(Duration::MAX);
    let mut guards = guards(&drain, 10);
    drain.start();
    assert_eq!(moments(&mut guards).len(), 10);
    assert_eq!(drain.retry(), Duration::MAX);
}

#[tokio::test(start_paused = true)]
async fn started_and_finished_await_their_time() {
    let drain = Drain::new(5 * SECOND);
    let mut guard = drain.guard().unwrap();
    assert_eq!((drain.deadline(), guard.deadline()), (None, None));
    let started = tokio::spawn(drain.started());
    let finished = tokio::spawn(drain.finished());
    let moment = tokio::spawn(async move {
        let moment = poll_fn(|cx| guard.poll_moment(cx)).await;
        tokio::time::sleep(SECOND).await;
        (guard.deadline(), moment)
    });
    tokio::time::sleep(SECOND).await;
    assert!(!started.is_finished() && !finished.is_finished() && !moment.is_finished());
    drain.start();
    let start = Instant::now();
    started.await.unwrap();
    assert!(!finished.is_finished());
    finished.await.unwrap();
    assert_eq!(Instant::now(), start + SECOND);
    assert_eq!(moment.await.unwrap(), (Some(start + 5 * SECOND), start));
}

#[tokio::test(start_paused = true)]
async fn a_drain_of_nobody_is_finished_at_once() {
    let drain = Drain::new(5 * SECOND);
    let finished = tokio::spawn(drain.finished());
    tokio::task::yield_now().await;
    drain.start();
    finished.await.unwrap();
    drain.finished().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_clean_as_soon_as_the_last_is_gone() {
    let drain = Drain::new(5 * SECOND);
    let guard = drain.guard().unwrap();
    drain.start();
    let start = Instant::now();
    tokio::spawn(async move {
        tokio::time::sleep(SECOND).await;
        drop(guard);
    });
    let outcome = drain.run(drain.finished()).await;
    assert_eq!(Instant::now(), start + SECOND);
    assert!(outcome.is_clean());
    assert_eq!(outcome.exit_code(), ExitCode::SUCCESS);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_first_waits_for_the_sockets() {
    let drain = Drain::new(5 * SECOND);
    let guard = drain.guard().unwrap();
    drain.start();
    let start = Instant::now();
    tokio::spawn(async move {
        tokio::time::sleep(SECOND).await;
        drop(guard);
    });
    assert!(drain.run(drain.started()).await.is_clean());
    assert_eq!(Instant::now(), start + SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_server_that_is_stuck() {
    let drain = Drain::new(5 * SECOND);
    let guard = drain.guard().unwrap();
    drain.start();
    let start = Instant::now();
    let outcome = drain.run(drain.finished()).await;
    assert_eq!(Instant::now(), start + 5 * SECOND);
    assert!(!outcome.is_clean());
    assert_eq!(outcome.exit_code(), ExitCode::FAILURE);
    assert_eq!(outcome.into_output(), None);
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn a_cut_handler_is_not_clean_even_when_all_are_gone() {
    let drain = Drain::new(5 * SECOND);
    let mut guard = drain.guard().unwrap();
    drain.start();
    guard.cut();
    drop(guard);
    assert!(!drain.run(drain.finished()).await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_socket_or_stream_is_cut_clean() {
    let drain = Drain::new(5 * SECOND);
    drain.start();
    let outcome = drain.run(pending::<()>()).await;
    assert!(outcome.is_clean());
    assert_eq!(outcome.into_output(), None);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_without_a_drain_gives_its_output() {
    let drain = Drain::new(5 * SECOND);
    let _guard = drain.guard().unwrap();
    let outcome = drain.run(ready("no port")).await;
    assert!(outcome.is_clean());
    assert_eq!(outcome.into_output(), Some("no port"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_guard_misses_a_start_that_races_with_its_poll() {
    for _ in 0..50 {
        let drain = Drain::new(Duration::from_millis(2));
        let wait = |mut guard: DrainGuard| async move { poll_fn(|cx| guard.poll_moment(cx)).await };
        let waiting: Vec<_> = guards(&drain, 100)
            .into_iter()
            .map(wait)
            .map(tokio::spawn)
            .collect();
        let starter = drain.clone();
        tokio::spawn(async move { starter.start() });
        for moment in waiting {
            let moment = tokio::time::timeout(60 * SECOND, moment)
                .await
                .unwrap()
                .unwrap();
            assert!(moment <= drain.deadline().unwrap());
        }
        drain.finished().await;
    }
}
