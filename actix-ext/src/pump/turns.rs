//! The driver's task, and the turns that the body gives the driver at the peer's FIN.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::coop::unconstrained;

/// A handler that is never idle keeps the connection's task for no more of them.
const MOST: u32 = 64;

type Driver = Pin<Box<dyn Future<Output = ()>>>;

/// A driver that its own task polls and, at the peer's FIN, the body.
pub(super) struct Turns {
    /// `None` while it is polled, and once it is done.
    driver: RefCell<Option<Driver>>,
    /// Of its task, once that has run.
    task: RefCell<Waker>,
}

impl Turns {
    /// Spawns the driver's task.
    pub(super) fn spawn(driver: impl Future<Output = ()> + 'static) -> Rc<Self> {
        let turns = Rc::new(Self {
            driver: RefCell::new(Some(Box::pin(driver))),
            task: RefCell::new(Waker::noop().clone()),
        });
        actix_web::rt::spawn(Task(Rc::clone(&turns)));
        turns
    }

    /// Polls the driver until it waits for something that is not here, or `done`.
    ///
    /// Without tokio's budget: of what the driver is told to leave for later there is
    /// none.
    pub(super) fn give(&self, mut done: impl FnMut() -> bool) {
        let woken = Arc::new(Woken {
            woken: AtomicBool::new(true),
            task: self.task.borrow().clone(),
        });
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        for _ in 0..MOST {
            if done() || !woken.woken.swap(false, SeqCst) {
                return;
            }
            let turn = pin!(unconstrained(poll_fn(|cx| self.poll(cx))));
            if turn.poll(&mut cx).is_ready() {
                return;
            }
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Out of its place: one that panics is not polled again.
        let Some(mut driver) = self.driver.take() else {
            return Poll::Ready(());
        };
        let polled = driver.as_mut().poll(cx);
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
        self.0.task.borrow_mut().clone_from(cx.waker());
        self.0.poll(cx)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // The runtime ends: the body may outlive it.
        let driver = self.0.driver.take();
        drop(driver);
    }
}

/// The driver's waker in turns that the body gives.
struct Woken {
    woken: AtomicBool,
    /// It polls the driver from then on.
    task: Waker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        self.task.wake_by_ref();
    }
}
