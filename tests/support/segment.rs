//! The bytes of a partition's log, as its broker keeps them (Kafka's documentation, "Implementation", "Log" and "Record
//! Batch": base offset, length, leader epoch, magic, CRC, attributes, last offset delta).

use std::path::{Path, PathBuf};

/// Where a batch has the checksum of all that comes after it.
const CHECKSUM: usize = 17;
const ATTRIBUTES: usize = 21;
const RECORDS: usize = 61;

/// The first segment of a partition of a topic.
pub struct Segment(PathBuf);

impl Segment {
    /// Of the broker that `scripts/services` keeps in this folder.
    pub fn of(services: &Path, topic: &str, partition: i32) -> Segment {
        let folder = services.join(format!("kafka/data/{topic}-{partition}"));
        Segment(folder.join("00000000000000000000.log"))
    }

    /// Changes a bit of the batch that holds an offset, or changes it back; the broker hands on what is on its disk.
    pub fn flip(&self, offset: i64) {
        self.change(offset, |batch| {
            if let Some(last) = batch.last_mut() {
                *last ^= 1;
            }
        });
    }

    /// Changes one bit of what the batch holds, packed as it is, and the checksum to fit: nothing is left to find it
    /// out by but unpacking and reading. `which` chooses the bit.
    pub fn forge(&self, offset: i64, which: usize) {
        self.change(offset, |batch| {
            let bit = which % ((batch.len() - RECORDS) * 8);
            batch[RECORDS + bit / 8] ^= 1 << (bit % 8);
            let sum = crc32c::crc32c(&batch[ATTRIBUTES..]);
            batch[CHECKSUM..ATTRIBUTES].copy_from_slice(&sum.to_be_bytes());
        });
    }

    fn change(&self, offset: i64, change: impl FnOnce(&mut [u8])) {
        let mut bytes = std::fs::read(&self.0).expect("the broker's log");
        let mut at = 0;
        loop {
            let base = i64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
            let length = u32::from_be_bytes(bytes[at + 8..at + 12].try_into().expect("4 bytes"));
            let last = i32::from_be_bytes(bytes[at + 23..at + 27].try_into().expect("4 bytes"));
            let end = at + 12 + length as usize;
            if offset <= base + i64::from(last) {
                change(&mut bytes[at..end]);
                break;
            }
            at = end;
        }
        std::fs::write(&self.0, bytes).expect("the broker's log");
    }
}
