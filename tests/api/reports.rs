//! What reports say is answered: whose campaigns are, in which currency, how days were restated, and what is not known yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adflux::currency::Currency;
use adflux::event::{AdEvent, CampaignId, Count, Counts, Platform};
use adflux::offset::Offset;
use adflux::report_row::{Definition, Origin, ReportRow, Values};
use adflux::store::events::{Columns, Fingerprinter};
use adflux::store::write::batch::{Filling, RawRecord, Reading, Undecided};
use adflux::store::write::commit::{Outcome, commit};
use adflux::store::write::positions::{self, Partition};
use adflux::time::Timestamp;
use adflux::{metrics, upkeep};
use chrono::{DateTime, Utc};
use diesel::PgConnection;
use serde_json::{Value, json};

use crate::export::{csv as exported, read_with_python};
use crate::live::Client;
use crate::world::{Api, TestDatabase, count, given, until, variable};

/// A row of a report, as a test writes it down.
#[derive(Clone, Debug)]
pub struct Row {
    pub campaign: &'static str,
    pub name: &'static str,
    pub platform: Platform,
    pub account: &'static str,
    pub zone: chrono_tz::Tz,
    pub currency: &'static str,
    pub day: &'static str,
    pub slice: &'static str,
    pub observed_at: &'static str,
    pub values: [Option<i64>; 5],
}

pub const EURO: Row = Row {
    campaign: "google:1:10",
    name: "Sommer Ä",
    platform: Platform::Google,
    account: "1",
    zone: chrono_tz::Europe::Berlin,
    currency: "EUR",
    day: "2024-06-03",
    slice: "",
    observed_at: "2024-06-04T07:00:00Z",
    values: [
        Some(1_000),
        Some(50),
        Some(2_500_000),
        Some(10_000_000),
        Some(40_000_000),
    ],
};

pub const DOLLAR: Row = Row {
    campaign: "meta:2:20",
    name: "Winter",
    platform: Platform::Meta,
    account: "2",
    zone: chrono_tz::America::New_York,
    currency: "USD",
    ..EURO
};

pub fn at(text: &str) -> Timestamp {
    let time = DateTime::parse_from_rfc3339(text).expect("an instant");
    time.to_utc().into()
}

/// Counts report rows as a processor would, each in a commit of its own.
pub fn report(connection: &mut PgConnection, rows: &[Row]) {
    for (line, row) in (1..).zip(rows) {
        report_on(connection, 0, row, line);
    }
}

/// Counts one of them that stands on a line of its file, on a partition of one's choice.
pub fn report_on(connection: &mut PgConnection, partition: i32, row: &Row, line: i64) {
    let partition = Partition {
        cluster_id: "test",
        topic: "ad-events",
        partition,
    };
    let claim = positions::claim(connection, partition, Offset::default(), "test").expect("claims");
    let report = ReportRow {
        campaign_id: CampaignId::parse(row.campaign).expect("valid"),
        campaign_name: row.name,
        definition: Definition {
            platform: row.platform,
            account: row.account,
            time_zone: row.zone,
            currency: Currency::from_code(row.currency).expect("a currency"),
            conversions: "purchase",
            revenue: "",
        },
        day: row.day.parse().expect("a date"),
        slice: row.slice,
        observed_at: at(row.observed_at),
        values: Values::of(row.values),
        origin: Origin {
            file: Some([7; 32]),
            line: Some(line),
        },
    };
    report
        .validate(at("2030-01-01T00:00:00Z"))
        .expect("acceptable");
    let restatement = AdEvent {
        event_id: report.key(),
        campaign_id: report.campaign_id,
        platform: row.platform,
        event_time: report.event_time(),
        counts: Counts::default(),
    };
    let mut columns = Columns::default();
    let offset = claim.fence.next_offset;
    columns.push_restatement(offset, &restatement, 0, report.observed_at);
    let mut share = Filling::new(claim.stream, claim.fence, Reading::Usual, columns);
    share.undecided.push(Undecided {
        row: 0,
        late: false,
        record: RawRecord {
            offset,
            ..RawRecord::default()
        },
    });
    share.reports.push(0, &report, 0);
    share.next_offset = offset.plus(Count::new(1));
    share.records = Count::new(1);
    share.campaigns = vec![Arc::from(row.campaign)];
    share.unknown_campaigns = vec![0];
    let results = commit(connection, &Fingerprinter::default(), &[share.into()]).expect("commits");
    assert!(
        matches!(results.as_slice(), [r] if matches!(r.outcome, Outcome::Committed(_))),
        "{results:?}"
    );
}

