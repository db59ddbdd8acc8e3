//! The files, read back by small readers and held against the ledger.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// By file name.
type Files = BTreeMap<String, Vec<u8>>;

fn settings(forms: &[Form]) -> Settings {
    Settings {
        seed: 7,
        forms: forms.to_vec(),
        accounts: 5,
        campaigns: 20,
        days: 45,
        start: DEFAULT_START,
        exports: 3,
        every: 5,
    }
}

fn written(settings: &Settings) -> (Files, Vec<u8>) {
    let world = World::new(settings.clone());
    let mut ledger_bytes = Vec::new();
    let mut ledger = world.ledger(&mut ledger_bytes).expect("a vector");
    let mut files = Files::new();
    for report in world.reports() {
        let mut bytes = Vec::new();
        report.write(&mut bytes, &mut ledger).expect("a vector");
        let before = files.insert(report.file_name(), bytes);
        assert!(before.is_none(), "{} twice", report.file_name());
    }
    world.finish(ledger).expect("a vector");
    (files, ledger_bytes)
}

fn read(ledger: &[u8]) -> Value {
    serde_json::from_slice(ledger).expect("JSON")
}

/// A row as the ledger has it and as readers here give it: name, then impressions, clicks, conversions in millionths, cost
/// and revenue in micros; none is not said.
type Found = BTreeMap<(String, String), (String, [Option<i64>; 5])>;

