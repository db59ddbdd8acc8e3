//! What is imported is counted: whatever comes first, however often, and whoever is killed between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};
use nix::sys::signal::Signal;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Ended, Process};
use crate::wait::wait_until;
use crate::world::World;

/// What stands where an export says nothing: a Google Ads account's zone and id.
pub const SAID: [&str; 4] = ["--account", "123-456-7890", "--time-zone", "Europe/Berlin"];
pub const FIRST: &str = "2024-06-16T07:00:00Z";
pub const SECOND: &str = "2024-06-30T07:00:00Z";

/// A world whose database is there, and whose topic has so many partitions.
pub fn world(test: &str, partitions: i32) -> World {
    let world = World::new(test);
    world.create_topic(partitions, &[]);
    world.process_until_end(&[]).success();
    world
}

pub fn import(world: &World, files: &[&Path], args: &[&str]) -> Ended {
    let mut command = world.command("import", args);
    Process::start(command.args(files)).end()
}

/// Imports what must be good.
fn imported(world: &World, files: &[&Path], args: &[&str]) -> Ended {
    let ended = import(world, files, args);
    assert!(ended.status.success(), "{}{}", ended.log, ended.stdout);
    ended
}

pub fn as_json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).expect("a document")
}

/// Days as Google's UI exports them: campaign, its name, day, clicks.
pub fn google(rows: &[(u32, String, String, i64)]) -> String {
    let mut text = String::from(
        "Campaign report\nCampaign,Campaign ID,Day,Currency code,Impr.,Clicks,Cost,Conversions\n",
    );
    let mut sum = 0;
    for (campaign, name, day, clicks) in rows {
        let impressions = clicks * 100;
        text.push_str(&format!(
            "{name},{campaign},{day},EUR,{impressions},{clicks},{clicks}.25,{clicks}.50\n"
        ));
        sum += clicks;
    }
    let cents = rows.len() * 25;
    let (cost, conversions) = (
        sum + i64::try_from(cents / 100).expect("few"),
        sum * 10 + i64::try_from(rows.len()).expect("few") * 5,
    );
    text.push_str(&format!(
        "Total: Account, --, --,EUR,{},{sum},{cost}.{:02},{}.{}0\n",
        sum * 100,
        cents % 100,
        conversions / 10,
        conversions % 10
    ));
    text
}

pub fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("room");
    path
}

/// What is known: each revision of each campaign-day, as clicks; the newest last.
pub fn known(world: &World) -> BTreeMap<(String, String, String), Vec<Option<i64>>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        campaign_id: String,
        #[diesel(sql_type = Text)]
        day: String,
        #[diesel(sql_type = Text)]
        slice: String,
        #[diesel(sql_type = Nullable<BigInt>)]
        clicks: Option<i64>,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT campaign_id, day::text AS day, slice, clicks
         FROM (SELECT campaign_id, day, slice, observed_at, clicks FROM report_rows
               UNION ALL SELECT campaign_id, day, slice, observed_at, clicks FROM report_history) AS r
         ORDER BY observed_at",
    )
    .load(&mut world.connect())
    .expect("rows");
    let mut known: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        let key = (row.campaign_id, row.day, row.slice);
        known.entry(key).or_default().push(row.clicks);
    }
    known
}

pub fn verify(world: &World) {
    Process::start(&mut world.command("verify", &[]))
        .end()
        .success();
}

