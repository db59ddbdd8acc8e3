//! Alerts and their rules, where two databases have the campaigns: each opens those of its own, and all of them are listed together.

use std::collections::BTreeSet;

use adflux::alerts::watch::Given;
use adflux::event::Platform;
use adflux::store::keep::alerts::episodes::{self, Filter};
use adflux::store::keep::alerts::rules;
use diesel::connection::SimpleConnection as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::alerts::{AHEAD, evaluate, put, report, rule};
use crate::divided::Divided;
use crate::world::{Answer, Api, Proxy, TestDatabase, given, server_of, until};

const JSON: &str = "application/json";

/// The rules in each of the two databases, in words.
fn stored(divided: &Divided) -> [Vec<String>; 2] {
    divided.shards.each_ref().map(|(_, database)| {
        let all = rules::all(&mut database.connect()).expect("rules");
        let in_words = |rule: rules::Stored| {
            let muted = if rule.muted_until.is_some() {
                ", muted"
            } else {
                ""
            };
            format!("{}: {}{muted}", rule.draft.name, rule.draft.when)
        };
        all.into_iter().map(in_words).collect()
    })
}

fn post(api: &Api, name: &str, when: &str) -> Answer {
    let rule = json!({ "name": name, "when": when }).to_string();
    api.send(Method::POST, "/alerts/rules", JSON, &rule)
}

#[test]
fn rules_are_the_same_in_all_databases() {
    let divided = Divided::new();
    let api = Api::serve(divided.settings());
    assert_eq!(post(&api, "silent", "no data for 3h").status, 201);
    assert_eq!(post(&api, "silent", "no data for 4h").status, 409);
    assert_eq!(
        put(&api, "spends", &json!({ "when": "cost > 9 over 1h" })).status,
        201
    );
    assert_eq!(
        put(&api, "spends", &json!({ "when": "cost > 7 over 1h" })).status,
        200
    );
    let until_then = json!({ "until": "2999-01-01T00:00:00Z" }).to_string();
    let muted = api.send(Method::PUT, "/alerts/mutes/silent", JSON, &until_then);
    assert_eq!(muted.status, 200, "{muted:?}");
    let both = ["silent: no data for 3h, muted", "spends: cost > 7 over 1h"];
    assert_eq!(stored(&divided), [both, both]);
    let delete = |path: &str| api.request(Method::DELETE, path).status;
    assert_eq!(delete("/alerts/mutes/silent"), 204);
    assert_eq!(delete("/alerts/rules/spends"), 204);
    assert_eq!(delete("/alerts/rules/spends"), 404);
    assert_eq!(stored(&divided), [["silent: no data for 3h"]; 2]);

    // What one of them lacks, as one that was restored, is there with the next PUT; and nobody misses what is to go.
    let [_, (_, second)] = &divided.shards;
    let lose = "DELETE FROM alert_rules";
    second.connect().batch_execute(lose).expect("deletes");
    assert_eq!(
        put(&api, "silent", &json!({ "when": "no data for 3h" })).status,
        200
    );
    assert_eq!(stored(&divided), [["silent: no data for 3h"]; 2]);
    second.connect().batch_execute(lose).expect("deletes");
    assert_eq!(delete("/alerts/rules/silent"), 204);
    assert_eq!(stored(&divided), [Vec::<String>::new(), Vec::new()]);

    // What is refused by one is in none.
    let of_file = Given {
        rules: vec![rule("of-file", "no data for 1h")],
        ..Given::default()
    };
    rules::take_file(&mut second.connect(), &of_file.rules, &[]).expect("a file");
    let refused = put(&api, "of-file", &json!({ "when": "no data for 2h" }));
    assert_eq!(refused.status, 409, "{refused:?}");
    let [first, _] = stored(&divided);
    assert!(first.is_empty(), "{first:?}");
}

#[test]
fn what_broke_off_is_said_again_as_if_for_the_first_time() {
    let divided = Divided::new();
    let [_, (shard, second)] = &divided.shards;
    let url = second.url();
    let proxy = Proxy::before(&server_of(&url));
    let mut before = divided.settings();
    for (_, url) in before.shards.iter_mut().filter(|(of, _)| of == shard) {
        *url = url.replace(&server_of(url), &proxy.address.to_string());
    }
    let api = Api::serve(before);
    until("both answer", || {
        post(&api, "silent", "no data for 3h").status != 503
    });

    proxy.cut();
    for answer in [
        post(&api, "spends", "cost > 9 over 1h"),
        api.request(Method::DELETE, "/alerts/rules/silent"),
    ] {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.text.contains("say it again"), "{answer:?}");
    }
    assert_eq!(stored(&divided), [["silent: no data for 3h"]; 2]);
    // Rules can be read all the same.
    assert_eq!(api.get("/alerts/rules/silent").status, 200);
    assert_eq!(api.get("/alerts").status, 503);

    proxy.mend();
    until("it is made", || {
        post(&api, "spends", "cost > 9 over 1h").status == 201
    });
    let path = "/alerts/rules/silent";
    assert_eq!(api.request(Method::DELETE, path).status, 204);
    assert_eq!(stored(&divided), [["spends: cost > 9 over 1h"]; 2]);
}