fn start(database: &TestDatabase) -> Api {
    Api::start(&database.url(), None, Duration::ZERO)
}

fn rows(answer: &Value) -> &Vec<Value> {
    answer["data"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"))
}

/// The campaigns of a list, in its order.
fn ids(answer: &Value) -> Vec<&str> {
    let id = |row: &'_ Value| row["campaign_id"].as_str().expect("an id").to_owned();
    let ids = rows(answer).iter().map(id);
    ids.map(|id| &*id.leak()).collect()
}

#[test]
fn every_record_is_accounted_for() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let again = Row {
        observed_at: "2024-06-05T07:00:00Z",
        ..EURO
    };
    let older = Row {
        observed_at: "2024-06-03T07:00:00Z",
        values: [Some(1); 5],
        ..EURO
    };
    report(&mut connection, &[EURO, again.clone(), again, older]);
    let api = start(&database);
    let body = api.get("/pipeline").json();
    for counts in [&body["totals"], &body["partitions"][0]] {
        let number = |name: &str| counts[name].as_i64().unwrap_or_else(|| panic!("{body}"));
        let all = [
            "records",
            "events",
            "duplicates",
            "dead_letters",
            "unchanged",
            "superseded",
        ];
        assert_eq!(all.map(number), [4, 1, 1, 0, 1, 1]);
    }
    assert_eq!(
        body["delay_seconds"],
        json!(null),
        "a report is of days gone by"
    );
    let mut live = Client::open(&api, "/live", None);
    let progress = live.event().expect("where it begins");
    let number = |name: &str| progress.data[name].as_i64();
    assert_eq!(
        ["events", "duplicates", "unchanged", "superseded"].map(number),
        [1, 1, 1, 1].map(Some)
    );
}

#[test]
fn a_restatement_is_an_event_that_says_when_it_was_observed() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let lower = Row {
        observed_at: "2024-06-14T07:00:00.5Z",
        values: [Some(900), Some(45), Some(1_000_000), Some(9_000_000), None],
        ..EURO
    };
    report(&mut connection, &[EURO, lower]);
    let noon = at("2024-06-03T10:00:00Z").get();
    count(
        &mut connection,
        &[given(
            EURO.campaign,
            Platform::Google,
            noon,
            [1, 1, 1, 1, 1],
        )],
    );
    let api = start(&database);
    let body = api.get("/campaign/google:1:10/events").json();
    let [increment, second, first] = rows(&body).as_slice() else {
        panic!("{body}")
    };
    assert!(increment.get("observed_at").is_none(), "{increment}");
    assert_eq!(first["observed_at"], "2024-06-04T07:00:00.000000Z");
    assert_eq!(first["clicks"], 50);
    assert_eq!(second["observed_at"], "2024-06-14T07:00:00.500000Z");
    let difference = [
        "impressions",
        "clicks",
        "conversions",
        "cost_micros",
        "revenue_micros",
    ];
    assert_eq!(
        difference.map(|name| second[name].clone()),
        [
            json!(-100),
            json!(-5),
            json!(-1.5),
            json!(-1_000_000),
            json!(-40_000_000)
        ]
    );
    let table = api.get("/campaign/google:1:10/events?format=csv").text;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].ends_with(",counted_at,observed_at"), "{table}");
    assert!(lines[1].ends_with(','), "{table}");
    assert!(
        lines[2].ends_with(",2024-06-14T07:00:00.500000Z"),
        "{table}"
    );
    assert!(
        lines[2].contains(",-100,-5,-1.5,-1000000,-40000000,"),
        "{table}"
    );
    let export = exported(&database, &["events"]);
    assert!(export[0].ends_with(",offset,observed_at"), "{export:?}");
    assert!(
        export[2].ends_with(",1,2024-06-14T07:00:00.500000Z"),
        "{export:?}"
    );
    assert!(export[3].ends_with(",2,"), "{export:?}");
    let file = std::env::temp_dir().join(format!("{}.parquet", database.name));
    let path = file.to_str().expect("UTF-8");
    exported(
        &database,
        &["events", "--format", "parquet", "--output", path],
    );
    assert_eq!(read_with_python(&file), export);
    std::fs::remove_file(&file).expect("removes");
}

