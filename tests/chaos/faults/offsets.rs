//! Row 11: the consumer group's offsets in Kafka are reset to 0 and to the end, as an operator's tool
//! does. Nobody reads from them, so no total moves and nothing is left out.

use std::time::Instant;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::lab::Lab;
use crate::stage::{self, PATIENCE, Stage};
use crate::table::Row;
use crate::traffic::{Shares, Traffic};

/// Records before each reset, of which a part is not counted yet.
const RECORDS: usize = 400;

/// Resets them so many times, to 0 and to the end in turn.
pub fn reset(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    let stage = Stage::new(&lab.services, &lab.folder.join("logs"), "offsets")?;
    stage.create_topic(3)?;
    let sender = stage.sender()?;
    let shares = Shares {
        duplicates: 0.1,
        late: 0.05,
        malformed: 0.01,
        reports: 0.2,
    };
    let mut traffic = Traffic::new(ChaCha8Rng::seed_from_u64(lab.chance.random()), 20, shares);
    let mut send = |records: usize| -> anyhow::Result<()> {
        for _ in 0..records {
            let now = chrono::Utc::now().timestamp_micros();
            sender.send_next(&mut traffic, now)?;
        }
        sender.flush()
    };
    send(RECORDS)?;
    for n in 0..times {
        let mut process = stage.start("process", &[])?;
        stage.wait_until_counted(PATIENCE)?;
        stage::end(&mut process)?;
        // Some records lie behind the position, some before it.
        send(RECORDS)?;
        let mut offsets = stage.log_ends()?;
        if n % 2 == 0 {
            offsets.values_mut().for_each(|offset| *offset = 0);
        }
        stage.reset_offsets(&offsets)?;
        let started = Instant::now();
        let (ended_well, log) = stage.run("process", &["--until-end"])?;
        if !ended_well {
            row.violation(format!("the processor failed after a reset: {log}"));
        }
        row.recovered(started.elapsed());
        let violations = stage.check();
        if violations.count() > 0 {
            row.violation(format!("after a reset to {offsets:?}: {violations}"));
        }
    }
    Ok(())
}
