//! A Kafka as companies have it: TLS, logins, client certificates, and rights for each command.

use std::process::Command;

use crate::cluster::{Cluster, Listener};
use crate::process::Process;
use crate::support::certificates::{Authority, Issued, NOW};
use crate::world::{World, services_folder};

const HERE: &str = "127.0.0.1";
const USER: (&str, &str) = ("counting", "a secret; with=signs");

/// Settings in the environment.
type Settings<'a> = Vec<(&'a str, String)>;

fn set(command: &mut Command, settings: &Settings<'_>) {
    command.envs(settings.iter().map(|(name, value)| (name, value)));
}

fn of(name: &'static str, value: impl Into<String>) -> (&'static str, String) {
    (name, value.into())
}

fn certificate(issued: &Issued) -> Settings<'static> {
    vec![
        of(
            "KAFKA_CERTIFICATE_FILE",
            issued.certificate_file.display().to_string(),
        ),
        of("KAFKA_KEY_FILE", issued.key_file.display().to_string()),
    ]
}

fn login(mechanism: &str, password: &str) -> Settings<'static> {
    vec![
        of("KAFKA_MECHANISM", mechanism),
        of("KAFKA_USERNAME", USER.0),
        of("KAFKA_PASSWORD", password),
    ]
}

#[test]
fn events_are_counted_over_each_kind_of_connection_and_what_is_wrong_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let (ours, other) = (Authority::new("ours", at), Authority::new("other", at));
    let broker = ours.issue("broker", HERE, NOW);
    let client = ours.issue(USER.0, HERE, NOW);
    let mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
    let listeners = [
        Listener::new("TLS", "SSL").showing(&broker),
        Listener::new("MTLS", "SSL")
            .showing(&broker)
            .trusting(&ours),
        Listener::new("LOGIN", "SASL_SSL")
            .showing(&broker)
            .logging_in(&mechanisms, &[USER]),
        Listener::new("CLEAR", "SASL_PLAINTEXT").logging_in(&["SCRAM-SHA-256"], &[]),
        Listener::new("EXPIRED", "SSL").showing(&ours.issue("expired", HERE, -9..-1)),
        Listener::new("ELSEWHERE", "SSL").showing(&ours.issue("elsewhere", "192.0.2.1", NOW)),
    ];
    let (cluster, addresses) = Cluster::with_listeners(&services_folder(), &listeners, &[USER]);
    let mut world = World::new("security");
    world.brokers = cluster.brokers.clone();
    world.create_topic(1, &[]);
    let command = |subcommand: &str, listener: &str, settings: &Settings<'_>| {
        let mut command = world.command(subcommand, &[]);
        command.env("KAFKA_BROKERS", &addresses[listener]);
        set(&mut command, settings);
        command
    };
    let ca = |authority: &Authority| of("KAFKA_CA_FILE", authority.file().display().to_string());
    let tls = vec![of("KAFKA_SECURITY", "tls"), ca(&ours)];
    let sasl = vec![of("KAFKA_SECURITY", "sasl-tls"), ca(&ours)];
    for (listener, settings, says) in [
        ("TLS", vec![], "x"),
        ("MTLS", tls.clone(), "x"),
        ("PLAIN", tls.clone(), "x"),
        ("LOGIN", tls.clone(), "x"),
        ("CLEAR", vec![], "x"),
        ("LOGIN", [sasl.clone(), login("plain", "x")].concat(), "x"),
        (
            "LOGIN",
            [sasl.clone(), login("scram-sha-256", "x")].concat(),
            "x",
        ),
        (
            "CLEAR",
            [
                vec![of("KAFKA_SECURITY", "sasl-plaintext")],
                login("plain", "x"),
            ]
            .concat(),
            "x",
        ),
        ("CLEAR", [sasl.clone(), login("plain", "x")].concat(), "x"),
        ("TLS", [sasl.clone(), login("plain", "x")].concat(), "x"),
        (
            "PLAIN",
            [
                vec![of("KAFKA_SECURITY", "sasl-plaintext")],
                login("plain", "x"),
            ]
            .concat(),
            "x",
        ),
        ("TLS", vec![of("KAFKA_SECURITY", "tls"), ca(&other)], "x"),
        ("TLS", vec![of("KAFKA_SECURITY", "tls")], "x"),
        ("EXPIRED", tls.clone(), "x"),
        ("ELSEWHERE", tls.clone(), "x"),
        (
            "MTLS",
            [
                tls.clone(),
                certificate(&other.issue("stranger", HERE, NOW)),
            ]
            .concat(),
            "x",
        ),
        (
            "MTLS",
            [tls.clone(), certificate(&ours.issue("late", HERE, -9..-1))].concat(),
            "x",
        ),
    ] {
        let mut command = world.command("doctor", &["--listen", "127.0.0.1:0"]);
        let at = if listener == "PLAIN" {
            &cluster.brokers
        } else {
            &addresses[listener]
        };
        command.env("KAFKA_BROKERS", at);
        set(&mut command, &settings);
        let began = std::time::Instant::now();
        let told = Process::start(&mut command).end();
        eprintln!(
            "\n{listener} {settings:?} {:?} {says}\n{}",
            began.elapsed(),
            told.stdout.lines().next().unwrap_or(&told.log)
        );
    }
    let _ = (command, client);
}
