//! The command line: what it refuses, and what it must not say.

use crate::process::{self, Process};
use crate::records::Event;
use crate::world::World;

#[test]
fn properties_that_the_guarantees_rest_on_are_refused() {
    for (property, reason) in [
        ("acks=1", "in-sync replicas"),
        ("request.required.acks=1", "in-sync replicas"),
        ("enable.auto.commit=true", "after PostgreSQL has the events"),
        ("auto.offset.reset=latest", "must be an error, not a jump"),
        ("partitioner=random", "Java clients"),
    ] {
        for subcommand in ["simulate", "process"] {
            let mut command = process::command();
            command.args([subcommand, "--kafka-property", property]);
            Process::start(&mut command).end().code(2).says(reason);
        }
    }
    let mut command = process::command();
    command
        .arg("process")
        .env("ADFLUX_KAFKA_PROPERTIES", "client.rack=a;acks=1");
    Process::start(&mut command)
        .end()
        .code(2)
        .says("in-sync replicas");
}

/// librdkafka is given the whole value: it refuses a mechanism that it does not know by name.
#[test]
fn a_value_with_a_semicolon_can_be_given() {
    let mut command = process::command();
    command.args(["simulate", "--brokers", "127.0.0.1:1"]).env(
        "ADFLUX_KAFKA_PROPERTIES",
        r"sasl.username=me;sasl.password=a\;b;security.protocol=no\;such",
    );
    Process::start(&mut command)
        .end()
        .code(1)
        .says("security.protocol");
    command.env(
        "ADFLUX_KAFKA_PROPERTIES",
        "sasl.username=me;sasl.password=a;b",
    );
    let refused = Process::start(&mut command).end().code(2);
    let refused = refused.says(r"write a semicolon that is part of a value as \;");
    assert!(!refused.log.contains("password"), "{}", refused.log);
}

#[test]
fn secrets_are_never_logged() {
    const SECRET: &str = "hunter2";
    let world = World::new("secrets");
    world.simulate(&["--count", "10", "--rate", "max"]);
    let sasl = [
        "--kafka-property",
        "sasl.mechanism=PLAIN",
        "--kafka-property",
        "sasl.username=me",
        "--kafka-property",
        "sasl.password=hunter2",
    ];
    // Nobody listens on port 1.
    for url in [
        "postgres://me:hunter2@127.0.0.1:1/campaigns",
        "postgres://127.0.0.1:1/campaigns?user=me&password=hunter2",
        "postgres://me:p;hunter2@127.0.0.1:1/campaigns",
    ] {
        let mut command = world.command("process", &sasl);
        command.env("DATABASE_URL", url).env("RUST_LOG", "trace");
        let mut process = Process::start(&mut command);
        process.wait_for_log("; retrying until");
        let log = process.terminate().success().log;
        assert!(!log.contains(SECRET), "{log}");
        assert!(log.contains("127.0.0.1:1/campaigns"), "{log}");
    }
    // What libpq would quote when it complains.
    for url in [
        "postgres://me:%hunter2@127.0.0.1:1/campaigns",
        "postgres://me:hunter2/3@127.0.0.1:1/campaigns",
        "postgres://me:3@hunter2@127.0.0.1:1/campaigns",
        "postgres://me:3@127.0.0.1:hunter2/campaigns",
        "postgres://me:3@127.0.0.1:1/campaigns?user=me;password=hunter2",
        "postgres://me:hunter2@[::1/campaigns",
        "postgres://me:hunter2@127.0.0.1:1",
        "host=127.0.0.1 port=1 user=me password=hunter2",
    ] {
        for subcommand in ["process", "migrate", "verify", "serve", "doctor"] {
            let mut command = world.command(subcommand, &[]);
            command
                .env("DATABASE_URL", url)
                .env("RUST_LOG", "trace")
                .env("ADFLUX_LISTEN", "127.0.0.1:0");
            let ended = Process::start(&mut command).end().code(1);
            let said = ended.log + &ended.stdout;
            assert!(said.contains("DATABASE_URL "), "{url}: {said}");
            assert!(!said.contains(SECRET), "{url}: {said}");
        }
    }
    // A mistyped name must not show its value, nor may a broker that is away.
    let mistyped = ["--kafka-property", "sasl.pasword=hunter2"];
    for subcommand in ["simulate", "process"] {
        let mut command = world.command(subcommand, &mistyped);
        command.env("RUST_LOG", "trace");
        let ended = Process::start(&mut command)
            .end()
            .code(1)
            .says("sasl.pasword");
        assert!(!ended.log.contains(SECRET), "{}", ended.log);
    }
    let away = [
        &sasl[..],
        &["--brokers", "127.0.0.1:1", "--kafka-property", "debug=all"],
    ]
    .concat();
    let mut command = world.command("process", &away);
    command.env("RUST_LOG", "trace");
    let mut process = Process::start(&mut command);
    process.wait_for_log("Kafka at 127.0.0.1:1: ");
    let log = process.terminate().log;
    assert!(!log.contains(SECRET), "{log}");
}