/// Two exports of an account: the second a fortnight later, with 13 restated days, three renamed campaigns, two missing days.
#[test]
fn the_newest_export_counts_whatever_came_first() {
    let folder = TempDir::new().expect("room");
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut expected = BTreeMap::new();
    for campaign in 10..14_u32 {
        for day in 1..=15_u32 {
            let of_day = format!("2024-06-{day:02}");
            let clicks = i64::from(10 * campaign + day);
            first.push((
                campaign,
                format!("Campaign {campaign}"),
                of_day.clone(),
                clicks,
            ));
            let mut revisions = vec![Some(clicks)];
            if day != 4 && day != 9 {
                let restated = clicks + i64::from(day % 3) * 5 - 3;
                let name = if campaign < 13 { "Renamed" } else { "Campaign" };
                second.push((
                    campaign,
                    format!("{name} {campaign}"),
                    of_day.clone(),
                    restated,
                ));
                revisions.push(Some(restated));
            }
            let id = format!("google:1234567890:{campaign}");
            expected.insert((id, of_day, String::new()), revisions);
        }
    }
    let world = world("twoexports", 3);
    let first = write(&folder, "first.csv", &google(&first));
    let second = write(&folder, "second.csv", &google(&second));
    // The newer one, then the older, then both again; the processor is killed while it counts.
    for (path, observed_at) in [
        (&second, SECOND),
        (&first, FIRST),
        (&second, SECOND),
        (&first, FIRST),
    ] {
        let said = [&SAID[..], &["--observed-at", observed_at]].concat();
        imported(&world, &[path], &said);
        let before = world.counted();
        let process = world.start_process(&["--batch-records", "20"]);
        wait_until("something is counted", || {
            world.counted() > before || world.counted() == world.log_size()
        });
        process.kill();
    }
    world.process_until_end(&[]).success();
    assert_eq!(known(&world), expected);
    verify(&world);
    world.assert_every_record_once();
    let clicks: i64 = expected.values().filter_map(|r| *r.last()?).sum();
    assert_eq!(
        world.number("SELECT sum(clicks)::bigint FROM metrics_total"),
        clicks
    );
    assert_eq!(
        world.number("SELECT count(*) FROM campaigns WHERE name LIKE 'Renamed%'"),
        3
    );
    assert_eq!(
        world.number("SELECT count(DISTINCT file_id) FROM report_rows"),
        2
    );
    // A third time, it is told that all is known.
    let said = [&SAID[..], &["--observed-at", SECOND, "--format", "json"]].concat();
    let again = as_json(&imported(&world, &[&second], &said));
    assert_eq!(again["files"][0]["compared"]["known"], 52);
    assert_eq!(again["files"][0]["sent"], 52);
}

/// Runs `adflux simulate --reports`, and returns its ledger.
fn simulated(folder: &Path, form: &str, seed: &str) -> Value {
    let mut command = crate::process::command();
    let forms = [
        "simulate",
        "--as",
        form,
        "--seed",
        seed,
        "--accounts",
        "2",
        "--campaigns",
        "2",
    ];
    command
        .args(forms)
        .args(["--days", "16", "--exports", "3", "--every", "5"]);
    Process::start(command.arg("--reports").arg(folder))
        .end()
        .success();
    let ledger = std::fs::read(folder.join("ledger.json")).expect("a ledger");
    serde_json::from_slice(&ledger).expect("JSON")
}

/// A campaign-day by its newest export: five numbers, and which of them the file did not say.
type Truth = BTreeMap<(String, String), (String, [Option<i64>; 5], Vec<String>)>;

fn learn(truth: &mut Truth, file: &Value) {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let (platform, account) = (
        text(&file["platform"]).to_lowercase(),
        text(&file["account_id"]),
    );
    let observed_at = text(&file["observed_at"]);
    for row in file["rows"].as_array().expect("rows") {
        let id = format!("{platform}:{account}:{}", text(&row["campaign_id"]));
        let key = (id, text(&row["day"]));
        let is_newer = truth
            .get(&key)
            .is_none_or(|(known, ..)| *known < observed_at);
        if is_newer {
            let names = [
                "impressions",
                "clicks",
                "conversions_millionths",
                "cost_micros",
                "revenue_micros",
            ];
            let numbers = names.map(|name| row[name].as_i64());
            let not_said = row["not_said"]
                .as_array()
                .into_iter()
                .flatten()
                .map(text)
                .collect();
            truth.insert(key, (observed_at.clone(), numbers, not_said));
        }
    }
}