fn of_ledger(file: &Value) -> Found {
    let mut found = Found::new();
    for row in file["rows"].as_array().expect("rows") {
        let not_said: Vec<&str> = match row.get("not_said") {
            Some(names) => names
                .as_array()
                .expect("a list")
                .iter()
                .map(|name| name.as_str().expect("a name"))
                .collect(),
            None => Vec::new(),
        };
        let number = |name: &str| match not_said.contains(&name) {
            true => None,
            false => row[name].as_i64(),
        };
        let numbers = [
            "impressions",
            "clicks",
            "conversions_millionths",
            "cost_micros",
            "revenue_micros",
        ]
        .map(number);
        let before = found.insert(
            (text(&row["campaign_id"]), text(&row["day"])),
            (text(&row["campaign_name"]), numbers),
        );
        assert!(before.is_none(), "one row for a campaign-day: {row}");
    }
    found
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// A decimal number as millionths.
fn millionths(number: &str, decimal: char) -> i64 {
    let plain: String = number
        .chars()
        .filter(|c| c.is_ascii_digit() || *c == decimal)
        .collect();
    let (whole, beyond) = plain.split_once(decimal).unwrap_or((&plain, ""));
    let beyond = format!("{beyond:0<6}");
    assert_eq!(beyond.len(), 6, "{number}");
    whole.parse::<i64>().expect("digits") * 1_000_000 + beyond.parse::<i64>().expect("digits")
}

/// What is said of a table of cells: its headers for id, name, day, impressions, clicks, conversions, cost and revenue.
struct Columns {
    separator: u8,
    decimal: char,
    names: [&'static str; 8],
}

fn decoded(bytes: &[u8]) -> String {
    match bytes {
        [0xff, 0xfe, rest @ ..] => {
            let units: Vec<u16> = rest
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16(&units).expect("UTF-16")
        }
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).expect("UTF-8"),
        all => String::from_utf8(all.to_vec()).expect("UTF-8"),
    }
}

/// The lines before the header, and the rows as maps by header.
fn cells(bytes: &[u8], separator: u8, id: &str) -> (Vec<String>, Vec<HashMap<String, String>>) {
    let text = decoded(bytes);
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let (mut before, mut header, mut rows) = (Vec::new(), None, Vec::new());
    for record in reader.records() {
        let record: Vec<String> = record.expect("cells").iter().map(str::to_owned).collect();
        match &header {
            Some(header) => {
                assert_eq!(record.len(), Vec::len(header));
                rows.push(header.iter().cloned().zip(record).collect());
            }
            None if record.iter().any(|cell| cell == id) => header = Some(record),
            None => before.extend(record.first().cloned()),
        }
    }
    (before, rows)
}

fn of_cells(bytes: &[u8], columns: &Columns) -> Found {
    let [
        id,
        name,
        day,
        impressions,
        clicks,
        conversions,
        cost,
        revenue,
    ] = columns.names;
    let mut found = Found::new();
    for row in cells(bytes, columns.separator, id).1 {
        let id = row[id].trim_start_matches('=').trim_matches('"');
        if id.parse::<u64>().is_err() {
            continue; // totals
        }
        let number = |name: &str| match row.get(name).map(String::as_str) {
            None | Some("" | "<5") => None,
            Some(number) => Some(millionths(number, columns.decimal)),
        };
        let whole = |name: &str| number(name).map(|millionths| millionths / 1_000_000);
        let day = match row[day].split('/').collect::<Vec<_>>()[..] {
            [month, day, year] => format!("{year}-{month:0>2}-{day:0>2}"),
            _ => row[day].clone(),
        };
        let numbers = [
            whole(impressions),
            whole(clicks),
            number(conversions),
            number(cost),
            number(revenue),
        ];
        found.insert((id.to_owned(), day), (row[name].clone(), numbers));
    }
    found
}

const GOOGLE: [&str; 8] = [
    "Campaign ID",
    "Campaign",
    "Day",
    "Impr.",
    "Clicks",
    "Conversions",
    "Cost",
    "Conv. value",
];
const GOOGLE_IN_GERMAN: [&str; 8] = [
    "Kampagnen-ID",
    "Kampagne",
    "Tag",
    "Impr.",
    "Klicks",
    "Conversions",
    "Kosten",
    "Conv.-Wert",
];

fn google(file: &Value, separator: u8) -> Columns {
    let is_german = file["currency"] == "EUR";
    Columns {
        separator,
        decimal: if is_german { ',' } else { '.' },
        names: if is_german { GOOGLE_IN_GERMAN } else { GOOGLE },
    }
}

fn of_google_api(bytes: &[u8]) -> Found {
    let answer: Value = serde_json::from_slice(bytes).expect("JSON");
    let batches = answer.as_array().expect("batches").iter();
    batches
        .flat_map(|batch| batch["results"].as_array().expect("results"))
        .map(|row| {
            let metrics = &row["metrics"];
            let whole = |name: &str| Some(text(&metrics[name]).parse().expect("an integer"));
            let float = |name: &str| Some((metrics.get(name)?.as_f64()? * 1e6).round() as i64);
            let numbers = [
                whole("impressions"),
                whole("clicks"),
                float("conversions"),
                whole("costMicros"),
                float("conversionsValue"),
            ];
            let key = (text(&row["campaign"]["id"]), text(&row["segments"]["date"]));
            (key, (text(&row["campaign"]["name"]), numbers))
        })
        .collect()
}

fn of_meta_api(bytes: &[u8]) -> Found {
    let answer: Value = serde_json::from_slice(bytes).expect("JSON");
    let list = answer["data"].as_array().expect("data").iter();
    list.map(|row| {
        let whole = |name: &str| Some(text(&row[name]).parse().expect("an integer"));
        let action = |list: &str| {
            let list = row.get(list)?.as_array()?;
            let of_purchase = |entry: &&Value| entry["action_type"] == "purchase";
            let entry = list.iter().find(of_purchase)?;
            Some(millionths(entry["value"].as_str()?, '.'))
        };
        let conversions = Some(action("actions").unwrap_or(0));
        let revenue = match conversions {
            Some(0) if row["account_currency"] != "JPY" => Some(0),
            _ => action("action_values"),
        };
        let cost = Some(millionths(row["spend"].as_str().expect("a string"), '.'));
        let numbers = [
            whole("impressions"),
            whole("clicks"),
            conversions,
            cost,
            revenue,
        ];
        assert_eq!(row["date_start"], row["date_stop"]);
        let key = (text(&row["campaign_id"]), text(&row["date_start"]));
        (key, (text(&row["campaign_name"]), numbers))
    })
    .collect()
}

fn of_tiktok_api(bytes: &[u8]) -> Found {
    let answer: Value = serde_json::from_slice(bytes).expect("JSON");
    let list = answer["data"]["list"].as_array().expect("a list");
    assert_eq!(answer["data"]["page_info"]["total_number"], list.len());
    list.iter()
        .map(|row| {
            let metrics = &row["metrics"];
            let number = |name: &str| Some(millionths(metrics.get(name)?.as_str()?, '.'));
            let whole = |name: &str| number(name).map(|millionths| millionths / 1_000_000);
            let numbers = [
                whole("impressions"),
                whole("clicks"),
                number("complete_payment"),
                number("spend"),
                number("total_complete_payment_rate"),
            ];
            let day = text(&row["dimensions"]["stat_time_day"]);
            let day = day.strip_suffix(" 00:00:00").expect("midnight").to_owned();
            let key = (text(&row["dimensions"]["campaign_id"]), day);
            (key, (text(&metrics["campaign_name"]), numbers))
        })
        .collect()
}

fn read_back(form: Form, file: &Value, bytes: &[u8]) -> Found {
    match form {
        Form::GoogleCsv => of_cells(bytes, &google(file, b',')),
        Form::GoogleExcel => of_cells(bytes, &google(file, b'\t')),
        Form::MetaCsv => {
            let spent: &str = match file["currency"].as_str() {
                Some("USD") => "Amount spent (USD)",
                Some("EUR") => "Amount spent (EUR)",
                Some("IDR") => "Amount spent (IDR)",
                Some("JPY") => "Amount spent (JPY)",
                _ => "Amount spent (GBP)",
            };
            let columns = Columns {
                separator: b',',
                decimal: '.',
                names: [
                    "Campaign ID",
                    "Campaign name",
                    "Reporting starts",
                    "Impressions",
                    "Clicks (all)",
                    "Purchases",
                    spent,
                    "Purchases conversion value",
                ],
            };
            of_cells(bytes, &columns)
        }
        Form::LinkedinCsv => {
            // As it is said in the file's own numbers: each amount has two decimals.
            let is_german = decoded(bytes).lines().any(|line| {
                let spent = line.split('\t').nth(6).unwrap_or_default();
                spent.len() > 2 && spent.as_bytes()[spent.len() - 3] == b','
            });
            let columns = Columns {
                separator: b'\t',
                decimal: if is_german { ',' } else { '.' },
                names: [
                    "Campaign ID",
                    "Campaign Name",
                    "Start Date (in UTC)",
                    "Impressions",
                    "Clicks",
                    "Conversions",
                    "Total Spent",
                    "Total Conversion Value",
                ],
            };
            of_cells(bytes, &columns)
        }
        Form::TiktokCsv => {
            let columns = Columns {
                separator: b',',
                decimal: '.',
                names: [
                    "Campaign ID",
                    "Campaign Name",
                    "Date",
                    "Impression(s)",
                    "Clicks (Destination)",
                    "Conversions",
                    "Cost",
                    "Total Complete Payment Value",
                ],
            };
            of_cells(bytes, &columns)
        }
        Form::GoogleApi => of_google_api(bytes),
        Form::MetaApi => of_meta_api(bytes),
        Form::TiktokApi => of_tiktok_api(bytes),
    }
}

#[test]
fn each_form_reads_back_to_what_the_ledger_says() {
    let (files, ledger) = written(&settings(Form::ALL));
    let ledger = read(&ledger);
    let of_files = ledger["files"].as_array().expect("files");
    assert_eq!(of_files.len(), Form::ALL.len() * 5 * 3);
    assert_eq!(of_files.len(), files.len());
    for file in of_files {
        let name = text(&file["file"]);
        let form: Form = text(&file["form"]).parse().expect("a form");
        let (expected, found) = (of_ledger(file), read_back(form, file, &files[&name]));
        assert_eq!(expected.len(), found.len(), "{name}");
        assert!(expected.len() > 700, "{name}");
        for (key, row) in expected {
            assert_eq!(found.get(&key), Some(&row), "{name}, {key:?}");
        }
    }
}

#[test]
fn totals_are_the_sums_of_the_rows_and_of_the_ledger() {
    let (files, ledger) = written(&settings(&[
        Form::GoogleCsv,
        Form::GoogleExcel,
        Form::MetaCsv,
    ]));
    for file in read(&ledger)["files"].as_array().expect("files") {
        let mut sums = [0; 5];
        for (_, numbers) in of_ledger(file).into_values() {
            for (sum, number) in sums.iter_mut().zip(numbers) {
                *sum += number.unwrap_or(0);
            }
        }
        let totals = &file["totals"];
        let [impressions, clicks, conversions, cost, revenue] = sums;
        assert_eq!(totals["impressions"], impressions);
        assert_eq!(totals["clicks"], clicks);
        assert_eq!(totals["conversions_millionths"], conversions);
        assert_eq!(totals["cost_micros"], cost);
        assert_eq!(totals["revenue_micros"].as_i64().unwrap_or(0), revenue);

        let name = text(&file["file"]);
        if file["form"] == "meta-csv" {
            let (before, rows) = cells(&files[&name], b',', "Campaign ID");
            assert_eq!(before.len(), 0);
            let summary = &rows[0];
            assert_eq!(summary["Campaign name"], "");
            assert_ne!(summary["Reporting starts"], summary["Reporting ends"]);
            assert_eq!(summary["Impressions"], impressions.to_string());
            continue;
        }
        let separator = if file["form"] == "google-csv" {
            b','
        } else {
            b'\t'
        };
        let columns = google(file, separator);
        let [
            id,
            name_of,
            day,
            impr,
            of_clicks,
            of_conversions,
            of_cost,
            of_value,
        ] = columns.names;
        let (before, rows) = cells(&files[&name], separator, id);
        assert_eq!(before.len(), 2, "a title and a range");
        let is_total = |row: &&HashMap<String, String>| row[id] == " --";
        let of_totals: Vec<_> = rows.iter().filter(is_total).collect();
        assert_eq!(of_totals.len(), 3);
        for row in of_totals {
            assert!(row[day].contains(": "), "{}", row[day]);
            assert_eq!(row[name_of], " --");
            let number = |name: &str| millionths(&row[name], columns.decimal);
            assert_eq!(number(impr), impressions * 1_000_000);
            assert_eq!(number(of_clicks), clicks * 1_000_000);
            assert_eq!(number(of_conversions), conversions);
            assert_eq!(number(of_cost), cost);
            let of_value = row.get(of_value).map(|_| number(of_value));
            assert_eq!(of_value, totals["revenue_micros"].as_i64());
        }
    }
}

#[test]
fn the_end_of_the_ledger_is_the_newest_row_of_each_day() {
    let (_, ledger) = written(&settings(&[Form::GoogleCsv, Form::TiktokApi]));
    let ledger = read(&ledger);
    let mut newest = BTreeMap::new();
    for file in ledger["files"].as_array().expect("files") {
        for (key, (_, numbers)) in of_ledger(file) {
            let of_day = (text(&file["currency"]), text(&file["account_id"]), key);
            newest.insert(of_day, numbers);
        }
    }
    let mut sums = BTreeMap::<String, [i64; 6]>::new();
    for ((currency, ..), numbers) in newest {
        let sum = sums.entry(currency).or_default();
        sum[0] += 1;
        for (sum, number) in sum[1..].iter_mut().zip(numbers) {
            *sum += number.unwrap_or(0);
        }
    }
    let totals = ledger["totals"].as_array().expect("totals");
    assert_eq!(totals.len(), sums.len());
    for total in totals {
        let [rows, impressions, clicks, conversions, cost, revenue] =
            sums[&text(&total["currency"])];
        assert_eq!(total["rows"], rows);
        assert_eq!(total["impressions"], impressions);
        assert_eq!(total["clicks"], clicks);
        assert_eq!(total["conversions_millionths"], conversions);
        assert_eq!(total["cost_micros"], cost);
        assert_eq!(total["revenue_micros"].as_i64().unwrap_or(0), revenue);
        assert_eq!(
            total["revenue_micros"].is_null(),
            total["currency"] == "JPY"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let same = settings(Form::ALL);
    assert_eq!(written(&same), written(&same));
    let other = Settings {
        seed: 8,
        ..same.clone()
    };
    assert_ne!(written(&same), written(&other));
}

/// Of one account in the order of exports: which rows there are, and what they are called.
fn exports_of(settings: &Settings) -> Vec<Found> {
    let (_, ledger) = written(settings);
    let ledger = read(&ledger);
    ledger["files"]
        .as_array()
        .expect("files")
        .iter()
        .map(of_ledger)
        .collect()
}

#[test]
fn days_are_missing_and_campaigns_renamed_in_later_exports() {
    for campaigns in [1, 3, 40] {
        let exports = exports_of(&Settings {
            accounts: 1,
            campaigns,
            exports: 4,
            ..settings(&[Form::GoogleCsv])
        });
        for (before, after) in exports.iter().zip(&exports[1..]) {
            let days: BTreeSet<&String> = after.keys().map(|(_, day)| day).collect();
            let first = days.first().expect("days");
            let gone = before
                .keys()
                .filter(|key| &&key.1 >= first && !after.contains_key(*key));
            assert!(gone.count() > 0, "of {campaigns}, nothing is missing");
            let names = |found: &Found| -> BTreeSet<(String, String)> {
                let named = found
                    .iter()
                    .map(|((id, _), (name, _))| (id.clone(), name.clone()));
                named.collect()
            };
            let (old, new) = (names(before), names(after));
            let renamed = new.difference(&old).count();
            assert!(
                renamed > 0 || campaigns == 1,
                "of {campaigns}, nobody is renamed"
            );
            assert!(new.len() <= campaigns as usize, "one name on all days");
        }
    }
}

#[test]
fn exports_of_different_dates_agree_on_what_was_known_when() {
    let weekly = Settings {
        accounts: 1,
        exports: 2,
        every: 7,
        ..settings(&[Form::GoogleCsv])
    };
    let daily = Settings {
        exports: 8,
        every: 1,
        ..weekly.clone()
    };
    let (weekly, daily) = (exports_of(&weekly), exports_of(&daily));
    let (one, other) = (&weekly[1], &daily[7]);
    let both = one.keys().filter(|key| other.contains_key(*key)).count();
    assert!(both > 500);
    for (key, (_, numbers)) in one {
        if let Some((_, same)) = other.get(key) {
            assert_eq!(numbers, same, "{key:?}");
        }
    }
}

#[test]
fn rows_are_as_real_ones() {
    let exports = exports_of(&Settings {
        exports: 1,
        campaigns: 40,
        ..settings(&[Form::GoogleCsv])
    });
    let rows: Vec<[i64; 4]> = exports
        .iter()
        .flat_map(BTreeMap::values)
        .map(|(_, [impressions, clicks, conversions, cost, _])| {
            [impressions, clicks, conversions, cost].map(|number| number.expect("said"))
        })
        .collect();
    let share =
        |is: fn(&&[i64; 4]) -> bool| rows.iter().filter(is).count() as f64 / rows.len() as f64;
    let fractional = share(|row| row[2] % 1_000_000 != 0);
    assert!(
        (0.35..0.45).contains(&fractional),
        "{fractional} are fractions"
    );
    let unseen = share(|row| row[0] == 0);
    assert!(
        (0.005..0.04).contains(&unseen),
        "{unseen} have no impressions"
    );
    assert_eq!(
        share(|row| row[0] == 0 && row[2] == 0),
        0.0,
        "nothing to say"
    );
    assert_eq!(share(|row| row[1] > row[0]), 0.0);
}

#[test]
fn some_names_and_ids_are_hard_to_read() {
    let exports = exports_of(&Settings {
        accounts: 1,
        ..settings(&[Form::TiktokCsv])
    });
    let ids: BTreeSet<u64> = exports[0]
        .keys()
        .map(|(id, _)| id.parse().expect("digits"))
        .collect();
    assert_eq!(ids.len(), 20);
    assert!(ids.iter().all(|id| *id > 1 << 53));
    let floats: BTreeSet<u64> = ids.iter().map(|id| (*id as f64).to_bits()).collect();
    assert!(floats.len() < ids.len(), "some are one as floats");
    let names: BTreeSet<&String> = exports[0].values().map(|(name, _)| name).collect();
    assert!(names.len() < ids.len(), "two have one name");
    let has = |what: &str| names.iter().any(|name| name.contains(what));
    assert!(has(",") && has("\"") && has("ä") && has("春") && has("Total"));
    let masked = exports
        .iter()
        .flat_map(BTreeMap::values)
        .filter(|(_, n)| n[2].is_none());
    assert!(masked.count() > 0, "small numbers are masked");
}

#[test]
fn an_export_without_rows_is_a_file() {
    let (files, ledger) = written(&Settings {
        campaigns: 1,
        days: 1,
        exports: 2,
        // Its only day is filtered out.
        ..settings(Form::ALL)
    });
    let ledger = read(&ledger);
    let is_empty = |file: &&Value| file["rows"].as_array().is_some_and(Vec::is_empty);
    let empty: Vec<&Value> = ledger["files"]
        .as_array()
        .expect("files")
        .iter()
        .filter(is_empty)
        .collect();
    assert!(!empty.is_empty());
    for file in empty {
        let name = text(&file["file"]);
        let form: Form = text(&file["form"]).parse().expect("a form");
        if form == Form::MetaCsv {
            assert!(decoded(&files[&name]).ends_with("No data available.\n"));
        } else {
            assert_eq!(read_back(form, file, &files[&name]).len(), 0);
        }
    }
}

#[test]
fn forms_have_names() {
    for form in Form::ALL {
        assert_eq!(form.name().parse(), Ok(*form));
    }
    let wrong = "excel".parse::<Form>().expect_err("no form");
    assert!(
        wrong.starts_with("'excel' is none of google-csv, "),
        "{wrong}"
    );
}

#[test]
fn the_last_day_has_a_year_of_four_digits() {
    let near = settings(&[Form::GoogleCsv]);
    let last = World::last_day(&near).expect("near");
    assert_eq!(last.to_string(), "2026-02-24");
    let start = NaiveDate::from_ymd_opt(9_999, 12, 1).expect("a day");
    assert_eq!(World::last_day(&Settings { start, ..near }), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_world_reads_back(
        seed: u64,
        form in prop::sample::select(Form::ALL),
        campaigns in 1u32..20,
        days in 1u32..20,
        exports in 1u32..4,
        every in 1u32..30,
        after in 0u32..100_000,
    ) {
        let start = day_after(DEFAULT_START, after);
        let settings = Settings { seed, forms: vec![form], accounts: 3, campaigns, days, start, exports, every };
        let (files, ledger) = written(&settings);
        for file in read(&ledger)["files"].as_array().expect("files") {
            let expected = of_ledger(file);
            if !expected.is_empty() {
                prop_assert_eq!(&read_back(form, file, &files[&text(&file["file"])]), &expected);
            }
        }
    }
}
