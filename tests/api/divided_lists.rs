//! Sums and lists over all campaigns, which are of two databases: what is answered of both together, and what while one is away.

use std::path::Path;

use adflux::event::Platform;
use adflux::rates::ecb;
use adflux::run::ServeSettings;
use adflux::store::keep::rates;
use adflux::time::Length;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::divided::{Divided, without_when};
use crate::reports::{DOLLAR, EURO, Row, report_on};
use crate::world::{
    Answer, Api, Given, Proxy, count_on, given, redis_at, server_of, until, variable,
};

/// 2024-06-01T00:00:00Z
const JUNE: i64 = 1_717_200_000_000_000;

const RATES: &str = "Date,USD,JPY,\n2024-06-21,1.1,150,\n2024-06-14,1.3,170,\n2024-06-07,1.6,200,\n2024-06-03,1.25,160,\n";

/// Those that reports are of, of three accounts; some in each database.
const REPORTED: [&str; 9] = [
    "google:1:10",
    "google:1:11",
    "google:1:12",
    "meta:2:20",
    "meta:2:21",
    "meta:2:22",
    "tiktok:3:30",
    "tiktok:3:31",
    "tiktok:3:32",
];

/// Increments of fifty campaigns in the course of a summer.
fn events() -> Vec<Given> {
    let mut random = ChaCha8Rng::seed_from_u64(21);
    let mut event = |n: i64| {
        let time = JUNE + random.random_range(0..100 * Length::DAY.get());
        let money = [
            random.random_range(0..9_000_000),
            random.random_range(0..20_000_000),
        ];
        let platform = Platform::ALL[random.random_range(0..4)];
        let campaign = format!("cmp-{}", random.random_range(0..50));
        let event = given(
            &campaign,
            platform,
            time,
            [n, n % 7, n % 3, money[0], money[1]],
        );
        event.with_conversions(n * 300_007 % 5_000_000)
    };
    (0..800).map(&mut event).collect()
}

/// Three days of each, of which the last says nothing of revenue where it is a Google campaign.
fn reports() -> Vec<Row> {
    let days = ["2024-06-03", "2024-06-08", "2024-06-20"];
    let of = |n: usize, campaign: &'static str| {
        days.map(|day| {
            let account = match n / 3 {
                0 => EURO,
                1 => DOLLAR,
                _ => Row {
                    platform: Platform::TikTok,
                    account: "3",
                    zone: chrono_tz::Asia::Tokyo,
                    currency: "JPY",
                    ..EURO
                },
            };
            let says_revenue = day != days[2] || account.platform != Platform::Google;
            let number = (n + day.len()) as i64;
            let revenue = says_revenue.then_some(number * 31_234_567 % 9_000_000 * 10);
            Row {
                campaign,
                name: if n.is_multiple_of(2) {
                    "Sommer Ä"
                } else {
                    "Winter"
                },
                day,
                observed_at: "2024-07-30T07:00:00Z",
                values: [
                    Some(100 * number),
                    Some(number),
                    Some(500_000),
                    Some(number * 7_654_321),
                    revenue,
                ],
                ..account
            }
        })
    };
    (0..)
        .zip(REPORTED)
        .flat_map(|(n, campaign)| of(n, campaign))
        .collect()
}

/// Increments, reports and rates.
fn world() -> Divided {
    let divided = Divided::new();
    divided.count(&events());
    let reports = reports();
    for rows in reports.chunk_by(|a, b| a.campaign == b.campaign) {
        let campaign = rows[0].campaign;
        let partition = divided.shards[0].0.partition(campaign);
        for database in [divided.of(campaign), &divided.whole] {
            let mut connection = database.connect();
            for (line, row) in (1..).zip(rows) {
                report_on(&mut connection, partition, row, line);
            }
        }
    }
    // Those of several databases are in the one with what is of no campaign.
    for database in [&divided.shards[0].1, &divided.whole] {
        let today = "2024-08-01".parse().expect("a date");
        let file = ecb::open(Path::new("-"), RATES.as_bytes(), today).expect("a file of rates");
        rates::import(&mut database.connect(), &file, false).expect("imports");
    }
    divided
}

/// What is to be the same of two answers.
fn told(answer: &Answer) -> (u16, Value) {
    let text = match answer.content_type.starts_with("text/csv") {
        true => Value::String(answer.text.clone()),
        false => without_when(answer.json()),
    };
    (answer.status, text)
}

/// Fails unless both answer the same, on all pages.
fn assert_same((two, one): &(Api, Api), path: &str) -> Value {
    let mut pages = (two.get(path), one.get(path));
    let (status, answer) = told(&pages.1);
    assert_eq!(status, 200, "{path}: {answer}");
    loop {
        let (of_two, of_one) = (told(&pages.0), told(&pages.1));
        assert_eq!(of_two, of_one, "{path}");
        if !pages.0.content_type.ends_with("json") {
            break;
        }
        let next = |page: &Answer| {
            page.json()["paging"]["next_cursor"]
                .as_str()
                .map(str::to_owned)
        };
        let (Some(of_two), Some(of_one)) = (next(&pages.0), next(&pages.1)) else {
            assert_eq!(next(&pages.0), next(&pages.1), "{path}");
            break;
        };
        let after = |api: &Api, cursor| api.get(&format!("{path}&cursor={cursor}"));
        pages = (after(two, of_two), after(one, of_one));
    }
    answer
}

