//! What a process that counts does beside it, in the background: small blocks are merged, sums are carried, old receipts forgotten, and
//! it is told how old reports are.
//!
//! Each is a thread with a connection of its own, until `done` is set. That the database is away is the processor's to say.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use diesel::PgConnection;

use crate::metrics;
use crate::outage::Outage;
use crate::pause::pause;
use crate::store::keep::carry::{Carried, Due, carry_some, merge_some};
use crate::store::keep::{merge, receipts};
use crate::store::read::descriptions::newest_reports;
use crate::store::sums::backlog::{MOST_WAITING, backlog};
use crate::store::{Limits, StoreError, clock, connect};
use crate::time::{Length, Timestamp};

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

/// How often it is looked how old reports are. They come by the hour at most.
const BETWEEN_AGES: Duration = Duration::from_secs(15);

/// So many accounts are told of; of more, those whose newest report is oldest.
const MOST_AGES: usize = 1_000;

/// Says in metrics how old the newest report of each account is.
pub fn tell_ages(database_url: &str, done: &AtomicBool) {
    let mut rest = Duration::ZERO;
    while pause(rest, done) {
        rest = BETWEEN_AGES;
        let newest = connect(database_url, Limits::MAINTENANCE).and_then(|mut connection| {
            let now = Timestamp::from(clock(&mut connection)?);
            Ok((newest_reports(&mut connection)?, now))
        });
        match newest {
            Ok((newest, now)) => {
                // Without those that are no longer among them.
                metrics::REPORT_AGE.reset();
                for report in newest.iter().take(MOST_AGES) {
                    let account = [report.platform.name(), &report.account_id];
                    let gauge = metrics::REPORT_AGE.with_label_values(&account);
                    let age = now - report.observed_at;
                    gauge.set(age.get() as f64 / Length::SECOND.get() as f64);
                }
            }
            Err(error) => log::debug!("the age of reports cannot be read: {error}"),
        }
    }
}

/// How often it is looked for receipts that are old.
const BETWEEN_FORGETTING: Duration = Duration::from_secs(3_600);

/// Forgets receipts that are old.
pub fn forget_receipts(database_url: &str, done: &AtomicBool) {
    while pause(BETWEEN_FORGETTING, done) {
        let forgotten = connect(database_url, Limits::MAINTENANCE)
            .and_then(|mut connection| receipts::forget(&mut connection));
        if let Err(error) = forgotten {
            log::debug!("forgetting old receipts failed: {error}");
        }
    }
}

/// How long it is waited for parts of sums to be due.
const BETWEEN_CARRIES: Duration = Duration::from_millis(200);
/// Of so many seconds each thread that carries takes one. There are two, so counting goes without half of a core.
const ONE_OF: u32 = 4;
/// The same after a step that found half of the parts that may wait: counting would soon wait for them.
const ONE_OF_WHEN_LATE: u32 = 2;
/// How often the parts are counted.
const BETWEEN_COUNTS: Duration = Duration::from_secs(5);
/// It is said that more come than are carried when so many counts on end found that. A step takes many at once, so one count
/// says little.
const COUNTS_BEHIND: u32 = 6;

/// Carries the parts that commits leave, and says how many there are: in metrics, and in the log when more come than it carries.
pub fn carry_minutes(database_url: &str, done: &AtomicBool) {
    let (behind, mut behind_for) = (Outage::default(), 0);
    let mut counted: Option<Instant> = None;
    carry(database_url, done, |connection| {
        if counted.is_none_or(|at| at.elapsed() >= BETWEEN_COUNTS) {
            count_parts(connection, &behind, &mut behind_for)?;
            counted = Some(Instant::now());
        }
        carry_some(connection, Due::MINUTES)
    });
}

/// Carries the parts of hours and of longer grains, and merges those of one window. A step may take seconds.
pub fn carry_others(database_url: &str, done: &AtomicBool) {
    carry(database_url, done, |connection| {
        match carry_some(connection, Due::OTHERS)? {
            Some(carried) => Ok(Some(carried)),
            None => merge_some(connection),
        }
    });
}

fn carry(
    database_url: &str,
    done: &AtomicBool,
    mut step: impl FnMut(&mut PgConnection) -> Result<Option<Carried>, StoreError>,
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
            Ok(Some(carried)) if carried.parts * 2 >= MOST_WAITING.as_u64() => {
                began.elapsed() * (ONE_OF_WHEN_LATE - 1)
            }
            Ok(Some(_)) => began.elapsed() * (ONE_OF - 1),
            Ok(None) => BETWEEN_CARRIES,
            Err(error) => {
                log::debug!("carrying sums failed: {error}");
                BETWEEN_CARRIES
            }
        };
    }
}

fn count_parts(
    connection: &mut PgConnection,
    behind: &Outage,
    behind_for: &mut u32,
) -> Result<(), StoreError> {
    let counted = backlog(connection)?;
    metrics::SUM_PARTS.set(counted.parts.get());
    metrics::SUM_PARTS_WAITING.set(counted.waiting.get());
    metrics::SUM_CHUNKS_DEAD.set(counted.dead_chunks.get());
    *behind_for = if counted.is_behind() {
        behind_for.saturating_add(1)
    } else {
        0
    };
    if *behind_for >= COUNTS_BEHIND {
        behind.failed(format_args!(
            "{} parts of sums of a partition wait to be carried; at {MOST_WAITING} counting waits for them: PostgreSQL is too slow \
             for what comes, or one of its sessions holds the lock (pg_locks, classid 7236010)",
            counted.waiting
        ));
    } else if *behind_for == 0 {
        behind.ended(format_args!("parts of sums are carried as they come"));
    }
    Ok(())
}