#[test]
fn campaigns_are_found_by_their_names() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    report(&mut connection, &[EURO, DOLLAR]);
    let noon = at("2024-06-03T10:00:00Z").get();
    count(
        &mut connection,
        &[given("cmp-1", Platform::Meta, noon, [1, 1, 0, 1, 1])],
    );
    let api = start(&database);
    let found = |search: &str| {
        let body = api.get(&format!("/campaigns?search={search}")).json();
        ids(&body).join(" ")
    };
    assert_eq!(found("sommer%20%C3%A4"), EURO.campaign, "whatever the case");
    assert_eq!(found("WINTER"), DOLLAR.campaign);
    assert_eq!(found("meta:2"), DOLLAR.campaign);
    assert_eq!(found("autumn"), "");
    let body = api.get("/campaigns").json();
    let described = |row: &Value| {
        [
            "campaign_id",
            "campaign_name",
            "account_id",
            "currency",
            "account_time_zone",
        ]
        .map(|name| row[name].clone())
    };
    let euro = json!(["google:1:10", "Sommer Ä", "1", "EUR", "Europe/Berlin"]);
    assert_eq!(json!(described(&rows(&body)[0])), euro);
    assert_eq!(
        json!(described(&rows(&body)[2])),
        json!(["cmp-1", null, null, null, null])
    );
    let table = api.get("/campaigns?fields=clicks&format=csv").text;
    assert!(
        table.starts_with(
            "campaign_id,campaign_name,account_id,currency,account_time_zone,clicks\ngoogle:1:10,Sommer Ä,1,EUR,Europe/Berlin,50\n"
        ),
        "{table}"
    );
    assert!(table.ends_with("cmp-1,,,,,1\n"), "{table}");
    let now = Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ");
    for question in ["", "?time_increment=day", &format!("?as_of={now}")] {
        let body = api
            .get(&format!("/campaign/google:1:10/insights{question}"))
            .json();
        assert_eq!(json!(described(&body)), euro, "{question}");
    }
    // A new name is no event, and is seen all the same.
    let renamed = Row {
        name: "Herbst",
        observed_at: "2024-06-05T07:00:00Z",
        ..EURO
    };
    assert_eq!(
        api.get("/campaign/google:1:10/insights").json()["campaign_name"],
        "Sommer Ä"
    );
    report(&mut connection, &[renamed]);
    assert_eq!(
        api.get("/campaign/google:1:10/insights").json()["campaign_name"],
        "Herbst"
    );
    assert_eq!(found("herbst"), EURO.campaign);
    assert_eq!(found("sommer"), "");
    let both = api
        .get("/insights?campaigns=google:1:10,cmp-1&breakdown=campaign")
        .json();
    assert_eq!(rows(&both)[0]["campaign_name"], "Herbst");
    assert_eq!(rows(&both)[1]["campaign_name"], json!(null));
}

