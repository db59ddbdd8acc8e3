//! What is sent to an API before two databases: a receipt tells what has become of it in both, and what an account said before is
//! remembered whichever of them knows it.

use std::collections::BTreeSet;
use std::process::{Child, Command};

use adflux::api::Brokers;
use adflux::kafka::topic;
use adflux::run::ServeSettings;
use reqwest::Method;
use serde_json::{Value, json};

use crate::divided::Divided;
use crate::intake::{GOOGLE, OPTIONS, cluster, event, lines, numbers};
use crate::world::{Api, TestDatabase, until, variable};

/// Counts until it is dropped.
struct Processor(Child);

impl Processor {
    fn start(topic: &str, database: &TestDatabase) -> Processor {
        let child = Command::new(env!("CARGO_BIN_EXE_adflux"))
            .arg("process")
            .env("KAFKA_BROKERS", variable("KAFKA_BROKERS"))
            .env("ADFLUX_TOPIC", topic)
            .env("ADFLUX_GROUP", &database.name)
            .env("ADFLUX_DLQ_TOPIC", "off")
            .env("DATABASE_URL", database.url())
            .env_remove("REDIS_URL")
            .spawn();
        Processor(child.expect("starts"))
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An API before two databases and a topic of six partitions.
fn world() -> (Divided, String, Api) {
    let divided = Divided::new();
    let topic = divided.whole.name.replace('_', "-");
    let brokers = cluster(variable("KAFKA_BROKERS"));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(topic::create(&brokers, &topic, 6, 1))
        .expect("a topic");
    let api = Api::serve(ServeSettings {
        topic: topic.clone(),
        brokers: Some(Brokers {
            cluster: brokers,
            cluster_id: None,
        }),
        ..divided.settings()
    });
    (divided, topic, api)
}

fn sent(api: &Api, path: &str, content_type: &str, body: &str) -> String {
    let answer = api.send(Method::POST, path, content_type, body);
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.location
}

#[test]
fn a_receipt_tells_what_has_become_of_it_in_each_database() {
    let (divided, topic, api) = world();
    let [(first, _), _] = &divided.shards;
    let campaign = |n: u32| format!("cmp-{n}");
    let events: Vec<Value> = (0..40)
        .map(|n| {
            let mut event = event(n, 2);
            event["campaign_id"] = json!(campaign(n));
            event
        })
        .collect();
    let of_first = (0..40)
        .filter(|n| first.has_campaign(&campaign(*n)))
        .count();
    let of_first = i64::try_from(of_first).expect("few");
    assert!((1..40).contains(&of_first), "on both");
    let location = sent(&api, "/events", "application/x-ndjson", &lines(&events));
    let receipt = || {
        let answer = api.get(&location);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    assert_eq!(numbers(&receipt()), [40, 0, 0, 0]);

    // One of them counts, and then the other.
    let [(_, home), (_, other)] = &divided.shards;
    let _of_other = Processor::start(&topic, other);
    until("the second has counted its share", || {
        numbers(&receipt()) == [of_first, 40 - of_first, 0, 0]
    });
    assert_eq!(receipt()["state"], "waiting");
    let _of_home = Processor::start(&topic, home);
    until("all is counted", || receipt()["state"] == "counted");
    assert_eq!(numbers(&receipt()), [0, 40, 0, 0]);

    // Other contents of the same ids: dead letters in both, in the order of the request.
    let others: Vec<Value> = events
        .into_iter()
        .map(|mut event| {
            event["clicks"] = json!(3);
            event
        })
        .collect();
    let location = sent(&api, "/events", "application/x-ndjson", &lines(&others));
    let mut receipt = Value::Null;
    until("all are dead letters", || {
        receipt = api.get(&location).json();
        receipt["state"] == "counted"
    });
    assert_eq!(numbers(&receipt), [0, 0, 0, 40]);
    let dead = receipt["dead_letters"].as_array().expect("an array");
    let told: Vec<i64> = dead
        .iter()
        .filter_map(|one| one["number"].as_i64())
        .collect();
    assert_eq!(told, (1..=40).collect::<Vec<_>>());
    let partitions: BTreeSet<i64> = dead
        .iter()
        .filter_map(|one| one["partition"].as_i64())
        .collect();
    assert!(partitions.iter().any(|p| *p < 2) && partitions.iter().any(|p| *p >= 2));
}

#[test]
fn an_account_is_remembered_by_whichever_database_knows_it() {
    let (divided, topic, api) = world();
    let [_, (_, other)] = &divided.shards;
    let _processor = Processor::start(&topic, other);
    sent(&api, &format!("/reports?{OPTIONS}"), "text/csv", GOOGLE);
    let later = "/reports?account=1234567890&observed_at=2026-11-23T09:00:00Z";
    until("it is remembered", || {
        let answer = api.send(Method::POST, later, "text/csv", GOOGLE);
        assert!([202, 422].contains(&answer.status), "{answer:?}");
        answer.status == 202
    });
    let otherwise = format!("{later}&time_zone=UTC");
    let answer = api.send(Method::POST, &otherwise, "text/csv", GOOGLE);
    assert_eq!(answer.status, 422, "{answer:?}");
    assert!(answer.text.contains("Europe/Berlin"), "{answer:?}");
}
