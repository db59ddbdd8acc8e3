//! A database that was put back to an earlier state: by a dump, by its WAL, by the copy of a disk. The doctor says what it means, no
//! cache answers from the history that is lost, and the log brings back what is missing, once.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use diesel::connection::SimpleConnection as _;
use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl as _, sql_query};

use crate::ledger::Ledger;
use crate::process::{Ended, Process};
use crate::records::Event;
use crate::roles::ask;
use crate::support::ports::free_address;
use crate::support::server::{Backup, Server, program};
use crate::wait::{wait_for, wait_until};
use crate::world::{World, required};

/// What the doctor says of the world's database, which was restored.
fn restored(world: &World) -> Ended {
    let args = ["--restored", "--listen", "127.0.0.1:0"];
    Process::start(&mut world.command("doctor", &args)).end()
}

fn run(command: &mut Command) {
    let status = command.status().expect("it runs");
    assert!(status.success(), "{command:?}: {status}");
}

fn dump(world: &World, file: &Path) {
    run(program("pg_dump")
        .arg("--format=custom")
        .arg("--file")
        .arg(file)
        .arg(&world.database_url));
}

/// Makes the database anew from a dump.
fn restore(world: &World, file: &Path) {
    let database = world.database();
    let dropped = format!("DROP DATABASE {database} WITH (FORCE)");
    let mut server = world.server();
    wait_until("nobody is connected any more", || {
        server.batch_execute(&dropped).is_ok()
    });
    let created = format!("CREATE DATABASE {database} ENCODING 'UTF8' TEMPLATE template0");
    server.batch_execute(&created).expect("it is gone");
    run(program("pg_restore")
        .arg("--exit-on-error")
        .arg("--dbname")
        .arg(&world.database_url)
        .arg(file));
}

fn with_redis<'a>(redis: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&["--redis-url", redis], args].concat()
}

/// A server that answers from Redis where it can.
struct Asked {
    process: Process,
    address: String,
}

impl Asked {
    fn start(world: &World) -> Asked {
        let (redis, address) = (required("REDIS_URL"), free_address());
        let args = with_redis(&redis, &["--listen", &address]);
        let process = Process::start(&mut world.command("serve", &args));
        Asked { process, address }
    }

    /// The answer about a campaign.
    fn about(&self, campaign: &str) -> String {
        let path = format!("/campaign/{campaign}/insights");
        wait_for("an answer", || {
            ask(&self.address, "GET", &path, "").filter(|answer| answer.starts_with("HTTP/1.1 200"))
        })
    }

    fn end(self) {
        self.process.terminate().success();
    }
}

#[derive(QueryableByName)]
struct Campaign {
    #[diesel(sql_type = Text)]
    campaign_id: String,
}

fn events_of(world: &World, campaign: &str) -> i64 {
    world.number(&format!(
        "SELECT sum(events) FROM metrics_total WHERE campaign_id = '{campaign}'"
    ))
}

/// Has the campaign with most events in Redis, as it is in the database, and returns it.
fn cached_campaign(world: &World) -> String {
    let asked = Asked::start(world);
    let largest =
        "SELECT campaign_id FROM metrics_total GROUP BY 1 ORDER BY sum(events) DESC, 1 LIMIT 1";
    let Campaign {
        campaign_id: campaign,
    } = sql_query(largest)
        .get_result(&mut world.connect())
        .expect("something was counted");
    let events = format!("\"events\":{}", events_of(world, &campaign));
    assert!(asked.about(&campaign).contains(&events));
    asked.end();
    campaign
}

/// What holds of every database that was restored from a backup and whose log is whole.
fn comes_back(world: &World, lost: i64, campaign: &str, ledger: &Ledger) {
    let found = world.counted();
    assert!(found < lost, "{found} of {lost}: nothing was lost");
    let told = restored(world).success().stdout;
    let again = ledger.records - found;
    for text in [
        &format!("up to {again} records are read again"),
        "identity",
        "is new",
        "adflux verify",
        "offsets more to Kafka than are counted here",
    ] {
        assert!(told.contains(text), "no '{text}': {told}");
    }
    let asked = Asked::start(world);
    let events = format!("\"events\":{}", events_of(world, campaign));
    let answer = asked.about(campaign);
    assert!(answer.contains(&events), "not {events}: {answer}");
    asked.end();

    world.process_until_end(&[]).success();
    world.assert_counted(ledger);
    let told = restored(world).success().stdout;
    assert!(told.contains("up to 0 records are read again"), "{told}");
}

#[test]
fn a_dump_made_under_load_is_restored_and_the_log_brings_back_the_rest() {
    let world = World::new("dumped");
    let redis = required("REDIS_URL");
    let folder = tempfile::tempdir().expect("a folder");
    // Where whoever PostgreSQL's programs run as may write, and read.
    let file = folder.path().join("dump");
    open(folder.path());
    world.create_topic(3, &[]);
    let process = world.start_process(&with_redis(&redis, &[]));
    let sending =
        world.start_simulate(&["--rate", "1500", "--malformed", "1%", "--duplicates", "2%"]);
    world.wait_until_counted(1500);
    dump(&world, &file);
    let then = world.counted();
    world.wait_until_counted(then + 1500);
    let ledger = sending.stop_sending();
    world.wait_until_all_counted();
    process.terminate().success();
    world.assert_counted(&ledger);
    let (lost, campaign) = (world.counted(), cached_campaign(&world));

    restore(&world, &file);
    comes_back(&world, lost, &campaign, &ledger);
}

