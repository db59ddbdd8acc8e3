//! Row 1: `kill -9`, at any moment.

use std::time::{Duration, Instant};

use crate::lab::{HANG, Lab};
use crate::table::Row;
use crate::wait::{limit, wait_until};

/// Its partitions move again within this time.
const LIMIT: Duration = limit(Duration::from_secs(10));

/// One in so many runs has a longer session timeout than the laboratory otherwise gives.
const LONG_SESSIONS: usize = 20;

/// Records a second meanwhile.
const RATE: u64 = 3_000;
/// At least so many flow for each kill: two million in a full run.
const RECORDS: u64 = 10_000;

/// Kills one that has partitions, again and again; it is started again at once, as by a supervisor.
pub fn at_random(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    let flow = lab.producer.pause()?;
    let acknowledged = |lab: &Lab| lab.producer.ledger().lock().records();
    let enough = acknowledged(lab) + times as u64 * RECORDS;
    lab.producer.set_rate(RATE);
    for n in 0..times {
        let slot = lab.any_owner()?;
        let pid = lab.fleet.slots[slot].process.pid();
        lab.fleet.slots[slot].process.kill()?;
        let killed = Instant::now();
        let owned = Lab::owned(&lab.positions_now()?, pid);
        let session: &[_] = if n % LONG_SESSIONS == 0 {
            &[("ADFLUX_SESSION_TIMEOUT", "6s")]
        } else {
            &[]
        };
        lab.fleet.restart(slot, session)?;
        lab.taken_over(&owned, killed, LIMIT, row)?;
    }
    let patience = HANG + Duration::from_secs(times as u64 * RECORDS / RATE);
    wait_until(patience, "so many records flow", || {
        Ok(acknowledged(lab) >= enough)
    })?;
    lab.producer.set_rate(flow);
    Ok(())
}
