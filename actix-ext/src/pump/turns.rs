//! The driver's task, and the turns that the body gives the driver.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::coop::{has_budget_remaining, unconstrained};

/// A handler that is never idle keeps the connection's task for no more of them.
const MOST: u32 = 64;

type Driver = Pin<Box<dyn Future<Output = ()>>>;

/// A driver that its own task polls, and the body where it is polled first.
pub(super) struct Turns {
    /// `None` while it is polled, and once it is done.
    driver: RefCell<Option<Driver>>,
    woken: Arc<Woken>,
    /// Fires into `woken`: the driver is polled with no other.
    waker: Waker,
}

impl Turns {
    /// Spawns the driver's task.
    pub(super) fn spawn(driver: impl Future<Output = ()> + 'static) -> Rc<Self> {
        let woken = Arc::new(Woken {
            woken: AtomicBool::new(true),
            task: OnceLock::new(),
        });
        let turns = Rc::new(Self {
            driver: RefCell::new(Some(Box::pin(driver))),
            waker: Waker::from(Arc::clone(&woken)),
            woken,
        });
        actix_web::rt::spawn(Task(Rc::clone(&turns)));
        turns
    }

    /// Polls the driver, where it was woken: its task finds nothing left to do then.
    ///
    /// Within the budget of the task that the body is polled in. What is left goes to
    /// the driver's own, which has been woken too.
    pub(super) fn give_one(&self) {
        if self.woken.task.get().is_some() && has_budget_remaining() && self.woken.take() {
            // Whether it is done its task finds out.
            let _ = self.poll_for_body();
        }
    }

    /// Polls the driver until it waits for something that is not here, or `done`.
    ///
    /// Without tokio's budget: of what the driver is told to leave for later there is
    /// none.
    pub(super) fn give_all(&self, mut done: impl FnMut() -> bool) {
        self.woken.woken.store(true, SeqCst);
        let mut cx = Context::from_waker(&self.waker);
        for _ in 0..MOST {
            if done() || !self.woken.take() {
                return;
            }
            let turn = pin!(unconstrained(poll_fn(|_| self.poll_for_body())));
            if turn.poll(&mut cx).is_ready() {
                return;
            }
        }
    }

    fn poll_for_body(&self) -> Poll<()> {
        let polled = self.poll();
        if polled.is_ready() {
            // The task has to end as well.
            self.waker.wake_by_ref();
        }
        polled
    }

    fn poll(&self) -> Poll<()> {
        // Out of its place: one that panics is not polled again.
        let Some(mut driver) = self.driver.take() else {
            return Poll::Ready(());
        };
        let polled = driver.as_mut().poll(&mut Context::from_waker(&self.waker));
        if polled.is_pending() {
            self.driver.replace(Some(driver));
        }
        polled
    }
}

struct Task(Rc<Turns>);

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let turns = &self.0;
        // A task's waker is the same for as long as it lives.
        turns.woken.task.get_or_init(|| cx.waker().clone());
        if turns.woken.take() {
            turns.poll()
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // The runtime ends: the body may outlive it.
        let driver = self.0.driver.take();
        drop(driver);
    }
}

/// The driver's waker, whoever polls it: who takes the wake has the driver to poll.
struct Woken {
    woken: AtomicBool,
    /// Once that has run, which it does when it is spawned.
    task: OnceLock<Waker>,
}

impl Woken {
    fn take(&self) -> bool {
        self.woken.swap(false, SeqCst)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A driver that counts its turns, asks for another in some, and ends in the last.
    struct Counted {
        turns: Rc<Cell<u32>>,
        again: u32,
        last: u32,
        waker: Rc<RefCell<Option<Waker>>>,
    }

    impl Future for Counted {
        type Output = ();

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.turns.set(self.turns.get() + 1);
            self.waker.replace(Some(cx.waker().clone()));
            if self.turns.get() == self.last {
                return Poll::Ready(());
            }
            if self.turns.get() <= self.again {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        }
    }

    type Seen = (Rc<Turns>, Rc<Cell<u32>>, Rc<RefCell<Option<Waker>>>);

    fn spawn(again: u32, last: u32) -> Seen {
        let (turns, waker) = (Rc::default(), Rc::default());
        let driver = Counted {
            turns: Rc::clone(&turns),
            again,
            last,
            waker: Rc::clone(&waker),
        };
        (Turns::spawn(driver), turns, waker)
    }

    /// What is spawned and woken by now has had its turn.
    async fn others() {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    fn wake(waker: &RefCell<Option<Waker>>) {
        waker.borrow().as_ref().unwrap().wake_by_ref();
    }

    #[actix_web::test]
    async fn what_the_body_has_polled_its_task_does_not_poll_again() {
        let (turns, count, waker) = spawn(0, 0);
        // Not before its task has run: nobody would poll it then.
        turns.give_one();
        assert_eq!(count.get(), 0);
        others().await;
        assert_eq!(count.get(), 1);
        // Nobody has woken it.
        turns.give_one();
        assert_eq!(count.get(), 1);
        wake(&waker);
        turns.give_one();
        assert_eq!(count.get(), 2);
        others().await;
        assert_eq!(count.get(), 2);
        // What wakes it behind the body's turn is its task's.
        wake(&waker);
        turns.give_one();
        wake(&waker);
        others().await;
        assert_eq!(count.get(), 4);
    }

    #[actix_web::test]
    async fn one_that_is_never_idle_goes_on_in_its_task() {
        let (turns, count, _) = spawn(u32::MAX, 0);
        others().await;
        let before = count.get();
        turns.give_all(|| false);
        assert_eq!(count.get(), before + MOST);
        others().await;
        assert!(count.get() > before + MOST);
    }

    #[actix_web::test]
    async fn one_that_ends_in_the_bodys_turn_ends_its_task() {
        let (turns, count, waker) = spawn(0, 2);
        others().await;
        wake(&waker);
        turns.give_one();
        assert_eq!(count.get(), 2);
        others().await;
        // Its task had the other.
        assert_eq!(Rc::strong_count(&turns), 1);
    }

    #[actix_web::test]
    async fn without_budget_it_is_left_to_its_task() {
        let (turns, count, waker) = spawn(0, 0);
        others().await;
        wake(&waker);
        while has_budget_remaining() {
            tokio::task::coop::consume_budget().await;
        }
        turns.give_one();
        assert_eq!(count.get(), 1);
        others().await;
        assert_eq!(count.get(), 2);
    }
}
