//! `adflux import` as a person runs it: what it prints, how it ends, what memory it takes, and what is counted then.
//!
//! What only reads needs no services; what sends has a topic and a database of its own on the real ones.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

// The world of the pipeline's tests, of which these use a part.
#[allow(dead_code)]
#[path = "../pipeline/ledger.rs"]
mod ledger;
#[allow(dead_code)]
#[path = "../pipeline/process.rs"]
mod process;
#[allow(dead_code)]
#[path = "../pipeline/records.rs"]
mod records;
#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code)]
#[path = "../pipeline/world.rs"]
mod world;

mod kinds;
mod originals;
mod rates;
mod sent;
mod shards;
mod simulated;
mod undo;

use support::peak::peak_until_end;
use support::wait;

const GOOD: &str = "Campaign report\n\
    Campaign,Campaign ID,Day,Currency code,Impr.,Clicks,Cost,Conversions\n\
    Brand,111,2024-06-03,EUR,\"1,204\",57,42.85,3.50\n\
    Shoes,222,2024-06-04,EUR,10,1,0.40, --\n\
    Shoes,222,2024-06-04,EUR,10,1,0.40, --\n\
    Total: Campaigns, --, --,EUR,\"1,214\",58,43.25,3.50\n";

const SAID: [&str; 6] = [
    "--account",
    "123-456-7890",
    "--time-zone",
    "Europe/Berlin",
    "--observed-at",
    "2024-07-01T08:00:00Z",
];

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adflux"));
    // A database that is not there: what files say is all there is.
    command
        .args([
            "import",
            "--database-url",
            "postgres://nobody@127.0.0.1:1/none",
        ])
        .env_remove("RUST_LOG");
    command
}

fn file(folder: &TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("room");
    path
}

