//! Alerts: each opens once and resolves once and is delivered, whatever is killed, and whatever the
//! receivers do.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use adflux::event::{Counts, Money};
use diesel::connection::SimpleConnection;

use crate::process::Process;
use crate::receiver::{Manner, Receiver};
use crate::records::{Event, Record};
use crate::wait::wait_until;
use crate::world::World;

const SECRET: &str = "whsec-test";

/// A file of rules with these webhooks.
fn rules(folder: &std::path::Path, receivers: &[(&str, &Receiver)]) -> String {
    let names: Vec<String> = receivers.iter().map(|(n, _)| format!("\"{n}\"")).collect();
    let mut text = format!(
        "[[rule]]\nname = \"burning\"\nwhen = \"roas < 1 over 1h and cost > 50\"\ncampaigns = [\"hot-*\"]\nto = [{}]\n",
        names.join(", ")
    );
    for (name, receiver) in receivers {
        text.push_str(&format!(
            "[[webhook]]\nname = \"{name}\"\nurl = \"{}\"\nsecret_env = \"HOOK_SECRET\"\n",
            receiver.url()
        ));
    }
    let path = folder.join("rules.toml");
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}

fn command(world: &World, rules: &str) -> Command {
    let mut command = world.command("process", &["--alert-rules", rules]);
    command
        .env("HOOK_SECRET", SECRET)
        .env("RUST_LOG", "info,adflux::alerts=debug");
    command
}

/// An event of a campaign that costs and earns so much, in currency units.
fn event(campaign: &str, cost: i64, revenue: i64) -> Record {
    Event {
        counts: Counts {
            cost_micros: Money::new(cost * 1_000_000),
            revenue_micros: Money::new(revenue * 1_000_000),
            ..Event::of(campaign).counts
        },
        ..Event::of(campaign)
    }
    .record()
}

fn count(world: &World, condition: &str) -> i64 {
    world.number(&format!("SELECT count(*) FROM alerts WHERE {condition}"))
}

/// Waits until one of these evaluates, and says which. From then on there are tables to look into.
fn leader_of(processes: &[Process]) -> usize {
    let mut leader = None;
    wait_until("one evaluates", || {
        leader = processes
            .iter()
            .position(|p| p.log().contains("evaluates the alert rules"));
        leader.is_some()
    });
    leader.expect("found")
}

/// Takes the process that evaluates out of these.
fn take_leader(processes: &mut Vec<Process>) -> Process {
    processes.remove(leader_of(processes))
}

