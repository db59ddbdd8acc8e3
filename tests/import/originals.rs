//! Originals in a bucket: had back to the byte, and nothing is sent of what could not be kept.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use data_encoding::HEXLOWER;
use rand::SeedableRng as _;
use rand::distr::{Alphanumeric, SampleString as _};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::process::{Ended, Process};
use crate::sent::{SAID, SECOND, as_json, google, world, write};
use crate::support::bucket::Bucket;
use crate::support::ports::free_address;
use crate::support::proxy::{Link, Proxy};
use crate::wait::wait_until;
use crate::world::{World, required};

const ORIGINALS: &str = "s3://reports/kept/here";

fn bucket() -> Bucket {
    Bucket::start(required("ADFLUX_WEED"))
}

/// `adflux import`, to which the bucket is known.
fn command(world: &World, bucket: &Bucket, args: &[&str]) -> Command {
    let mut command = world.command("import", args);
    bucket.known_to(&mut command, bucket.address());
    command.env("ADFLUX_ORIGINALS", ORIGINALS);
    command
}

fn run(command: &mut Command) -> Ended {
    Process::start(command).end()
}

fn import(world: &World, bucket: &Bucket, files: &[&Path]) -> Command {
    let said = [&SAID[..], &["--observed-at", SECOND]].concat();
    let mut command = command(world, bucket, &said);
    command.args(files);
    command
}

fn small(folder: &TempDir, name: &str, campaign: u32) -> PathBuf {
    let row = |day: u32| {
        (
            campaign,
            "Brand".to_owned(),
            format!("2024-06-{day:02}"),
            i64::from(campaign * 10 + day),
        )
    };
    write(folder, name, &google(&(1..5).map(row).collect::<Vec<_>>()))
}

/// Few rows, and a column of notes that cannot be packed into less than three parts.
fn large(folder: &TempDir) -> PathBuf {
    let mut random = rand::rngs::StdRng::seed_from_u64(5);
    let mut text = String::from("Campaign,Campaign ID,Day,Currency code,Clicks,Notes\n");
    for day in 1..=28 {
        let notes = Alphanumeric.sample_string(&mut random, 1_000_000);
        text.push_str(&format!("Large,7,2024-06-{day:02},EUR,{day},{notes}\n"));
    }
    write(folder, "large.csv", &text)
}

fn hash(path: &Path) -> String {
    HEXLOWER.encode(&Sha256::digest(std::fs::read(path).expect("it is there")))
}

#[test]
fn files_are_kept_in_a_bucket_and_had_back() {
    let folder = TempDir::new().expect("room");
    let world = world("inabucket", 2);
    let bucket = bucket();
    let files = [
        small(&folder, "one.csv", 1),
        small(&folder, "two.csv", 2),
        large(&folder),
    ];
    let paths = files.each_ref().map(PathBuf::as_path);
    // Each is kept once, however often it is imported.
    for _ in 0..2 {
        run(&mut import(&world, &bucket, &paths)).success();
    }
    world.process_until_end(&[]).success();
    assert_eq!(
        world.number("SELECT count(*) FROM report_file_chunks"),
        0,
        "not in the database as well"
    );
    let listed = run(&mut command(&world, &bucket, &["list", "--format", "json"])).success();
    assert_eq!(as_json(&listed).as_array().expect("a list").len(), 3);
    for path in &files {
        let hash = hash(path);
        let of = format!("kept/here/{}/", &hash[..2]);
        let kept = bucket.files_in(&of);
        assert_eq!(kept, [format!("/buckets/reports/{of}{hash}.zst")]);
        let args = ["show", &hash, "--original"];
        let had = command(&world, &bucket, &args).output().expect("it runs");
        assert!(had.status.success(), "{had:?}");
        assert!(had.stdout == std::fs::read(path).expect("it is there"));
    }
    let line = ["show", &hash(&files[0])[..12], "--line", "3"];
    let line = run(&mut command(&world, &bucket, &line)).success();
    assert!(
        line.stdout.contains("Brand,1,2024-06-01"),
        "{}",
        line.stdout
    );
    // The folder of unfinished parts is empty.
    assert_eq!(bucket.files_in(".uploads/"), [""; 0]);

    let undone = run(&mut command(&world, &bucket, &["undo", &hash(&files[2])])).success();
    assert!(
        undone.stdout.contains("withdrawn   28:"),
        "{}",
        undone.stdout
    );
    world.process_until_end(&[]).success();
    assert_eq!(
        world.number("SELECT sum(clicks)::bigint FROM metrics_total"),
        11 + 12 + 13 + 14 + 21 + 22 + 23 + 24
    );
    // Who does not say the bucket is told.
    let mut elsewhere = command(&world, &bucket, &["show", &hash(&files[0]), "--original"]);
    let elsewhere = run(elsewhere.env("ADFLUX_ORIGINALS", "postgres")).code(1);
    assert!(
        elsewhere.log.contains("name the folder or the bucket"),
        "{}",
        elsewhere.log
    );
}