/// All platforms and each kind of file that the simulator writes, in any order, twice, the processor killed between.
#[test]
fn every_kind_of_file_is_counted_as_its_ledger_says() {
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
    let folder = TempDir::new().expect("room");
    let world = world("allforms", 4);
    let mut random = rand::rngs::StdRng::seed_from_u64(20);
    let (mut files, mut truth) = (Vec::new(), Truth::new());
    for (seed, form) in (1..).zip(forms) {
        let of = folder.path().join(form);
        // Of each form other accounts: what one form masks another says.
        let ledger = simulated(&of, form, &format!("{seed}"));
        for file in ledger["files"].as_array().expect("files") {
            learn(&mut truth, file);
            let path = of.join(file["file"].as_str().expect("a name"));
            files.push((path, file.clone()));
        }
    }
    let mut process = world.start_process(&["--batch-records", "30"]);
    for round in 0..2 {
        files.shuffle(&mut random);
        for (path, of) in &files {
            let mut args = vec!["--observed-at", of["observed_at"].as_str().expect("text")];
            args.extend(["--account", of["account_id"].as_str().expect("text")]);
            // Three digits behind the point might be a thousand, in a file as small as these.
            if of["form"] == "tiktok-csv" {
                args.extend(["--decimal", "."]);
            }
            // What was said once is remembered.
            if round == 0 {
                for (flag, name) in [("--time-zone", "time_zone"), ("--currency", "currency")] {
                    args.extend([flag, of[name].as_str().expect("text")]);
                }
            }
            imported(&world, &[path], &args);
            if random.random_bool(0.1) {
                process.kill();
                process = world.start_process(&["--batch-records", "30"]);
            }
        }
        world.wait_until_all_counted();
    }
    process.terminate().success();
    assert_eq!(world.dead_letters(), BTreeMap::new());
    verify(&world);
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        campaign_id: String,
        #[diesel(sql_type = Text)]
        day: String,
        #[diesel(sql_type = Nullable<BigInt>)]
        impressions: Option<i64>,
        #[diesel(sql_type = Nullable<BigInt>)]
        clicks: Option<i64>,
        #[diesel(sql_type = Nullable<BigInt>)]
        conversion_micros: Option<i64>,
        #[diesel(sql_type = Nullable<BigInt>)]
        cost_micros: Option<i64>,
        #[diesel(sql_type = Nullable<BigInt>)]
        revenue_micros: Option<i64>,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT campaign_id, day::text AS day, impressions, clicks, conversion_micros, cost_micros, revenue_micros FROM report_rows",
    )
    .load(&mut world.connect())
    .expect("rows");
    assert_eq!(rows.len(), truth.len());
    for row in rows {
        let key = (row.campaign_id, row.day);
        let (_, numbers, not_said) = &truth[&key];
        let is_said = |name: &str| {
            !not_said
                .iter()
                .any(|not| name.starts_with(not.trim_end_matches("_micros")))
        };
        let found = [
            row.impressions,
            row.clicks,
            row.conversion_micros,
            row.cost_micros,
            row.revenue_micros,
        ];
        for ((name, found), number) in [
            "impressions",
            "clicks",
            "conversions_millionths",
            "cost_micros",
            "revenue_micros",
        ]
        .into_iter()
        .zip(found)
        .zip(numbers)
        {
            // An empty cell of Meta's says that there were none.
            if is_said(name) || found == Some(0) {
                assert_eq!(found, *number, "{key:?}, {name}");
            } else {
                assert_eq!(found, None, "{key:?}, {name}");
            }
        }
    }
}

#[test]
fn what_a_complete_file_lacks_becomes_zero() {
    let folder = TempDir::new().expect("room");
    let world = world("complete", 2);
    let row = |campaign: u32, day: u32, clicks| {
        (
            campaign,
            format!("C{campaign}"),
            format!("2024-06-{day:02}"),
            clicks,
        )
    };
    let all = write(
        &folder,
        "all.csv",
        &google(&[
            row(1, 1, 5),
            row(1, 2, 6),
            row(2, 1, 7),
            row(2, 3, 8),
            row(3, 9, 9),
        ]),
    );
    let less = write(&folder, "less.csv", &google(&[row(1, 1, 5), row(1, 3, 4)]));
    imported(
        &world,
        &[&all],
        &[&SAID[..], &["--observed-at", FIRST]].concat(),
    );
    world.process_until_end(&[]).success();
    let said = [
        &SAID[..],
        &["--observed-at", SECOND, "--complete", "--format", "json"],
    ]
    .concat();
    let dry = as_json(&imported(
        &world,
        &[&less],
        &[&said[..], &["--dry-run"]].concat(),
    ));
    let done = as_json(&imported(&world, &[&less], &said));
    for told in [&dry, &done] {
        let compared = &told["files"][0]["compared"];
        assert_eq!(
            (
                &compared["new"],
                &compared["unchanged"],
                &compared["absent"]
            ),
            (&1.into(), &1.into(), &3.into())
        );
        assert_eq!(compared["absent_by"][0]["sums"]["clicks"], "-21");
        assert_eq!(compared["absent_by"][0]["sums"]["revenue"], "0");
    }
    assert_eq!((&dry["sent"], &done["sent"]), (&0.into(), &5.into()));
    // Again: it changes nothing.
    imported(&world, &[&less], &said);
    world.process_until_end(&[]).success();
    let of = |campaign: u32, day: u32| {
        (
            format!("google:1234567890:{campaign}"),
            format!("2024-06-{day:02}"),
            String::new(),
        )
    };
    let expected = BTreeMap::from([
        (of(1, 1), vec![Some(5)]),
        (of(1, 2), vec![Some(6), Some(0)]),
        (of(1, 3), vec![Some(4)]),
        (of(2, 1), vec![Some(7), Some(0)]),
        (of(2, 3), vec![Some(8), Some(0)]),
        // Behind the file's last day.
        (of(3, 9), vec![Some(9)]),
    ]);
    assert_eq!(known(&world), expected);
    assert_eq!(world.dead_letters(), BTreeMap::new());
    // What was unknown is not zero.
    assert_eq!(
        world.number("SELECT count(*) FROM report_rows WHERE revenue_micros IS NOT NULL"),
        0
    );
    verify(&world);
}