#[test]
fn currencies_are_never_added() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let second = Row {
        campaign: "google:1:11",
        ..EURO
    };
    report(&mut connection, &[EURO, second, DOLLAR]);
    let noon = at("2024-06-03T10:00:00Z").get();
    count(
        &mut connection,
        &[given(
            "cmp-1",
            Platform::TikTok,
            noon,
            [1, 1, 0, 1_000_000, 0],
        )],
    );
    let api = start(&database);
    let names = [
        "currency",
        "cost",
        "revenue_micros",
        "roas",
        "clicks",
        "ctr",
        "claimed_by",
    ];
    let figures = |sums: &Value| json!(names.map(|name| sums[name].clone()));
    let by_currency = json!([
        ["EUR", 20.0, 80_000_000, 4.0, 100, 0.05, ["Google"]],
        ["USD", 10.0, 40_000_000, 4.0, 50, 0.05, ["Meta"]],
        [null, 1.0, 0, 0.0, 1, 1.0, []],
    ]);
    let all = json!([
        null,
        null,
        null,
        null,
        151,
        151.0 / 3_001.0,
        ["Meta", "Google"]
    ]);
    for question in ["/campaigns", "/insights"] {
        let body = api.get(question).json();
        let each = body["totals_by_currency"].as_array().expect("a list");
        let each: Vec<Value> = each.iter().map(figures).collect();
        assert_eq!(json!(each), by_currency, "{question}");
        assert_eq!(figures(&body["totals"]), all, "{question}");
    }
    // Where it is one currency, it is a number.
    for question in [
        "/campaigns?search=google",
        "/campaigns?platform=Google",
        "/insights?platform=Google",
        "/insights?campaigns=google:1:10,google:1:11",
    ] {
        let body = api.get(question).json();
        assert_eq!(body["totals"]["cost"], 20.0, "{question}");
        assert_eq!(body["totals_by_currency"].as_array().map(Vec::len), Some(1));
    }
    let days = api
        .get("/insights?time_increment=day&breakdown=currency&fields=cost&format=csv&since=2024-06-03&until=2024-06-04")
        .text;
    let expected = "since,until,currency,cost\n\
        2024-06-03T00:00:00Z,2024-06-04T00:00:00Z,EUR,20\n\
        2024-06-03T00:00:00Z,2024-06-04T00:00:00Z,USD,10\n\
        2024-06-03T00:00:00Z,2024-06-04T00:00:00Z,,1\n";
    assert_eq!(days, expected);
    let mixed = api.get("/insights?time_increment=day&fields=cost,clicks&compare=previous_period&since=2024-06-03&until=2024-06-04").json();
    let day = &rows(&mixed)[0];
    assert_eq!((&day["cost"], &day["clicks"]), (&json!(null), &json!(151)));
    assert_eq!(
        day["comparison"]["absolute"],
        json!({ "cost": null, "clicks": 151 })
    );
    let of_one = api.get("/campaign/google:1:10/insights").json();
    assert_eq!(of_one["totals"]["cost"], 10.0);
    assert!(of_one.get("totals_by_currency").is_none());
}

#[test]
fn each_restatement_says_what_it_changed_and_where_it_is_from() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let slices = ["ad_group=1", "ad_group=2"];
    let of = |day, slice, observed_at, values| Row {
        day,
        slice,
        observed_at,
        values,
        ..EURO
    };
    let lower = [
        Some(1_000),
        Some(45),
        Some(2_500_000),
        Some(10_000_000),
        None,
    ];
    let all = [
        of("2024-06-03", slices[0], "2024-06-04T07:00:00Z", EURO.values),
        of("2024-06-03", slices[0], "2024-06-05T07:00:00Z", EURO.values),
        of(
            "2024-06-03",
            slices[1],
            "2024-06-04T07:00:00Z",
            [Some(1); 5],
        ),
        of(
            "2024-06-03",
            slices[0],
            "2024-06-09T07:00:00.000001Z",
            lower,
        ),
        of(
            "2024-06-02",
            slices[0],
            "2024-06-04T07:00:00Z",
            [Some(2); 5],
        ),
    ];
    report(&mut connection, &all);
    let api = start(&database);
    let path = "/campaign/google:1:10/restatements";
    let body = api.get(path).json();
    let places: Vec<[&str; 3]> = rows(&body)
        .iter()
        .map(|row| ["day", "slice", "observed_at"].map(|name| row[name].as_str().expect("text")))
        .collect();
    let expected = [
        ["2024-06-03", slices[1], "2024-06-04T07:00:00.000000Z"],
        ["2024-06-03", slices[0], "2024-06-09T07:00:00.000001Z"],
        ["2024-06-03", slices[0], "2024-06-04T07:00:00.000000Z"],
        ["2024-06-02", slices[0], "2024-06-04T07:00:00.000000Z"],
    ];
    assert_eq!(places, expected);
    let newest = &rows(&body)[1];
    assert_eq!(
        newest["changes"],
        json!({ "clicks": { "from": 50, "to": 45 }, "revenue_micros": { "from": 40_000_000, "to": null } })
    );
    assert_eq!(
        (&newest["revenue_micros"], &newest["conversions"]),
        (&json!(null), &json!(2.5))
    );
    assert_eq!(
        (&newest["newest"], &newest["confirmed_at"]),
        (&json!(true), &json!(null))
    );
    assert_eq!(
        (&newest["file"], &newest["line"]),
        (&json!("07".repeat(32)), &json!(4))
    );
    assert_eq!(
        newest["definition"],
        json!({
            "platform": "Google", "account_id": "1", "time_zone": "Europe/Berlin", "currency": "EUR",
            "conversions": "purchase", "revenue": "", "grain": "ad_group",
        })
    );
    let first = &rows(&body)[2];
    assert_eq!(first["confirmed_at"], "2024-06-05T07:00:00.000000Z");
    assert_eq!(first["newest"], json!(false));
    assert_eq!(
        first["changes"]["clicks"],
        json!({ "from": null, "to": 50 })
    );
    // Whatever the size of its pages, it is the same list.
    for limit in 1..=5 {
        let mut paged = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = api.get(&format!("{path}?limit={limit}{cursor}")).json();
            paged.extend(rows(&page).clone());
            match page["paging"]["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(&paged, rows(&body), "{limit}");
    }
    let count = |question: &str| rows(&api.get(&format!("{path}?{question}")).json()).len();
    for (question, found) in [
        ("day=2024-06-02", 1),
        ("day=2024-06-04", 0),
        ("since=2024-06-03", 3),
        ("until=2024-06-03", 1),
        ("since=2024-06-02&until=2024-06-04", 4),
    ] {
        assert_eq!(count(question), found, "{question}");
    }
    let table = api
        .get(&format!("{path}?day=2024-06-03&limit=2&format=csv"))
        .text;
    assert!(
        table.contains("2024-06-03,ad_group=1,2024-06-09T07:00:00.000001Z,,true,1000,45,2.5,10000000,,1000,50,2.5,10000000,40000000,"),
        "{table}"
    );
    for (question, status) in [
        ("day=2024-06-31", 400),
        ("day=2024-06-03T00:00:00Z", 400),
        ("day=2024-06-03&since=2024-06-01", 400),
        ("since=2024-06-03&until=2024-06-03", 400),
        ("cursor=00.1.2.3.4", 400),
    ] {
        assert_eq!(
            api.get(&format!("{path}?{question}")).status,
            status,
            "{question}"
        );
    }
    assert_eq!(api.get("/campaign/nobody/restatements").status, 404);
}

