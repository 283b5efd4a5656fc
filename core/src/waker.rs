use std::{ptr, task::Waker};

/// Tells a waker from others for as long as it, or a clone, is kept somewhere, without
/// being one more clone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WakerId {
    data: usize,
    vtable: usize,
}

impl WakerId {
    pub(crate) fn of(waker: &Waker) -> Self {
        Self {
            data: waker.data().addr(),
            vtable: ptr::from_ref(waker.vtable()).addr(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::task::{ArcWake, waker};

    use super::*;

    struct Nothing;

    impl ArcWake for Nothing {
        fn wake_by_ref(_: &Arc<Self>) {}
    }

    #[test]
    fn a_clone_is_the_same_and_another_is_not() {
        let [one, other] = [(); 2].map(|()| waker(Arc::new(Nothing)));
        assert_eq!(WakerId::of(&one), WakerId::of(&one.clone()));
        assert_ne!(WakerId::of(&one), WakerId::of(&other));
        assert_ne!(WakerId::of(&one), WakerId::of(Waker::noop()));
    }
}
