//! What was imported can be listed, had back to the byte, and taken back, whoever is killed between.

use std::collections::BTreeMap;
use std::path::Path;

use adflux::store::{self, Limits};
use data_encoding::HEXLOWER;
use diesel::connection::SimpleConnection as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::process::{Ended, Process};
use crate::sent::{FIRST, SAID, SECOND, as_json, google, import, known, verify, world, write};
use crate::wait::wait_until;
use crate::world::World;

pub type Row = (u32, String, String, i64);

pub fn row(campaign: u32, day: u32, clicks: i64) -> Row {
    let name = format!("Campaign {campaign}");
    (campaign, name, format!("2024-06-{day:02}"), clicks)
}

pub fn hash(path: &Path) -> String {
    HEXLOWER.encode(&Sha256::digest(std::fs::read(path).expect("it is there")))
}

pub fn imported(world: &World, args: &[&str]) -> Ended {
    Process::start(&mut world.command("import", args)).end()
}

fn import_as_of(world: &World, path: &Path, observed_at: &str) {
    let said = [&SAID[..], &["--observed-at", observed_at]].concat();
    import(world, &[path], &said).success();
}

/// Counts, killing the processor once; what comes then is counted too.
fn count(world: &World) {
    let before = world.counted();
    let process = world.start_process(&["--batch-records", "7"]);
    wait_until("something is counted", || {
        world.counted() > before || world.counted() == world.log_size()
    });
    process.kill();
    world.process_until_end(&[]).success();
}

fn list(world: &World) -> Vec<Value> {
    let listed = as_json(&imported(world, &["list", "--format", "json"]).success());
    listed.as_array().expect("a list").clone()
}

fn clicks(world: &World) -> i64 {
    world.number("SELECT sum(clicks)::bigint FROM metrics_total")
}

/// What counts of each campaign's day.
pub fn counting(world: &World) -> BTreeMap<(String, String), Option<i64>> {
    let newest = known(world).into_iter();
    newest
        .map(|((campaign, day, _), revisions)| {
            ((campaign, day), revisions.last().copied().flatten())
        })
        .collect()
}

#[test]
fn a_file_is_taken_back_and_what_was_known_before_counts_again() {
    let folder = TempDir::new().expect("room");
    let world = world("undo", 3);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for campaign in 1..5 {
        for day in 1..=10 {
            let clicks = i64::from(100 * campaign + day);
            first.push(row(campaign, day, clicks));
            // Some days are restated, some are said again, some are missing.
            match day {
                1..=4 => second.push(row(campaign, day, clicks + 7)),
                5..=8 => second.push(row(campaign, day, clicks)),
                _ => {}
            }
        }
        // And some are new.
        second.push(row(campaign, 11, 9));
    }
    let first = write(&folder, "first.csv", &google(&first));
    let second = write(&folder, "second.csv", &google(&second));
    let (of_first, of_second) = (hash(&first), hash(&second));
    import_as_of(&world, &first, FIRST);
    count(&world);
    let (before, sum) = (counting(&world), clicks(&world));
    import_as_of(&world, &second, SECOND);
    count(&world);
    let (with_both, sum_of_both) = (counting(&world), clicks(&world));
    assert_eq!(sum_of_both - sum, 4 * (4 * 7 + 9));

    // The first alone: what others say too, or otherwise, stays; days that it alone has are withdrawn.
    let sent = world.log_size();
    let dry = imported(&world, &["undo", &of_first, "--dry-run"]).success();
    for said in ["withdrawn   8:", "stay        16:", "nothing was sent"] {
        assert!(dry.stdout.contains(said), "{}", dry.stdout);
    }
    assert_eq!(world.log_size(), sent);
    assert_eq!(counting(&world), with_both);

    // The second: by the first few digits of its hash.
    let undone = imported(&world, &["undo", &of_second[..8]]).success();
    for said in [
        "restored    16:",
        "withdrawn   4:",
        "sent: 20 rows",
        "--observed-at",
        "clicks -112",
    ] {
        assert!(undone.stdout.contains(said), "{}", undone.stdout);
    }
    count(&world);
    assert_eq!(clicks(&world), sum);
    let now = counting(&world);
    for (key, clicks) in &before {
        assert_eq!(now[key], *clicks, "{key:?}");
    }
    assert!(
        now.iter()
            .all(|(key, clicks)| before.contains_key(key) || clicks.is_none())
    );
    verify(&world);
    world.assert_every_record_once();
    // What counts is the first file's, to the line.
    let from_first = "SELECT count(*) FROM report_rows WHERE clicks IS NOT NULL AND line IS NOT NULL AND file_id =
        (SELECT file_id FROM report_imports WHERE name LIKE '%first.csv')";
    assert_eq!(world.number(from_first), 40);

    // Again: nothing is left to do.
    let sent = world.log_size();
    let again = imported(&world, &["undo", &of_second]).success();
    assert!(again.stdout.contains("sent: 0 rows"), "{}", again.stdout);
    assert_eq!(world.log_size(), sent);
    // Imported again as of the same time, it is older than the undo.
    let said = [&SAID[..], &["--observed-at", SECOND, "--format", "json"]].concat();
    let old = as_json(&import(&world, &[&second], &said).success());
    assert_eq!(old["files"][0]["compared"]["changed"], 0, "{old}");
    count(&world);
    assert_eq!(clicks(&world), sum);
    // As of a later one, it counts.
    let later = "2024-07-01T00:00:00Z";
    import_as_of(&world, &second, later);
    count(&world);
    assert_eq!(
        clicks(&world),
        sum,
        "later than its own time, but not than the undo"
    );
    let now = world.number("SELECT extract(epoch FROM clock_timestamp())::bigint");
    let now = chrono::DateTime::from_timestamp(now + 1, 0).expect("a time");
    import_as_of(&world, &second, &now.to_rfc3339());
    count(&world);
    assert_eq!(clicks(&world), sum_of_both);
    assert_eq!(counting(&world), with_both);
    verify(&world);
}