const WINDOWS: [&str; 4] = [
    "date_preset=maximum",
    "since=2024-06-03&until=2024-07-01",
    "since=2024-06-07T13:37:00Z&until=2024-06-20T01:02:00Z&time_zone=America/New_York",
    "since=2024-06-08&until=2024-06-09&time_zone=Asia/Tokyo",
];

#[test]
fn sums_over_all_campaigns_are_those_of_all_databases() {
    let divided = world();
    let apis = divided.apis();
    let all = assert_same(&apis, "/insights?date_preset=maximum");
    assert_eq!(all["totals"]["events"], 800 + 27);
    assert_eq!(
        all["freshness"]["positions"].as_array().map(Vec::len),
        Some(6)
    );
    let named = format!("&campaigns=cmp-1,cmp-2,cmp-3,cmp-99,{}", REPORTED.join(","));
    let one_database = ["cmp-1", "cmp-2", "cmp-3", "cmp-4", "cmp-5"];
    let one_database: Vec<_> = one_database
        .into_iter()
        .filter(|id| divided.shards[1].0.has_campaign(id))
        .collect();
    let in_one = format!("&campaigns={}", one_database.join(","));
    assert_same(
        &apis,
        "/insights?since=2023-01-01&until=2023-02-01&time_increment=day",
    );
    for window in WINDOWS {
        for increment in ["all", "day", "month"] {
            for of in ["", &named, &in_one] {
                assert_same(
                    &apis,
                    &format!("/insights?{window}&time_increment={increment}{of}"),
                );
            }
        }
        for more in [
            "&breakdown=platform,currency&time_increment=month",
            "&platform=Google,TikTok&fields=roas,cost,events",
            "&breakdown=platform&format=csv",
        ] {
            assert_same(&apis, &format!("/insights?{window}{more}"));
        }
        let by_campaign = "&breakdown=campaign,platform&time_increment=week&limit=200";
        assert_same(&apis, &format!("/insights?{window}{named}{by_campaign}"));
        if window != WINDOWS[0] {
            let compare = "&compare=previous_period&breakdown=platform";
            assert_same(&apis, &format!("/insights?{window}{compare}"));
            assert_same(
                &apis,
                &format!("/insights?{window}{named}{compare}&time_increment=day"),
            );
        }
    }
}

#[test]
fn lists_have_the_campaigns_of_all_databases() {
    let divided = world();
    let apis = divided.apis();
    let all = assert_same(&apis, "/campaigns?limit=500");
    let rows = all["data"].as_array().expect("rows");
    for (shard, _) in &divided.shards {
        let is_own = |row: &&Value| shard.has_campaign(row["campaign_id"].as_str().expect("an id"));
        let reported = |row: &&Value| !row["currency"].is_null();
        assert!(
            rows.iter().filter(is_own).any(|row| reported(&row)),
            "{shard}"
        );
    }
    for window in WINDOWS {
        for more in [
            "sort=cost&order=asc&limit=25",
            "sort=roas&filter=clicks%3E30&filter=roas%3C4",
            "search=sommer&sort=clicks",
            "platform=Google&sort=events&limit=20",
            "sort=revenue&order=desc&fields=revenue,cost&format=csv",
        ] {
            assert_same(&apis, &format!("/campaigns?{window}&{more}"));
        }
        if window != WINDOWS[0] {
            assert_same(
                &apis,
                &format!("/campaigns?{window}&compare=previous_period&sort=profit&limit=40"),
            );
        }
    }
}

#[test]
fn money_of_all_databases_is_converted_by_one_table_of_rates() {
    let divided = world();
    let apis = divided.apis();
    let reported = format!("campaigns={}", REPORTED.join(","));
    for currency in ["EUR", "JPY"] {
        for window in [
            "date_preset=maximum",
            "since=2024-06-03&until=2024-06-21&time_zone=Asia/Tokyo",
        ] {
            for increment in ["all", "month", "day"] {
                let path = format!(
                    "/insights?{reported}&{window}&time_increment={increment}&currency={currency}"
                );
                let answer = assert_same(&apis, &path);
                assert_eq!(answer["rates"]["first_day"], "2024-06-03", "{path}");
            }
            let list =
                format!("/campaigns?search=:&sort=cost&limit=4&{window}&currency={currency}");
            let answer = assert_same(&apis, &list);
            assert_eq!(answer["paging"]["total"], REPORTED.len());
        }
        assert_same(
            &apis,
            &format!(
                "/campaigns?search=:&since=2024-06-05&until=2024-06-21&compare=previous_period&currency={currency}"
            ),
        );
    }
    // Whose money cannot be converted is named in one order.
    for path in [
        "/insights?currency=EUR",
        "/campaigns?currency=EUR&search=cmp",
    ] {
        let (two, one) = (apis.0.get(path), apis.1.get(path));
        assert_eq!(told(&two), told(&one));
        assert_eq!(two.status, 422, "{}", two.text);
    }
}

