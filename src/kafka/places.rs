//! Where a record is, as far as the broker that took it knows.
//!
//! A leader that has a batch, and is sent it again by who did not hear of that, may only know that it has it. librdkafka then
//! calls its records sent, and numbers them from -1 on: of the first alone it shows that the others' numbers mean nothing.

use std::collections::BTreeMap;

use crate::offset::Offset;

/// What one producer is told, in the order in which it is.
#[derive(Default)]
pub struct Places {
    /// By partition, the last number that meant nothing, if nothing else came since.
    meaningless: BTreeMap<i32, i64>,
}

impl Places {
    /// The offset of the record that is said to be at this one; None where that is not known.
    pub fn place(&mut self, partition: i32, said: i64) -> Option<Offset> {
        let before = self.meaningless.get(&partition);
        let goes_on = before.is_some_and(|before| before.checked_add(1) == Some(said));
        if said < 0 || goes_on {
            self.meaningless.insert(partition, said);
            return None;
        }
        self.meaningless.remove(&partition);
        Some(Offset::new(said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_count_on_from_an_unknown_place_mean_nothing() {
        let mut places = Places::default();
        let mut told = |partition, said| places.place(partition, said).map(Offset::get);
        assert_eq!(told(0, 7), Some(7));
        assert_eq!([told(0, -1), told(0, 0), told(0, 1)], [None; 3]);
        assert_eq!(told(1, 2), Some(2), "another partition");
        assert_eq!([told(0, 11), told(0, 12)], [Some(11), Some(12)]);
    }
}