/// Whether nothing of it was sent, noted or kept.
fn nothing_came_of(world: &World, refused: &Ended, why: &str) {
    assert!(!refused.status.success(), "{}", refused.stdout);
    for said in [why, "nothing was sent"] {
        assert!(refused.log.contains(said), "{said}: {}", refused.log);
    }
    assert!(!refused.log.contains("secret"), "{}", refused.log);
    assert_eq!(world.log_size(), 0);
    assert_eq!(world.number("SELECT count(*) FROM report_imports"), 0);
}

#[test]
fn what_a_bucket_refuses_is_not_sent() {
    let folder = TempDir::new().expect("room");
    let world = world("notinabucket", 1);
    let mut bucket = bucket();
    let (one, large) = (small(&folder, "one.csv", 1), large(&folder));

    let mut wrong = import(&world, &bucket, &[&one]);
    let wrong = run(wrong.env("AWS_SECRET_ACCESS_KEY", "not the secret one"));
    nothing_came_of(&world, &wrong, "AWS_SECRET_ACCESS_KEY");
    let mut nobody = import(&world, &bucket, &[&one]);
    let nobody = run(nobody.env("AWS_ACCESS_KEY_ID", "nobody"));
    nothing_came_of(&world, &nobody, "AWS_ACCESS_KEY_ID");
    for file in [&one, &large] {
        let mut missing = import(&world, &bucket, &[file]);
        let missing = run(missing.env("ADFLUX_ORIGINALS", "s3://not-there"));
        nothing_came_of(&world, &missing, "there is no such bucket");
    }
    let mut plain = import(&world, &bucket, &[&one]);
    let plain = run(plain.env_remove("AWS_ALLOW_HTTP"));
    nothing_came_of(&world, &plain, "AWS_ALLOW_HTTP");

    // Killed when some of a file is there.
    let proxy = Proxy::of_bytes();
    proxy.leads_to(bucket.address());
    proxy.set_link(Link::Slow(Duration::from_millis(100)));
    let mut through = import(&world, &bucket, &[&large]);
    bucket.known_to(&mut through, proxy.address());
    let importing = Process::start(&mut through);
    wait_until("an upload has begun", || {
        !bucket.files_in(".uploads/").is_empty()
    });
    proxy.set_link(Link::BlackHole);
    bucket.kill();
    proxy.reset();
    proxy.set_link(Link::Through);
    nothing_came_of(&world, &importing.end(), "the bucket does not answer");

    // What was broken off is no file, and the next time it is all there.
    bucket.start_again();
    run(&mut import(&world, &bucket, &[&one, &large])).success();
    assert_eq!(world.log_size(), 4 + 28);
    let args = ["show", &hash(&large), "--original"];
    let had = command(&world, &bucket, &args).output().expect("it runs");
    assert!(had.stdout == std::fs::read(&large).expect("it is there"));
}

/// Posts a file as of a time; the status and the body of the answer.
fn post(address: &str, file: &Path) -> (u16, String) {
    let url = format!(
        "http://{address}/reports?account=1234567890&time_zone=Europe/Berlin&observed_at={SECOND}"
    );
    let body = std::fs::read(file).expect("it is there");
    let request = reqwest::Client::new()
        .post(url)
        .header("content-type", "text/csv")
        .body(body);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.text().await.expect("text"))
    })
}

#[test]
fn what_is_posted_is_kept_before_it_is_sent() {
    let folder = TempDir::new().expect("room");
    let world = world("posted", 1);
    let mut bucket = bucket();
    let (one, two) = (small(&folder, "one.csv", 1), small(&folder, "two.csv", 2));
    let address = free_address();
    let mut serve = world.command("serve", &["--listen", &address]);
    bucket.known_to(&mut serve, bucket.address());
    let serving = Process::start(serve.env("ADFLUX_ORIGINALS", ORIGINALS));
    wait_until("it listens", || TcpStream::connect(&address).is_ok());
    for _ in 0..2 {
        let (status, text) = post(&address, &one);
        assert_eq!(status, 202, "{text}");
    }
    world.process_until_end(&[]).success();
    let list = as_json(&run(&mut command(
        &world,
        &bucket,
        &["list", "--format", "json"],
    )));
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list[0]["name"], "POST /reports", "{list}");
    let args = ["show", &hash(&one), "--original"];
    let had = command(&world, &bucket, &args).output().expect("it runs");
    assert!(
        had.stdout == std::fs::read(&one).expect("it is there"),
        "{had:?}"
    );

    bucket.kill();
    let (status, text) = post(&address, &two);
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("not-kept"), "{text}");
    assert_eq!(world.log_size(), 8);
    bucket.start_again();
    let (status, text) = post(&address, &two);
    assert_eq!(status, 202, "{text}");
    assert_eq!(world.log_size(), 12);
    let args = ["undo", &hash(&one)[..12]];
    world.process_until_end(&[]).success();
    let undone = run(&mut command(&world, &bucket, &args)).success();
    assert!(
        undone.stdout.contains("withdrawn   4:"),
        "{}",
        undone.stdout
    );
    serving.terminate().success().says("could not be kept");
}
