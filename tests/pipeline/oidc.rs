//! A Kafka that is logged in to with tokens, which a server gives out by OpenID Connect's client credentials.

use std::process::Command;
use std::thread;

use crate::cluster::{Cluster, Listener};
use crate::process::Process;
use crate::support::certificates::{Authority, NOW};
use crate::support::ports::free_address;
use crate::support::tokens::{CLIENT, ISSUER, SCOPE, TokenServer};
use crate::wait::wait_until;
use crate::world::{World, services_folder};

const HERE: &str = "127.0.0.1";
const VALIDATOR: &str =
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler";
const MODULE: &str =
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;";

/// Settings in the environment.
type Settings = Vec<(&'static str, String)>;

/// A server of tokens, and a broker with a listener that takes them and one that wants those for another audience.
struct Trusting {
    tokens: TokenServer,
    cluster: Cluster,
    taking: String,
    refusing: String,
    ours: Authority,
    other: Authority,
    _folder: tempfile::TempDir,
}

impl Trusting {
    fn start(seconds: u64) -> Trusting {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        let (ours, other) = (Authority::new("ours", at), Authority::new("other", at));
        let tokens = TokenServer::start(&ours.issue("login", HERE, NOW), seconds);
        let keys = at.join("keys.json");
        tokens.write_keys(&keys);
        let keys = format!("file://{}", keys.display());
        let listener = |name, audience| {
            Listener::new(name, "SASL_PLAINTEXT")
                .set("sasl.enabled.mechanisms", "OAUTHBEARER")
                .set("oauthbearer.sasl.jaas.config", MODULE)
                .set("oauthbearer.sasl.server.callback.handler.class", VALIDATOR)
                .set("sasl.oauthbearer.jwks.endpoint.url", &keys)
                .set("sasl.oauthbearer.expected.issuer", ISSUER)
                .set("sasl.oauthbearer.expected.audience", audience)
                .in_java("org.apache.kafka.sasl.oauthbearer.allowed.urls", &keys)
        };
        let listeners = [
            listener("TAKING", "kafka"),
            listener("REFUSING", "elsewhere"),
        ];
        let (cluster, addresses) = Cluster::with_listeners(&services_folder(), &listeners, &[]);
        for operation in ["Create", "Write", "Read"] {
            cluster.allow(CLIENT.0, operation, "topic", "*");
        }
        cluster.allow(CLIENT.0, "Read", "group", "*");
        Trusting {
            tokens,
            cluster,
            taking: addresses["TAKING"].clone(),
            refusing: addresses["REFUSING"].clone(),
            ours,
            other,
            _folder: folder,
        }
    }

    fn world(&self, name: &str) -> World {
        let mut world = World::new(name);
        world.brokers = self.cluster.brokers.clone();
        world
    }

    /// As docs/operating.md says, with what is otherwise.
    fn command(&self, world: &World, otherwise: Settings, args: &[&str]) -> Command {
        let mut command = world.command(args[0], &args[1..]);
        command
            .env("KAFKA_BROKERS", &self.taking)
            .env("KAFKA_SECURITY", "sasl-plaintext")
            .env("KAFKA_MECHANISM", "oauthbearer")
            .env("KAFKA_TOKEN_URL", self.tokens.url())
            .env("KAFKA_TOKEN_SCOPE", SCOPE)
            .env("KAFKA_USERNAME", CLIENT.0)
            .env("KAFKA_PASSWORD", CLIENT.1)
            .env("ADFLUX_KAFKA_PROPERTIES", trusted(&self.ours))
            .envs(otherwise);
        command
    }
}

/// Who vouches for the server of tokens.
fn trusted(authority: &Authority) -> String {
    format!("https.ca.location={}", authority.file().display())
}

#[test]
fn who_has_a_token_is_let_in_and_stays() {
    let all = Trusting::start(10);
    let world = all.world("oidc");
    let run = |args: &[&str]| Process::start(&mut all.command(&world, vec![], args));
    let mut sending = run(&["simulate", "--rate", "50"]);
    sending.wait_for_log("created topic");
    let told = run(&["doctor", "--listen", "127.0.0.1:0"]).end();
    assert!(told.stdout.contains("partitions"), "{}", told.stdout);

    let process = run(&["process"]);
    world.wait_until_counted(20);
    let before = all.tokens.given();
    wait_until("tokens end, and others are fetched", || {
        all.tokens.given() >= before + 4
    });
    let counted = world.counted();
    world.wait_until_counted(counted + 20);
    let ledger = sending.stop_sending();
    world.wait_until_all_counted();
    process.terminate().success();
    world.assert_counted(&ledger);
}

#[test]
fn why_no_token_lets_us_in_is_said_with_the_setting() {
    let all = Trusting::start(600);
    let world = all.world("tokenless");
    let nobody = format!("https://{}/token", free_address());
    let secret = vec![("KAFKA_PASSWORD", "hunter2".to_owned())];
    let away = vec![("KAFKA_TOKEN_URL", nobody)];
    let other = vec![("ADFLUX_KAFKA_PROPERTIES", trusted(&all.other))];
    let refusing = vec![("KAFKA_BROKERS", all.refusing.clone())];
    let (checks, no_token) = ("KAFKA_PASSWORD (its secret)", "check KAFKA_TOKEN_URL");
    let doctor: &[&str] = &["doctor", "--listen", "127.0.0.1:0"];
    let cases = [
        (doctor, secret.clone(), checks),
        (doctor, away.clone(), no_token),
        (doctor, other, "https.ca.location"),
        (
            doctor,
            refusing.clone(),
            "The broker does not take our token",
        ),
        (&["process"], secret.clone(), checks),
        (&["process"], away, no_token),
        (&["process"], refusing, "The broker does not take our token"),
        (&["simulate"], secret, checks),
    ];
    let (all, world) = (&all, &world);
    thread::scope(|scope| {
        for (args, otherwise, says) in cases {
            scope.spawn(move || {
                let mut process = Process::start(&mut all.command(world, otherwise, args));
                let log = if args == doctor {
                    let ended = process.end().code(1);
                    let told = ended.stdout;
                    assert!(told.contains(says), "no '{says}':\n{told}");
                    ended.log + &told
                } else {
                    process.wait_for_log(says);
                    process.terminate().log
                };
                assert!(!log.contains("hunter2"), "no secret: {log}");
            });
        }
    });
}