#[test]
fn taking_back_what_no_longer_counts_changes_nothing_and_order_does_not_matter() {
    let folder = TempDir::new().expect("room");
    let world = world("undoneboth", 2);
    let days = 1..=5;
    let of = |more: i64| {
        google(
            &days
                .clone()
                .map(|day| row(1, day, 10 + more))
                .collect::<Vec<_>>(),
        )
    };
    let first = write(&folder, "first.csv", &of(0));
    let second = write(&folder, "second.csv", &of(5));
    import_as_of(&world, &first, FIRST);
    import_as_of(&world, &second, SECOND);
    // It waits until what is on the topic is counted.
    let process = world.start_process(&[]);
    let nothing = imported(&world, &["undo", &hash(&first), "--wait"]).success();
    assert!(
        nothing.stdout.contains("sent and processed: 0 rows"),
        "{}",
        nothing.stdout
    );
    assert_eq!(clicks(&world), 75);
    // What is left is nothing: the first was taken back as well.
    let all = imported(&world, &["undo", &hash(&second), "--wait"]).success();
    assert!(
        all.stdout.contains("sent and processed: 5 rows"),
        "{}",
        all.stdout
    );
    assert_eq!(clicks(&world), 0);
    process.terminate().success();
    assert!(counting(&world).values().all(Option::is_none));
    assert_eq!(world.dead_letters(), BTreeMap::new());
    verify(&world);
    let listed = list(&world);
    assert!(
        listed
            .iter()
            .all(|one| one["undone_at"].is_string() && one["rows_counting"] == 0)
    );
    let unknown = imported(&world, &["undo", "00000000"]).code(1);
    unknown.says("no file that begins with 00000000");
}

#[test]
fn a_day_that_moved_over_moves_back() {
    let folder = TempDir::new().expect("room");
    let world = world("undoreplace", 2);
    let whole = write(&folder, "whole.csv", &google(&[row(1, 1, 5), row(1, 2, 6)]));
    let groups = "Campaign,Campaign ID,Ad group ID,Day,Currency code,Clicks,Cost,Conversions\n\
        C,1,7,2024-06-02,EUR,4,4.00,1.00\nC,1,8,2024-06-02,EUR,3,3.00,1.00\n";
    let groups = write(&folder, "groups.csv", groups);
    import_as_of(&world, &whole, FIRST);
    world.process_until_end(&[]).success();
    let said = [&SAID[..], &["--observed-at", SECOND, "--replace"]].concat();
    import(&world, &[&groups], &said).success();
    world.process_until_end(&[]).success();
    assert_eq!(clicks(&world), 5 + 7);
    imported(&world, &["undo", &hash(&groups)]).success();
    count(&world);
    assert_eq!(clicks(&world), 5 + 6);
    assert_eq!(world.dead_letters(), BTreeMap::new());
    verify(&world);
}

