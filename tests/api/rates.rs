//! Money of several currencies in one: converted day by day, by the rates that were imported; and refused where there are none.

use std::path::Path;
use std::time::Duration;

use adflux::event::Platform;
use adflux::rates::ecb;
use adflux::store::keep::rates::{Compared, import};
use diesel::PgConnection;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::openapi::{document, faults};
use crate::reports::{DOLLAR, EURO, Row, at, report};
use crate::wait::wait_until;
use crate::world::{Api, TestDatabase, count, given};

/// Of a Thursday and a Friday.
const RATES: &str = "Date,USD,JPY,CYP,\n2024-06-07,1.6,200,N/A,\n2024-06-06,1.25,160,N/A,\n";

const YEN: Row = Row {
    campaign: "tiktok:3:30",
    name: "Herbst",
    platform: Platform::TikTok,
    account: "3",
    zone: chrono_tz::Asia::Tokyo,
    currency: "JPY",
    ..EURO
};

/// What a campaign spent and earned on a day, in units.
fn day(of: Row, day: &'static str, cost: i64, revenue: i64) -> Row {
    let micros = |units: i64| Some(units * 1_000_000);
    Row {
        day,
        observed_at: "2024-06-20T07:00:00Z",
        values: [Some(100), Some(10), Some(0), micros(cost), micros(revenue)],
        ..of
    }
}

/// Ten euros a day by each of the three, from Friday to Saturday; only the yen earned anything.
fn world(connection: &mut PgConnection) {
    report(
        connection,
        &[
            day(EURO, "2024-06-07", 10, 0),
            day(EURO, "2024-06-08", 10, 0),
            day(DOLLAR, "2024-06-07", 16, 0),
            day(DOLLAR, "2024-06-08", 16, 0),
            day(YEN, "2024-06-07", 2_000, 10_000),
            day(YEN, "2024-06-08", 2_000, 0),
        ],
    );
}

fn import_rates(connection: &mut PgConnection, text: &str, replace: bool) -> Compared {
    let today = "2024-06-20".parse().expect("a date");
    let file = ecb::open(Path::new("-"), text.as_bytes(), today).expect("a file of rates");
    import(connection, &file, replace).expect("imports")
}

fn start(database: &TestDatabase) -> Api {
    Api::start(&database.url(), None, Duration::ZERO)
}

fn rows(body: &Value) -> &Vec<Value> {
    body["data"].as_array().expect("a list")
}

const DAYS: &str = "since=2024-06-07&until=2024-06-09";

#[test]
fn all_money_is_in_the_currency_that_is_asked_for() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    world(&mut connection);
    import_rates(&mut connection, RATES, false);
    let api = start(&database);
    let used = json!({ "source": "ecb", "base": "EUR", "first_day": "2024-06-07", "last_day": "2024-06-07" });
    for question in ["/insights", "/campaigns"] {
        let body = api.get(&format!("{question}?{DAYS}&currency=EUR")).json();
        assert_eq!(body["currency"], "EUR", "{question}");
        // Saturday's is Friday's.
        assert_eq!(body["rates"], used, "{question}");
        let totals = &body["totals"];
        let all = json!([totals["cost"], totals["revenue"], totals["roas"]]);
        assert_eq!(all, json!([60.0, 50.0, 50.0 / 60.0]), "{question}");
        let each = body["totals_by_currency"].as_array().expect("a list");
        assert_eq!(each.len(), 1, "{question}");
        assert_eq!(each[0]["currency"], "EUR", "{question}");
    }
    let by_day = api
        .get(&format!(
            "/insights?{DAYS}&currency=JPY&time_increment=day&breakdown=platform&fields=cost"
        ))
        .json();
    let costs: Vec<&Value> = rows(&by_day).iter().map(|row| &row["cost"]).collect();
    assert_eq!(
        json!(costs),
        json!([2_000.0, 2_000.0, 2_000.0, 2_000.0, 2_000.0, 2_000.0])
    );
    // All time is all days, and the window is what it is without a currency.
    let ever = api.get("/insights?currency=EUR").json();
    assert_eq!(ever["totals"]["cost"], 60.0);
    assert_eq!(ever["window"], json!({ "since": null, "until": null }));
    let one = api.get("/campaign/meta:2:20/insights?currency=EUR").json();
    let whose = json!([
        one["currency"],
        one["account_currency"],
        one["totals"]["cost"]
    ]);
    assert_eq!(whose, json!(["EUR", "USD", 20.0]));
    let refused = api.get("/insights?currency=EUR&breakdown=currency");
    assert_eq!(refused.status, 400, "{}", refused.text);
    for wrong in ["XXX", "eur", "€"] {
        let refused = api.get(&format!("/campaigns?currency={wrong}"));
        assert_eq!(refused.json()["parameter"], "currency", "{wrong}");
    }
    // What was known in the past, by rates that are known now.
    for (question, cost) in [
        ("currency=EUR", 20.0),
        ("currency=USD", 32.0),
        ("currency=EUR&since=2024-06-08&until=2024-06-09", 10.0),
        ("currency=EUR&since=2024-06-09&until=2024-06-10", 0.0),
    ] {
        let question = format!("/campaign/meta:2:20/insights?{question}&as_of=2024-06-21");
        let answer = api.get(&question);
        assert_eq!(
            answer.json()["totals"]["cost"],
            cost,
            "{question}: {}",
            answer.text
        );
    }
}