/// Whatever a producer sends, it shows itself in a terminal and does nothing there.
#[test]
fn what_came_from_outside_only_shows_itself() {
    let world = World::new("escapes");
    world.create_topic(1, &[]);
    let mut record = Event::of("a").record();
    record.key = Some("\u{1b}[2J\u{202e}key".into());
    record.headers = vec![(
        "\u{1b}]0;title\u{7}".to_owned(),
        Some("\u{202e}value".into()),
    )];
    world.send(&[record]);
    let ended = world.process_until_end(&["--max-bad-share", "1"]).success();
    let mut said = ended.log + &ended.stdout;
    let place = format!("{}:0:0", world.topic);
    for args in [
        vec!["list"],
        vec!["show", &place],
        vec!["redrive", "--dry-run"],
    ] {
        let ended = Process::start(&mut world.command("dlq", &args))
            .end()
            .success();
        said += &(ended.log + &ended.stdout);
    }
    for part in ["title", "value"] {
        assert!(said.contains(&hex(part)) || said.contains(part), "{said}");
    }
    let harmful = |c: char| c == '\u{1b}' || c == '\u{7}' || c == '\u{202e}';
    assert!(!said.contains(harmful), "{said:?}");
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn whoever_has_seen_enough_ends_it_quietly() {
    let world = World::new("enough");
    world.simulate(&["--count", "1000", "--rate", "max", "--malformed", "1%"]);
    world.process_until_end(&[]).success();
    for (subcommand, args) in [
        ("doctor", vec!["--listen", "127.0.0.1:0"]),
        ("migrate", vec![]),
        ("verify", vec![]),
        ("rebuild", vec![]),
        ("openapi", vec![]),
        ("dlq", vec!["list"]),
        ("export", vec!["events"]),
        ("export", vec!["events", "--format", "parquet"]),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = match subcommand {
            "openapi" => process::command(),
            _ => world.command(subcommand, &[]),
        };
        if subcommand == "openapi" {
            command.arg("openapi");
        }
        let output = command
            .args(&args)
            .stdout(writer)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        let is_quiet = !said.contains("ERROR") && !said.contains("panicked");
        assert!(
            output.status.success() && is_quiet,
            "{subcommand} {args:?}: {said}"
        );
    }
}

#[test]
fn an_empty_variable_is_as_one_that_is_not_set() {
    let world = World::new("empty");
    world.simulate(&["--count", "10", "--rate", "max"]);
    let mut command = world.command("process", &["--until-end"]);
    for variable in [
        "REDIS_URL",
        "ADFLUX_SCHEMA_ID",
        "ADFLUX_NO_MIGRATE",
        "ADFLUX_BATCH_RECORDS",
        "ADFLUX_KAFKA_PROPERTIES",
        "ADFLUX_WRITER_SCHEMAS",
        "ADFLUX_DLQ_TOPIC",
        "ADFLUX_ALERT_RULES",
        "ADFLUX_METRICS_LISTEN",
        "ADFLUX_MAX_BAD_SHARE",
        "ADFLUX_LINGER",
    ] {
        command.env(variable, "");
    }
    Process::start(&mut command).end().success();
    assert_eq!(world.counted(), 10);
}

/// Secrets of containers are files, and their environment is shown to many.
#[test]
fn what_holds_a_password_can_be_in_a_file() {
    let world = World::new("secret_file");
    world.simulate(&["--count", "10", "--rate", "max"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("url");
    std::fs::write(&file, format!("{}\n", world.database_url)).expect("a file");
    let mut command = world.command("process", &["--until-end"]);
    command
        .env("DATABASE_URL", "")
        .env("DATABASE_URL_FILE", &file)
        .env("REDIS_URL_FILE", "");
    Process::start(&mut command).end().success();
    assert_eq!(world.counted(), 10);

    let shown = command.arg("--help").output().expect("help");
    let shown = String::from_utf8_lossy(&shown.stdout);
    assert!(!shown.contains(&world.database_url), "{shown}");

    let mut both = world.command("process", &["--until-end"]);
    both.env("DATABASE_URL_FILE", &file);
    let refused = Process::start(&mut both).end().code(2);
    refused.says("DATABASE_URL and DATABASE_URL_FILE are both set");

    let mut missing = process::command();
    missing
        .arg("migrate")
        .env("DATABASE_URL", "")
        .env("DATABASE_URL_FILE", folder.path().join("nowhere"));
    let refused = Process::start(&mut missing).end().code(2);
    refused.says("DATABASE_URL_FILE: cannot read");
}

/// A container that starts again sends what it is told to once more.
#[test]
fn history_is_sent_once() {
    let world = World::new("history_once");
    let args = ["--backfill", "1h", "--rate", "0.01", "--count", "20"];
    world.simulate(&args);
    let again = ["--backfill", "1h", "--rate", "max", "--count", "1"];
    let again = world.start_simulate(&again).end().success();
    again.says("has records: no history is sent");
    world.process_until_end(&[]).success();
    assert_eq!(world.counted(), 21);
}

#[test]
fn a_yes_or_no_of_the_environment_has_the_usual_words() {
    for (word, is_one) in [
        ("1", true),
        ("true", true),
        ("YES", true),
        ("on", true),
        ("0", true),
        ("no", true),
        ("off", true),
        ("false", true),
        ("perhaps", false),
    ] {
        for variable in [
            "ADFLUX_REQUIRE_KEYS",
            "ADFLUX_TRUST_PROXY",
            "ADFLUX_NO_MIGRATE",
        ] {
            let mut command = process::command();
            // The URL is refused once all settings were understood.
            command
                .args([
                    "serve",
                    "--listen",
                    "127.0.0.1:0",
                    "--database-url",
                    "nowhere",
                ])
                .env(variable, word);
            let ended = Process::start(&mut command).end();
            let (code, says) = if is_one {
                (1, "DATABASE_URL")
            } else {
                (2, "perhaps")
            };
            ended.code(code).says(says);
        }
    }
}