#[test]
fn a_file_is_kept_once_and_whole_and_comes_back_to_the_byte() {
    let folder = TempDir::new().expect("room");
    let world = world("originals", 2);
    // More than a piece, and hardly smaller when it is packed.
    let rows: Vec<Row> = (0..1_500)
        .map(|n| {
            let digits = HEXLOWER.encode(&Sha256::digest(n.to_string()));
            (
                n / 20 + 1,
                digits.repeat(14),
                format!("2024-06-{:02}", n % 20 + 1),
                i64::from(n),
            )
        })
        .collect();
    let path = write(&folder, "list", &google(&rows));
    let sha256 = hash(&path);
    let said = [&SAID[..], &["--observed-at", SECOND]].concat();
    let import_it = || {
        // As a person types it who has called a file as a subcommand is called.
        let mut command = world.command("import", &said);
        Process::start(command.arg("./list").current_dir(folder.path()))
    };
    let mut holder = world.connect();
    for sql in [
        format!("INSERT INTO report_files (sha256) VALUES ('\\x{sha256}')"),
        "BEGIN; INSERT INTO report_file_chunks SELECT file_id, 1, '' FROM report_files".to_owned(),
    ] {
        holder.batch_execute(&sql).expect("a piece in the way");
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'INSERT INTO report_file_chunks%'";
    let killed = import_it();
    wait_until("it is in the middle", || world.number(waiting) == 1);
    killed.kill();
    holder.batch_execute("ROLLBACK").expect("the way is free");
    let there = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND query LIKE 'INSERT INTO report_file_chunks%' AND state <> 'idle'";
    wait_until("the server has noticed", || world.number(there) == 0);
    let kept = "SELECT count(*) FROM report_file_chunks";
    assert_eq!(world.number(kept), 0);
    assert_eq!(list(&world), Vec::<Value>::new());
    assert_eq!(world.log_size(), 0);
    let nothing = imported(&world, &["show", &sha256, "--original"]).code(1);
    nothing.says("not in the database");

    // Twice at once, and again.
    let (one, other) = (import_it(), import_it());
    one.end().success();
    other.end().success();
    import_it().end().success();
    assert_eq!(world.number(kept), 2);
    world.process_until_end(&[]).success();
    let listed = list(&world);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["sha256"], sha256.as_str());
    assert_eq!(
        (
            &listed[0]["rows"],
            &listed[0]["rows_counting"],
            &listed[0]["rows_in_history"]
        ),
        (&1500.into(), &1500.into(), &0.into())
    );
    assert_eq!(listed[0]["accounts"][0], "1234567890");
    let text = imported(&world, &["list", "--account", "123-456-7890"])
        .success()
        .stdout;
    assert!(
        text.contains(&sha256[..12]) && text.contains("Google 1234567890"),
        "{text}"
    );
    let of_others = imported(&world, &["list", "--account", "1"])
        .success()
        .stdout;
    assert_eq!(of_others, "nothing was imported\n");

    let back = imported(&world, &["show", &sha256[..10], "--original"]).success();
    assert!(back.stdout.as_bytes() == std::fs::read(&path).expect("it is there"));
    let shown = imported(&world, &["show", &sha256]).success().stdout;
    for part in [
        sha256.as_str(),
        "1500 count",
        "kept in the database",
        "and 1400 more",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    // Two lines are before its first row.
    let line = imported(&world, &["show", &sha256, "--line", "4"])
        .success()
        .stdout;
    let expected = "counts   line 4: google:1234567890:1 on 2024-06-02, asked at 2024-06-30T07:00:00Z: impressions 100 clicks 1";
    assert!(line.contains(expected), "{line}");
    assert!(line.contains(",1,2024-06-02,EUR,100,1,1.25,1.50"), "{line}");
}

#[test]
fn files_are_kept_in_a_folder_or_not_at_all() {
    let folder = TempDir::new().expect("room");
    let world = world("folder", 1);
    let (one, two) = (
        write(&folder, "one.csv", &google(&[row(1, 1, 5)])),
        write(&folder, "two.csv", &google(&[row(1, 2, 6)])),
    );
    let originals = folder.path().join("originals");
    let originals = originals.to_str().expect("text");
    let said = [&SAID[..], &["--observed-at", FIRST]].concat();
    import(
        &world,
        &[&one],
        &[&said[..], &["--originals", originals]].concat(),
    )
    .success();
    import(
        &world,
        &[&two],
        &[&said[..], &["--originals", "off"]].concat(),
    )
    .success();
    world.process_until_end(&[]).success();
    assert_eq!(world.number("SELECT count(*) FROM report_file_chunks"), 0);
    let (one_is, two_is) = (hash(&one), hash(&two));
    let kept = Path::new(originals)
        .join(&one_is[..2])
        .join(format!("{one_is}.zst"));
    assert!(kept.is_file());
    let show = |hash: &str| {
        imported(
            &world,
            &["show", hash, "--original", "--originals", originals],
        )
    };
    let back = show(&one_is).success().stdout;
    assert_eq!(back, std::fs::read_to_string(&one).expect("it is there"));
    show(&two_is).code(1);
    // What was changed is not taken for the file.
    std::fs::write(&kept, zstd::encode_all(&b"another"[..], 1).expect("memory")).expect("room");
    show(&one_is).code(1).says("not the file any more");
    // What came of a line is known without the file.
    let line = imported(&world, &["show", &two_is, "--line", "3"])
        .success()
        .stdout;
    assert!(line.contains("google:1234567890:1 on 2024-06-02"), "{line}");
    // And it can be taken back without it.
    imported(&world, &["undo", &two_is]).success();
    world.process_until_end(&[]).success();
    assert_eq!(clicks(&world), 5);
    verify(&world);
}

/// A user of the world's database who may do what the documented role may. Gone with the value.
pub struct Importer {
    name: String,
    url: String,
    server: String,
}

impl Importer {
    pub fn create(world: &World) -> Importer {
        let mut connection = world.connect();
        connection
            .batch_execute(include_str!("../../docs/roles.sql"))
            .expect("roles");
        let name = format!("user_{:08x}", rand::random::<u32>());
        let create = format!("CREATE ROLE {name} LOGIN PASSWORD 'secret' IN ROLE adflux_importer");
        connection.batch_execute(&create).expect("a user");
        let (scheme, rest) = world.database_url.split_once("://").expect("a URL");
        let (_, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        Importer {
            url: format!("{scheme}://{name}:secret@{place}"),
            server: world.database_url.clone(),
            name,
        }
    }

    fn import(&self, world: &World, args: &[&str]) -> Ended {
        self.run(world, "import", args)
    }

    pub fn run(&self, world: &World, subcommand: &str, args: &[&str]) -> Ended {
        let mut command = world.command(subcommand, args);
        Process::start(command.env("DATABASE_URL", &self.url)).end()
    }
}

impl Drop for Importer {
    fn drop(&mut self) {
        let dropped = store::connect(&self.server, Limits::API)
            .map(|mut c| c.batch_execute(&format!("DROP ROLE {}", self.name)));
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!("role {} is left behind", self.name);
        }
    }
}

#[test]
fn the_documented_role_may_import_list_show_and_undo() {
    let folder = TempDir::new().expect("room");
    let world = world("importer", 1);
    let importer = Importer::create(&world);
    let path = write(&folder, "one.csv", &google(&[row(1, 1, 5)]));
    let file = path.to_str().expect("text");
    for _ in 0..2 {
        let said = [&SAID[..], &["--observed-at", FIRST, file]].concat();
        importer.import(&world, &said).success();
        world.process_until_end(&[]).success();
    }
    importer.import(&world, &["list"]).success();
    let sha256 = hash(&path);
    let back = importer
        .import(&world, &["show", &sha256, "--original"])
        .success();
    assert_eq!(
        back.stdout,
        std::fs::read_to_string(&path).expect("it is there")
    );
    importer.import(&world, &["undo", &sha256]).success();
    world.process_until_end(&[]).success();
    assert_eq!(clicks(&world), 0);
    let mut connection = store::connect(&importer.url, Limits::API).expect("a connection");
    for denied in [
        "SELECT FROM api_keys",
        "UPDATE report_rows SET clicks = 1",
        "DELETE FROM report_file_chunks",
    ] {
        connection
            .batch_execute(denied)
            .expect_err("more than it needs");
    }
}
