//! Any insight equals the fold of the events in its window, whatever is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use adflux::event::Platform;
use adflux::store::keep::carry;
use adflux::time::Length;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Timestamptz};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::world::{Api, TestDatabase, count, given};

/// 2026-03-20T00:00:00Z: clocks in Berlin go forward nine days later.
const MARCH: i64 = 1_773_964_800_000_000;
/// 2026-09-28T00:00:00Z: those on Lord Howe Island, by half an hour, six days later.
const SEPTEMBER: i64 = 1_790_553_600_000_000;
const SPAN: i64 = 14 * Length::DAY.get();

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/St_Johns",
];

fn stored(connection: &mut PgConnection) -> Vec<Event> {
    diesel::sql_query(
        "SELECT campaign_id, platform, event_time, impressions, clicks, \
             (conversions * 1000000)::bigint AS conversions, cost_micros, revenue_micros \
         FROM ad_events",
    )
    .load(connection)
    .expect("events")
}

/// An event as `ad_events` has it.
#[derive(QueryableByName)]
struct Event {
    #[diesel(sql_type = Text)]
    campaign_id: String,
    #[diesel(sql_type = Text)]
    platform: String,
    #[diesel(sql_type = Timestamptz)]
    event_time: DateTime<Utc>,
    #[diesel(sql_type = BigInt)]
    impressions: i64,
    #[diesel(sql_type = BigInt)]
    clicks: i64,
    /// In millionths.
    #[diesel(sql_type = BigInt)]
    conversions: i64,
    #[diesel(sql_type = BigInt)]
    cost_micros: i64,
    #[diesel(sql_type = BigInt)]
    revenue_micros: i64,
}

const SUMS: [&str; 6] = [
    "events",
    "impressions",
    "clicks",
    "conversions",
    "cost_micros",
    "revenue_micros",
];

struct World {
    api: Api,
    events: Vec<Event>,
    random: StdRng,
    connection: PgConnection,
    _database: TestDatabase,
}

impl World {
    fn new(seed: u64) -> World {
        let database = TestDatabase::create();
        let mut random = StdRng::seed_from_u64(seed);
        let events: Vec<_> = (0..4_000)
            .map(|n| {
                let start = if n % 2 == 0 { MARCH } else { SEPTEMBER };
                let time = start + random.random_range(0..SPAN);
                let platform = Platform::ALL[random.random_range(0..4)];
                let cost = random.random_range(0..1_000_000);
                let revenue = random.random_range(0..2_000_000);
                let campaign = format!("cmp-{}", random.random_range(0..5));
                let event = given(&campaign, platform, time, [n, n % 7, n % 3, cost, revenue]);
                // A part of them has a fraction.
                match n % 4 {
                    1 => event.with_conversions(n * 300_007 % 5_000_000),
                    _ => event,
                }
            })
            .collect();
        let mut connection = database.connect();
        count(&mut connection, &events);
        World {
            api: Api::start(&database.url(), None, Duration::from_millis(50)),
            events: stored(&mut connection),
            random,
            connection,
            _database: database,
        }
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from.choose(&mut self.random).expect("not empty").clone()
    }

    /// Random ends, whole minutes, of up to so many days.
    fn ends(&mut self, days: i64) -> (String, String) {
        let start = self.pick(&[MARCH, SEPTEMBER]);
        let since = start + self.random.random_range(-Length::DAY.get()..SPAN);
        let since = since - since % Length::MINUTE.get();
        let minutes = self.random.random_range(1..days * 1_440);
        let show = |micros| {
            let time = DateTime::<Utc>::from_timestamp_micros(micros).expect("valid");
            time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
        };
        (show(since), show(since + minutes * Length::MINUTE.get()))
    }

    /// An event comes late, and some parts are carried.
    fn go_on(&mut self) {
        let time = self.pick(&[MARCH, SEPTEMBER]) + self.random.random_range(0..SPAN);
        let late = given("cmp-2", Platform::Google, time, [9, 7, 1, 500, 800]);
        count(&mut self.connection, &[late]);
        self.events = stored(&mut self.connection);
        for _ in 0..self.random.random_range(0..6) {
            carry::carry_some(&mut self.connection, carry::Due::AT_ONCE).expect("a step");
        }
    }

    /// The sums of the events that fit.
    fn fold(&self, fits: impl Fn(&Event) -> bool) -> [i64; 6] {
        fold(self.events.iter().filter(|e| fits(e)))
    }
}

