//! What makes counting exactly-once beside the one transaction: the position with its fence, and the
//! check for duplicates. They are always up. Only the benchmark that says what they cost, built with the
//! feature `unguarded`, can take them down, in a process of its own.

#[cfg(feature = "unguarded")]
static DOWN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Takes them down for the rest of the process: records are counted whatever was counted before.
#[cfg(feature = "unguarded")]
pub fn take_down() {
    DOWN.store(true, std::sync::atomic::Ordering::Relaxed);
}

/// Whether they are up.
#[inline]
pub(crate) fn up() -> bool {
    #[cfg(feature = "unguarded")]
    return !DOWN.load(std::sync::atomic::Ordering::Relaxed);
    #[cfg(not(feature = "unguarded"))]
    true
}