#[test]
fn answers_are_as_described() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    world(&mut connection);
    import_rates(&mut connection, RATES, false);
    let api = start(&database);
    let document = document(&api);
    for (path, ask) in [
        ("/rates", "/rates".to_owned()),
        (
            "/insights",
            format!("/insights?{DAYS}&currency=EUR&compare=previous_period"),
        ),
        ("/campaigns", format!("/campaigns?{DAYS}&currency=USD")),
        (
            "/campaign/{id}/insights",
            format!("/campaign/google:1:10/insights?{DAYS}&currency=EUR"),
        ),
        (
            "/campaign/{id}/insights",
            format!("/campaign/meta:2:20/insights?{DAYS}&currency=EUR&time_increment=day"),
        ),
    ] {
        let schema = &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
            ["schema"];
        let answer = api.get(&ask);
        assert_eq!(answer.status, 200, "{ask}: {answer:?}");
        let mut wrong = Vec::new();
        faults(&document, schema, &answer.json(), path, &mut wrong);
        assert!(wrong.is_empty(), "{ask}: {wrong:#?}");
    }
}

#[test]
fn lists_are_sorted_filtered_and_written_by_converted_money() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    report(
        &mut connection,
        &[
            day(EURO, "2024-06-07", 11, 0),
            day(DOLLAR, "2024-06-06", 10, 0),
            day(DOLLAR, "2024-06-07", 24, 0),
            day(YEN, "2024-06-07", 2_000, 0),
        ],
    );
    import_rates(&mut connection, RATES, false);
    let api = start(&database);
    let ids = |question: &str| -> Vec<String> {
        let body = api.get(question).json();
        let ids = rows(&body).iter().map(|row| row["campaign_id"].as_str());
        ids.map(|id| id.expect("an id").to_owned()).collect()
    };
    assert_eq!(
        ids("/campaigns?currency=EUR&sort=cost"),
        ["meta:2:20", "google:1:10", "tiktok:3:30"]
    );
    assert_eq!(
        ids("/campaigns?currency=EUR&sort=cost&filter=cost>10.5"),
        ["meta:2:20", "google:1:10"]
    );
    let table =
        api.get("/campaigns?currency=EUR&sort=cost&order=asc&fields=cost_micros&format=csv");
    assert_eq!(
        table.text,
        "campaign_id,campaign_name,account_id,currency,account_currency,account_time_zone,cost_micros\n\
         tiktok:3:30,Herbst,3,EUR,JPY,Asia/Tokyo,10000000\n\
         google:1:10,Sommer Ä,1,EUR,EUR,Europe/Berlin,11000000\n\
         meta:2:20,Winter,2,EUR,USD,America/New_York,23000000\n"
    );
    // Pages of one list are in one currency.
    let first = api.get("/campaigns?currency=EUR&sort=cost&limit=2").json();
    let cursor = first["paging"]["next_cursor"].as_str().expect("a cursor");
    let second = api.get(&format!(
        "/campaigns?currency=EUR&sort=cost&limit=2&cursor={cursor}"
    ));
    assert_eq!(rows(&second.json())[0]["cost"], 10.0);
    // Each period by the rates of its own days.
    let compared = api
        .get("/campaigns?currency=EUR&since=2024-06-07&until=2024-06-08&compare=previous_period")
        .json();
    let was = &compared["totals"]["comparison"]["previous"]["cost"];
    assert_eq!(
        (&compared["totals"]["cost"], was),
        (&json!(36.0), &json!(8.0))
    );
    assert_eq!(compared["rates"]["first_day"], "2024-06-06");
}

