//! Row 20: other PostgreSQL servers. One that speaks German has its connections cut and is started again; a standby that
//! lagged is promoted, and what it had not received is counted again from the log.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Context as _;
use diesel::connection::SimpleConnection as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::lab::Lab;
use crate::proxy::Proxy;
use crate::stage::{self, PATIENCE, Stage};
use crate::support::server::{Server, Standby};
use crate::table::Row;
use crate::traffic::{Shares, Traffic};
use crate::wait::wait_until;

const RECORDS: usize = 600;
const PARTITIONS: i32 = 3;

/// Each of both so many times.
pub fn others(lab: &mut Lab, times: usize, row: &mut Row) -> anyhow::Result<()> {
    for _ in 0..times {
        german(lab, row).context("a German server")?;
        promoted(lab, row).context("a standby that is promoted")?;
    }
    Ok(())
}

fn stage(lab: &mut Lab) -> anyhow::Result<(Stage, Traffic)> {
    let chance = ChaCha8Rng::seed_from_u64(lab.chance.random());
    let stage = Stage::new(&lab.services, &lab.folder.join("logs"), "postgres")?;
    stage.create_topic(PARTITIONS)?;
    Ok((stage, Traffic::new(chance, 40, Shares::USUAL)))
}

fn german(lab: &mut Lab, row: &mut Row) -> anyhow::Result<()> {
    let server = Server::german();
    let (mut stage, mut traffic) = stage(lab)?;
    let url = server.url_of("german");
    stage.use_database(&url, &url);
    let mut process = stage.start("process", &[])?;
    stage.send(&mut traffic, RECORDS)?;
    stage.wait_until_counted(PATIENCE)?;
    let sender = stage.sender()?;
    let now = || chrono::Utc::now().timestamp_micros();
    for n in 0..4 {
        (0..RECORDS).try_for_each(|_| sender.send_next(&mut traffic, now()))?;
        let began = Instant::now();
        if n % 2 == 0 {
            // Whoever is asked to go says why, in German.
            let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
            server.connect().batch_execute(cut)?;
        } else {
            server.stop();
            server.start_again();
        }
        sender.flush()?;
        stage.wait_until_counted(PATIENCE)?;
        row.recovered(began.elapsed());
    }
    row.violations(&stage.check());
    stage::end(&mut process)
}

fn promoted(lab: &mut Lab, row: &mut Row) -> anyhow::Result<()> {
    let primary = Server::start();
    let standby = Standby::of(&primary);
    let proxy = Proxy::before(&primary.url);
    let (mut stage, mut traffic) = stage(lab)?;
    let database = primary.url_of("lagged");
    stage.use_database(&database, &proxy.url(&database));
    let mut process = stage.start("process", &[])?;
    stage.send(&mut traffic, RECORDS)?;
    stage.wait_until_counted(PATIENCE)?;
    let positions = stage.positions();
    let theirs = standby.url_of("lagged");
    wait_until(PATIENCE, "the standby has it all", || {
        Ok(Stage::positions_in(&theirs) == positions)
    })?;
    standby.lag();
    stage.send(&mut traffic, RECORDS)?;
    stage.wait_until_counted(PATIENCE)?;

    primary.stop();
    standby.promote();
    let began = Instant::now();
    proxy.leads_to(address(&standby.url)?);
    stage.use_database(&theirs, &proxy.url(&database));
    // Without a new record.
    stage.wait_until_counted(PATIENCE)?;
    row.recovered(began.elapsed());
    stage.send(&mut traffic, RECORDS)?;
    stage.wait_until_counted(PATIENCE)?;
    let log = std::fs::read_to_string(&process.log)?;
    if !log.contains("PostgreSQL has lost commits") {
        row.violation("nobody said that commits were lost");
    }
    row.violations(&stage.check());
    stage::end(&mut process)
}

fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let (_, place) = url.rsplit_once('@').context("a user")?;
    let (address, _) = place.split_once('/').context("a database")?;
    Ok(address.parse()?)
}