#[test]
fn opens_once_and_resolves_once_whoever_is_killed() {
    const CAMPAIGNS: usize = 8;
    let world = World::new("alerts_once");
    world.create_topic(4, &[]);
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().expect("a folder");
    let rules = rules(folder.path(), &[("growth", &receiver)]);
    let start = || Process::start(&mut command(&world, &rules));
    let mut processes: Vec<Process> = (0..3).map(|_| start()).collect();
    let all = |cost, revenue| -> Vec<Record> {
        let hot = (0..CAMPAIGNS).map(|n| event(&format!("hot-{n}"), cost, revenue));
        // What no rule covers opens nothing.
        hot.chain([event("cold-1", cost, revenue)]).collect()
    };
    leader_of(&processes);
    world.send(&all(60, 10));
    wait_until("all are open", || {
        count(&world, "resolved_at IS NULL AND opened_at IS NOT NULL") == CAMPAIGNS as i64
    });

    // The one that evaluates dies; what is counted meanwhile resolves them, through another one.
    take_leader(&mut processes).kill();
    world.send(&all(0, 100));
    wait_until("all have resolved", || {
        count(&world, "resolved_at IS NOT NULL") == CAMPAIGNS as i64
    });

    // Again, the other way round.
    take_leader(&mut processes).kill();
    world.send(&all(500, 0));
    let mut late = start();
    late.wait_for_log("counting topic");
    processes.push(late);
    wait_until("all are open again", || {
        count(&world, "resolved_at IS NULL AND opened_at IS NOT NULL") == CAMPAIGNS as i64
    });
    for process in processes {
        process.terminate().success();
    }
    // What waits to open may be there too: for partitions of which nothing is known yet, for one.
    assert_eq!(count(&world, "opened_at IS NOT NULL"), 2 * CAMPAIGNS as i64);
    assert_eq!(
        count(&world, "resolved_because = 'condition'"),
        CAMPAIGNS as i64
    );

    // Whoever is there last delivers what is left.
    let mut last = start();
    last.wait_for_log("counting topic");
    wait_until("all is delivered", || {
        world.number("SELECT count(*) FROM alert_deliveries WHERE NOT delivered") == 0
    });
    last.terminate().success();
    let taken = receiver.taken();
    let mut by_alert: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut deliveries = BTreeSet::new();
    for got in &taken {
        got.assert_signed(SECRET);
        // At least once: a repetition has the same id.
        if deliveries.insert(got.delivery.clone()) {
            let body = got.json();
            let text = |v: &serde_json::Value| v.as_str().expect("a string").to_owned();
            let alerts = body["alerts"].as_array().expect("alerts");
            assert_eq!(body["count"], alerts.len());
            for alert in alerts {
                let events = by_alert.entry(text(&alert["alert_id"])).or_default();
                events.push(text(&body["event"]));
            }
        }
    }
    assert_eq!(by_alert.len(), 2 * CAMPAIGNS);
    assert_eq!(
        by_alert.values().map(Vec::len).sum::<usize>(),
        3 * CAMPAIGNS
    );
    for events in by_alert.values() {
        assert!(
            matches!(events.as_slice(), [a] if a == "alert.opened")
                || matches!(events.as_slice(), [a, b] if a == "alert.opened" && b == "alert.resolved"),
            "{events:?}"
        );
    }
}

#[test]
fn a_receiver_that_fails_hangs_and_recovers_gets_it_and_holds_up_nobody() {
    let world = World::new("alerts_webhook");
    world.create_topic(1, &[]);
    let (bad, good, secure) = (Receiver::start(), Receiver::start(), Receiver::start_tls());
    let folder = tempfile::tempdir().expect("a folder");
    let receivers = [("bad", &bad), ("good", &good), ("secure", &secure)];
    let rules = rules(folder.path(), &receivers);
    let certificate = folder.path().join("receiver.pem");
    std::fs::write(&certificate, secure.certificate.as_deref().expect("TLS")).expect("a file");
    bad.will(Manner::Answer(500));
    let mut command = command(&world, &rules);
    let process = Process::start(command.env("SSL_CERT_FILE", &certificate));
    world.send(&[event("hot-1", 60, 10)]);
    wait_until("it fails twice", || bad.got().len() >= 2);

    bad.will(Manner::Redirect(good.url()));
    let so_far = bad.got().len();
    wait_until("it redirects", || bad.got().len() > so_far);

    bad.will(Manner::Hang);
    let so_far = bad.got().len();
    wait_until("it hangs", || bad.got().len() > so_far);
    // Meanwhile the others hear of this and of more.
    world.send(&[event("hot-1", 0, 500), event("hot-2", 60, 10)]);
    // At least once: a repetition has the same id.
    let heard_of = |receiver: &Receiver| -> BTreeMap<String, String> {
        let taken = receiver.taken();
        let told = taken.iter().map(|g| (g.delivery.clone(), g.in_short()));
        told.collect()
    };
    for other in [&good, &secure] {
        wait_until("the others hear of all", || heard_of(other).len() == 3);
    }
    assert!(bad.taken().is_empty());

    bad.will(Manner::Answer(204));
    wait_until("it hears of all", || heard_of(&bad).len() >= 3);
    wait_until("all is delivered", || {
        world.number("SELECT count(*) FROM alert_deliveries WHERE NOT delivered") == 0
    });
    let ended = process.terminate().success();
    for receiver in [&bad, &good, &secure] {
        let taken: Vec<String> = receiver.taken().iter().map(|g| g.in_short()).collect();
        let (opened, resolved) = ("alert.opened hot-1", "alert.resolved hot-1");
        let at = |what: &str| taken.iter().position(|t| t == what).expect("told");
        assert!(at(opened) < at(resolved), "{taken:?}");
        let mut told: Vec<String> = heard_of(receiver).into_values().collect();
        told.sort();
        assert_eq!(told, [opened, "alert.opened hot-2", resolved]);
        receiver
            .got()
            .iter()
            .for_each(|got| got.assert_signed(SECRET));
    }
    // Every attempt has the id of the first; where redirects led, nobody went.
    let ids = |receiver: &Receiver| -> BTreeSet<String> {
        receiver.got().iter().map(|g| g.delivery.clone()).collect()
    };
    assert_eq!((ids(&bad).len(), ids(&good).len()), (3, 3));
    assert!(ids(&bad).is_disjoint(&ids(&good)));
    for secret in [SECRET, "token=hidden"] {
        assert!(!ended.log.contains(secret), "{}", ended.log);
    }
}

