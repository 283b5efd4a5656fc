use std::sync::{Arc, Mutex, PoisonError};

use super::{Account, Outbound, Permit};

/// A permit on its way from the request to what lives as long as the connection: the
/// upgraded socket, or the response's body. A request's extensions are cloned, and a
/// clone must not keep the place: so it is taken once.
#[derive(Clone, Debug)]
pub struct PermitSlot(Arc<Mutex<Option<Permit>>>);

impl PermitSlot {
    /// With a permit in it.
    #[must_use]
    pub fn new(permit: Permit) -> Self {
        Self(Arc::new(Mutex::new(Some(permit))))
    }

    /// The permit, the first time.
    pub fn take(&self) -> Option<Permit> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take()
    }

    fn outbound(&self) -> Outbound {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref().map(Permit::outbound).unwrap_or_default()
    }
}

/// The slots of all layers that a request came through, in its extensions.
#[derive(Clone, Debug, Default)]
pub struct PermitSlots(Vec<PermitSlot>);

impl PermitSlots {
    /// Adds that of another layer.
    pub fn push(&mut self, slot: PermitSlot) {
        self.0.push(slot);
    }

    /// What the layers say of the connection; of two that say it the inner one counts.
    pub(crate) fn outbound(&self) -> Outbound {
        let layers = self.0.iter().rev().map(PermitSlot::outbound);
        layers.fold(Outbound::default(), Outbound::or)
    }

    /// Takes what is there, for a connection that begins.
    pub fn take(&self) -> Permits {
        let permits: Vec<_> = self.0.iter().filter_map(PermitSlot::take).collect();
        Permits((!permits.is_empty()).then(|| Box::new(permits)))
    }
}

/// What a connection holds for as long as it lives.
#[derive(Debug, Default)]
#[must_use = "dropped at once they count nothing"]
#[expect(clippy::box_collection, reason = "every socket pays for its room")]
pub struct Permits(Option<Box<Vec<Permit>>>);

impl Permits {
    /// What counts the bytes of the socket that holds them, where there is a budget.
    pub(crate) fn account(&self) -> Option<Box<Account>> {
        let permits = self.0.as_deref()?;
        Account::new(permits.iter().filter_map(Permit::budget))
    }
}

/// Holds a permit until it is taken, or until there is nobody left to take it.
#[derive(Debug)]
pub struct Held(PermitSlot);

impl Held {
    /// A permit that is in `slot`, for the length of a request.
    #[must_use]
    pub fn new(slot: PermitSlot) -> Self {
        Self(slot)
    }

    /// The permit, unless a socket has taken it.
    #[must_use]
    pub fn take(&self) -> Option<Permit> {
        self.0.take()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A request whose future was dropped; somebody may still have its extensions.
        drop(self.take());
    }
}
