//! Row 10: Redis is killed, frozen or flushed while the server is asked without a pause. No answer is
//! a 5xx, and once Redis is back no answer is older than what was committed before.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use rand::RngExt as _;

use crate::api::{Api, Reply};
use crate::lab::Lab;
use crate::reader::Reader;
use crate::services::Service;
use crate::table::Row;
use crate::wait::{last, limit, wait_for};

/// How long the server may show what is older than the fault once it is healed.
const LIMIT: Duration = limit(Duration::from_secs(5));

/// Breaks Redis so many times, each way in turn.
pub fn broken(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    let reader = Reader::start(&lab.target);
    wait_for(crate::lab::HANG, || {
        let looks = reader.looks();
        Ok((looks.snapshots > 0 && looks.answers > 0).then_some(()))
    })?
    .context("the reader never saw anything")?;
    let redis_url = lab.services.setting("REDIS_URL")?.to_owned();
    let api = Api::new();
    for n in 0..times {
        let committed = reader.committed();
        let length = Duration::from_millis(lab.chance.random_range(200..2_500));
        match n % 3 {
            0 => {
                lab.services.kill(Service::Redis)?;
                last(length)?;
                lab.services.start(Service::Redis)?;
            }
            1 => {
                lab.services.signal(Service::Redis, Signal::SIGSTOP)?;
                last(length)?;
                lab.services.signal(Service::Redis, Signal::SIGCONT)?;
            }
            _ => {
                let mut redis = redis::Client::open(redis_url.as_str())?.get_connection()?;
                redis::cmd("FLUSHALL").exec(&mut redis)?;
            }
        }
        let healed = Instant::now();
        // Whoever lags behind is asked again; whoever answers wrongly is the reader's to report.
        let mut behind: Vec<&String> = committed.keys().collect();
        let caught_up = wait_for(LIMIT, || {
            behind.retain(|campaign| {
                !lab.target.servers.iter().all(|server| {
                    matches!(api.ask(server, campaign), Reply::Insight(shown)
                        if committed[*campaign].exceeds(&shown, campaign).is_none())
                })
            });
            Ok(behind.is_empty().then_some(()))
        })?;
        if caught_up.is_none() {
            row.violation(format!(
                "{LIMIT:?} after Redis was healed the server shows older values of {behind:?} than were committed before"
            ));
        }
        row.recovered(healed.elapsed());
    }
    let (looks, violations) = reader.stop();
    eprintln!("  {looks}");
    row.violations(&violations);
    Ok(())
}