#[test]
fn a_day_moves_over_to_another_grain_only_if_that_is_asked_for() {
    let folder = TempDir::new().expect("room");
    let world = world("replace", 2);
    let day = |day: u32, clicks| (1, "C".to_owned(), format!("2024-06-{day:02}"), clicks);
    let whole = write(&folder, "whole.csv", &google(&[day(1, 5), day(2, 6)]));
    let groups = "Campaign,Campaign ID,Ad group ID,Day,Currency code,Clicks,Cost,Conversions\n\
        C,1,7,2024-06-02,EUR,4,4.00,1.00\nC,1,8,2024-06-02,EUR,3,3.00,1.00\nC,1,7,2024-06-03,EUR,2,2.00,1.00\n";
    let groups = write(&folder, "groups.csv", groups);
    imported(
        &world,
        &[&whole],
        &[&SAID[..], &["--observed-at", FIRST]].concat(),
    );
    world.process_until_end(&[]).success();
    let said = [&SAID[..], &["--observed-at", SECOND]].concat();
    let sent = world.log_size();
    let refused = import(&world, &[&groups], &said).code(2);
    for part in [
        "line 2, the campaign's day counts from numbers of another kind",
        "by campaign (file ",
        ", line 4)",
        "--replace",
    ] {
        assert!(refused.stdout.contains(part), "{}", refused.stdout);
    }
    assert_eq!(world.log_size(), sent);
    // Older than what it would replace.
    let older = [&SAID[..], &["--observed-at", FIRST, "--replace"]].concat();
    let refused = import(&world, &[&groups], &older).code(2);
    assert!(
        refused.stdout.contains("is newer than the file"),
        "{}",
        refused.stdout
    );
    let replace = [&said[..], &["--replace", "--format", "json"]].concat();
    let done = as_json(&imported(&world, &[&groups], &replace));
    let compared = &done["files"][0]["compared"];
    assert_eq!(
        (&compared["new"], &compared["withdrawn"]),
        (&3.into(), &1.into())
    );
    assert_eq!(compared["withdrawn_by"][0]["sums"]["clicks"], "-6");
    world.process_until_end(&[]).success();
    // Once it has moved, it is as any other.
    imported(&world, &[&groups], &said);
    world.process_until_end(&[]).success();
    assert_eq!(world.dead_letters(), BTreeMap::new());
    assert_eq!(
        world.number("SELECT sum(clicks)::bigint FROM metrics_total"),
        5 + 7 + 2
    );
    verify(&world);
}