#[test]
fn without_a_rate_money_is_not_converted() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    world(&mut connection);
    let api = start(&database);
    let refused = |question: &str, said: &[&str]| {
        let answer = api.get(question);
        assert_eq!(answer.status, 422, "{question}: {}", answer.text);
        let problem = answer.json();
        assert_eq!(problem["type"], "urn:adflux:problem:no-rate", "{question}");
        let detail = problem["detail"].as_str().expect("a detail");
        for said in said {
            assert!(detail.contains(said), "{question}: {detail}");
        }
    };
    refused(
        "/insights?currency=EUR",
        &[
            "'meta:2:20' and 1 more",
            "no rate of USD is known for 2024-06-07",
            "adflux rates import",
        ],
    );
    // What is of that currency anyway needs none.
    for question in [
        "/campaigns?currency=EUR&search=google",
        "/campaigns?currency=EUR&platform=Google",
        "/insights?currency=EUR&platform=Google",
        "/campaign/google:1:10/insights?currency=EUR",
    ] {
        let body = api.get(question).json();
        assert_eq!(body["totals"]["cost"], 20.0, "{question}");
        assert_eq!(body["rates"], json!(null), "{question}");
    }
    let known = api.get("/rates").json();
    assert_eq!(known["currencies"], json!([]));
    assert_eq!(known["account_currencies"], json!(["EUR", "JPY", "USD"]));
    import_rates(&mut connection, RATES, false);
    let is_converted = || api.get("/insights?currency=EUR").status == 200;
    wait_until("rates that were imported meanwhile are used", is_converted);
    // A table that has ended long ago answers no more.
    report(&mut connection, &[day(DOLLAR, "2024-06-18", 1, 0)]);
    refused(
        "/campaign/meta:2:20/insights?currency=EUR&since=2024-06-18&until=2024-06-19",
        &[
            "no rate of USD is known for 2024-06-18",
            "2024-06-07, more than 10 days older",
        ],
    );
    // Nor does one that has not begun, nor a currency that is not in it.
    report(&mut connection, &[day(DOLLAR, "2024-06-05", 1, 0)]);
    refused(
        "/campaigns?currency=EUR&search=meta&since=2024-06-05&until=2024-06-06",
        &["for 2024-06-05 or a day before"],
    );
    refused(
        "/insights?currency=CHF&since=2024-06-07&until=2024-06-08",
        &["no rate of CHF"],
    );
    // Of what currency increments are, nobody says.
    let noon = at("2024-06-07T10:00:00Z").get();
    let event = given("cmp-1", Platform::LinkedIn, noon, [1, 1, 0, 0, 0]);
    count(&mut connection, &[event]);
    let is_counted = || api.get("/campaigns?search=cmp-1").json()["paging"]["total"] == 1;
    wait_until("the event is counted", is_counted);
    let of_none = api.get("/campaign/cmp-1/insights?currency=EUR");
    assert_eq!(
        of_none.json()["totals"]["cost"],
        0.0,
        "nothing needs no rate"
    );
    let event = given(
        "cmp-1",
        Platform::LinkedIn,
        noon + 1,
        [1, 1, 0, 1_000_000, 0],
    );
    count(&mut connection, &[event]);
    let question = format!("/insights?{DAYS}&currency=EUR");
    wait_until("its money is refused", || api.get(&question).status == 422);
    refused(&question, &["'cmp-1'", "no report has said"]);
    let without = api.get(&format!("{question}&platform=Meta,Google,TikTok"));
    assert_eq!(without.json()["totals"]["cost"], 60.0);
}

#[test]
fn a_day_is_that_of_the_zone_that_is_asked_for() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    // Asked about at ten in the evening in New York, which is Friday in London already.
    let evening = Row {
        observed_at: "2024-06-07T02:00:00Z",
        ..day(DOLLAR, "2024-06-06", 80, 0)
    };
    report(&mut connection, &[evening]);
    import_rates(&mut connection, RATES, false);
    let api = start(&database);
    let cost = |zone: &str| {
        let question = format!("/campaign/meta:2:20/insights?currency=EUR&time_zone={zone}");
        api.get(&question).json()["totals"]["cost"].clone()
    };
    assert_eq!(cost("UTC"), 50.0);
    assert_eq!(cost("account"), 64.0);
    assert_eq!(cost("America/New_York"), 64.0);
}

/// Campaigns of four accounts, with some day or other of any of two weeks.
fn random(random: &mut ChaCha8Rng) -> Vec<Row> {
    const DAYS: [&str; 10] = [
        "2024-06-06",
        "2024-06-07",
        "2024-06-08",
        "2024-06-09",
        "2024-06-10",
        "2024-06-11",
        "2024-06-12",
        "2024-06-13",
        "2024-06-14",
        "2024-06-15",
    ];
    let campaigns = [
        EURO,
        DOLLAR,
        YEN,
        Row {
            campaign: "meta:2:21",
            ..DOLLAR
        },
        Row {
            campaign: "tiktok:3:31",
            ..YEN
        },
    ];
    let mut rows = Vec::new();
    for campaign in campaigns {
        for day in DAYS {
            if random.random_range(0..4) > 0 {
                let mut micros = || Some(random.random_range(0..3_000_000_007));
                rows.push(Row {
                    day,
                    observed_at: "2024-06-20T07:00:00Z",
                    values: [Some(9), Some(2), Some(0), micros(), micros()],
                    ..campaign.clone()
                });
            }
        }
    }
    rows
}

