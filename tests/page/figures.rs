//! The numbers on the page are those of the API, however they are asked for.

use diesel::connection::SimpleConnection as _;
use serde_json::Value;

use crate::browser::Browser;
use crate::records::Event;
use crate::site::Site;

/// A number as the United States write it.
fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let point = if decimals > 0 { "." } else { "" };
    format!("{sign}{out}{point}{rest}")
}

/// A metric as the page has to write it.
fn written(metric: &str, value: &Value) -> String {
    let Some(number) = value.as_f64() else {
        return "—".to_owned();
    };
    match metric {
        "roas" => format!("{}×", grouped(number, 2)),
        "ctr" | "cvr" => format!("{}%", grouped(number * 100.0, 2)),
        "clicks" | "impressions" => grouped(number, 0),
        "conversions" if number.fract() == 0.0 => grouped(number, 0),
        "conversions" => grouped(number, 2).trim_end_matches('0').to_owned(),
        _ if number.abs() >= 10_000.0 => grouped(number, 0),
        _ => grouped(number, 2),
    }
}

const KEY: [&str; 6] = ["cost", "revenue", "roas", "ctr", "cpa", "conversions"];
const COLUMNS: [&str; 7] = [
    "cost",
    "revenue",
    "profit",
    "roas",
    "ctr",
    "cpa",
    "conversions",
];

/// Days before now, as the API takes them.
fn since(days: i64) -> String {
    let day = chrono::Utc::now() - chrono::Duration::days(days);
    day.format("%Y-%m-%d").to_string()
}

fn assert_key_figures(browser: &Browser, totals: &Value) {
    let shown = browser.texts(".kpi .value");
    let expected: Vec<String> = KEY.iter().map(|m| written(m, &totals[m])).collect();
    assert_eq!(shown, expected);
}

fn assert_board(browser: &Browser, rows: &Value) {
    let shown = browser.texts(".board tbody tr");
    let rows = rows.as_array().expect("rows");
    assert_eq!(shown.len(), rows.len());
    for (shown, row) in shown.iter().zip(rows) {
        let cells: Vec<&str> = shown.split('\t').map(str::trim).collect();
        assert_eq!(cells[0], row["campaign_id"]);
        let expected: Vec<String> = COLUMNS.iter().map(|m| written(m, &row[m])).collect();
        assert_eq!(cells[2..9], expected, "{shown}");
    }
}

#[test]
fn numbers_equal_the_api() {
    let site = Site::shared();
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=UTC&range=all&compare=off");
    let all = site.api("/insights?date_preset=maximum");
    assert_key_figures(&browser, &all["totals"]);
    assert_board(
        &browser,
        &site.api("/campaigns?sort=profit&limit=50")["data"],
    );

    // The platforms.
    let platforms = all["platforms"].as_array().expect("platforms");
    for row in platforms {
        let name = row["platform"].as_str().expect("a name");
        let shown = browser.text(&format!(".platforms [data-platform={name}] .amount"));
        let exact = grouped(row["revenue"].as_f64().expect("a number"), 2);
        assert_eq!(shown, exact, "{name}");
    }
    assert_eq!(platforms.len(), 4);

    // A click on one narrows everything to it.
    browser.click(".platforms [data-platform=Google]");
    browser.settled();
    let google = site.api("/insights?date_preset=maximum&platform=Google");
    assert_key_figures(&browser, &google["totals"]);
    let rows = site.api("/campaigns?sort=profit&limit=50&platform=Google");
    assert_board(&browser, &rows["data"]);
    browser.back();
    assert_key_figures(&browser, &all["totals"]);

    // The period before, in words.
    let from = since(3);
    browser.visit_page(&format!("/?tz=UTC&from={from}&to={}", since(1)));
    let window = format!("since={from}&until={}&compare=previous_period", since(0));
    let days = site.api(&format!("/insights?{window}"));
    assert_key_figures(&browser, &days["totals"]);
    for metric in KEY {
        let relative = days["totals"]["comparison"]["relative"][metric].as_f64();
        let relative = relative.expect("both periods have events");
        let shown = browser.text(&format!(".kpi[data-metric={metric}] .change"));
        let good = match metric {
            "cost" => None,
            "cpa" => Some(relative < 0.0),
            _ => Some(relative > 0.0),
        };
        let word = match good {
            Some(true) => "better",
            Some(false) => "worse",
            None if relative > 0.0 => "more",
            None => "less",
        };
        let arrow = if relative > 0.0 { "↑" } else { "↓" };
        let amount = grouped(relative.abs() * 100.0, 1);
        let expected = if amount == "0.0" {
            "= unchanged".to_owned()
        } else {
            format!("{arrow} {amount}% {word}")
        };
        assert_eq!(shown, expected, "{metric}");
    }
    browser.end(false);
}

