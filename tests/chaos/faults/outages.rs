//! Rows 3, 6, 7 and 9: PostgreSQL or the broker is lost and comes back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection};
use rand::RngExt as _;

use crate::lab::{HANG, Lab, has_moved};
use crate::proxy::Fault;
use crate::services::Service;
use crate::table::Row;
use crate::wait::{last, wait_for, wait_until};

/// The reply to COMMIT is lost, and the connection with it: it is done, and the processor does not
/// know.
pub fn lost_replies(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    for _ in 0..times {
        let slot = lab.any_owner()?;
        let pid = lab.fleet.slots[slot].process.pid();
        let proxy = &lab.fleet.slots[slot].proxy;
        let lost = proxy.lost();
        proxy.fault_at_batch(Fault::LoseReply);
        let gone = wait_for(HANG, || {
            Ok((lab.fleet.slots[slot].proxy.lost() > lost).then_some(()))
        })?;
        let since = Instant::now();
        if gone.is_none() {
            lab.fleet.slots[slot].proxy.no_faults();
            row.violation(format!("processor {} committed nothing", slot + 1));
            continue;
        }
        let owned = Lab::owned(&lab.positions_now()?, pid);
        lab.moved(&owned, since, HANG, row)?;
    }
    Ok(())
}

/// PostgreSQL is killed with all its processes, or only its connections are cut.
pub fn postgres(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    for n in 0..times {
        if n % 3 == 2 {
            PgConnection::establish(&lab.target.database_url)?
                .batch_execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'adflux'",
                )?;
        } else {
            lab.services.kill(Service::Postgres)?;
            last(Duration::from_millis(lab.chance.random_range(0..1_500)))?;
            lab.services.start(Service::Postgres)?;
        }
        let healed = Instant::now();
        let positions = lab.positions_now()?;
        lab.moved(&positions, healed, HANG, row)?;
    }
    Ok(())
}

/// The broker is killed and started again.
pub fn broker(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    for _ in 0..times {
        lab.services.kill(Service::Kafka)?;
        last(Duration::from_millis(lab.chance.random_range(0..1_500)))?;
        lab.services.start(Service::Kafka)?;
        let healed = Instant::now();
        let positions = lab.positions_now()?;
        lab.moved(&positions, healed, HANG, row)?;
    }
    Ok(())
}

/// PostgreSQL's disk is filled to the last byte, and emptied again.
pub fn disk_full(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    for _ in 0..times {
        let disk = match lab.services.disk() {
            Ok(disk) => disk.to_owned(),
            Err(why) => bail!("{why}. Run it where one can, or say --leave-out 9"),
        };
        let ballast = disk.join("ballast");
        let full = fill(&ballast).and_then(|()| {
            // What is left in half-filled pages and segments is used up first.
            wait_until(HANG, "a full disk stops every partition", || {
                let Some(then) = lab.positions() else {
                    return Ok(true);
                };
                fill(&ballast)?;
                last(Duration::from_secs(1))?;
                let now = lab.positions().unwrap_or_else(|| then.clone());
                Ok(!then.keys().any(|p| {
                    let one = then.iter().filter(|(q, _)| *q == p);
                    has_moved(&one.map(|(p, q)| (*p, *q)).collect(), &now)
                }))
            })
        });
        last(Duration::from_millis(lab.chance.random_range(0..2_000)))?;
        std::fs::remove_file(&ballast)?;
        full?;
        let healed = Instant::now();
        // A server that could not write its log ahead ends, sooner or later; its supervisor starts it again.
        let positions = wait_for(HANG, || {
            lab.services.start(Service::Postgres)?;
            Ok(lab.positions())
        })?;
        let positions = positions.context("PostgreSQL does not answer")?;
        lab.moved(&positions, healed, HANG, row)?;
    }
    Ok(())
}

/// Makes a file take all the space there is, beyond what it took before.
fn fill(ballast: &std::path::Path) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(ballast)
        .with_context(|| format!("cannot write {}", ballast.display()))?;
    let mut piece = vec![0; 4 << 20];
    loop {
        match file.write(&piece) {
            Ok(n) if n > 0 => {}
            Ok(_) => return Ok(()),
            // The last bytes, too.
            Err(e) if e.kind() == std::io::ErrorKind::StorageFull && piece.len() > 4_096 => {
                piece.truncate(piece.len() / 2);
            }
            Err(e) if e.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
