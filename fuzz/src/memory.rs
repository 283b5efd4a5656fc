//! How much memory is held at once: the library counts nothing, so its allocator is
//! asked.

/// The most bytes that `run` holds at a time, beyond what there was before it.
pub(crate) fn most(run: impl FnOnce()) -> usize {
    let used = allocation_counter::measure(run);
    usize::try_from(used.bytes_max).unwrap_or(usize::MAX)
}
