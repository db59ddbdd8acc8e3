//! Two databases that each have half of a topic's partitions: what is imported is held against what the database of each campaign
//! knows, and the files are in one of them.

use std::collections::BTreeMap;
use std::path::Path;

use adflux::shard::Shard;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Ended, Process};
use crate::sent::{FIRST, SAID, SECOND, as_json, google, verify, write};
use crate::undo::{Row, counting, hash, row};
use crate::world::World;

const RANGES: [&str; 2] = ["0-1/4", "2-3/4"];

struct Divided {
    /// Whose the topic is.
    topic: World,
    home: World,
    other: World,
}

fn campaign_id(campaign: u32) -> String {
    format!("google:1234567890:{campaign}")
}

impl Divided {
    fn new() -> Divided {
        let topic = World::new("shards");
        topic.create_topic(4, &[]);
        let [home, other] = RANGES.map(|range| topic.shard(range));
        Divided { topic, home, other }
    }

    fn import(&self, args: &[&str]) -> Ended {
        let [first, second] = RANGES;
        let shards = format!(
            "{first}={} {second}={}",
            self.home.database_url, self.other.database_url
        );
        let mut command = self.home.command("import", args);
        Process::start(command.env("ADFLUX_SHARDS", shards)).end()
    }

    fn file(&self, path: &Path, args: &[&str]) -> Value {
        let path = path.to_str().expect("a path");
        let ended = self.import(&[args, &["--format", "json", path]].concat());
        assert!(ended.status.success(), "{}{}", ended.log, ended.stdout);
        as_json(&ended)["files"][0].clone()
    }

    /// Counts what is on the topic.
    fn count(&self) {
        for world in [&self.home, &self.other] {
            world.process_until_end(&[]).success();
        }
    }

    /// What counts of each campaign's day, in both.
    fn counting(&self) -> BTreeMap<(String, String), Option<i64>> {
        let mut all = counting(&self.home);
        for (key, clicks) in counting(&self.other) {
            assert_eq!(all.insert(key, clicks), None, "in one database");
        }
        all
    }
}

fn known(file: &Value) -> [i64; 4] {
    ["new", "known", "changed", "absent"].map(|what| file["compared"][what].as_i64().expect(what))
}

#[test]
fn each_campaign_is_compared_with_what_its_own_database_knows() {
    let folder = TempDir::new().expect("room");
    let divided = Divided::new();
    let of_home: Shard = RANGES[0].parse().expect("a range");
    let (own, others): (Vec<u32>, Vec<u32>) =
        (1..=12).partition(|campaign| of_home.has_campaign(&campaign_id(*campaign)));
    assert!(!own.is_empty() && !others.is_empty());
    let rows = |campaigns: &[u32], more: i64| -> Vec<Row> {
        let rows = campaigns
            .iter()
            .map(|campaign| row(*campaign, 3, i64::from(*campaign) + more));
        rows.collect()
    };
    let first = write(
        &folder,
        "first.csv",
        &google(&rows(&(1..=12).collect::<Vec<_>>(), 0)),
    );
    let said = [&SAID[..], &["--observed-at", FIRST]].concat();
    assert_eq!(known(&divided.file(&first, &said)), [12, 0, 0, 0]);
    divided.count();
    let before = divided.counting();
    assert_eq!(before.len(), 12);

    // The same again, without what is remembered: all of it is known, each by its own.
    let again = ["--account", "1234567890", "--observed-at", FIRST];
    assert_eq!(
        known(&divided.file(&first, &[&again[..], &["--dry-run"]].concat())),
        [0, 12, 0, 0]
    );
    let files = |world: &World| world.number("SELECT count(*) FROM report_imports");
    assert_eq!((files(&divided.home), files(&divided.other)), (1, 0));

    // Complete without any campaign of the other database: those become zero there.
    let second = write(&folder, "second.csv", &google(&rows(&own, 5)));
    let processors = [&divided.home, &divided.other].map(|world| world.start_process(&[]));
    let later = [
        "--account",
        "1234567890",
        "--observed-at",
        SECOND,
        "--complete",
        "--wait",
    ];
    let file = divided.file(&second, &later);
    let count = |campaigns: &[u32]| i64::try_from(campaigns.len()).expect("few");
    assert_eq!(known(&file), [0, 0, count(&own), count(&others)]);
    assert_eq!(
        (&file["sent"], &file["dead_letters"]),
        (&json!(12), &json!([]))
    );
    for process in processors {
        process.terminate().success();
    }
    divided.count();
    for (key, clicks) in divided.counting() {
        let is_own = of_home.has_campaign(&key.0);
        let expected = if is_own {
            before[&key].map(|clicks| clicks + 5)
        } else {
            Some(0)
        };
        assert_eq!(clicks, expected, "{key:?}");
    }
    let list = divided.import(&["list", "--format", "json"]).success();
    let list = as_json(&list);
    let rows = |nth: usize, what: &str| list[nth][what].as_i64().expect(what);
    assert_eq!(
        (rows(0, "rows_counting"), rows(1, "rows_in_history")),
        (12, 12)
    );
    let shown = divided
        .import(&["show", &hash(&first)[..8], "--line", "3"])
        .success();
    assert!(shown.stdout.contains("history"), "{}", shown.stdout);

    // Taken back, the first file counts again, in both.
    let undone = divided.import(&["undo", &hash(&second)]).success();
    for said in ["restored    12:", "withdrawn   0:", "sent: 12 rows"] {
        assert!(undone.stdout.contains(said), "{}", undone.stdout);
    }
    divided.count();
    assert_eq!(divided.counting(), before);
    for world in [&divided.home, &divided.other] {
        verify(world);
        world.assert_every_record_once();
    }
    assert_eq!(divided.topic.log_size(), 12 + 12 + 12);
}

#[test]
fn what_is_divided_otherwise_is_refused() {
    let folder = TempDir::new().expect("room");
    let world = World::new("shards_refused");
    world.create_topic(3, &[]);
    let path = write(&folder, "june.csv", &google(&[row(1, 3, 7)]));
    let [first, second] = RANGES.map(|range| world.shard(range));
    let refused = |shards: &str| {
        let path = path.to_str().expect("a path");
        let said = [&SAID[..], &["--observed-at", FIRST, path]].concat();
        let mut command = first.command("import", &said);
        let ended = Process::start(command.env("ADFLUX_SHARDS", shards)).end();
        assert!(!ended.status.success());
        assert_eq!(world.log_size(), 0);
        ended.log
    };
    let (one, two) = (&first.database_url, &second.database_url);
    for (shards, why) in [
        (
            format!("0-1/4={one} 2-3/4={two}"),
            "has 3 partitions, and --shard says 4; nothing was sent",
        ),
        (
            format!("0-1/4={one}"),
            "--shard: nobody has the partitions 2 to 3",
        ),
        (
            format!("0-1/4={two} 2-3/4={one}"),
            "the database that is named for the partitions 0-1/4 has 2-3/4",
        ),
    ] {
        let log = refused(&shards);
        assert!(log.contains(why), "{log}");
    }
}