#[test]
fn what_opens_together_is_one_message_and_what_is_muted_none() {
    const CAMPAIGNS: usize = 250;
    let world = World::new("alerts_together");
    world.create_topic(2, &[]);
    let receiver = Receiver::start();
    let folder = tempfile::tempdir().expect("a folder");
    let rules = rules(folder.path(), &[("growth", &receiver)]);
    let process = Process::start(&mut command(&world, &rules));
    leader_of(std::slice::from_ref(&process));
    let sent = |cost, revenue| {
        let all: Vec<Record> = (0..CAMPAIGNS)
            .map(|n| event(&format!("hot-{n}"), cost, revenue))
            .collect();
        world.send(&all);
    };
    let told = |event: &str| -> Vec<serde_json::Value> {
        let taken = receiver.taken();
        let mut seen = BTreeSet::new();
        let first = taken.iter().filter(|got| seen.insert(&got.delivery));
        let told = first.map(|got| got.json());
        told.filter(|body| body["event"] == event).collect()
    };
    let counted = |event: &str| -> i64 {
        let told = told(event);
        told.iter()
            .map(|m| m["count"].as_i64().expect("a count"))
            .sum()
    };
    sent(60, 10);
    wait_until("all that opened is told", || {
        counted("alert.opened") == CAMPAIGNS as i64
    });
    let messages = told("alert.opened");
    // They may be counted in a few commits; what a commit opened is never told apart.
    assert!(messages.len() <= 3, "{} messages", messages.len());
    let shown = |m: &serde_json::Value| m["alerts"].as_array().expect("alerts").len();
    assert!(
        messages
            .iter()
            .all(|m| shown(m) <= 100 && m["rule"] == "burning")
    );
    assert!(messages.iter().any(|m| shown(m) == 100));
    assert_eq!(messages[0]["alerts"][0]["severity"], "warning");

    let mut connection = world.connect();
    let mute = "INSERT INTO alert_mutes (rule_name, until) VALUES ('burning', clock_timestamp() + interval '1 day')";
    connection.batch_execute(mute).expect("mutes");
    sent(0, 500);
    wait_until("all have resolved", || {
        count(&world, "resolved_at IS NOT NULL") == CAMPAIGNS as i64
    });
    process.terminate().success();
    let deliveries = "SELECT count(*) FROM alert_deliveries WHERE event = 'alert.resolved'";
    assert_eq!(world.number(deliveries), 0);
}

