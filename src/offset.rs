//! Where a record stands in its partition.

use crate::event::Count;

crate::unit::unit! {
    /// The offset of a record, or of the next one to read.
    Offset
}

impl Offset {
    /// Before the first one of any log.
    pub const BEFORE_ALL: Offset = Offset(-1);

    /// After the last one of any log.
    pub const MAX: Offset = Offset(i64::MAX);

    /// The offset after this one. Kafka's own offsets end far below the largest number.
    pub const fn next(self) -> Offset {
        Offset(self.0.saturating_add(1))
    }

    /// The offset before this one.
    pub const fn previous(self) -> Offset {
        Offset(self.0.saturating_sub(1))
    }

    /// The offset so far after this one.
    pub const fn plus(self, distance: Count) -> Offset {
        Offset(self.0.saturating_add(distance.get()))
    }

    /// How many offsets there are from `earlier` to here; below zero if that is later.
    pub const fn since(self, earlier: Offset) -> Count {
        Count::new(self.0.saturating_sub(earlier.0))
    }
}

/// The offsets that a partition's log holds: from the oldest up to its end, where the next record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    pub start: Offset,
    pub end: Offset,
}