#[test]
fn what_an_account_said_is_remembered_and_held_against_it() {
    let folder = TempDir::new().expect("room");
    let world = world("remembered", 2);
    let path = write(
        &folder,
        "june.csv",
        &google(&[(1, "C".to_owned(), "2024-06-01".to_owned(), 5)]),
    );
    let later = write(
        &folder,
        "july.csv",
        &google(&[(1, "C".to_owned(), "2024-07-01".to_owned(), 5)]).replace(",EUR,", ",,"),
    );
    let account = ["--account", "1234567890"];
    // Never seen: it is asked for, though no account is known that it could be.
    let asked = import(
        &world,
        &[&path],
        &[&account[..], &["--observed-at", FIRST]].concat(),
    )
    .code(2);
    assert!(
        asked.stdout.contains("--time-zone ZONE"),
        "{}",
        asked.stdout
    );
    imported(
        &world,
        &[&path],
        &[&SAID[..], &["--observed-at", FIRST]].concat(),
    );
    world.process_until_end(&[]).success();
    let of_july = ["--observed-at", "2024-07-30T07:00:00Z"];
    let known = [&account[..], &of_july].concat();
    let dry = [&known[..], &["--dry-run", "--format", "json"]].concat();
    let told = as_json(&imported(&world, &[&later], &dry));
    assert_eq!(told["files"][0]["time_zone"], "Europe/Berlin");
    assert_eq!(told["files"][0]["rows_by_currency"][0]["currency"], "EUR");
    assert_eq!(told["files"][0]["conversions"], "conversions");
    let sent = world.log_size();
    for (args, said) in [
        (
            ["--time-zone", "Europe/Paris"],
            "the time zone of account 1234567890 is Europe/Berlin in what was imported before, and Europe/Paris here",
        ),
        (
            ["--currency", "USD"],
            "the currency of account 1234567890 is EUR in what was imported before, and USD here",
        ),
        (
            ["--conversions", "Clicks"],
            "the conversion of account 1234567890 is 'conversions' in what was imported before, and 'clicks' here",
        ),
    ] {
        let refused = import(&world, &[&later], &[&known[..], &args].concat()).code(2);
        assert!(refused.stdout.contains(said), "{}", refused.stdout);
        assert!(refused.stdout.contains("--replace"), "{}", refused.stdout);
    }
    // The only account that is known is not taken for the one that is not named.
    let asked = import(&world, &[&later], &of_july).code(2);
    assert!(asked.stdout.contains("--account ID"), "{}", asked.stdout);
    assert_eq!(world.log_size(), sent);
}

#[test]
fn files_that_contradict_what_is_known_or_one_another_are_refused() {
    let folder = TempDir::new().expect("room");
    let world = world("contradictions", 2);
    let file = |name: &str, clicks| {
        let row = (1, "C".to_owned(), "2024-06-01".to_owned(), clicks);
        write(&folder, name, &google(&[row]))
    };
    let (five, six) = (file("five.csv", 5), file("six.csv", 6));
    let said = [&SAID[..], &["--observed-at", FIRST]].concat();
    let refused = import(&world, &[&five, &six], &said).code(2);
    let reason = format!(
        "line 3, says something else of the same campaign, day and time than {}, line 3",
        five.display()
    );
    assert!(refused.stdout.contains(&reason), "{}", refused.stdout);
    assert_eq!(world.log_size(), 0);
    // One is good, the other none: nothing is sent.
    let page = write(&folder, "page.csv", "<!DOCTYPE html><html>");
    import(&world, &[&five, &page], &said).code(2);
    assert_eq!(world.log_size(), 0);
    // The same file twice is one.
    let copy = write(
        &folder,
        "copy.csv",
        &std::fs::read_to_string(&five).expect("it is there"),
    );
    let twice = imported(&world, &[&five, &copy], &said);
    assert!(twice.stdout.contains("imported once"), "{}", twice.stdout);
    assert_eq!(world.log_size(), 1);
    world.process_until_end(&[]).success();
    let refused = import(&world, &[&six], &said).code(2);
    let reason = "of the same time, 2024-06-16T07:00:00Z (file ";
    assert!(
        refused.stdout.contains(reason) && refused.stdout.contains(", line 3)"),
        "{}",
        refused.stdout
    );
    assert_eq!(world.log_size(), 1);
}