#[test]
fn every_view_of_the_same_money_agrees_to_the_micro() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    let database = TestDatabase::create();
    let mut connection = database.connect();
    report(&mut connection, &random(&mut chance));
    let rates = "Date,USD,JPY,\n2024-06-14,1.0727,168.41,\n2024-06-13,1.0784,169.69,\n2024-06-10,1.0756,169.09,\n\
        2024-06-07,1.0898,169.52,\n2024-06-06,1.0865,169.34,\n";
    import_rates(&mut connection, rates, false);
    let api = start(&database);
    for (into, zone) in [("EUR", "UTC"), ("USD", "Asia/Tokyo"), ("GBP", "UTC")] {
        let more = format!(
            "currency={into}&time_zone={zone}&fields=cost_micros,revenue_micros&since=2024-06-06&until=2024-06-17"
        );
        let list = api.get(&format!("/campaigns?{more}"));
        if into == "GBP" {
            assert_eq!(list.status, 422, "there is no rate of it");
            continue;
        }
        let list = list.json();
        let expected = sums(&[&list["totals"]]);
        let all = |body: &Value, name: &str| {
            sums(
                &body[name]
                    .as_array()
                    .expect("a list")
                    .iter()
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(all(&list, "data"), expected, "campaigns of the list");
        for increment in ["hour", "day", "week", "all"] {
            let body = api
                .get(&format!(
                    "/insights?{more}&time_increment={increment}&breakdown=platform"
                ))
                .json();
            assert_eq!(sums(&[&body["totals"]]), expected, "by {increment}");
            assert_eq!(all(&body, "data"), expected, "rows by {increment}");
            assert_eq!(
                all(&body, "platforms"),
                expected,
                "platforms by {increment}"
            );
        }
        for row in rows(&list) {
            let id = row["campaign_id"].as_str().expect("an id");
            let one = api
                .get(&format!(
                    "/campaign/{id}/insights?{more}&time_increment=day"
                ))
                .json();
            assert_eq!(sums(&[&one["totals"]]), sums(&[row]), "{id}");
            assert_eq!(all(&one, "data"), sums(&[row]), "days of {id}");
        }
    }
}

/// Cost and revenue of these, added up.
fn sums(of: &[&Value]) -> [i64; 2] {
    ["cost_micros", "revenue_micros"].map(|name| {
        let numbers = of
            .iter()
            .map(|sums| sums[name].as_i64().expect("an integer"));
        numbers.sum()
    })
}

#[test]
fn a_file_is_taken_in_once_and_contradicts_nothing_unless_it_may() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let compared = import_rates(&mut connection, RATES, false);
    assert_eq!((compared.new, compared.unchanged), (4, 0));
    let compared = import_rates(&mut connection, RATES, false);
    assert_eq!((compared.new, compared.unchanged), (0, 4));
    let newer = "Date,USD,JPY,\n2024-06-10,1.7,210,\n2024-06-07,1.5,200.0,\n";
    let compared = import_rates(&mut connection, newer, false);
    let one = compared.different.first().expect("a difference");
    assert_eq!(
        (one.known.to_string(), one.said.to_string()),
        ("1.6".to_owned(), "1.5".to_owned())
    );
    let api = start(&database);
    let known = |code: &str| {
        let known = api.get("/rates").json();
        let all = known["currencies"].as_array().expect("a list").clone();
        all.into_iter().find(|one| one["currency"] == code)
    };
    let dollar = json!({ "currency": "USD", "first_day": "2024-06-06", "last_day": "2024-06-07", "rate": "1.6" });
    assert_eq!(known("USD"), Some(dollar), "nothing has changed");
    assert_eq!(
        import_rates(&mut connection, newer, true).different.len(),
        1
    );
    let dollar = json!({ "currency": "USD", "first_day": "2024-06-06", "last_day": "2024-06-10", "rate": "1.7" });
    wait_until("the new rates are there", || {
        known("USD").as_ref() == Some(&dollar)
    });
    let euro = json!({ "currency": "EUR", "first_day": null, "last_day": null, "rate": null });
    assert_eq!(known("EUR"), Some(euro));
}
