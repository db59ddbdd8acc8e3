//! The faults, in the order of the table. Each is a function that injects it so many times and notes
//! in its row how long everything took to move again; the laboratory checks all sums after it.

use crate::lab::Lab;
use crate::proof;
use crate::table::Row;

mod kill;

/// One line of the table.
pub struct Fault {
    pub number: u8,
    pub name: &'static str,
    /// How many times in a full run, and in a short one.
    pub full: usize,
    pub short: usize,
    pub run: fn(&mut Lab, usize, &mut Row) -> anyhow::Result<()>,
}

/// All of them.
pub const FAULTS: &[Fault] = &[
    Fault {
        number: 0,
        name: "tampered data: the checker's own proof",
        full: 1,
        short: 1,
        run: proof::tampered,
    },
    Fault {
        number: 1,
        name: "a processor killed at random",
        full: 200,
        short: 5,
        run: kill::at_random,
    },
];
