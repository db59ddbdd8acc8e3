//! A Kafka as companies have it: TLS, logins, client certificates, and rights for each command.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;

use crate::cluster::{Cluster, Listener};
use crate::process::{self, Ended, Process};
use crate::records::{Event, Record};
use crate::roles::ask;
use crate::standing::get;
use crate::support::certificates::{Authority, Days, Issued, NOW};
use crate::support::ports::free_address;
use crate::wait::wait_until;
use crate::world::{World, services_folder};

const HERE: &str = "127.0.0.1";
const USER: (&str, &str) = ("counting", "a secret; with=signs");

/// Settings in the environment.
type Settings = Vec<(&'static str, String)>;

fn of(name: &'static str, value: impl Into<String>) -> Settings {
    vec![(name, value.into())]
}

fn login(mechanism: &str, password: &str) -> Settings {
    [
        of("KAFKA_MECHANISM", mechanism),
        of("KAFKA_USERNAME", USER.0),
        of("KAFKA_PASSWORD", password),
    ]
    .concat()
}

fn certificate(issued: &Issued) -> Settings {
    let certificate = issued.certificate_file.display().to_string();
    let key = issued.key_file.display().to_string();
    [
        of("KAFKA_CERTIFICATE_FILE", certificate),
        of("KAFKA_KEY_FILE", key),
    ]
    .concat()
}

fn trusting(authority: &Authority) -> Settings {
    of("KAFKA_CA_FILE", authority.file().display().to_string())
}

/// A broker that has a listener of each kind, and who is trusted there.
struct Secured {
    cluster: Cluster,
    addresses: BTreeMap<&'static str, String>,
    ours: Authority,
    other: Authority,
    _folder: tempfile::TempDir,
}

impl Secured {
    fn start() -> Secured {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        let (ours, other) = (Authority::new("ours", at), Authority::new("other", at));
        let broker = ours.issue("broker", HERE, NOW);
        let mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
        let expired = ours.issue("expired", HERE, -9..-1);
        let elsewhere = ours.issue("elsewhere", "192.0.2.1", NOW);
        let listeners = [
            Listener::new("TLS", "SSL").showing(&broker),
            Listener::new("MTLS", "SSL")
                .showing(&broker)
                .trusting(&ours),
            Listener::new("LOGIN", "SASL_SSL")
                .showing(&broker)
                .logging_in(&mechanisms, &[USER]),
            Listener::new("CLEAR", "SASL_PLAINTEXT").logging_in(&["SCRAM-SHA-256"], &[]),
            Listener::new("EXPIRED", "SSL").showing(&expired),
            Listener::new("ELSEWHERE", "SSL").showing(&elsewhere),
        ];
        let (cluster, mut addresses) =
            Cluster::with_listeners(&services_folder(), &listeners, &[USER]);
        addresses.insert("OPEN", cluster.brokers.clone());
        Secured {
            cluster,
            addresses,
            ours,
            other,
            _folder: folder,
        }
    }

    /// The broker is started again, with a certificate that is valid on these days.
    fn broker_shows(&mut self, days: Days) {
        self.cluster.kill(1);
        self.ours.issue("broker", HERE, days);
        self.cluster.start_again(1);
    }

    fn command(
        &self,
        world: &World,
        listener: &str,
        settings: &Settings,
        args: &[&str],
    ) -> Command {
        let mut command = world.command(args[0], &args[1..]);
        command.env("KAFKA_BROKERS", &self.addresses[listener]);
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        command
    }
}

#[test]
fn settings_that_contradict_each_other_end_it_at_the_start() {
    let login = login("plain", "hunter2");
    let sasl = [of("KAFKA_SECURITY", "sasl-tls"), login.clone()].concat();
    for (settings, says) in [
        (
            login,
            "KAFKA_MECHANISM is set, and KAFKA_SECURITY is plaintext",
        ),
        (
            [sasl.clone(), of("KAFKA_PASSWORD_FILE", "/no/such/file")].concat(),
            "KAFKA_PASSWORD and KAFKA_PASSWORD_FILE are both set",
        ),
        (
            [sasl.clone(), of("KAFKA_PASSWORD", "")].concat(),
            "KAFKA_MECHANISM is plain: set KAFKA_PASSWORD or KAFKA_PASSWORD_FILE",
        ),
        (
            [
                sasl.clone(),
                of("ADFLUX_KAFKA_PROPERTIES", "sasl.password=hunter2"),
            ]
            .concat(),
            "sasl.password is set with --kafka-property, and KAFKA_PASSWORD sets it too",
        ),
        (
            [sasl, of("KAFKA_CA_FILE", "/no/such/file")].concat(),
            "KAFKA_CA_FILE: cannot read '/no/such/file'",
        ),
    ] {
        let mut command = process::command();
        command.arg("doctor").envs(settings);
        let told = Process::start(&mut command).end().code(2).says(says);
        assert!(!told.log.contains("hunter2"), "{}", told.log);
    }
}

#[test]
fn events_are_counted_over_each_kind_of_connection() {
    let mut secured = Secured::start();
    let Secured { cluster, ours, .. } = &secured;
    for user in [USER.0, "CN=counting"] {
        for operation in ["Create", "Write", "Read"] {
            cluster.allow(user, operation, "topic", "*");
        }
        cluster.allow(user, "Read", "group", "*");
    }
    let tls = [of("KAFKA_SECURITY", "tls"), trusting(ours)].concat();
    let sasl = |mechanism| {
        let login = login(mechanism, USER.1);
        [of("KAFKA_SECURITY", "sasl-tls"), trusting(ours), login].concat()
    };
    let shown = certificate(&ours.issue(USER.0, HERE, NOW));
    let secret = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(secret.path(), format!("{}\n", USER.1)).expect("written");
    let clear = [
        of("KAFKA_SECURITY", "SASL_PLAINTEXT"),
        of("KAFKA_PASSWORD_FILE", secret.path().display().to_string()),
        login("scram-sha-256", ""),
    ]
    .concat();
    let kinds = [
        ("tls", "TLS", tls.clone()),
        ("mtls", "MTLS", [tls.clone(), shown].concat()),
        ("plain", "LOGIN", sasl("plain")),
        ("scram256", "LOGIN", sasl("SCRAM-SHA-256")),
        ("scram512", "LOGIN", sasl("scram-sha-512")),
        ("clear", "CLEAR", clear),
    ];
    let all = &secured;
    thread::scope(|scope| {
        for (name, listener, settings) in kinds {
            scope.spawn(move || {
                let mut world = World::new(name);
                world.brokers = all.cluster.brokers.clone();
                let run = |args: &[&str]| {
                    Process::start(&mut all.command(&world, listener, &settings, args))
                };
                let args = ["simulate", "--count", "40", "--rate", "max"];
                let ledger = run(&args).ledger();
                run(&["process", "--until-end"]).end().success();
                world.assert_counted(&ledger);
            });
        }
    });

    // The certificate ends, and is renewed.
    let mut world = World::new("renewed");
    world.brokers = secured.cluster.brokers.clone();
    let run = |secured: &Secured, args: &[&str]| {
        Process::start(&mut secured.command(&world, "TLS", &tls, args))
    };
    let mut sending = run(&secured, &["simulate", "--rate", "100"]);
    sending.wait_for_log("created topic");
    let mut process = run(&secured, &["process"]);
    world.wait_until_counted(20);
    secured.broker_shows(-9..-1);
    process.wait_for_log("The broker's certificate does not hold");
    secured.broker_shows(NOW);
    process.wait_for_log("Kafka lets us in again");
    let ledger = sending.stop_sending();
    world.wait_until_all_counted();
    process.terminate().success();
    world.assert_counted(&ledger);
}

#[test]
fn what_is_wrong_with_a_connection_is_named_with_the_setting() {
    let secured = Secured::start();
    let Secured { ours, other, .. } = &secured;
    let tls = |authority| [of("KAFKA_SECURITY", "tls"), trusting(authority)].concat();
    let sasl = |mechanism| {
        let login = login(mechanism, "wrong");
        [of("KAFKA_SECURITY", "sasl-tls"), trusting(ours), login].concat()
    };
    let clear = |mechanism| {
        [
            of("KAFKA_SECURITY", "sasl-plaintext"),
            login(mechanism, "wrong"),
        ]
        .concat()
    };
    let stranger = certificate(&other.issue("stranger", HERE, NOW));
    let late = certificate(&ours.issue("late", HERE, -9..-1));
    let not_taken = "The broker does not take our certificate: set KAFKA_CERTIFICATE_FILE";
    let open = "This listener speaks no TLS: set KAFKA_SECURITY";
    let wrong = "Check KAFKA_USERNAME and KAFKA_PASSWORD";
    let mechanism = "Set KAFKA_MECHANISM";
    let log_in = "If this listener wants a login, set KAFKA_SECURITY";
    let cases: Vec<(&str, &str, Settings, &str)> = vec![
        (
            "doctor",
            "TLS",
            vec![],
            "seems to speak TLS: set KAFKA_SECURITY",
        ),
        ("doctor", "OPEN", tls(ours), open),
        ("doctor", "CLEAR", sasl("plain"), open),
        ("doctor", "LOGIN", tls(ours), log_in),
        ("doctor", "CLEAR", vec![], log_in),
        ("doctor", "LOGIN", sasl("plain"), wrong),
        ("doctor", "LOGIN", sasl("scram-sha-256"), wrong),
        ("doctor", "LOGIN", sasl("scram-sha-512"), wrong),
        ("doctor", "CLEAR", clear("plain"), mechanism),
        ("doctor", "TLS", sasl("plain"), mechanism),
        ("doctor", "OPEN", clear("plain"), mechanism),
        (
            "doctor",
            "TLS",
            tls(other),
            "other.pem' (unable to get local issuer certificate)",
        ),
        (
            "doctor",
            "TLS",
            of("KAFKA_SECURITY", "tls"),
            "nobody that this system trusts",
        ),
        (
            "doctor",
            "EXPIRED",
            tls(ours),
            "The broker's certificate was valid until",
        ),
        (
            "doctor",
            "ELSEWHERE",
            tls(ours),
            "is for 192.0.2.1, not for 127.0.0.1",
        ),
        ("doctor", "MTLS", tls(ours), not_taken),
        ("doctor", "MTLS", [tls(ours), stranger].concat(), not_taken),
        ("doctor", "MTLS", [tls(ours), late].concat(), not_taken),
        (
            "process",
            "TLS",
            vec![],
            "seems to speak TLS: set KAFKA_SECURITY",
        ),
        (
            "process",
            "EXPIRED",
            tls(ours),
            "The broker's certificate was valid until",
        ),
        ("process", "LOGIN", sasl("plain"), wrong),
        (
            "simulate",
            "TLS",
            vec![],
            "seems to speak TLS: set KAFKA_SECURITY",
        ),
        (
            "simulate",
            "ELSEWHERE",
            tls(ours),
            "is for 192.0.2.1, not for 127.0.0.1",
        ),
        ("simulate", "LOGIN", sasl("scram-sha-512"), wrong),
        ("serve", "LOGIN", sasl("plain"), wrong),
        (
            "serve",
            "TLS",
            tls(other),
            "other.pem' (unable to get local issuer certificate)",
        ),
    ];
    let world = World::new("named");
    Process::start(&mut world.command("migrate", &[]))
        .end()
        .success();
    let (secured, world) = (&secured, &world);
    thread::scope(|scope| {
        for (what, listener, settings, says) in cases {
            scope.spawn(move || {
                let address = free_address();
                let args: &[&str] = match what {
                    "doctor" | "serve" => &[what, "--listen", &address],
                    _ => &[what],
                };
                let mut command = secured.command(world, listener, &settings, args);
                let mut process = Process::start(&mut command);
                if what == "doctor" {
                    let told = process.end().code(1).stdout;
                    assert!(told.contains(says), "{listener}: no '{says}':\n{told}");
                    return;
                }
                if what == "serve" {
                    wait_until("it answers", || get(&address, "/readyz").is_some());
                    let refused = ask(&address, "POST", "/events", EVENT).expect("an answer");
                    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
                }
                process.wait_for_log(says);
                let log = process.terminate().log;
                assert!(!log.contains("wrong"), "no password: {log}");
            });
        }
    });
}

pub const EVENT: &str = r#"{"event_id": "00000000-0000-4000-8000-000000000001", "campaign_id": "cmp-1", "platform": "Meta",
    "event_time": "2026-01-31T12:00:00Z", "impressions": 1, "clicks": 0, "conversions": 0, "cost_micros": 0, "revenue_micros": 0}"#;