/// All of a list, so many at a time.
fn paged(api: &Api, query: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = api.get(&format!("/alerts?limit={limit}{query}{cursor}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        all.extend(page["data"].as_array().expect("an array").clone());
        match page["paging"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[test]
fn alerts_of_all_databases_are_one_list() {
    let divided = Divided::new();
    let now = chrono::Utc::now().timestamp_micros();
    let events: Vec<_> = (0..12)
        .map(|n| {
            let numbers = [1_000, 10, 1, (1 + n % 2) * 60_000_000, 1];
            given(&format!("cmp-{n}"), Platform::Meta, now, numbers)
        })
        .collect();
    divided.count(&events);
    let [(shard, first), (_, second)] = &divided.shards;
    let mut partitions = BTreeSet::new();
    for event in &events {
        let partition = shard.partition(&event.campaign);
        partitions.insert(partition);
        report(
            &mut divided.of(&event.campaign).connect(),
            partition,
            "idle",
            AHEAD,
        );
        report(&mut divided.whole.connect(), partition, "idle", AHEAD);
    }
    assert!(partitions.iter().any(|p| *p < 2) && partitions.iter().any(|p| *p >= 2));
    let of_file = Given {
        rules: vec![
            rule("spends", "cost > 50 over 1h"),
            rule("spends-more", "cost > 100 over 1h"),
        ],
        ..Given::default()
    };
    let known = |database: &TestDatabase| {
        let filter = Filter {
            limit: 500,
            ..Filter::default()
        };
        let all = episodes::list(&mut database.connect(), &filter).expect("alerts");
        all.len()
    };
    for database in [&divided.whole, first, second] {
        let campaigns = (0..12).filter(|n| {
            let own = divided.of(&format!("cmp-{n}"));
            database.name == divided.whole.name || database.name == own.name
        });
        let all: usize = campaigns.map(|n| 1 + n % 2).sum();
        evaluate(&database.url(), Some(&of_file), 1, || {
            until("all have opened", || known(database) == all);
        });
    }

    let (two, one) = divided.apis();
    let said = |api: &Api, query: &str, what: &str| -> BTreeSet<String> {
        let all = paged(api, query, 500).into_iter();
        all.map(|alert| {
            let fields = [&alert["rule"], &alert["campaign_id"], &alert[what]];
            format!("{fields:?}")
        })
        .collect()
    };
    for (query, what, count) in [
        ("", "opened_values", 18),
        ("&state=open", "condition", 18),
        ("&state=resolved", "condition", 0),
        ("&rule=spends-more", "condition", 6),
        ("&campaign=cmp-1", "condition", 2),
        ("&campaign=cmp-99", "condition", 0),
        ("&measure=now", "current_values", 18),
    ] {
        let of_two = said(&two, query, what);
        assert_eq!(of_two.len(), count, "{query}");
        assert_eq!(of_two, said(&one, query, what), "{query}");
    }
    let all = paged(&two, "", 500);
    let opened = all.iter().map(|alert| alert["opened_at"].as_str());
    assert!(opened.is_sorted_by(|later, earlier| later >= earlier));
    for limit in [1, 5, 18] {
        assert_eq!(paged(&two, "", limit), all, "{limit} at a time");
    }
    // A cursor of another number of databases is none of this list.
    let page = one.get("/alerts?limit=1").json();
    let cursor = page["paging"]["next_cursor"].as_str().expect("a cursor");
    let refused = two.get(&format!("/alerts?limit=1&cursor={cursor}"));
    assert_eq!(refused.status, 400, "{refused:?}");

    for alert in &all {
        let id = alert["alert_id"].as_str().expect("an id");
        let path = format!("/alerts/acknowledgements/{id}");
        let seen = two.request(Method::PUT, &path);
        assert_eq!(seen.status, 200, "{seen:?}");
        assert_ne!(seen.json()["acknowledged_at"], Value::Null);
        assert_eq!(seen.json()["campaign_id"], alert["campaign_id"]);
    }
    let seen = paged(&two, "", 500);
    assert!(seen.iter().all(|alert| !alert["acknowledged_at"].is_null()));
    let unknown = "/alerts/acknowledgements/00000000-0000-0000-0000-000000000000";
    assert_eq!(two.request(Method::PUT, unknown).status, 404);
}