#[test]
fn in_lists_what_no_report_says_is_unknown_and_not_zero() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    const WITHOUT_REVENUE: [Option<i64>; 5] = [Some(10), Some(1), Some(0), Some(1_000_000), None];
    const SILENT: Row = Row {
        campaign: "google:1:11",
        values: WITHOUT_REVENUE,
        ..EURO
    };
    let all = [
        EURO,
        SILENT,
        Row {
            values: WITHOUT_REVENUE,
            ..DOLLAR
        },
        // On another day it has revenue: none, and that is known.
        Row {
            day: "2024-06-05",
            observed_at: "2024-06-07T07:00:00Z",
            values: [Some(10), Some(1), Some(0), Some(1_000_000), Some(0)],
            ..SILENT
        },
    ];
    report(&mut connection, &all);
    let noon = at("2024-06-03T10:00:00Z").get();
    count(
        &mut connection,
        &[given("cmp-1", Platform::Meta, noon, [1, 1, 0, 1, 0])],
    );
    let api = start(&database);
    let revenues = |body: &Value| {
        let of = |row: &Value| json!([row["campaign_id"], row["revenue"], row["roas"]]);
        json!(rows(body).iter().map(of).collect::<Vec<Value>>())
    };
    let window = "since=2024-06-03&until=2024-06-04&time_zone=Europe/Berlin";
    let body = api
        .get(&format!("/campaigns?{window}&sort=revenue&order=asc"))
        .json();
    let nothing = json!(null);
    assert_eq!(
        revenues(&body),
        json!([
            ["cmp-1", 0.0, 0.0],
            [EURO.campaign, 40.0, 4.0],
            [SILENT.campaign, nothing, nothing],
            [DOLLAR.campaign, nothing, nothing],
        ])
    );
    let of = |sums: &Value| {
        let partial = sums.get("partial").cloned().unwrap_or_default();
        json!([sums["currency"], sums["cost"], sums["revenue"], partial])
    };
    let by_currency = body["totals_by_currency"].as_array().expect("currencies");
    assert_eq!(
        json!(by_currency.iter().map(of).collect::<Vec<Value>>()),
        json!([
            ["EUR", 11.0, 40.0, ["revenue"]],
            ["USD", 1.0, nothing, nothing],
            [nothing, 0.000001, 0.0, nothing],
        ])
    );
    assert_eq!(body["totals"]["partial"], json!(["revenue"]));
    // What is unknown meets no condition.
    let found = api.get(&format!("/campaigns?{window}&filter=revenue=0"));
    assert_eq!(ids(&found.json()), ["cmp-1"]);
    let unknown = format!("/campaigns?{window}&platform=Meta&search=meta&fields=roas,clicks");
    let unknown = api.get(&unknown).json();
    assert_eq!(unknown["totals"]["roas"], nothing);
    assert_eq!(unknown["totals"].get("partial"), None, "{unknown}");
    // Of all time, and of the other day, it is known.
    for window in ["since=2024-06-05&until=2024-06-06", "date_preset=maximum"] {
        let body = api.get(&format!("/campaigns?{window}&search=google:1:11"));
        assert_eq!(
            revenues(&body.json()),
            json!([[SILENT.campaign, 0.0, 0.0]]),
            "{window}"
        );
    }
}