#[test]
fn waiting_tells_what_was_counted_and_what_was_not() {
    let folder = TempDir::new().expect("room");
    let world = world("waiting", 2);
    let row = |day: u32, clicks| (1, "C".to_owned(), format!("2024-06-{day:02}"), clicks);
    let five = write(&folder, "five.csv", &google(&[row(1, 5)]));
    let six = write(&folder, "six.csv", &google(&[row(1, 6), row(2, 6)]));
    let said = [&SAID[..], &["--observed-at", FIRST]].concat();
    let waits = |path: &Path| {
        let mut command = world.command("import", &said);
        Process::start(command.args(["--wait", "--format", "json"]).arg(path))
    };
    // Nobody counts: it waits until it is told not to, and what is sent is sent.
    let waiting = waits(&five);
    wait_until("it is sent", || world.log_size() == 1);
    waiting.signal(Signal::SIGINT);
    let given_up = waiting.end().success();
    assert_eq!(as_json(&given_up)["counted"], false);
    // The database knows nothing of the first yet, so the second is sent, and is found wrong by the processor.
    let mut waiting = waits(&six);
    waiting.wait_for_log("no processor makes progress, 2 rows are not counted yet");
    let process = world.start_process(&[]);
    let told = as_json(&waiting.end().success());
    process.terminate().success();
    assert_eq!(told["counted"], true);
    let dead = &told["files"][0]["dead_letters"];
    assert_eq!(dead[0]["reason"], "conflicting_report");
    assert_eq!(
        (&dead[0]["rows"], &dead[0]["lines"][0]),
        (&1.into(), &3.into())
    );
}

#[test]
fn without_database_or_topic_nothing_is_sent() {
    let folder = TempDir::new().expect("room");
    let world = World::new("nothing");
    let path = write(
        &folder,
        "june.csv",
        &google(&[(1, "C".to_owned(), "2024-06-01".to_owned(), 5)]),
    );
    let said = [&SAID[..], &["--observed-at", FIRST]].concat();
    import(&world, &[&path], &said)
        .code(1)
        .says("to send, the database is needed");
    let dry = imported(&world, &[&path], &[&said[..], &["--dry-run"]].concat());
    assert!(
        dry.stdout.contains("the database was not asked"),
        "{}",
        dry.stdout
    );
    let mut migrate = world.command("migrate", &[]);
    Process::start(&mut migrate).end().success();
    import(&world, &[&path], &said)
        .code(1)
        .says("does not exist");
}

/// Exports cut into files at random, several in a call, some twice, in any order: the same is known.
#[test]
fn any_cut_into_files_gives_the_same_state() {
    let folder = TempDir::new().expect("room");
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let world = world("anycut", 3);
    // For each time at which the platform was asked, which rows it gave.
    let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut said: BTreeMap<(String, String, String), BTreeMap<String, Option<i64>>> =
        BTreeMap::new();
    for export in 0..4_u32 {
        let observed_at = format!("2024-06-{:02}T07:00:00Z", 20 + export);
        let mut rows = Vec::new();
        for campaign in 0..5_u32 {
            for day in 1..=14_u32 {
                let clicks = random.random_range(0..3);
                let of_day = format!("2024-06-{day:02}");
                let key = (
                    format!("google:1234567890:{campaign}"),
                    of_day.clone(),
                    String::new(),
                );
                said.entry(key)
                    .or_default()
                    .insert(observed_at.clone(), Some(clicks));
                rows.push((campaign, format!("C{campaign}"), of_day, clicks));
            }
        }
        rows.shuffle(&mut random);
        let mut rest = &rows[..];
        while !rest.is_empty() {
            let (cut, behind) = rest.split_at(random.random_range(1..=rest.len()));
            let name = format!("{export}-{}.csv", rest.len());
            let path = write(&folder, &name, &google(cut));
            files.entry(observed_at.clone()).or_default().push(path);
            rest = behind;
        }
    }
    let mut calls: Vec<(&str, Vec<&Path>)> = Vec::new();
    for (observed_at, paths) in &files {
        let mut paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let again = *paths.choose(&mut random).expect("some");
        paths.shuffle(&mut random);
        let middle = random.random_range(0..paths.len());
        let (some, others) = paths.split_at(middle);
        calls.push((observed_at, [some, &[again]].concat()));
        calls.push((observed_at, others.to_vec()));
    }
    calls.shuffle(&mut random);
    let process = world.start_process(&["--batch-records", "25"]);
    for (observed_at, paths) in calls {
        imported(
            &world,
            &paths,
            &[&SAID[..], &["--observed-at", observed_at]].concat(),
        );
    }
    world.wait_until_all_counted();
    process.terminate().success();
    let expected: BTreeMap<_, Vec<_>> = said
        .into_iter()
        .map(|(key, said)| {
            let mut revisions: Vec<_> = said.into_values().collect();
            revisions.dedup();
            (key, revisions)
        })
        .collect();
    assert_eq!(known(&world), expected);
    assert_eq!(world.dead_letters(), BTreeMap::new());
    verify(&world);
}