/// Seven days in the topic when the processor starts: nothing is said of a campaign because it has not been counted
/// yet, and all that is true of one that is silent.
#[test]
fn a_backlog_opens_nothing_and_silence_does() {
    const CAMPAIGNS: i64 = 100;
    const DAY: i64 = 24 * 3_600_000_000;
    let world = World::new("alerts_backlog");
    world.create_topic(2, &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rules.toml");
    let text = "[[rule]]\nname = \"silent\"\nwhen = \"no data for 3h\"\n\
        [[rule]]\nname = \"idle\"\nwhen = \"cost < 1 over 1d\"\n";
    std::fs::write(&path, text).expect("a file");
    let now = crate::records::now();
    // An event each hour up to now, and of one campaign up to four hours ago.
    let hours = (0..=7 * 24).rev();
    let records: Vec<Record> = hours
        .flat_map(|hour| (0..CAMPAIGNS).map(move |n| (hour, n)))
        .filter(|(hour, n)| *n > 0 || *hour >= 4)
        .map(|(hour, n)| {
            let time = now - hour * DAY / 24;
            let event = Event {
                time,
                ..Event::of(&format!("cmp-{n}"))
            };
            Record {
                // As old in the log as the events are.
                timestamp: Some(time / 1_000),
                ..event.record()
            }
        })
        .collect();
    world.send(&records);
    // One batch at a time, so that it is looked at in between.
    let mut command = command(&world, &path.display().to_string());
    command.args(["--batch-records", "50"]);
    let process = Process::start(&mut command);
    leader_of(std::slice::from_ref(&process));
    world.wait_until_all_counted();
    // Nothing more of it is coming in.
    let mut connection = world.connect();
    let past = "UPDATE sum_chunks SET committed_at = substr(committed_at, 1, 1)
             || int8send(('x' || encode(substr(committed_at, 2, 8), 'hex'))::bit(64)::bigint - 3600000000)
             || substr(committed_at, 10)";
    connection.batch_execute(past).expect("updates");
    wait_until("the silent one opens", || {
        count(&world, "opened_at IS NOT NULL") > 0
    });
    process.terminate().success();
    let opened = "SELECT count(*) FROM alerts WHERE opened_at IS NOT NULL AND NOT (rule_name = 'silent' AND campaign_id = 'cmp-0')";
    assert_eq!(world.number(opened), 0);
}

#[test]
fn a_file_with_a_fault_is_refused_where_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rules.toml");
    let text = "[[rule]]\nname = \"burning\"\nwhen = \"roas < 1 over xyz\"\n";
    std::fs::write(&path, text).expect("a file");
    let path = path.display().to_string();
    // A log indents what follows its first line.
    let shown = format!(
        "{path}:3:23: expected a duration such as 1h, found 'xyz'\n      when = \"roas < 1 over xyz\"\n                            ^"
    );
    let check = |args: &[&str]| Process::start(crate::process::command().args(args)).end();
    check(&["alerts", "check", &path]).code(1).says(&shown);
    check(&["process", "--alert-rules", &path])
        .code(1)
        .says(&shown);
    std::fs::write(folder.path().join("rules.toml"), text.replace("xyz", "1h")).expect("a file");
    let checked = check(&["alerts", "check", &path]).success();
    assert!(
        checked.stdout.contains("roas < 1 over 1h"),
        "{}",
        checked.stdout
    );
}

