//! What platforms say of a day is told again for weeks: in whatever order, however often and in whatever pieces it comes, the
//! newest counts.

use std::collections::BTreeMap;

use adflux::codec::{self, SchemaIds};
use adflux::currency::Currency;
use adflux::event::{CampaignId, Platform};
use adflux::report_row::{Definition, Origin, ReportRow, Values};
use adflux::time::Timestamp;
use chrono::{DateTime, NaiveDate};
use diesel::sql_types::{Nullable, Text};
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use rand::seq::SliceRandom;
use rand::{RngExt as _, SeedableRng as _};

use crate::process::Process;
use crate::proxy::{Fault, Proxy};
use crate::records::{Event, Record};
use crate::world::World;

/// A row to send.
#[derive(Clone, Debug)]
pub struct Row {
    pub campaign: String,
    pub name: String,
    pub account: &'static str,
    pub day: NaiveDate,
    pub slice: &'static str,
    pub observed_at: Timestamp,
    pub values: [Option<i64>; 5],
}

pub fn at(text: &str) -> Timestamp {
    DateTime::parse_from_rfc3339(text)
        .expect("an instant")
        .to_utc()
        .into()
}

impl Row {
    pub fn of(campaign: &str, day: &str, observed_at: &str, clicks: i64) -> Row {
        Row {
            campaign: campaign.to_owned(),
            name: format!("{campaign}, by name"),
            account: "1",
            day: day.parse().expect("a date"),
            slice: "",
            observed_at: at(observed_at),
            values: [
                Some(clicks * 100),
                Some(clicks),
                Some(clicks * 500_000),
                Some(clicks * 2_500_000),
                Some(clicks * 4_000_001),
            ],
        }
    }

    pub fn record(&self) -> Record {
        let row = ReportRow {
            campaign_id: CampaignId::parse(&self.campaign).expect("a campaign id"),
            campaign_name: &self.name,
            definition: Definition {
                platform: Platform::Google,
                account: self.account,
                time_zone: chrono_tz::Europe::Berlin,
                currency: Currency::from_code("EUR").expect("a currency"),
                conversions: "",
                revenue: "",
            },
            day: self.day,
            slice: self.slice,
            observed_at: self.observed_at,
            values: Values::of(self.values),
            origin: Origin {
                file: Some([7; 32]),
                line: Some(3),
            },
        };
        let mut payload = Vec::new();
        codec::report::encode(&row, SchemaIds::OWN.report, &mut payload);
        Record {
            key: Some(self.campaign.clone().into_bytes()),
            payload: Some(payload),
            ..Record::default()
        }
    }
}