fn folder() -> TempDir {
    TempDir::new().expect("room")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn a_good_file_is_shown_and_nothing_is_sent() {
    let folder = folder();
    let path = file(&folder, "june.csv", GOOD);
    let output = command().args(SAID).arg("--dry-run").arg(&path).output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = out(&output).replace(&path.display().to_string(), "june.csv");
    let (found, rest) = text.split_once("the database").expect("a word on it");
    assert_eq!(
        found,
        "june.csv\n\
         \x20 recognised  Google Ads, CSV; UTF-8\n\
         \x20 time zone   Europe/Berlin; platform asked at 2024-07-01T08:00:00Z\n\
         \x20 rows        2; equal duplicates 1\n\
         \x20 days        2024-06-03 to 2024-06-04\n\
         \x20 campaigns   2\n\
         \x20 counts      conversions: conversions; revenue: conversions_value\n\
         \x20 sums                      impressions  clicks  conversions   cost  revenue\n\
         \x20 rows, EUR                        1214      58         3.5?  43.25  unknown\n\
         \x20 line 6, Total: Campaigns         1214      58          3.5  43.25  unknown\n\
         \x20 ? some rows do not say it, which is not zero\n\
         \n"
    );
    assert!(
        rest.starts_with(" was not asked what is known already: "),
        "{rest}"
    );
    assert!(
        rest.ends_with("\nall good: 1 of 1; nothing was sent\n"),
        "{rest}"
    );
}

#[test]
fn one_bad_file_refuses_all_and_says_why() {
    let folder = folder();
    let good = file(&folder, "good.csv", GOOD);
    let bad = file(&folder, "bad.csv", GOOD.replace("42.85", "4\u{1b}[2Jx"));
    let page = file(&folder, "page.csv", "<!DOCTYPE html><html>");
    let files = [&good, &bad, &page];
    let output = command().args(SAID).arg("--dry-run").args(files).output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = out(&output);
    for said in [
        "refused     1\n",
        "line 3, column 'Cost', '4\\u{1b}[2Jx': not a number in the style of this file",
        "not a report but a web page",
        "refused: 2 of 3; all files of a call are sent, or none",
    ] {
        assert!(text.contains(said), "{text}");
    }
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn what_is_found_can_be_had_as_json() {
    let folder = folder();
    let path = file(&folder, "june.csv", GOOD.replace("43.25", "43.26"));
    let mut command = command();
    let output = command.args(SAID).args(["--dry-run", "--format", "json"]);
    let output = output.arg(&path).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let of = &found["files"][0];
    assert_eq!(found["good"], true);
    assert_eq!(of["platform"], "Google");
    assert_eq!(
        (&of["rows"], &of["equal_duplicates"]),
        (&2.into(), &1.into())
    );
    assert_eq!(of["rows_by_currency"][0]["currency"], "EUR");
    assert_eq!(of["rows_by_currency"][0]["sums"]["cost"], "43.25");
    assert_eq!(of["rows_by_currency"][0]["sums"]["revenue"], Value::Null);
    assert_eq!(of["rows_by_currency"][0]["rows_unknown"]["conversions"], 1);
    assert_eq!(of["file_totals"][0]["sums"]["cost"], "43.26");
    assert_eq!(of["file_totals"][0]["place"], "line 6");
    let warning = of["warnings"][0].as_str().expect("a warning");
    assert!(
        warning.contains("cost 43.26, and the rows add up to 43.25"),
        "{warning}"
    );
}

#[test]
fn what_is_missing_is_asked_for_by_its_flag() {
    let folder = folder();
    let path = file(&folder, "june.csv", GOOD);
    let output = command().arg("--dry-run").arg(&path).output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    for flag in ["--account ID", "--time-zone ZONE", "--observed-at TIME"] {
        assert!(out(&output).contains(flag), "{output:?}");
    }
    let nowhere = command()
        .args(["--dry-run", "/nonexistent/june.csv"])
        .output();
    let nowhere = nowhere.expect("it runs");
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(out(&nowhere).contains("cannot be read"), "{nowhere:?}");
}

#[test]
fn wrong_flags_are_wrong_usage() {
    for (flag, value) in [
        ("--currency", "EUX"),
        ("--time-zone", "Mars/Base"),
        ("--decimal", ";"),
        ("--observed-at", "yesterday"),
        ("--map", "/nonexistent.toml"),
    ] {
        let output = command().args(["--dry-run", flag, value, "-"]).output();
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!output.stderr.is_empty());
    }
}

/// Feeds standard input, and returns what was said and how it ended.
fn fed(feed: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> Output {
    let child = feeding(feed);
    child.wait_with_output().expect("it ends")
}

fn feeding(feed: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> Child {
    let mut child = command()
        .args(SAID)
        .args(["--dry-run", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut input = child.stdin.take().expect("piped");
    feed(&mut input).expect("it reads");
    drop(input);
    child
}

#[test]
fn standard_input_is_a_file() {
    let output = fed(|input| {
        input.write_all(
            b"{\"type\":\"STATE\",\"value\":{}}\n{\"type\":\"RECORD\",\"stream\":\"x\",\"record\":{\"campaign_id\":11,\
            \"customer_currency_code\":\"EUR\",\"date\":\"2024-06-03\",\"clicks\":3,\"cost_micros\":1500000}}\n",
        )
    });
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        out(&output).starts_with("standard input\n  recognised  Google Ads API, Singer; UTF-8\n")
    );
}

/// A file of 50 MB, with more keys than are held in memory, whose first row comes again at the end.
#[test]
fn memory_does_not_grow_with_the_file() {
    const ROWS: u32 = 800_000;
    let mut child = feeding(|input| {
        let mut input = std::io::BufWriter::new(input);
        writeln!(
            input,
            "Day,Campaign ID,Campaign,Currency code,Impr.,Clicks,Cost"
        )?;
        for number in (0..ROWS).chain([0]) {
            let (day, campaign) = (number % 30 + 1, number / 30);
            writeln!(
                input,
                "2024-06-{day:02},{campaign},\"Campaign number {campaign}, brand\",EUR,1204,57,42.85"
            )?;
        }
        input.flush()
    });
    if cfg!(target_os = "linux") {
        let used = peak_until_end(&mut child);
        assert!(used < 80, "{used} MiB");
    }
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = out(&output);
    assert!(
        text.contains("rows        800000; equal duplicates 1\n"),
        "{text}"
    );
    assert!(text.contains("campaigns   26667\n"), "{text}");
    assert!(text.contains("34280000"), "{text}");
}
