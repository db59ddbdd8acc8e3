//! How fast lists of all campaigns are answered.

use std::time::{Duration, Instant};

use adflux::store::keep::spans;
use anyhow::{Context as _, ensure};
use diesel::connection::SimpleConnection as _;
use serde_json::Value;

use crate::Size;
use crate::database::Database;
use crate::measured::measure;
use crate::serving::{Server, block_on, ms, quantile};
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
    // Every campaign on every platform on every day, a day after the other as they come; of hours the ones that
    // Berlin's days end with.
    let rows = format!("generate_series(0, {campaigns} - 1) AS c, generate_series(0, 3) AS p");
    let of_day = format!(
        "LATERAL (SELECT day, id, c, p FROM (SELECT 'cmp-l' || c AS id, c, p FROM {rows}) AS row ORDER BY id COLLATE \"C\", p) AS r"
    );
    let sums = "1, 100, 10, 1, 1000000 + c * 13, 2000000 + c * 7";
    let days = format!(
        "SELECT timestamptz '{FIRST} 00:00Z' + d * interval '24 hours' FROM generate_series(-1, {YEAR} + {asked}) AS d"
    );
    let mut connection = database.connect();
    connection.batch_execute(&format!(
        "INSERT INTO metrics_by_day SELECT id, r.day, p, {sums} FROM ({days}) AS d (day), {of_day}; \
         INSERT INTO metrics_by_hour SELECT id, r.day + interval '23 hours', p, {sums} \
             FROM ({days} WHERE d < {asked} OR d >= {YEAR} - 1) AS d (day), {of_day}; \
         INSERT INTO metrics_total SELECT 'cmp-l' || c, p, {sums}, timestamptz '{FIRST} 00:00Z' - interval '24 hours', \
             timestamptz '{FIRST} 00:00Z' + {YEAR} * interval '24 hours', 1, now() FROM {rows}; \
         INSERT INTO campaigns SELECT 'cmp-l' || c, (SELECT min(stream_id) FROM stream_positions) \
             FROM generate_series(0, {campaigns} - 1) AS c; \
         INSERT INTO day_versions SELECT day, (SELECT min(stream_id) FROM stream_positions), 1, day FROM ({days}) AS d (day)"
    ))?;
    // As maintenance does: without summaries of where which days are, each span would read all of them.
    connection.batch_execute("VACUUM ANALYZE")?;
    let started = Instant::now();
    let mut made = 0;
    while spans::make_one(&mut connection, Duration::from_secs(60))? {
        made += 1;
    }
    let making = started.elapsed();
    connection.batch_execute("VACUUM ANALYZE")?;
    let server = Server::start("serve", &topic, &database, &[])?;
    for zone in ["UTC", "Europe/Berlin"] {
        let times = block_on(ask(&server, zone, asked, campaigns))??;
        table.line(
            format!("a year of {campaigns} campaigns, sorted, {zone}, not cached"),
            quantile(&times, 0.5),
            " ms",
            Goal::AtMost(200.0),
            format!(
                "p50 of {} windows, each new; the slowest {:.0} ms; {made} spans made in {:.0} s",
                times.len(),
                quantile(&times, 1.0),
                making.as_secs_f64()
            ),
        );
    }
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
