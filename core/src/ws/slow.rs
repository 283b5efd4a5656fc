//! Peers that are behind.

use std::{fmt, sync::Arc};

/// A peer that takes less than it is sent: what [`WsConfig::on_slow`] is told.
///
/// [`WsConfig::on_slow`]: super::WsConfig::on_slow
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowPeer {
    /// Bytes that wait for it.
    pub buffered_bytes: usize,
    /// Messages that wait for it, one that it has taken a part of too.
    pub buffered_messages: usize,
}

/// Who is told.
#[derive(Clone)]
pub(crate) struct OnSlow(pub(crate) Arc<dyn Fn(&SlowPeer) + Send + Sync>);

impl fmt::Debug for OnSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnSlow")
    }
}

/// Which way a peer has crossed the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crossing {
    /// As much waits as the threshold, or more.
    Up,
    /// Less than half of it waits.
    Down,
}

/// Where `waits` of `bound` stands against a threshold of `percent`; nowhere between it
/// and its half, so that who wavers is told once.
pub(crate) fn crossing(percent: u8, waits: &[(usize, usize)]) -> Option<Crossing> {
    let reaches = |percent: u64| {
        let mut waits = waits.iter();
        waits.any(|&(waits, bound)| waits as u128 * 200 >= bound as u128 * u128::from(percent))
    };
    let percent = u64::from(percent);
    if reaches(percent * 2) {
        Some(Crossing::Up)
    } else if !reaches(percent) {
        Some(Crossing::Down)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_bound_is_nearer_counts_and_half_of_it_is_below() {
        let of = |messages, bytes| crossing(80, &[(messages, 10), (bytes, 1000)]);
        assert_eq!(of(8, 0), Some(Crossing::Up));
        assert_eq!(of(0, 800), Some(Crossing::Up));
        assert_eq!(of(7, 799), None);
        assert_eq!(of(4, 0), None);
        assert_eq!(of(3, 400), None);
        assert_eq!(of(3, 399), Some(Crossing::Down));
        assert_eq!(
            crossing(100, &[(usize::MAX, usize::MAX)]),
            Some(Crossing::Up)
        );
    }
}
