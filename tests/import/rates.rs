//! `adflux rates` as a person runs it: what it prints, how it ends, and what is known then.

use serde_json::Value;

use crate::process::{Ended, Process};
use crate::undo::Importer;
use crate::world::World;

const HISTORY: &str = "Date,USD,JPY,CYP,\n2024-06-07,1.6,200,N/A,\n2024-06-06,1.25,160,N/A,\n";

fn rates(world: &World, args: &[&str]) -> Ended {
    Process::start(&mut world.command("rates", args)).end()
}

fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("room");
    path.to_str().expect("text").to_owned()
}

#[test]
fn rates_are_imported_once_shown_and_replaced_only_if_they_may_be() {
    let world = World::new("rates");
    let folder = tempfile::tempdir().expect("a folder");
    let history = file(&folder, "eurofxref-hist.csv", HISTORY);
    Process::start(&mut world.command("migrate", &[]))
        .end()
        .success();
    rates(&world, &["show"])
        .code(1)
        .says("no rates were imported");
    let importer = Importer::create(&world);
    let said = importer
        .run(&world, "rates", &["import", &history])
        .success()
        .stdout;
    assert_eq!(
        said,
        format!(
            "{history}: rates of ecb, for one EUR\n  days       2024-06-06 to 2024-06-07\n  new        4\n  unchanged  0\n  \
             replaced   0\n  ignored    CYP: no currency of today's ISO 4217\n"
        )
    );
    let again = rates(&world, &["import", &history, "--format", "json"])
        .success()
        .stdout;
    let again: Value = serde_json::from_str(&again).expect("JSON");
    assert_eq!((&again["new"], &again["unchanged"]), (&0.into(), &4.into()));
    assert_eq!(world.number("SELECT count(*) FROM rate_files"), 1);

    // Another rate of a day that is known.
    let other = file(
        &folder,
        "other.csv",
        "Date,USD,\n2024-06-10,1.7,\n2024-06-07,1.5,\n",
    );
    let refused = rates(&world, &["import", &other]).code(2).stdout;
    assert!(
        refused.contains("refused: a rate is known otherwise: USD on 2024-06-07 was 1.6 and is 1.5 here; --replace"),
        "{refused}"
    );
    assert_eq!(world.number("SELECT count(*) FROM exchange_rates"), 4);
    let shown = rates(&world, &["show", "--on", "2024-06-09"])
        .success()
        .stdout;
    assert_eq!(
        shown,
        "CURRENCY  FIRST DAY   LAST DAY    RATE ON 2024-06-09\n\
         JPY       2024-06-06  2024-06-07  200, of 2024-06-07\n\
         USD       2024-06-06  2024-06-07  1.6, of 2024-06-07\n"
    );
    importer
        .run(&world, "rates", &["import", &other, "--replace"])
        .success();
    let shown = rates(
        &world,
        &[
            "show",
            "--currency",
            "usd",
            "--on",
            "2024-06-08",
            "--format",
            "json",
        ],
    );
    let shown: Value = serde_json::from_str(&shown.success().stdout).expect("JSON");
    assert_eq!(shown["currencies"][0]["rate"], "1.5");
    let shown = rates(&world, &["show", "--on", "2024-07-30"])
        .success()
        .stdout;
    assert!(
        shown.contains("USD       2024-06-06  2024-06-10  none"),
        "{shown}"
    );

    // What is no file of rates changes nothing.
    let wrong = file(&folder, "wrong.csv", "Date,USD,\n2024-06-11,0,\n");
    let refused = rates(&world, &["import", &wrong]).code(2).stdout;
    assert!(refused.contains("line 2, column 'USD', '0'"), "{refused}");
    rates(&world, &["import", "/nowhere"]).code(2);
}