#[test]
fn a_day_says_whether_it_may_still_change_and_what_is_not_known_of_it() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let of = |day, observed_at, values| Row {
        day,
        observed_at,
        values,
        ..EURO
    };
    let without_revenue = [Some(10), Some(1), Some(0), Some(1_000_000), None];
    let all = [
        // In Berlin, the first of June settles as the second of July begins: at 22:00 UTC.
        of("2024-06-01", "2024-07-01T21:59:59Z", EURO.values),
        of("2024-06-02", "2024-07-02T22:00:00Z", without_revenue),
        // Said again later, and so it has settled.
        of("2024-06-04", "2024-06-05T00:00:00Z", EURO.values),
        of("2024-06-04", "2024-09-01T00:00:00Z", EURO.values),
        // Withdrawn.
        of("2024-06-05", "2024-06-06T00:00:00Z", EURO.values),
        of("2024-06-05", "2024-06-07T00:00:00Z", [None; 5]),
    ];
    report(&mut connection, &all);
    let api = start(&database);
    let question = "/campaign/google:1:10/insights?time_zone=account&time_increment=day&since=2024-06-01&until=2024-06-06";
    let body = api.get(question).json();
    assert_eq!(body["time_zone"], "Europe/Berlin");
    let days: Vec<Value> = rows(&body)
        .iter()
        .map(|day| {
            json!(
                [
                    "since",
                    "provisional",
                    "observed_at",
                    "partial",
                    "cost",
                    "revenue",
                    "roas"
                ]
                .map(|name| day[name].clone())
            )
        })
        .collect();
    let nothing = json!(null);
    assert_eq!(
        json!(days),
        json!([
            [
                "2024-06-01T00:00:00+02:00",
                true,
                "2024-07-01T21:59:59.000000Z",
                [],
                10.0,
                40.0,
                4.0
            ],
            [
                "2024-06-02T00:00:00+02:00",
                false,
                "2024-07-02T22:00:00.000000Z",
                ["revenue"],
                1.0,
                nothing,
                nothing
            ],
            [
                "2024-06-03T00:00:00+02:00",
                nothing,
                nothing,
                nothing,
                0.0,
                0.0,
                nothing
            ],
            [
                "2024-06-04T00:00:00+02:00",
                false,
                "2024-09-01T00:00:00.000000Z",
                [],
                10.0,
                40.0,
                4.0
            ],
            [
                "2024-06-05T00:00:00+02:00",
                nothing,
                nothing,
                nothing,
                0.0,
                0.0,
                nothing
            ],
        ])
    );
    assert_eq!(body["totals"]["revenue"], 80.0);
    assert_eq!(body["totals"]["partial"], json!(["revenue"]));
    let second = api.get(&question.replace("since=2024-06-01", "since=2024-06-02"));
    let second = second.json();
    assert_eq!(second["totals"]["partial"], json!(["revenue"]));
    let alone = api.get(&question.replace(
        "since=2024-06-01&until=2024-06-06",
        "since=2024-06-02&until=2024-06-03",
    ));
    let alone = alone.json();
    assert_eq!(alone["totals"]["revenue"], nothing);
    assert_eq!(alone["totals"]["roas"], nothing);
    assert_eq!(alone["platforms"][0]["revenue"], nothing);
    assert_eq!(alone["totals"].get("partial"), None, "{alone}");
    let table = api
        .get(&format!("{question}&format=csv&fields=clicks"))
        .text;
    let second = "2024-06-02T00:00:00+02:00,2024-06-03T00:00:00+02:00,false,2024-07-02T22:00:00.000000Z,revenue,1\n";
    assert!(table.contains(second), "{table}");
    // A single day is no other than one of many.
    let one = api.get(&question.replace(
        "since=2024-06-01&until=2024-06-06",
        "since=2024-06-01&until=2024-06-02",
    ));
    assert_eq!(rows(&one.json())[0], rows(&body)[0]);
    // Parts that are no days, or of several campaigns, have none of it.
    for question in [
        "/campaign/google:1:10/insights?time_increment=week",
        "/campaign/google:1:10/insights",
        "/insights?time_increment=day",
        "/insights?campaigns=google:1:10&time_increment=day",
    ] {
        assert!(
            rows(&api.get(question).json())[0]
                .get("provisional")
                .is_none(),
            "{question}"
        );
    }
    let settings = adflux::api::Settings {
        provisional_days: "google=29".parse().expect("valid"),
        ..adflux::api::Settings::default()
    };
    let sooner = Api::start_with(&database.url(), None, Duration::ZERO, settings);
    assert_eq!(
        rows(&sooner.get(question).json())[0]["provisional"],
        json!(false)
    );
}