fn open(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let all = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder, all).expect("ours");
}

#[test]
fn a_server_recovered_to_an_instant_goes_on_from_there() {
    let server = Server::start();
    let backup = Backup::of(&server);
    let mut world = World::on("recovered", server.url.clone());
    let redis = required("REDIS_URL");
    world.create_topic(2, &[]);
    let process = world.start_process(&with_redis(&redis, &[]));
    let sending = world.start_simulate(&["--rate", "1500", "--malformed", "1%"]);
    world.wait_until_counted(1000);
    let point = "SELECT pg_create_restore_point('before')";
    server.connect().batch_execute(point).expect("it is ours");
    let then = world.counted();
    world.wait_until_counted(then + 1000);
    let ledger = sending.stop_sending();
    world.wait_until_all_counted();
    process.terminate().success();
    let (lost, campaign) = (world.counted(), cached_campaign(&world));
    backup.archive(&server);
    server.kill();

    let recovered = backup.recover("before");
    world.database_url = recovered.url_of(world.database());
    comes_back(&world, lost, &campaign, &ledger);
}

/// Of which nothing but the doctor can tell that it is not the one that it was.
#[test]
fn what_caches_hold_is_disowned_where_a_disk_was_put_back() {
    let server = Server::start();
    let world = World::on("disk", server.url.clone());
    let redis = required("REDIS_URL");
    world.create_topic(1, &[]);
    let count = || {
        world.send(
            &(0..50)
                .map(|_| Event::of("c1").record())
                .collect::<Vec<_>>(),
        );
        world.process_until_end(&with_redis(&redis, &[])).success();
    };
    count();
    server.stop();
    server.keep_disk();
    server.start_again();
    count();
    let asked = Asked::start(&world);
    assert!(asked.about("c1").contains("\"events\":100"));
    asked.end();

    server.stop();
    server.put_disk_back();
    server.start_again();
    assert_eq!(events_of(&world, "c1"), 50);
    let asked = Asked::start(&world);
    // As soon as it knows the name of the database there.
    wait_until("it answers from Redis", || {
        asked.about("c1").contains("\"events\":100")
    });
    restored(&world).success();
    wait_until("the server is told", || {
        asked.about("c1").contains("\"events\":50")
    });
    world.process_until_end(&with_redis(&redis, &[])).success();
    wait_until("the server is told again", || {
        asked.about("c1").contains("\"events\":100")
    });
    asked.end();
    world.assert_every_record_once();
}

#[test]
fn what_the_log_does_not_have_any_more_is_told_and_what_to_do() {
    let world = World::new("truncated");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dump");
    open(folder.path());
    world.create_topic(1, &[]);
    let send = |records: usize| {
        let events = (0..records).map(|i| Event::of(&format!("c{i}")).record());
        world.send(&events.collect::<Vec<_>>());
    };
    let says = |texts: &[&str]| {
        let told = restored(&world).code(1).stdout;
        for text in texts {
            assert!(told.contains(text), "no '{text}': {told}");
        }
    };
    send(50);
    world.process_until_end(&[]).success();
    dump(&world, &file);
    send(50);
    world.process_until_end(&[]).success();

    restore(&world, &file);
    let until = BTreeMap::from([(0, 80)]);
    world.delete_records_before(&until);
    says(&[
        "up to 30 records (offsets 50 to 79)",
        "process --accept-loss",
    ]);
    world.process_until_end(&[]).code(1);
    world.process_until_end(&["--accept-loss"]).success();
    assert_eq!(world.number("SELECT sum(events) FROM metrics_total"), 70);
    assert!(
        restored(&world)
            .success()
            .stdout
            .contains("30 offsets were given up")
    );

    // Tables that were copied alone.
    let behind = "SELECT setval('commit_ids', 1)";
    world.connect().batch_execute(behind).expect("it is ours");
    says(&[
        "would give numbers that are taken",
        "SELECT setval('public.commit_ids', ",
    ]);
    let set = "SELECT setval('commit_ids', (SELECT max(commit_id) FROM stream_positions))";
    world.connect().batch_execute(set).expect("it is ours");
    restored(&world).success();

    // A log that is another one, by its end and by its last record.
    world.delete_topic();
    world.create_topic(1, &[]);
    send(10);
    says(&["is beyond the end of the log, 10"]);
    send(90);
    says(&["is another one than was counted", "--topic"]);
    world.delete_topic();
    world.create(&format!("{}-b", world.topic), 1, &[]);
    let mut other = world.command("doctor", &["--restored", "--listen", "127.0.0.1:0"]);
    other.env("ADFLUX_TOPIC", format!("{}-b", world.topic));
    let told = Process::start(&mut other).end().code(1).stdout;
    assert!(
        told.contains("Set KAFKA_BROKERS and ADFLUX_TOPIC"),
        "{told}"
    );
    world.delete(&format!("{}-b", world.topic));
}