fn fold<'a>(events: impl Iterator<Item = &'a Event>) -> [i64; 6] {
    let mut sums = [0; 6];
    for e in events {
        let own = [
            1,
            e.impressions,
            e.clicks,
            e.conversions,
            e.cost_micros,
            e.revenue_micros,
        ];
        for (sum, value) in sums.iter_mut().zip(own) {
            *sum += value;
        }
    }
    sums
}

/// Those of an answer, with conversions in millionths.
fn sums(row: &Value) -> [i64; 6] {
    SUMS.map(|name| {
        let number = match name {
            "conversions" => row[name].as_f64().map(|n| (n * 1e6).round() as i64),
            _ => row[name].as_i64(),
        };
        number.unwrap_or_else(|| panic!("{name} in {row}"))
    })
}

fn time(value: &Value) -> DateTime<Utc> {
    let text = value.as_str().unwrap_or_else(|| panic!("a time: {value}"));
    DateTime::parse_from_rfc3339(text)
        .expect("RFC 3339")
        .to_utc()
}

fn within(e: &Event, ends: &Value) -> bool {
    time(&ends["since"]) <= e.event_time && e.event_time < time(&ends["until"])
}

#[test]
fn any_insight_equals_the_fold_of_the_events_in_its_window() {
    let mut world = World::new(1);
    for n in 0..40 {
        let increment = world.pick(&["minute", "hour", "day", "week", "month", "all"]);
        let zone = world.pick(&ZONES);
        let (since, until) = world.ends(match increment {
            "minute" => 1,
            _ => 20,
        });
        let chosen: Vec<&str> = ["Meta", "Google", "LinkedIn", "TikTok"]
            .into_iter()
            .filter(|_| n % 3 != 0 || world.random.random_bool(0.5))
            .collect();
        let chosen = if chosen.is_empty() {
            vec!["Google"]
        } else {
            chosen
        };
        let campaigns = world.pick(&[None, Some(vec!["cmp-1"]), Some(vec!["cmp-3", "cmp-0"])]);
        let by_campaign = campaigns.as_ref().is_some_and(|c| c.len() > 1);
        // All rows on one page.
        let few = increment != "minute" || !by_campaign;
        let by_platform = few && world.random.random_bool(0.5);
        let mut path = match campaigns.as_deref() {
            Some([one]) => format!("/campaign/{one}/insights?"),
            Some(some) => format!("/insights?campaigns={}&", some.join(",")),
            None => "/insights?".to_owned(),
        };
        path += &format!(
            "since={since}&until={until}&time_zone={zone}&time_increment={increment}&compare=previous_period"
        );
        if chosen.len() < 4 {
            path += &format!("&platform={}", chosen.join(","));
        }
        let breakdown = match (by_campaign, by_platform) {
            (true, true) => "&breakdown=campaign,platform",
            (true, false) => "&breakdown=campaign",
            (false, true) => "&breakdown=platform",
            (false, false) => "",
        };
        path += breakdown;
        let answer = world.api.get(&path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let body = answer.json();
        let about = |e: &Event| {
            let named = campaigns.as_ref();
            named.is_none_or(|c| c.contains(&e.campaign_id.as_str()))
                && chosen.contains(&e.platform.as_str())
        };
        // The whole, its platforms, and the period before.
        let whole = world.fold(|e| about(e) && within(e, &body["window"]));
        assert_eq!(sums(&body["totals"]), whole, "{path}");
        assert_eq!(
            (
                time(&body["window"]["since"]),
                time(&body["window"]["until"])
            ),
            (time(&Value::from(since)), time(&Value::from(until)),)
        );
        let before = world.fold(|e| about(e) && within(e, &body["previous_window"]));
        assert_eq!(
            sums(&body["totals"]["comparison"]["previous"]),
            before,
            "{path}"
        );
        for row in body["platforms"].as_array().expect("platforms") {
            let of = |e: &Event| row["platform"] == e.platform.as_str();
            let expected = world.fold(|e| about(e) && of(e) && within(e, &body["window"]));
            assert_eq!(sums(row), expected, "{path}");
        }
        // Each row, and all rows together.
        let rows = body["data"].as_array().expect("rows");
        let mut together = [0; 6];
        let inside = |e: &&Event| about(e) && within(e, &body["window"]);
        let inside: Vec<&Event> = world.events.iter().filter(inside).collect();
        let mut at = time(&body["window"]["since"]);
        for row in rows {
            let of = |e: &Event| {
                (row["campaign_id"].is_null() || row["campaign_id"] == e.campaign_id.as_str())
                    && (row["platform"].is_null() || row["platform"] == e.platform.as_str())
            };
            let (since, until) = (time(&row["since"]), time(&row["until"]));
            let in_row = |e: &&Event| of(e) && since <= e.event_time && e.event_time < until;
            let expected = fold(inside.iter().copied().filter(in_row));
            assert_eq!(sums(row), expected, "{path}: {row}");
            for (sum, own) in together.iter_mut().zip(sums(row)) {
                *sum += own;
            }
            assert!(
                since == at || since < at && until == at,
                "{path}: a gap before {row}"
            );
            at = until;
        }
        assert_eq!(together, whole, "{path}");
        if !rows.is_empty() {
            assert_eq!(at, time(&body["window"]["until"]), "{path}");
        }
        // PostgreSQL has a calendar of its own.
        if ["day", "week", "month"].contains(&increment) {
            let starts = rows.iter().map(|row| time(&row["since"]));
            for start in starts.filter(|s| *s > time(&body["window"]["since"])) {
                assert_eq!(
                    truncated(&mut world.connection, increment, start, zone),
                    start,
                    "{path}"
                );
            }
        }
    }
}

fn truncated(
    connection: &mut PgConnection,
    unit: &str,
    time: DateTime<Utc>,
    zone: &str,
) -> DateTime<Utc> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Timestamptz)]
        start: DateTime<Utc>,
    }
    let row: Row = diesel::sql_query("SELECT date_trunc($1, $2, $3) AS start")
        .bind::<Text, _>(unit)
        .bind::<Timestamptz, _>(time)
        .bind::<Text, _>(zone)
        .get_result(connection)
        .expect("truncates");
    row.start
}

