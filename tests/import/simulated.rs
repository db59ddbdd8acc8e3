//! What `adflux simulate --reports` writes is what `adflux import` reads, whatever the form, the language and the currency.

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::command;

/// Of the ledger's name of a value: the name that `import` has for it, and how many of the ledger's are one.
const VALUES: [(&str, &str, u32); 5] = [
    ("impressions", "impressions", 0),
    ("clicks", "clicks", 0),
    ("conversions_millionths", "conversions", 6),
    ("cost_micros", "cost", 6),
    ("revenue_micros", "revenue", 6),
];

/// The sum of a value over the rows that say it; none if none does.
fn sum(rows: &[Value], name: &str) -> Option<i128> {
    let known = rows.iter().filter(|row| {
        let not_said = row["not_said"].as_array();
        not_said.is_none_or(|names| names.iter().all(|one| one != name))
    });
    let known: Vec<i128> = known
        .filter_map(|row| row[name].as_i64().map(i128::from))
        .collect();
    (!known.is_empty()).then(|| known.into_iter().sum())
}

/// A decimal number as an integer of its last `digits`.
fn exact(text: &str, digits: u32) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = format!("{fraction:0<width$}", width = digits as usize);
    format!("{whole}{fraction}").parse().expect("a number")
}

#[test]
fn what_the_simulator_writes_is_read_to_the_last_micro() {
    let folder = TempDir::new().expect("room");
    let path = folder.path().join("reports");
    let forms = [
        "google-csv",
        "google-excel",
        "google-api",
        "meta-csv",
        "meta-api",
        "linkedin-csv",
        "tiktok-csv",
        "tiktok-api",
    ];
    let written = Command::new(env!("CARGO_BIN_EXE_adflux"))
        .args([
            "simulate",
            "--accounts",
            "5",
            "--exports",
            "2",
            "--every",
            "14",
            "--days",
            "30",
        ])
        .args(["--as", &forms.join(",")])
        .arg("--reports")
        .arg(&path)
        .output()
        .expect("it runs");
    assert!(written.status.success(), "{written:?}");
    let ledger = std::fs::read(path.join("ledger.json")).expect("a ledger");
    let ledger: Value = serde_json::from_slice(&ledger).expect("JSON");
    let files = ledger["files"].as_array().expect("files");
    // Google has three forms, Meta and TikTok two, LinkedIn one: five accounts, two exports each.
    assert_eq!(files.len(), 80);
    for file in files {
        let name = file["file"].as_str().expect("a name");
        let rows = file["rows"].as_array().expect("rows");
        let mut import = command();
        import
            .args(["--dry-run", "--format", "json"])
            .arg(path.join(name));
        for (flag, of) in [
            ("--account", "account_id"),
            ("--time-zone", "time_zone"),
            ("--currency", "currency"),
            ("--observed-at", "observed_at"),
        ] {
            import.args([flag, file[of].as_str().expect("text")]);
        }
        let output = import.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {text}");
        let read: Value = serde_json::from_str(&text).expect("JSON");
        let read = &read["files"][0];
        assert_eq!(read["rows"], rows.len(), "{name}");
        assert_eq!(read["platform"], file["platform"], "{name}");
        let of_currency = &read["rows_by_currency"][0];
        assert_eq!(of_currency["currency"], file["currency"], "{name}");
        for (ledgers, imports, digits) in VALUES {
            let found = of_currency["sums"][imports].as_str();
            let found = found.map(|text| exact(text, digits));
            assert_eq!(found, sum(rows, ledgers), "{name}, {imports}");
        }
        // A file's own totals are those of its rows.
        let warnings = read["warnings"].as_array().expect("warnings");
        let is_of_totals = |warning: &Value| warning.as_str().is_none_or(|w| w.contains("add up"));
        assert!(!warnings.iter().any(is_of_totals), "{name}: {warnings:?}");
    }
}
