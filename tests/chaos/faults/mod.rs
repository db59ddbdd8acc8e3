//! The faults, in the order of the table. Each is a function that injects it so many times and notes
//! in its row how long everything took to move again; the laboratory checks all sums after it.

use crate::lab::Lab;
use crate::proof;
use crate::table::Row;

mod brokers;
mod changes;
mod kill;
mod links;
pub mod members;
mod memory;
mod offsets;
mod outages;
mod permutations;
mod points;
mod poison;
mod postgres;
mod rebuild;
mod redis;
mod rolling;
mod shards;
mod topic;
mod unreadable;

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
        short: 4,
        run: kill::at_random,
    },
    // So many times at each point.
    Fault {
        number: 2,
        name: "killed at a named point",
        full: 20,
        short: 1,
        run: points::killed,
    },
    Fault {
        number: 3,
        name: "the reply to COMMIT is lost",
        full: 100,
        short: 10,
        run: outages::lost_replies,
    },
    Fault {
        number: 4,
        name: "frozen in mid-transaction, then woken",
        full: 50,
        short: 3,
        run: points::frozen,
    },
    Fault {
        number: 5,
        name: "members join and leave",
        full: 200,
        short: 4,
        run: members::join_and_leave,
    },
    Fault {
        number: 6,
        name: "PostgreSQL killed, its connections cut",
        full: 30,
        short: 3,
        run: outages::postgres,
    },
    Fault {
        number: 7,
        name: "the broker killed and restarted",
        full: 15,
        short: 1,
        run: outages::broker,
    },
    Fault {
        number: 8,
        name: "links black-holed, reset, slow, half-open",
        full: 60,
        short: 12,
        run: links::troubled,
    },
    Fault {
        number: 9,
        name: "PostgreSQL's disk full",
        full: 5,
        short: 1,
        run: outages::disk_full,
    },
    Fault {
        number: 10,
        name: "Redis killed, frozen, flushed",
        full: 30,
        short: 3,
        run: redis::broken,
    },
    Fault {
        number: 11,
        name: "the group's offsets reset to 0, to the end",
        full: 20,
        short: 2,
        run: offsets::reset,
    },
    Fault {
        number: 12,
        name: "another log under the positions",
        full: 2,
        short: 1,
        run: topic::another_log,
    },
    Fault {
        number: 13,
        name: "1 % poison in full flow",
        full: 9,
        short: 3,
        run: poison::in_full_flow,
    },
    Fault {
        number: 14,
        name: "one set of events in any order",
        full: 1_000,
        short: 40,
        run: permutations::delivered,
    },
    Fault {
        number: 15,
        name: "rebuild killed under live load",
        full: 30,
        short: 2,
        run: rebuild::killed,
    },
    Fault {
        number: 16,
        name: "what cannot be read: a corrupt batch, a bomb",
        full: 12,
        short: 2,
        run: unreadable::stands_still,
    },
    // Each way so many times.
    Fault {
        number: 17,
        name: "partitions added, ends of markers, topic deleted",
        full: 6,
        short: 1,
        run: changes::while_counted,
    },
    Fault {
        number: 18,
        name: "a broker of three gone, and a leader with it",
        full: 9,
        short: 1,
        run: brokers::taken_away,
    },
    Fault {
        number: 19,
        name: "little memory, large records, all bad",
        full: 4,
        short: 1,
        run: memory::is_little,
    },
    // Each of both so many times.
    Fault {
        number: 20,
        name: "PostgreSQL in German, a lagging standby promoted",
        full: 5,
        short: 1,
        run: postgres::others,
    },
    Fault {
        number: 21,
        name: "a cluster of three brokers rolls",
        full: 6,
        short: 1,
        run: rolling::each_in_its_turn,
    },
    Fault {
        number: 22,
        name: "one of two databases fails over",
        full: 6,
        short: 1,
        run: shards::one_fails_over,
    },
];