#[test]
fn any_list_equals_the_fold_of_the_events_in_its_window() {
    let mut world = World::new(2);
    for _ in 0..60 {
        world.go_on();
        let zone = world.pick(&ZONES);
        let days = world.pick(&[20, 300]);
        let (since, until) = world.ends(days);
        let all = "Meta,Google,LinkedIn,TikTok";
        let platform = world.pick(&["Meta", "Google", "LinkedIn,TikTok", all]);
        let metric = world.pick(&[
            "profit",
            "roas",
            "cost",
            "ctr",
            "events",
            "cpa",
            "conversions",
        ]);
        let (operator, limit) = (
            world.pick(&["<", ">=", ">"]),
            world.random.random_range(0.0..2.0),
        );
        let order = world.pick(&["asc", "desc"]);
        let path = format!(
            "/campaigns?since={since}&until={until}&time_zone={zone}&sort={metric}&order={order}\
             &filter={metric}{operator}{limit}&filter=clicks>=1&search=CMP-{}",
            if platform == all {
                String::new()
            } else {
                format!("&platform={platform}")
            }
        );
        let path = path.replace('<', "%3C").replace('>', "%3E");
        let body = world.api.get(&path).json();
        let rows = body["data"]
            .as_array()
            .unwrap_or_else(|| panic!("{path}: {body}"));
        let listed: Vec<(String, [i64; 6])> = rows
            .iter()
            .map(|row| {
                (
                    row["campaign_id"].as_str().expect("an id").to_owned(),
                    sums(row),
                )
            })
            .collect();
        let mut expected = BTreeMap::new();
        for n in 0..5 {
            let id = format!("cmp-{n}");
            let sums = world.fold(|e| {
                e.campaign_id == id
                    && platform.split(',').any(|p| p == e.platform)
                    && within(e, &body["window"])
            });
            let [events, impressions, clicks, conversions, cost, revenue] = sums.map(|v| v as f64);
            let ratio = |a: f64, b: f64| (b != 0.0).then(|| a / b);
            let value = match metric {
                "profit" => Some((revenue - cost) / 1e6),
                "roas" => ratio(revenue, cost),
                "cost" => Some(cost / 1e6),
                "ctr" => ratio(clicks, impressions),
                "events" => Some(events),
                "conversions" => Some(conversions / 1e6),
                _ => ratio(cost, conversions),
            };
            let holds = value.is_some_and(|v| match operator {
                "<" => v < limit,
                ">=" => v >= limit,
                _ => v > limit,
            });
            if events > 0.0 && clicks >= 1.0 && holds {
                expected.insert(id, (value.expect("holds"), sums));
            }
        }
        let mut in_order: Vec<_> = expected.into_iter().collect();
        in_order.sort_by(|(a, (x, _)), (b, (y, _))| {
            let by_value = if order == "asc" {
                x.total_cmp(y)
            } else {
                y.total_cmp(x)
            };
            by_value.then(a.cmp(b))
        });
        let in_order: Vec<_> = in_order
            .into_iter()
            .map(|(id, (_, sums))| (id, sums))
            .collect();
        assert_eq!(listed, in_order, "{path}");
    }
}
