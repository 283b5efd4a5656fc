use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
};

use tokio::time::advance;

use super::*;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn waker() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (Arc::clone(&count), Waker::from(count))
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn every_clock_tells_the_same_moment() {
    let now = Instant::now();
    let expected = ExpiresAt::from(HOUR);
    assert_eq!(expected.instant(), now + HOUR);
    assert_eq!(ExpiresAt::from(now + HOUR), expected);
    assert_eq!(ExpiresAt::from((now + HOUR).into_std()), expected);
    // The system's clock goes on meanwhile.
    let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap() + HOUR;
    let near = |at: ExpiresAt| {
        let off = expected.instant().saturating_duration_since(at.instant());
        off <= Duration::from_secs(60) && at <= expected
    };
    assert!(near((SystemTime::now() + HOUR).into()));
    assert!(near(ExpiresAt::unix(unix.as_secs())));
}

#[tokio::test(start_paused = true)]
async fn no_time_is_too_early_or_too_late() {
    let now = Instant::now();
    advance(HOUR).await;
    assert_eq!(ExpiresAt::from(now).instant(), now + HOUR);
    assert_eq!(ExpiresAt::unix(0).instant(), now + HOUR);
    assert_eq!(
        ExpiresAt::from(SystemTime::UNIX_EPOCH).instant(),
        now + HOUR
    );
    let latest = ExpiresAt::from(Duration::MAX);
    assert_eq!(ExpiresAt::unix(u64::MAX), latest);
    assert!(latest.instant() > now + Duration::from_secs(86_400 * 365 * 20));
}

#[tokio::test(start_paused = true)]
async fn only_an_earlier_end_wakes_and_it_wakes_all() {
    let expiry = Expiry::from(HOUR);
    let mut watches = [Watch::new(expiry.clone()), Watch::new(expiry.clone())];
    let (count, waker) = waker();
    let cx = Context::from_waker(&waker);
    let start = Instant::now();
    for watch in &mut watches {
        assert_eq!(watch.look(&cx), start + HOUR);
        assert_eq!(watch.look(&cx), start + HOUR);
    }
    assert_eq!(expiry.lock().waiting.len(), 2, "once for each");
    expiry.refresh(HOUR * 2);
    assert_eq!(count.0.load(Ordering::Relaxed), 0);
    assert_eq!(watches[0].look(&cx), start + HOUR * 2);
    expiry.expire();
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
    assert_eq!(expiry.remaining(), Duration::ZERO);
    // Whoever looks again is told again.
    assert_eq!(watches[0].look(&cx), start);
    expiry.refresh(HOUR);
    expiry.refresh(HOUR / 2);
    assert_eq!(count.0.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_moved_is_woken_where_it_is_and_one_that_left_not_at_all() {
    let expiry = Expiry::from(HOUR);
    let mut watch = Watch::new(expiry.clone());
    let ((old, first), (new, second)) = (waker(), waker());
    watch.look(&Context::from_waker(&first));
    watch.look(&Context::from_waker(&second));
    expiry.refresh(HOUR / 2);
    let counts = [&old, &new].map(|count| count.0.load(Ordering::Relaxed));
    assert_eq!(counts, [0, 1]);
    watch.look(&Context::from_waker(&second));
    drop(watch);
    assert!(expiry.lock().waiting.is_empty());
    expiry.expire();
    assert_eq!(new.0.load(Ordering::Relaxed), 1);
}