/// What must be known of a key when all was said: the numbers, and each change of them as (observed_at, clicks).
type Known = BTreeMap<(String, NaiveDate, &'static str), Vec<(Timestamp, Option<i64>)>>;

fn known(rows: &[Row]) -> Known {
    let mut said: BTreeMap<_, BTreeMap<Timestamp, Option<i64>>> = BTreeMap::new();
    for row in rows {
        let key = (row.campaign.clone(), row.day, row.slice);
        let first = said
            .entry(key)
            .or_default()
            .insert(row.observed_at, row.values[1]);
        assert!(first.is_none_or(|first| first == row.values[1]));
    }
    said.into_iter()
        .map(|(key, said)| {
            let mut changes: Vec<(Timestamp, Option<i64>)> = said.into_iter().collect();
            changes.dedup_by_key(|(_, clicks)| *clicks);
            (key, changes)
        })
        .collect()
}

/// Holds what is stored against what was said, in any order.
fn assert_known(world: &World, expected: &Known) {
    assert_known_beside(world, expected, 0);
}

/// The same where events have so many clicks.
fn assert_known_beside(world: &World, expected: &Known, of_events: i64) {
    #[derive(QueryableByName)]
    struct Stored {
        #[diesel(sql_type = Text)]
        line: String,
    }
    let stored: Vec<Stored> = sql_query(
        "SELECT concat_ws(' ', campaign_id, day, slice, extract(epoch FROM observed_at) * 1000000, COALESCE(clicks::text, 'unknown')) AS line
         FROM (SELECT campaign_id, day, slice, observed_at, clicks FROM report_rows
               UNION ALL SELECT campaign_id, day, slice, observed_at, clicks FROM report_history) AS r
         ORDER BY campaign_id, day, slice, observed_at",
    )
    .load(&mut world.connect())
    .expect("rows");
    let stored: Vec<String> = stored.into_iter().map(|row| row.line).collect();
    let mut lines = Vec::new();
    for ((campaign, day, slice), changes) in expected {
        for (observed_at, clicks) in changes {
            let clicks = clicks.map_or("unknown".to_owned(), |clicks| clicks.to_string());
            lines.push(format!(
                "{campaign} {day} {slice} {}.000000 {clicks}",
                observed_at.get()
            ));
        }
    }
    assert_eq!(
        stored, lines,
        "each revision that said something else than the one before it"
    );
    let clicks: i64 = expected
        .values()
        .filter_map(|changes| changes.last())
        .filter_map(|(_, clicks)| *clicks)
        .sum();
    assert_eq!(
        world.number("SELECT COALESCE(sum(clicks), 0)::bigint FROM metrics_total"),
        clicks + of_events,
        "the newest counts"
    );
    world.assert_every_record_once();
    Process::start(&mut world.command("verify", &[]))
        .end()
        .success();
}

/// Two exports of an account, the second a fortnight later: most days are restated, two are missing, campaigns are renamed.
fn exports() -> (Vec<Row>, Vec<Row>) {
    let campaigns = ["google:1:10", "google:1:11", "google:1:12", "google:1:13"];
    let mut first = Vec::new();
    let mut second = Vec::new();
    for (c, campaign) in (0_i64..).zip(campaigns) {
        for d in 1..=15 {
            let day = format!("2024-06-{d:02}");
            let clicks = 40 + 10 * c + d;
            first.push(Row::of(campaign, &day, "2024-06-16T07:00:00Z", clicks));
            // Two days are not in the second export, and one says the same.
            let restated = match d {
                4 | 9 => continue,
                7 => clicks,
                _ => clicks + (d % 3) * 5 - 3,
            };
            let mut row = Row::of(campaign, &day, "2024-06-30T07:00:00Z", restated);
            if c < 3 {
                row.name = format!("{campaign}, renamed");
            }
            second.push(row);
        }
    }
    (first, second)
}

fn records(rows: &[Row]) -> Vec<Record> {
    rows.iter().map(Row::record).collect()
}

#[test]
fn the_newest_export_counts_whatever_came_first() {
    let world = World::new("exports");
    world.create_topic(3, &[]);
    let (first, second) = exports();
    let all = [first.clone(), second.clone()].concat();
    // The newer one, then the older, then both again; killed in between, so some of it is read again.
    for rows in [&second, &first, &first, &second] {
        world.send(&records(rows));
        let process = world.start_process(&["--batch-records", "20"]);
        crate::wait::wait_until("the schema is there", || world.counted() >= 0);
        process.kill();
    }
    world.process_until_end(&[]).success();
    assert_known(&world, &known(&all));
    assert_eq!(
        world.number("SELECT count(*) FROM report_rows WHERE day IN ('2024-06-04', '2024-06-09')"),
        8
    );
    let renamed =
        "SELECT count(*) FROM campaigns WHERE name LIKE '%, renamed' AND definition_id IS NOT NULL";
    assert_eq!(world.number(renamed), 3);
    assert_eq!(world.number("SELECT count(*) FROM campaign_names"), 7);
    // All that came again changed nothing, and is accounted for.
    assert_eq!(
        world.number("SELECT sum(duplicates)::bigint FROM stream_positions"),
        i64::try_from(all.len()).expect("few")
    );
    let seventh = 4;
    assert_eq!(
        world.number("SELECT sum(superseded)::bigint FROM stream_positions"),
        i64::try_from(first.len()).expect("few") - 8,
        "of the days that the second export has, what the first says is older"
    );
    assert_eq!(
        world.number("SELECT count(*) FROM report_history"),
        i64::try_from(first.len()).expect("few") - 8 - seventh
    );
    // What was known between the two is what the first says, though it came later.
    let args = ["--as-of", "2024-06-20T00:00:00Z", "--into", "then"];
    Process::start(&mut world.command("rebuild", &args))
        .end()
        .success();
    let clicks: i64 = first.iter().filter_map(|row| row.values[1]).sum();
    assert_eq!(
        world.number("SELECT sum(clicks)::bigint FROM \"then\".metrics_total"),
        clicks
    );
    assert_eq!(
        world.number("SELECT count(DISTINCT (campaign_id, day)) FROM \"then\".metrics_by_day"),
        i64::try_from(first.len()).expect("few")
    );
}

/// Rows of many keys and instants, cut and mixed at random, with events among them.
#[test]
fn any_order_makes_the_same_history() {
    for seed in 0..3 {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let world = World::new("anyorder");
        world.create_topic(4, &[]);
        let mut rows = Vec::new();
        for campaign in 0..6 {
            for day in 1..=4 {
                for hour in 0..12 {
                    let observed =
                        format!("2024-06-{:02}T{:02}:30:00Z", day + hour / 6, (hour % 6) * 4);
                    let id = format!("google:1:{campaign}");
                    let mut row = Row::of(
                        &id,
                        &format!("2024-06-{day:02}"),
                        &observed,
                        random.random_range(0..3),
                    );
                    if random.random_bool(0.1) {
                        row.values = [None; 5];
                    }
                    rows.push(row);
                }
            }
        }
        let expected = known(&rows);
        let mut sent = rows.clone();
        sent.extend(rows.iter().filter(|_| random.random_bool(0.3)).cloned());
        sent.shuffle(&mut random);
        let messages = records(&sent);
        // Some through another partition than their campaign's: it is taken over, to and fro.
        let (usual, other) = messages.split_at(messages.len() / 2);
        world.send(usual);
        world.send_packed(other, &[("partitioner", "consistent_random")]);
        world.send(usual);
        let size = random.random_range(1..200).to_string();
        world
            .process_until_end(&["--batch-records", &size])
            .success();
        assert_known(&world, &expected);
        world.process_until_end(&[]).success();
    }
}

/// A COMMIT without an answer may have happened or not. Asking the position tells, of reports too.
#[test]
fn a_lost_answer_to_commit_says_nothing_twice() {
    let world = World::new("lost_reports");
    world.create_topic(2, &[]);
    let (first, second) = exports();
    let all = [first.clone(), second.clone()].concat();
    let event = Event::of("google:1:10");
    world.send(&[records(&second), records(&first), vec![event.record()]].concat());
    let proxy = Proxy::before(&world.database_url);
    let mut command = world.command("process", &["--until-end", "--batch-records", "8"]);
    command.env("DATABASE_URL", proxy.url(&world.database_url));
    for n in 0..8 {
        proxy.fault_at_batch(Fault::LoseReply);
        if n % 4 == 0 {
            proxy.fault_at_batch(Fault::LoseRequest);
        }
    }
    Process::start(&mut command).end().success();
    assert_eq!(proxy.lost(), 10);
    let clicks = event.counts.clicks.get();
    assert_known_beside(&world, &known(&all), clicks);
    assert_eq!(
        world.number("SELECT sum(superseded)::bigint FROM stream_positions"),
        i64::try_from(first.len()).expect("few") - 8
    );
}

#[test]
fn what_contradicts_what_is_known_is_a_dead_letter() {
    let world = World::new("mixedreports");
    world.create_topic(1, &[]);
    let row = Row::of("google:1:10", "2024-06-03", "2024-06-04T07:00:00Z", 5);
    let other_numbers = Row {
        values: [None, Some(6), None, None, None],
        ..row.clone()
    };
    let other_grain = Row {
        slice: "ad_group=7",
        observed_at: at("2024-06-05T07:00:00Z"),
        ..row.clone()
    };
    let other_account = Row {
        account: "2",
        observed_at: at("2024-06-05T07:00:00Z"),
        ..row.clone()
    };
    let future = Row {
        day: "2024-06-06".parse().expect("a date"),
        ..row.clone()
    };
    // A day that says nothing any more takes rows of another grain.
    let later = |row: &Row, observed_at: &str, values: [Option<i64>; 5]| Row {
        observed_at: at(observed_at),
        values,
        ..row.clone()
    };
    let withdrawn = later(&row, "2024-06-06T06:59:59Z", [None; 5]);
    let moved = later(&other_grain, "2024-06-06T07:00:00Z", [Some(9); 5]);
    world.send(&records(&[
        row.clone(),
        other_numbers,
        other_grain,
        other_account,
        future,
        withdrawn.clone(),
        moved.clone(),
        later(&row, "2024-06-07T07:00:00Z", [Some(1); 5]),
    ]));
    world.process_until_end(&[]).success();
    let expected = BTreeMap::from([
        ("conflicting_report".to_owned(), 1),
        ("invalid_day".to_owned(), 1),
        ("mixed_report".to_owned(), 3),
    ]);
    assert_eq!(world.dead_letters(), expected);
    assert_known(&world, &known(&[row, withdrawn, moved]));
}

/// One campaign's events and reports are added up together, and an event with a report's key for its id is an event.
#[test]
fn events_and_reports_go_side_by_side() {
    let world = World::new("sidebyside");
    world.create_topic(1, &[]);
    let row = Row::of("google:1:10", "2024-06-03", "2024-06-04T07:00:00Z", 5);
    world.send(&[row.record()]);
    world.process_until_end(&[]).success();
    let mut event = Event::of("google:1:10");
    event.time = at("2024-06-03T10:00:00Z").get();
    #[derive(QueryableByName)]
    struct Key {
        #[diesel(sql_type = Nullable<Text>)]
        key: Option<String>,
    }
    let key: Key = sql_query("SELECT event_id::text AS key FROM report_rows")
        .get_result(&mut world.connect())
        .expect("a row");
    event.id = key.key.expect("a key").parse().expect("a UUID");
    let mut restated = Row::of("google:1:10", "2024-06-03", "2024-06-14T07:00:00Z", 4);
    restated.values[4] = None;
    world.send(&[event.record(), event.record(), restated.record()]);
    world.process_until_end(&["--recent-events", "1"]).success();
    let five = event.counts.numbers()[1];
    assert_eq!(
        world.number("SELECT sum(clicks)::bigint FROM metrics_total"),
        4 + five
    );
    assert_eq!(
        world.number("SELECT sum(duplicates)::bigint FROM stream_positions"),
        1
    );
    assert_eq!(
        world
            .number("SELECT count(*) FROM report_rows WHERE revenue_micros IS NULL AND clicks = 4"),
        1
    );
    let revenue = event.counts.numbers()[4];
    assert_eq!(
        world.number("SELECT sum(revenue_micros)::bigint FROM metrics_total"),
        revenue
    );
    Process::start(&mut world.command("verify", &[]))
        .end()
        .success();
}

/// What the simulator says on the topic comes to what its ledger says is known, restated days, filtered exports and all.
#[test]
fn simulated_reports_are_counted_as_their_ledger_says() {
    let world = World::new("simreports");
    let folder = tempfile::tempdir().expect("room");
    let reports = folder.path().join("reports");
    let reports = reports.to_str().expect("UTF-8");
    #[rustfmt::skip]
    let args = ["--reports", reports, "--as", "records", "--accounts", "2", "--campaigns", "5", "--days", "20", "--exports", "3"];
    Process::start(&mut world.command("simulate", &args))
        .end()
        .success();
    world
        .process_until_end(&["--batch-records", "500"])
        .success();
    let ledger = std::fs::read(folder.path().join("reports/ledger.json")).expect("a ledger");
    let ledger: serde_json::Value = serde_json::from_slice(&ledger).expect("JSON");
    let totals = ledger["totals"].as_array().expect("totals");
    assert_eq!(totals.len(), 2, "two currencies");
    for total in totals {
        let currency = total["currency"].as_str().expect("a currency");
        for (column, name) in [
            ("impressions", "impressions"),
            ("clicks", "clicks"),
            ("conversion_micros", "conversions_millionths"),
            ("cost_micros", "cost_micros"),
            ("revenue_micros", "revenue_micros"),
        ] {
            let sum = format!(
                "SELECT sum({column})::bigint FROM report_rows JOIN report_definitions USING (definition_id) WHERE currency = '{currency}'"
            );
            assert_eq!(
                Some(world.number(&sum)),
                total[name].as_i64(),
                "{currency}, {name}"
            );
        }
    }
    assert!(world.number("SELECT sum(superseded)::bigint FROM stream_positions") == 0);
    assert!(world.number("SELECT count(*) FROM report_history") > 0);
    assert_eq!(
        world.number("SELECT sum(clicks)::bigint FROM metrics_total"),
        world.number("SELECT sum(clicks)::bigint FROM report_rows")
    );
    Process::start(&mut world.command("verify", &[]))
        .end()
        .success();
}
