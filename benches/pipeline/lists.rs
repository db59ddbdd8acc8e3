//! How fast lists of all campaigns are answered.

use std::time::Instant;

use adflux::time::{Length, Timestamp};
use anyhow::{Context as _, ensure};
use diesel::connection::SimpleConnection as _;
use serde_json::Value;

use crate::Size;
use crate::database::Database;
use crate::measured::measure;
use crate::serving::{Server, block_on, ms, quantile, wrk};
use crate::sums::{Batch, STREAM, settle};
use crate::table::{Goal, Table};
use crate::topic::Topic;

/// The first of the windows' days.
const FIRST: &str = "2025-01-02";
const YEAR: i64 = 365;

/// All campaigns over a year, sorted by a ratio, the first fifty; never the same year twice.
pub fn a_year(size: Size, table: &mut Table) -> anyhow::Result<()> {
    let (campaigns, asked) = if size.quick { (60, 4) } else { (10_000, 30) };
    let topic = Topic::create()?;
    topic.fill(7, 1, 1_000)?;
    let database = Database::create("lists");
    measure(&topic, "count", "lists", &["--database-url", &database.url])?;
    // Every campaign on every platform on every day, a day after the other as they come, in the hour that Berlin's days
    // begin with.
    let ids: Vec<String> = (0..campaigns).map(|n| format!("cmp-l{n}")).collect();
    let midnight = FIRST
        .parse::<chrono::NaiveDate>()?
        .and_time(chrono::NaiveTime::MIN)
        .and_utc();
    let mut connection = database.connect();
    for day in -1..=YEAR + asked {
        let time = Timestamp::new(midnight.timestamp_micros())
            + Length::DAY.times(day)
            + Length::HOUR.times(23);
        let mut batch = Batch::new(&ids);
        (0..ids.len()).for_each(|campaign| batch.push(campaign, time));
        batch.write(&mut connection)?;
    }
    let settling = settle(&mut connection)?;
    connection.batch_execute(&format!(
        "INSERT INTO campaigns SELECT 'cmp-l' || c, ({STREAM}) \
             FROM generate_series(0, {campaigns} - 1) AS c"
    ))?;
    connection.batch_execute("VACUUM ANALYZE")?;
    let server = Server::start("serve", &topic, &database, &[])?;
    for zone in ["UTC", "Europe/Berlin", "Asia/Kolkata"] {
        let times = block_on(ask(&server, zone, asked, campaigns))??;
        table.line(
            format!("a year of {campaigns} campaigns, sorted, {zone}, not cached"),
            quantile(&times, 0.5),
            " ms",
            Goal::AtMost(if zone == "Asia/Kolkata" { 300.0 } else { 200.0 }),
            format!(
                "p50 of {} windows, each new; the slowest {:.0} ms; merged in {:.0} s",
                times.len(),
                quantile(&times, 1.0),
                settling.as_secs_f64()
            ),
        );
    }
    let asked = wrk(&server.url("/campaigns"), if size.quick { 1 } else { 5 })?;
    table.line(
        format!("lists of {campaigns} campaigns, all time, warm, p99"),
        asked.p99_ms,
        " ms",
        Goal::AtMost(15.0),
        format!("{:.0}/s", asked.rate),
    );
    Ok(())
}

async fn ask(server: &Server, zone: &str, asked: i64, campaigns: i64) -> anyhow::Result<Vec<f64>> {
    const COLD: i64 = 2;
    let client = reqwest::Client::new();
    let first: chrono::NaiveDate = FIRST.parse()?;
    let mut times = Vec::new();
    for n in 0..asked {
        let since = first + chrono::Days::new(n.unsigned_abs());
        let until = since + chrono::Days::new(YEAR.unsigned_abs());
        let url = server.url(&format!(
            "/campaigns?since={since}&until={until}&time_zone={zone}&sort=roas&limit=50"
        ));
        let started = Instant::now();
        let answer = client.get(url).send().await?.error_for_status()?;
        let body: Value = answer.json().await?;
        // The first ones find cold pages and connections.
        if n >= COLD {
            times.push(ms(started.elapsed()));
        }
        let rows = body["data"].as_array().context("data")?;
        let whole = |row: &Value| row["events"].as_i64() == Some(4 * YEAR);
        let all = body["paging"]["total"].as_i64() == Some(campaigns);
        ensure!(
            rows.len() == 50 && rows.iter().all(whole) && all,
            "{since}: {body}"
        );
    }
    Ok(times)
}
