//! The end of a test that has threads which go on until it is told them.

use std::sync::atomic::{AtomicBool, Ordering};

/// Sets it when dropped: when a test fails as well, so that it ends.
pub struct SetAtEnd<'a>(pub &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