/// No record brings a fraction yet; one is written over what was counted.
#[test]
fn fractions_of_conversions_are_shown() {
    let site = Site::empty("page_fractions");
    site.send(&[Event::of("cmp-3")]);
    site.world.wait_until_counted(1);
    site.world
        .connect()
        .batch_execute(
            "UPDATE event_blocks SET conversion_millionths = ARRAY[500000];
             UPDATE sum_chunks SET conversion_millionths = '\\x00'::bytea || int8send(500000)",
        )
        .expect("PostgreSQL answers");
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=UTC&range=all");
    assert_eq!(browser.text(".kpi[data-metric=conversions] .value"), "1.5");
    let rows = site.api("/campaigns?sort=profit&limit=50");
    assert_eq!(rows["data"][0]["conversions"], 1.5);
    assert_board(&browser, &rows["data"]);
    browser.visit_page("/?tz=UTC&range=all&campaign=cmp-3");
    let newest = browser.texts("section[aria-label='Newest events'] tbody tr");
    assert!(newest[0].contains("\t1.5\t"), "{newest:?}");
    browser.end(false);
}

#[test]
fn the_board_sorts_searches_filters_and_the_address_says_so() {
    let site = Site::shared();
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=UTC&range=all");

    // Sort: what costs begins with the least.
    browser.click("[data-sort=cpa]");
    browser.settled();
    let rows = site.api("/campaigns?sort=cpa&order=asc&limit=50");
    assert_board(&browser, &rows["data"]);
    assert_eq!(
        browser.value("document.querySelector('[aria-sort]').innerText.trim()"),
        "CPA"
    );
    browser.click("[data-sort=cpa]");
    browser.settled();
    let rows = site.api("/campaigns?sort=cpa&order=desc&limit=50");
    assert_board(&browser, &rows["data"]);

    // Filter, by the chip and by the form.
    browser.click("[data-filter='roas<1']");
    browser.settled();
    let rows = site.api("/campaigns?sort=cpa&limit=50&filter=roas%3C1");
    assert!(rows["data"].as_array().is_some_and(|rows| !rows.is_empty()));
    assert_board(&browser, &rows["data"]);
    browser.click("[popovertarget=filter-form]");
    browser.choose("#filter-form [name=metric]", "ctr");
    browser.choose("#filter-form [name=operator]", ">=");
    browser.type_into("#filter-form [name=value]", "1.5");
    browser.click("#filter-form .main");
    browser.settled();
    let rows = site.api("/campaigns?sort=cpa&limit=50&filter=roas%3C1&filter=ctr%3E%3D0.015");
    if rows["data"].as_array().is_some_and(Vec::is_empty) {
        assert!(
            browser
                .text("#campaigns .blank")
                .contains("No campaign matches")
        );
    } else {
        assert_board(&browser, &rows["data"]);
    }
    let chips = browser.texts(".tools .chips [aria-pressed=true]");
    assert_eq!(chips, ["ROAS < 1.00× ×", "CTR ≥ 1.50% ×"]);

    // The address alone shows the same page.
    let address = browser.value("location.pathname + location.search");
    let shown = browser.text("#campaigns");
    let second = browser.value("document.querySelector('.kpis').innerText");
    browser.visit("/?view=pipeline");
    browser.visit_page(address.as_str().expect("an address"));
    browser.until(
        "the link shows the same",
        &format!("document.querySelector('.kpis').innerText === {second}"),
    );
    assert_eq!(browser.text("#campaigns"), shown);

    // Search.
    browser.visit_page("/?tz=UTC&range=all");
    browser.type_into("[type=search]", "cmp-1");
    browser.until(
        "the search is in the address",
        "location.search.includes('q=cmp-1')",
    );
    browser.settled();
    let rows = &site.api("/campaigns?sort=profit&limit=50&search=cmp-1")["data"];
    assert_board(&browser, rows);
    let names = browser.texts(".board tbody th");
    assert!(names.len() > 1 && names.iter().all(|name| name.starts_with("cmp-1")));

    // The comparison can be switched off, and the address keeps that.
    browser.visit_page("/?tz=UTC&range=7d");
    let shown = "!document.querySelector('.kpi .change').hidden && !document.querySelector('.legend span:nth-child(2)').hidden";
    assert_eq!(browser.value(shown), true);
    browser.click("#compare");
    browser.until(
        "the address says so",
        "location.search.includes('compare=off')",
    );
    browser.settled();
    assert_eq!(browser.value(shown), false);
    browser.back();
    assert_eq!(browser.value(shown), true);

    // What an address asks for that does not exist is said.
    browser.visit_page("/?tz=UTC&range=fortnight&colour=red");
    let note = browser.text(".note[role=status]");
    assert!(
        note.contains("range=fortnight") && note.contains("colour"),
        "{note}"
    );
    browser.end(false);
}

