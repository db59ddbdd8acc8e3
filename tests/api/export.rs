//! `adflux export`: every event and every sum of a range, once, in a form that others read.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use adflux::event::Platform;

use crate::world::{Api, Given, TestDatabase, count, given, variable};

/// 2026-01-31T00:00:00Z
const MIDNIGHT: i64 = 1_769_817_600_000_000;
const HOUR: i64 = 3_600_000_000;

fn export(database: &TestDatabase, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_adflux"))
        .args(["export", "--database-url", &database.url()])
        .args(arguments)
        .output()
        .expect("runs")
}

pub fn csv(database: &TestDatabase, arguments: &[&str]) -> Vec<String> {
    let output = export(database, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

/// 50 hours, an event each, in several blocks.
fn two_days() -> TestDatabase {
    let database = TestDatabase::create();
    let events: Vec<Given> = (0..50)
        .map(|n| {
            let numbers = [n + 1, 1, 0, 1_000_000, 3];
            given(
                &format!("cmp-{}", n % 3),
                Platform::Google,
                MIDNIGHT + n * HOUR,
                numbers,
            )
            .with_conversions(n * 100_000)
        })
        .collect();
    for some in events.chunks(20) {
        count(&mut database.connect(), some);
    }
    database
}

#[test]
fn events_and_sums_of_a_range_as_csv() {
    let database = two_days();
    let all = csv(&database, &["events"]);
    assert_eq!(all.len(), 51);
    assert!(all[0].starts_with("event_id,campaign_id,platform,event_time,impressions"));
    assert!(
        all[1].contains(",cmp-0,Google,2026-01-31T00:00:00.000000Z,1,1,0,1000000,3,ad-events,0,0")
    );
    // The start is in it, the end is not; a date is its midnight.
    let day = ["--since", "2026-02-01", "--until", "2026-02-02T00:00:00Z"];
    let second = csv(&database, &[&["events"], &day[..]].concat());
    assert_eq!(second.len(), 25);
    assert!(second[1].contains("2026-02-01T00:00:00"), "{}", second[1]);
    let sums = csv(&database, &["metrics"]);
    // Three campaigns on two days, and two of them on the third.
    assert_eq!(sums.len(), 1 + 3 + 3 + 2);
    assert_eq!(
        sums[1],
        "cmp-0,Google,2026-01-31T00:00:00.000000Z,8,92,8,8.4,8000000,24"
    );
    let hours = csv(
        &database,
        &[&["metrics", "--increment", "hour"], &day[..]].concat(),
    );
    assert_eq!(hours.len(), 25);
    assert_eq!(
        csv(&database, &["events", "--since", "2027-01-01"]).len(),
        1
    );
}

/// A campaign may begin with what begins a formula.
#[test]
fn what_a_spreadsheet_would_calculate_is_text() {
    let database = TestDatabase::create();
    let event = given("-A1", Platform::Google, MIDNIGHT, [1, 1, 0, 5, 3]);
    count(&mut database.connect(), &[event]);
    for what in ["events", "metrics"] {
        let row = csv(&database, &[what]).remove(1);
        assert!(row.contains("'-A1,Google"), "{row}");
        let row = csv(&database, &[what, "--raw"]).remove(1);
        assert!(row.contains("-A1,Google") && !row.contains('\''), "{row}");
    }
    let api = Api::start(&database.url(), None, Duration::ZERO);
    let table = [("accept", "text/csv")];
    let answer = api.request_with(reqwest::Method::GET, "/campaigns?sort=profit", &table);
    // A loss is a number.
    for cell in ["'-A1,", ",-0.000002"] {
        assert!(answer.text.contains(cell), "{}", answer.text);
    }
}

#[test]
fn parquet_is_what_another_reader_reads() {
    let database = two_days();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.parquet");
    let name = file.to_str().expect("text");
    for what in ["events", "metrics"] {
        let arguments = [what, "--format", "parquet", "--output", name];
        assert!(export(&database, &arguments).status.success());
        let same = csv(&database, &[what]);
        assert_eq!(read_with_python(&file), same, "{what}");
    }
    // Nothing unfinished is left.
    assert_eq!(std::fs::read_dir(folder.path()).expect("reads").count(), 1);
}

/// The rows of a Parquet file as CSV, by PyArrow's words for them.
pub fn read_with_python(file: &Path) -> Vec<String> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/parquet_reader.py");
    let output = Command::new(variable("ADFLUX_PYTHON"))
        .arg(program)
        .arg(file)
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn what_cannot_be_exported_is_said() {
    let database = TestDatabase::create();
    let wrong = [
        (
            &["events", "--since", "2026-02-02", "--until", "2026-02-01"][..],
            "--since",
        ),
        (&["events", "--since", "yesterday"], "yesterday"),
        (&["events", "--format", "xls"], "xls"),
        (&["metrics", "--increment", "week"], "week"),
        (&["events", "--output", "/nowhere/at/all.csv"], "/nowhere"),
    ];
    for (arguments, what) in wrong {
        let output = export(&database, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(what), "{said}");
    }
}
