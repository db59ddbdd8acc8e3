//! Where a record stands in its partition.

crate::unit::unit! {
    /// The offset of a record, or of the next one to read.
    Offset
}

impl Offset {
    /// The offset after this one. Kafka's own offsets end far below the largest number.
    pub const fn next(self) -> Offset {
        Offset(self.0.saturating_add(1))
    }

    /// The offset before this one.
    pub const fn previous(self) -> Offset {
        Offset(self.0.saturating_sub(1))
    }

    /// How many offsets there are from `earlier` to here; below zero if that is later.
    pub const fn since(self, earlier: Offset) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}