#[test]
fn days_by_name_are_those_of_the_api() {
    let site = Site::shared();
    let browser = Browser::open(&site.origin);
    for (range, label, preset) in [
        ("7d", "Last 7 days", "last_7d"),
        ("7d_today", "7 days incl. today", "last_7d_including_today"),
    ] {
        browser.visit_page("/?tz=UTC&range=all");
        browser.click("#range");
        let button = format!("[data-range='{range}']");
        assert_eq!(browser.text(&button), label);
        browser.shot(&format!("ranges-{range}"));
        browser.click(&button);
        browser.settled();
        let days = site.api(&format!(
            "/insights?date_preset={preset}&compare=previous_period"
        ));
        assert_key_figures(&browser, &days["totals"]);
        assert_board(
            &browser,
            &site.api(&format!(
                "/campaigns?sort=profit&limit=50&date_preset={preset}"
            ))["data"],
        );
    }
    // Both are seven days, of which only one knows today.
    let ends = |preset: &str| {
        let answer = site.api(&format!("/insights?date_preset={preset}"));
        ["since", "until"].map(|end| answer["window"][end].as_str().expect("a time").to_owned())
    };
    let [whole, so_far] = ["last_7d", "last_7d_including_today"].map(ends);
    assert_eq!(whole[1], format!("{}T00:00:00Z", since(0)));
    assert_eq!(so_far[0], format!("{}T00:00:00Z", since(6)));
    assert!(so_far[1] > whole[1], "{so_far:?} {whole:?}");
    browser.end(false);
}

#[test]
fn a_narrowed_list_says_so_and_adds_itself_up() {
    let site = Site::shared();
    let browser = Browser::open(&site.origin);
    browser.visit_page("/?tz=UTC&range=all&compare=off");
    let all = site.api("/insights?date_preset=maximum");
    let narrowed = "document.querySelector('main .note:not([hidden])')?.innerText ?? null";
    let assert_total = |list: &Value| {
        let shown = browser.text(".board tfoot tr");
        let cells: Vec<&str> = shown.split('\t').map(str::trim).collect();
        let many = list["paging"]["total"].as_u64().expect("a number");
        let campaigns = if many == 1 { "campaign" } else { "campaigns" };
        assert_eq!(cells[0], format!("Total of {many} {campaigns}"));
        let expected: Vec<String> = COLUMNS
            .iter()
            .map(|m| written(m, &list["totals"][m]))
            .collect();
        assert_eq!(cells[2..9], expected, "{shown}");
    };
    assert_eq!(browser.value(narrowed), Value::Null);
    let list = site.api("/campaigns");
    assert_eq!(list["totals"]["cost_micros"], all["totals"]["cost_micros"]);
    assert_total(&list);

    browser.click("[data-filter='roas<1']");
    browser.settled();
    let note = browser.value(narrowed);
    assert!(
        note.as_str()
            .is_some_and(|note| note.contains("all campaigns")),
        "{note}"
    );
    assert_key_figures(&browser, &all["totals"]);
    let list = site.api("/campaigns?filter=roas%3C1");
    assert_ne!(list["totals"]["cost_micros"], all["totals"]["cost_micros"]);
    assert_total(&list);
    browser.shot("narrowed");
    browser.prefer("prefers-color-scheme", "dark");
    browser.window(390, 844);
    browser.shot("narrowed-phone-dark");
    browser.window(1440, 900);

    browser.visit_page("/?tz=UTC&range=7d&q=cmp-1");
    assert!(!browser.value(narrowed).is_null());
    assert_total(&site.api("/campaigns?date_preset=last_7d&search=cmp-1"));
    browser.end(false);
}