pub const REPORT: &str = "Campaign report\n\
    Campaign,Campaign ID,Day,Currency code,Impr.,Clicks,Cost,Conversions\n\
    Brand,111,2024-06-03,EUR,\"1,204\",57,42.85,3.50\n";

/// The schema id of another writer, whose events cannot be read yet.
const OTHER_WRITER: u32 = 77;

/// The table of docs/operating.md: each of these users has the rights of its command, and no other.
#[test]
fn each_command_does_its_work_with_the_documented_rights() {
    const USERS: [&str; 7] = [
        "simulate", "process", "import", "serve", "redrive", "doctor", "skip",
    ];
    let users = USERS.map(|user| (user, "secret"));
    let listener = Listener::new("SASL", "SASL_PLAINTEXT").logging_in(&["PLAIN"], &users);
    let (cluster, addresses) = Cluster::with_listeners(&services_folder(), &[listener], &[]);
    let mut world = World::new("acls");
    world.brokers = cluster.brokers.clone();
    let start = |user: &str, args: &[&str], settings: &Settings| {
        let mut command = world.command(args[0], &args[1..]);
        command
            .env("KAFKA_BROKERS", &addresses["SASL"])
            .env("KAFKA_SECURITY", "sasl-plaintext")
            .env("KAFKA_MECHANISM", "plain")
            .env("KAFKA_USERNAME", user)
            .env("KAFKA_PASSWORD", "secret")
            .envs(settings.iter().map(|(name, value)| (name, value)));
        Process::start(&mut command)
    };
    let run = |user: &str, args: &[&str]| -> Ended { start(user, args, &vec![]).end() };
    let (topic, dlq) = (world.topic.as_str(), world.dlq_topic());
    let no_right = format!("may not read topic '{topic}'");

    let simulate = ["simulate", "--count", "20", "--rate", "max"];
    run("simulate", &simulate)
        .code(1)
        .says("may not create topic");
    cluster.allow("simulate", "Create", "topic", topic);
    cluster.allow("simulate", "Write", "topic", topic);
    run("simulate", &simulate).success();
    let mut unreadable = Event::of("cmp-other");
    unreadable.id = uuid::Uuid::from_u128(7);
    let mut payload = unreadable.payload();
    payload[1..5].copy_from_slice(&OTHER_WRITER.to_be_bytes());
    world.send(&[Record {
        payload: Some(payload),
        ..unreadable.record()
    }]);

    for (operation, resource, name) in [
        ("Read", "topic", topic),
        ("Read", "group", world.group.as_str()),
        ("Create", "topic", dlq.as_str()),
        ("Write", "topic", dlq.as_str()),
    ] {
        cluster.allow("process", operation, resource, name);
    }
    let mut process = start("process", &["process"], &vec![]);
    wait_until("it counts, and publishes the dead letter", || {
        world.counted() == 21 && world.topic_exists(&dlq) && world.read(&dlq).len() == 1
    });
    process.wait_for_log("created topic");
    process.terminate().success();

    let doctor = ["doctor", "--listen", "127.0.0.1:0"];
    let told = run("doctor", &doctor).code(1).stdout;
    assert!(told.contains(&no_right), "{told}");
    cluster.allow("doctor", "Describe", "topic", topic);
    let told = run("doctor", &doctor).success().stdout;
    assert!(told.contains("partitions"), "{told}");
    cluster.allow("doctor", "Read", "topic", topic);
    cluster.allow("doctor", "Describe", "group", &world.group);
    let told = run("doctor", &[&doctor[..], &["--restored"]].concat());
    let told = told.success().stdout;
    assert!(told.contains("has what is missing"), "{told}");

    let report = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(report.path(), REPORT).expect("written");
    let file = report.path().display().to_string();
    let import = [
        "import",
        "--account",
        "123-456-7890",
        "--time-zone",
        "Europe/Berlin",
        "--observed-at",
        "2024-07-01T08:00:00Z",
        &file,
    ];
    run("import", &import).code(1).says(&no_right);
    cluster.allow("import", "Write", "topic", topic);
    run("import", &import).success();

    cluster.allow("serve", "Write", "topic", topic);
    let address = free_address();
    let server = start("serve", &["serve", "--listen", &address], &vec![]);
    wait_until("it answers", || get(&address, "/readyz").is_some());
    let taken = ask(&address, "POST", "/events", EVENT).expect("an answer");
    assert!(taken.starts_with("HTTP/1.1 202"), "{taken}");
    server.terminate().success();

    let known = of("ADFLUX_SCHEMA_ID", OTHER_WRITER.to_string());
    let redrive = ["dlq", "redrive"];
    let refused = start("redrive", &redrive, &known).end();
    refused.code(1).says(&no_right);
    cluster.allow("redrive", "Write", "topic", topic);
    let told = start("redrive", &redrive, &known).end().success().stdout;
    assert!(told.contains("1 sent back"), "{told}");

    let (partition, position) = (world.positions().into_iter())
        .find(|(partition, position)| world.log_ends()[partition] > *position)
        .expect("something is not counted yet");
    let (partition, position) = (partition.to_string(), position.to_string());
    let skip = [
        "skip",
        "--partition",
        &partition,
        "--from",
        &position,
        "--reason",
        "a test",
    ];
    run("skip", &skip).code(1).says(&no_right);
    cluster.allow("skip", "Read", "topic", topic);
    run("skip", &skip)
        .code(1)
        .says("can be read: nothing was skipped");
}