#[test]
fn the_zone_of_an_account_is_meant_where_it_is_known() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    report(&mut connection, &[DOLLAR]);
    count(
        &mut connection,
        &[given(
            "cmp-1",
            Platform::Meta,
            at("2024-06-03T10:00:00Z").get(),
            [1; 5],
        )],
    );
    let api = start(&database);
    let day = "date_preset=yesterday&time_zone=account";
    for of in ["insights", "events"] {
        let body = api
            .get(&format!(
                "/campaign/meta:2:20/{of}?since=2024-06-03&until=2024-06-04&time_zone=account"
            ))
            .json();
        assert_eq!(body["window"]["since"], "2024-06-03T00:00:00-04:00", "{of}");
        for campaign in ["cmp-1", "nobody"] {
            let refused = api.get(&format!("/campaign/{campaign}/{of}?{day}"));
            let body = refused.json();
            assert_eq!(
                (refused.status, &body["parameter"]),
                (422, &json!("time_zone")),
                "{body}"
            );
            assert_eq!(body["type"], "urn:adflux:problem:unknown-account");
        }
    }
    for question in ["/campaigns", "/insights"] {
        assert_eq!(
            api.get(&format!("{question}?{day}")).status,
            400,
            "{question}"
        );
    }
}

#[test]
fn sums_from_redis_have_their_names_too() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    report(&mut connection, &[EURO]);
    let redis = variable("REDIS_URL");
    let start = || Api::start(&database.url(), Some(&redis), Duration::ZERO);
    let path = "/campaign/google:1:10/insights";
    let first = start();
    // Once the server knows the database's identity, it shares what it reads.
    until("Redis has it", || first.get(path).cache == "redis");
    let second = start();
    until("Redis answers", || second.get(path).cache == "redis");
    assert_eq!(second.get(path).json()["campaign_name"], "Sommer Ä");
    assert_eq!(second.get(path).json()["currency"], "EUR");
    let renamed = Row {
        name: "Herbst",
        observed_at: "2024-06-05T07:00:00Z",
        ..EURO
    };
    report(&mut connection, &[renamed]);
    until("the new name is seen", || {
        let answer = second.get(path);
        answer.cache == "redis" && answer.json()["campaign_name"] == "Herbst"
    });
}

#[test]
fn it_is_told_how_old_the_newest_report_of_each_account_is() {
    let database = TestDatabase::create();
    let older = Row {
        campaign: "google:1:11",
        observed_at: "2024-06-03T07:00:00Z",
        ..EURO
    };
    report(&mut database.connect(), &[EURO, older, DOLLAR]);
    let done = Arc::new(AtomicBool::new(false));
    let (url, until_then) = (database.url(), Arc::clone(&done));
    let telling = std::thread::spawn(move || upkeep::tell_ages(&url, &until_then));
    let age = |account: &str| {
        let text = metrics::text();
        let name = format!("adflux_report_age_seconds{{account=\"{account}\"");
        let line = text.lines().find(|line| line.starts_with(&name))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    until("both are told", || age("1").is_some() && age("2").is_some());
    let asked = at(EURO.observed_at).get();
    let now = (Utc::now().timestamp_micros() - asked) as f64 / 1e6;
    for account in ["1", "2"] {
        let age = age(account).expect("told");
        assert!((now - age).abs() < 3_600.0, "{account}: {age}, not {now}");
    }
    done.store(true, Ordering::Relaxed);
    telling.join().expect("ends");
}