/// A list that one server has begun goes on at another, to which the databases were named in another order.
#[test]
fn a_list_of_all_databases_goes_on_at_another_server() {
    let divided = Divided::new();
    divided.count(&events());
    let redis = variable("REDIS_URL");
    let serve = |is_turned: bool| {
        let mut settings = ServeSettings {
            redis: Some(redis_at(&redis)),
            ..divided.settings()
        };
        if is_turned {
            settings.shards.reverse();
        }
        Api::serve(settings)
    };
    let servers = [serve(false), serve(true)];
    for api in &servers {
        for (shard, _) in &divided.shards {
            let id = (0..50)
                .map(|n| format!("cmp-{n}"))
                .find(|id| shard.has_campaign(id));
            let path = format!("/campaign/{}/insights", id.expect("one of its own"));
            until("it has met Redis", || api.get(&path).cache == "redis");
        }
    }
    let path = "/campaigns?sort=clicks&limit=7";
    let id = |row: &Value| row["campaign_id"].as_str().expect("an id").to_owned();
    let ids = |page: &Value| -> Vec<String> {
        page["data"]
            .as_array()
            .expect("rows")
            .iter()
            .map(id)
            .collect()
    };
    let whole = ids(&servers[0].get("/campaigns?sort=clicks&limit=500").json());
    assert_eq!(whole.len(), 50);
    let mut page = servers[0].get(path).json();
    let mut found = Vec::new();
    for api in servers.iter().rev().cycle() {
        found.extend(ids(&page));
        let Some(cursor) = page["paging"]["next_cursor"].as_str() else {
            break;
        };
        let next = api.get(&format!("{path}&cursor={cursor}"));
        assert_eq!(next.status, 200, "{}", next.text);
        page = next.json();
    }
    assert_eq!(found, whole);
}

#[test]
fn while_a_database_is_away_what_needs_it_is_stale_or_says_which_partitions_are() {
    let divided = Divided::new();
    divided.count(&events());
    let mut settings = divided.settings();
    let (_, away) = &mut settings.shards[1];
    let proxy = Proxy::before(&server_of(away));
    *away = away.replace(&server_of(away), &proxy.address.to_string());
    let api = Api::serve(settings);
    let of = |n: usize| {
        let (shard, _) = &divided.shards[n];
        let own = (0..50)
            .map(|n| format!("cmp-{n}"))
            .filter(|id| shard.has_campaign(id));
        own.take(3).collect::<Vec<_>>()
    };
    let (here, there) = (of(0).join(","), of(1).join(","));
    let held = [
        "/insights?time_increment=month".to_owned(),
        "/campaigns?sort=cost".to_owned(),
    ];
    for path in &held {
        assert_eq!(api.get(path).cache, "database", "{path}");
    }
    proxy.cut();
    for path in &held {
        until("what is held is old", || {
            let answer = api.get(path);
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(
                answer.json()["freshness"]["stale"] == true,
                answer.cache == "stale"
            );
            answer.cache == "stale"
        });
    }
    for path in [
        "/insights?since=2024-06-05&until=2024-06-09".to_owned(),
        "/campaigns?platform=Meta".to_owned(),
        format!("/insights?campaigns={there}"),
        format!("/insights?campaigns={here},{there}&breakdown=campaign"),
        format!("/campaign/{}/insights", of(1)[0]),
    ] {
        let answer = api.get(&path);
        assert_eq!(answer.status, 503, "{path}: {answer:?}");
        let detail = "the database of partitions 2-5/6 does not answer and nothing about this is cached; try again";
        assert_eq!(answer.json()["detail"], detail, "{path}");
    }
    for path in [
        format!("/insights?campaigns={here}&breakdown=campaign&time_increment=month"),
        format!("/campaign/{}/insights", of(0)[0]),
    ] {
        let answer = api.get(&path);
        assert_eq!(
            (answer.status, answer.cache.as_str()),
            (200, "database"),
            "{path}: {answer:?}"
        );
    }
    proxy.mend();
    for path in &held {
        until("it is back", || api.get(path).cache == "database");
    }
}

/// It should not be, and is not hidden where it is.
#[test]
fn a_campaign_that_is_in_two_databases_has_the_sums_of_both() {
    let divided = Divided::new();
    let event = |clicks: i64| {
        given(
            "twice",
            Platform::Meta,
            JUNE + clicks,
            [10, clicks, 1, 5, 9],
        )
    };
    for ((shard, database), clicks) in divided.shards.iter().zip([3, 4]) {
        count_on(&mut database.connect(), shard.ends().0, &[event(clicks)]);
    }
    let api = Api::serve(divided.settings());
    let list = api.get("/campaigns").json();
    assert_eq!(list["data"].as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list["data"][0]["clicks"], 7);
    assert_eq!(api.get("/insights").json()["totals"]["clicks"], 7);
    assert_eq!(list["totals"]["claimed_by"], json!(["Meta"]));
}
