//! The outbox of the driver that polls on this thread, lent to its handler.
//!
//! What a handler says while its driver polls it becomes a frame at once, without
//! queue and lock. Whatever is not as simple as that takes the way through
//! [`Shared`]: a half in another task, a socket that compresses or closes, a full
//! outbox, or something that was queued and must go out first.

use std::cell::RefCell;

use super::{
    protocol::{Outbox, Outgoing},
    shared::Shared,
};

thread_local! {
    static LENT: RefCell<Option<Lent>> = const { RefCell::new(None) };
}

/// An outbox that is lent, and what its driver has to know afterwards.
pub(crate) struct Lent {
    /// Whose it is; an address to compare, and no more.
    owner: *const Shared,
    pub(crate) out: Box<Outbox>,
    /// What was in it before.
    had: usize,
    /// It takes messages while less than this is in it …
    limit: usize,
    /// … and it has taken fewer than so many.
    most: u64,
    /// The messages it took.
    pub(crate) sent: u64,
}

/// What a driver that is polled in the midst of another's handler has to put back.
pub(crate) struct Displaced(Option<Lent>);

/// Lends `out` to whoever sends to `owner` on this thread, until
/// [`take_back`]; or gives it right back.
pub(crate) fn lend(
    owner: &Shared,
    out: Box<Outbox>,
    limit: usize,
    most: usize,
) -> Result<Displaced, Box<Outbox>> {
    let lent = Lent {
        owner,
        had: out.len(),
        out,
        limit,
        most: most as u64,
        sent: 0,
    };
    let mut lent = Some(lent);
    let displaced = LENT.try_with(|slot| {
        // In use where the drop of a payload polls a driver.
        let mut slot = slot.try_borrow_mut().ok()?;
        Some(Displaced(std::mem::replace(&mut *slot, lent.take())))
    });
    match (displaced, lent) {
        (Ok(Some(displaced)), _) => Ok(displaced),
        (_, Some(lent)) => Err(lent.out),
        (_, None) => Err(Box::default()),
    }
}

/// Ends what [`lend`] began.
pub(crate) fn take_back(displaced: Displaced) -> Option<Lent> {
    LENT.try_with(|slot| slot.replace(displaced.0))
        .ok()
        .flatten()
}

/// Makes a frame of the message, where this thread has lent the outbox of `owner`
/// and there is room in it. With `None` it only tells that.
#[inline]
pub(crate) fn send(owner: &Shared, message: &mut Option<Outgoing>) -> bool {
    if owner.has_queued() {
        return false;
    }
    LENT.try_with(|slot| {
        let Ok(mut slot) = slot.try_borrow_mut() else {
            return false;
        };
        let Some(lent) = &mut *slot else {
            return false;
        };
        if !std::ptr::eq(lent.owner, owner)
            || lent.out.len() >= lent.limit
            || lent.sent >= lent.most
        {
            return false;
        }
        if let Some(message) = message.take() {
            lent.out.push_plain(message);
            lent.sent += 1;
            owner.said_directly(lent.out.len() - lent.had, lent.sent);
        }
        true
    })
    .unwrap_or(false)
}
