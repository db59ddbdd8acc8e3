//! What a process that counts does beside it, in the background: small blocks are merged, sums are carried.
//!
//! Each is a thread with a connection of its own, until `done` is set. That the database is away is the processor's to say.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use diesel::PgConnection;

use crate::metrics;
use crate::outage::Outage;
use crate::pause::pause;
use crate::store::keep::carry::{Due, carry_some, merge_some};
use crate::store::keep::merge;
use crate::store::sums::backlog::{MOST_WAITING, backlog};
use crate::store::{Limits, StoreError, connect};

/// Merges blocks that are older than this.
const MERGE_AFTER: Duration = Duration::from_secs(3_600);
/// How often it is looked whether some are.
const BETWEEN_MERGES: Duration = Duration::from_secs(60);

/// Merges small blocks.
pub fn merge_blocks(database_url: &str, done: &AtomicBool) {
    let mut rest = BETWEEN_MERGES;
    while pause(rest, done) {
        let merged = connect(database_url, Limits::PROCESSOR)
            .and_then(|mut connection| merge::merge_some(&mut connection, MERGE_AFTER));
        rest = match merged {
            Ok(merged) => {
                if merged.blocks > 0 {
                    log::debug!("merged {} small blocks into {}", merged.blocks, merged.into);
                }
                if merged.more {
                    Duration::ZERO
                } else {
                    BETWEEN_MERGES
                }
            }
            Err(error) => {
                log::debug!("merging blocks failed: {error}");
                BETWEEN_MERGES
            }
        }
    }
}

/// How long it is waited for parts of sums to be due.
const BETWEEN_CARRIES: Duration = Duration::from_millis(200);
/// Of so many seconds each thread that carries takes one. There are two, so half of a core is the most that counting goes without.
const ONE_OF: u32 = 4;
/// How often the parts are counted.
const BETWEEN_COUNTS: Duration = Duration::from_secs(5);

/// Carries the parts that commits leave, and says how many there are: in metrics, and in the log when more come than it carries.
pub fn carry_minutes(database_url: &str, done: &AtomicBool) {
    let behind = Outage::default();
    let mut counted: Option<Instant> = None;
    carry(database_url, done, |connection| {
        if counted.is_none_or(|at| at.elapsed() >= BETWEEN_COUNTS) {
            count_parts(connection, &behind)?;
            counted = Some(Instant::now());
        }
        Ok(carry_some(connection, Due::MINUTES)?.is_some())
    });
}

/// Carries the parts of hours and of longer grains, and merges those of one window. A step may take seconds.
pub fn carry_others(database_url: &str, done: &AtomicBool) {
    carry(database_url, done, |connection| {
        Ok(carry_some(connection, Due::OTHERS)?.is_some() || merge_some(connection)?.is_some())
    });
}

fn carry(
    database_url: &str,
    done: &AtomicBool,
    mut step: impl FnMut(&mut PgConnection) -> Result<bool, StoreError>,
) {
    let mut connection = None;
    let mut rest = BETWEEN_CARRIES;
    while pause(rest, done) {
        let began = Instant::now();
        let open = match connection.take() {
            Some(open) => Ok(open),
            None => connect(database_url, Limits::MAINTENANCE),
        };
        let carried = open.and_then(|mut open| {
            let carried = step(&mut open)?;
            connection = Some(open);
            Ok(carried)
        });
        rest = match carried {
            Ok(true) => began.elapsed() * (ONE_OF - 1),
            Ok(false) => BETWEEN_CARRIES,
            Err(error) => {
                log::debug!("carrying sums failed: {error}");
                BETWEEN_CARRIES
            }
        };
    }
}

fn count_parts(connection: &mut PgConnection, behind: &Outage) -> Result<(), StoreError> {
    let counted = backlog(connection)?;
    metrics::SUM_PARTS.set(counted.parts.get());
    metrics::SUM_PARTS_WAITING.set(counted.waiting.get());
    metrics::SUM_CHUNKS_DEAD.set(counted.dead_chunks.get());
    if counted.is_behind() {
        behind.failed(format_args!(
            "{} parts of sums of a partition wait to be carried; at {MOST_WAITING} counting waits for them: PostgreSQL is too slow \
             for what comes, or one of its sessions holds the lock (pg_locks, classid 7236010)",
            counted.waiting
        ));
    } else {
        behind.ended(format_args!("parts of sums are carried as they come"));
    }
    Ok(())
}
