//! A server whose database is a standby: it answers, says how old that is, and changes nothing.

use crate::process::Process;
use crate::roles::ask;
use crate::support::ports::free_address;
use crate::support::server::{Server, Standby};
use crate::wait::{wait_for, wait_until};
use crate::world::World;

#[test]
fn it_answers_and_refuses_to_change_anything() {
    let primary = Server::start();
    let standby = Standby::of(&primary);
    let world = World::on("reading", primary.url.clone());
    let sent = world.simulate(&["--count", "500", "--rate", "max"]);
    world.process_until_end(&[]).success();
    standby.catch_up(&primary);

    let api = free_address();
    let mut command = world.command("serve", &["--listen", &api, "--brokers", &world.brokers]);
    command.env("DATABASE_URL", standby.url_of(world.database()));
    let server = Process::start(&mut command);
    let events = format!("\"events\":{}", sent.totals.events.get());
    wait_until("it answers", || {
        ask(&api, "GET", "/insights", "").is_some_and(|answer| answer.contains(&events))
    });
    for path in [
        "/campaigns?limit=1",
        "/dead-letters",
        "/pipeline",
        "/alerts",
        "/alerts/rules",
    ] {
        let answer = ask(&api, "GET", path, "").expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let ready = ask(&api, "GET", "/readyz", "").expect("it answers");
    assert!(ready.contains("\"replayed_until\":\"20"), "{ready}");
    assert!(ready.contains("\"receiving\":true"), "{ready}");

    let rule = r#"{"name": "more", "when": "clicks > 1 over 1h"}"#;
    let event = r#"{"event_id": "00000000-0000-4000-8000-000000000001", "campaign_id": "cmp-1", "platform": "Meta",
        "event_time": "2026-01-31T12:00:00Z", "impressions": 1, "clicks": 0, "conversions": 0, "cost_micros": 0, "revenue_micros": 0}"#;
    let ends = world.log_ends();
    for (method, path, body) in [("POST", "/alerts/rules", rule), ("POST", "/events", event)] {
        let refused = ask(&api, method, path, body).expect("it answers");
        assert!(refused.starts_with("HTTP/1.1 403"), "{path}: {refused}");
        assert!(
            refused.contains("reads from a standby"),
            "{path}: {refused}"
        );
    }
    assert_eq!(world.log_ends(), ends, "nothing was sent");

    // One that lags says so.
    standby.lag();
    let ready = wait_for("it is said", || {
        ask(&api, "GET", "/readyz", "").filter(|ready| ready.contains("\"receiving\":false"))
    });
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    // One that takes over takes changes, with the connections that are there.
    standby.promote();
    let made = ask(&api, "POST", "/alerts/rules", rule).expect("it answers");
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    let log = server.terminate().success().log;
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}
