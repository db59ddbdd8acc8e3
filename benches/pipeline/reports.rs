//! Days that platforms report, told for the first time, and told again with a tenth of them changed.

use std::time::Duration;

use adflux::codec::{self, SchemaIds};
use adflux::currency::Currency;
use adflux::event::{CampaignId, Platform};
use adflux::kafka::producer;
use adflux::report_row::{Definition, Origin, ReportRow, Values};
use adflux::time::{Length, Timestamp};
use anyhow::{Context as _, ensure};
use chrono::{Days, NaiveDate};
use diesel::sql_types::BigInt;
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use crate::Size;
use crate::cases::send;
use crate::database::Database;
use crate::delivery::START;
use crate::measured::{Run, measure};
use crate::table::{Goal, Table};
use crate::topic::Topic;

const DAYS: u32 = 90;

/// Two exports of one account: the second says the same of most days.
pub fn reports(size: Size, table: &mut Table) -> anyhow::Result<()> {
    let campaigns = if size.quick { 100 } else { 11_112 };
    let rows = i64::from(campaigns * DAYS);
    let topic = Topic::create()?;
    topic.fill(1, 1, 0)?;
    let database = Database::create("reports");
    let count = || {
        measure(
            &topic,
            "count",
            "reports",
            &["--database-url", &database.url],
        )
    };
    let said = |run: &Run| {
        format!(
            "{rows} rows, {DAYS} days of {campaigns} campaigns; {} MB at the most",
            run.peak_mb
                .map_or_else(|| "?".to_owned(), |mb| format!("{mb:.0}"))
        )
    };
    fill(&topic, campaigns, 0)?;
    let first = count()?;
    table.line(
        "report rows, told for the first time",
        first.rate(),
        "/s",
        Goal::AtLeast(15_000.0),
        said(&first),
    );
    fill(&topic, campaigns, 1)?;
    let again = count()?;
    table.line(
        "told again, a tenth of them changed",
        again.rate(),
        "/s",
        Goal::AtLeast(50_000.0),
        said(&again),
    );
    #[derive(QueryableByName)]
    struct Counted {
        #[diesel(sql_type = BigInt)]
        events: i64,
        #[diesel(sql_type = BigInt)]
        unchanged: i64,
    }
    let counted: Counted = sql_query(
        "SELECT sum(events)::bigint AS events, sum(unchanged)::bigint AS unchanged FROM stream_positions",
    )
    .get_result(&mut database.connect())?;
    let changed = rows / 10;
    ensure!(
        (counted.events, counted.unchanged) == (rows + changed, rows - changed),
        "{} events and {} unchanged of {rows} rows",
        counted.events,
        counted.unchanged
    );
    Ok(())
}

/// Sends what the platform says when it is asked for the so-manieth time, day by day, as exports are sorted.
fn fill(topic: &Topic, campaigns: u32, asked: i64) -> anyhow::Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> =
        producer::properties(&topic.cluster).create()?;
    let first = START.datetime().context("a date")?.date_naive();
    let observed_at = START + Length::DAY.times(i64::from(DAYS) + asked);
    let mut payload = Vec::new();
    for day in 0..DAYS {
        for campaign in 0..campaigns {
            let n = i64::from(day * campaigns + campaign);
            let changed = i64::from(n % 10 == 0) * asked;
            let id = format!("google:1234567890:{}", 9_000_000 + campaign);
            let name = format!("Campaign {campaign}");
            let row = row(
                &id,
                &name,
                first + Days::new(day.into()),
                observed_at,
                n + changed,
            );
            payload.clear();
            codec::report::encode(&row?, SchemaIds::OWN.report, &mut payload);
            send(
                &producer,
                BaseRecord::to(&topic.name).key(&id).payload(&payload[..]),
            )?;
        }
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}

fn row<'a>(
    id: &'a str,
    name: &'a str,
    day: NaiveDate,
    observed_at: Timestamp,
    n: i64,
) -> anyhow::Result<ReportRow<'a>> {
    Ok(ReportRow {
        campaign_id: CampaignId::parse(id).map_err(|e| anyhow::anyhow!("{e:?}"))?,
        campaign_name: name,
        definition: Definition {
            platform: Platform::Google,
            account: "1234567890",
            time_zone: chrono_tz::Europe::Berlin,
            currency: Currency::from_code("EUR").context("a currency")?,
            conversions: "",
            revenue: "",
        },
        day,
        slice: "",
        observed_at,
        values: Values::of([
            Some(1_000 + n % 977),
            Some(50 + n % 31),
            Some(1_500_000 + n),
            Some(25_000_000 + n),
            Some(60_000_000 + n),
        ]),
        origin: Origin {
            file: Some([7; 32]),
            line: Some(n),
        },
    })
}