#[test]
fn rules_over_the_past_say_when_they_would_have_opened() {
    let world = World::new("alerts_past");
    let hour = 3_600_000_000;
    let noon = chrono::DateTime::parse_from_rfc3339("2026-01-31T12:00:00Z").expect("a time");
    let at = |hours: i64, cost: i64, revenue: i64| {
        let mut event = Event::of("hot-1");
        event.time = noon.timestamp_micros() + hours * hour;
        event.counts.cost_micros = Money::new(cost * 1_000_000);
        event.counts.revenue_micros = Money::new(revenue * 1_000_000);
        event.record()
    };
    world.create_topic(1, &[]);
    // Burning from noon until one, when the event leaves the window; and from four on to the end.
    world.send(&[
        at(-24, 1, 2),
        at(0, 60, 10),
        at(2, 60, 100),
        at(4, 80, 10),
        at(5, 0, 1),
    ]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("rules.toml");
    let text = "[[rule]]\nname = \"burning\"\nwhen = \"roas < 1 over 1h and cost > 50\"\n\
        [[rule]]\nname = \"silent\"\nwhen = \"no data for 90m\"\n";
    std::fs::write(&path, text).expect("a file");
    world.process_until_end(&[]).success();
    let tested = world_test(&world, &path.display().to_string());
    let alerts: Vec<Vec<&str>> = tested
        .lines()
        .map(|line| line.split_whitespace().take(4).collect())
        .collect();
    assert_eq!(
        alerts,
        [
            // Silent since the day before: with the first minute that is looked at.
            vec![
                "2026-01-31T06:00:00Z",
                "2026-01-31T12:00:00Z",
                "silent",
                "hot-1"
            ],
            vec![
                "2026-01-31T12:00:00Z",
                "2026-01-31T13:00:00Z",
                "burning",
                "hot-1"
            ],
            vec![
                "2026-01-31T13:31:00Z",
                "2026-01-31T14:00:00Z",
                "silent",
                "hot-1"
            ],
            vec![
                "2026-01-31T15:31:00Z",
                "2026-01-31T16:00:00Z",
                "silent",
                "hot-1"
            ],
            vec![
                "2026-01-31T16:00:00Z",
                "2026-01-31T17:00:00Z",
                "burning",
                "hot-1"
            ],
            vec!["5", "alerts", "of", "2"],
        ],
        "{tested}"
    );
}

fn world_test(world: &World, rules: &str) -> String {
    let mut command = crate::process::command();
    command
        .args([
            "alerts",
            "test",
            "--database-url",
            &world.database_url,
            "--rules",
            rules,
        ])
        .args([
            "--since",
            "2026-01-31T06:00:00Z",
            "--until",
            "2026-01-31T17:30:00Z",
        ]);
    Process::start(&mut command).end().success().stdout
}

/// A failure that is not the database's absence is said, once each time that it begins, and ends when its cause does.
#[test]
fn what_keeps_rules_from_being_evaluated_is_said_and_counting_goes_on() {
    let world = World::new("alerts_fail");
    world.create_topic(1, &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let rules = rules(folder.path(), &[]);
    let mut process = Process::start(&mut command(&world, &rules));
    process.wait_for_log("evaluates the alert rules");
    let rename = |sql: &str| {
        let mut connection = world.connect();
        connection.batch_execute(sql).expect("it is renamed");
    };
    rename("ALTER TABLE alerts RENAME TO alerts_elsewhere");
    world.send(&[event("hot-1", 60, 10)]);
    process.wait_for_log("evaluating alerts fails: PostgreSQL: relation \"alerts\" does not exist");
    world.wait_until_all_counted();
    rename("ALTER TABLE alerts_elsewhere RENAME TO alerts");
    wait_until("it is open", || {
        count(&world, "resolved_at IS NULL AND opened_at IS NOT NULL") == 1
    });
    // A busy machine may get through in between.
    let log = process.terminate().success().log;
    let said = log.lines().filter_map(|line| {
        let fails = line.contains("evaluating alerts fails");
        (fails || line.contains("alerts are evaluated again")).then_some(fails)
    });
    let said: Vec<bool> = said.collect();
    let by_turns = (0..said.len()).map(|n| n % 2 == 0);
    assert!(
        said.iter().copied().eq(by_turns) && said.len().is_multiple_of(2),
        "{log}"
    );
}

/// Whoever runs the DNS of a receiver must not have us call what is near us. Addresses that the file says are its own.
#[test]
fn a_name_that_leads_inside_is_called_only_where_that_is_allowed() {
    let world = World::new("alerts_inside");
    world.create_topic(1, &[]);
    // The name of this machine leads to it.
    let name = Command::new("uname").arg("-n").output().expect("a name");
    let name = String::from_utf8(name.stdout).expect("text");
    let (named, plain) = (Receiver::start_named(name.trim()), Receiver::start());
    let folder = tempfile::tempdir().expect("a folder");
    let rules = rules(folder.path(), &[("named", &named), ("plain", &plain)]);
    let mut process = Process::start(&mut command(&world, &rules));
    process.wait_for_log("counting topic");
    world.send(&[event("hot-1", 60, 10)]);
    wait_until("the plain one is told", || !plain.taken().is_empty());
    process.wait_for_log("an address of the inside; if it should, start with --private-webhooks");
    let log = process.terminate().success().log;
    assert!(named.got().is_empty(), "it was called");
    assert!(log.contains("webhook 'named' is told over http"), "{log}");
    assert!(!log.contains("webhook 'plain' is told over http"), "{log}");
    let mut command = command(&world, &rules);
    let process = Process::start(command.arg("--private-webhooks"));
    wait_until("it is told", || !named.taken().is_empty());
    process.terminate().success();
}
