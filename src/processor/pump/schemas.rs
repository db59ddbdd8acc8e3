//! Partitions that wait until it is known what schema their next record has.

use super::Pump;
use crate::progress::{BOARD, Cause, Side};

impl Pump<'_> {
    /// Nothing more is read of a partition: its next record waits for its schema.
    pub(super) fn await_schema(&self, partition: i32) {
        if let Err(error) = self.member.stop(partition) {
            // Taken from us just now; the group will say so.
            log::debug!("partition {partition} cannot be stopped: {error}");
        }
    }

    /// Reads on where schemas were found, or are known not to be.
    pub(super) fn take_schemas(&mut self) {
        for partition in self.schemas.take_found(&mut self.decoder) {
            BOARD.clear(&[partition], Side::Schemas);
            if let Some(assigned) = self.assigned.get(&partition) {
                self.fetch_anew(partition, assigned.next_offset());
            }
        }
    }

    /// Shows who waits.
    pub(super) fn show_schemas(&self) {
        for (partition, why) in self.schemas.waiting() {
            let cause = Cause::new("schema_registry", why);
            BOARD.waits(&[partition], Side::Schemas, &cause);
        }
    }
}
