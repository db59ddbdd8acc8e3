//! What the API refuses, and how it says so.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::world::{Api, TestDatabase};

#[test]
fn every_refusal_is_a_problem_document_that_names_the_fault() {
    let database = TestDatabase::create();
    let api = Api::start(&database.url(), None, Duration::from_millis(50));
    let long = "x".repeat(65);
    let cases: &[(&str, u16, &str, Option<&str>)] = &[
        ("/campaign/nobody/insights", 404, "unknown-campaign", None),
        (
            "/campaign/a%20b/insights",
            400,
            "invalid-campaign-id",
            Some("id"),
        ),
        (
            "/campaign/a%2Fb/insights",
            400,
            "invalid-campaign-id",
            Some("id"),
        ),
        (
            "/campaign/a%00b/insights",
            400,
            "invalid-campaign-id",
            Some("id"),
        ),
        (
            &format!("/campaign/{long}/insights"),
            400,
            "invalid-campaign-id",
            Some("id"),
        ),
        (
            "/campaign/cmp-1/insights?color=red",
            400,
            "unknown-parameter",
            Some("color"),
        ),
        (
            "/campaign/cmp-1/insights?since=now",
            400,
            "invalid-parameter",
            Some("since"),
        ),
        (
            "/campaign/cmp-1/insights?until=2026-01-01T00:00:00Z",
            400,
            "invalid-window",
            Some("since"),
        ),
        (
            "/campaign/cmp-1/insights?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z",
            400,
            "invalid-window",
            Some("since"),
        ),
        (
            "/campaign/cmp-1/insights?since=1971-01-02T00:00:00Z",
            400,
            "invalid-window",
            Some("since"),
        ),
        (
            "/campaign/cmp-1/insights?date_preset=last_year",
            400,
            "invalid-parameter",
            Some("date_preset"),
        ),
        (
            "/campaigns?sort=colour",
            400,
            "invalid-parameter",
            Some("sort"),
        ),
        (
            "/campaigns?order=up",
            400,
            "invalid-parameter",
            Some("order"),
        ),
        (
            "/campaigns?limit=0",
            400,
            "invalid-parameter",
            Some("limit"),
        ),
        (
            "/campaigns?limit=501",
            400,
            "invalid-parameter",
            Some("limit"),
        ),
        (
            "/campaigns?limit=1&limit=2",
            400,
            "invalid-parameter",
            Some("limit"),
        ),
        (
            "/campaigns?cursor=abc",
            400,
            "invalid-cursor",
            Some("cursor"),
        ),
        (
            "/campaign/a%2Fb/insights",
            400,
            "invalid-campaign-id",
            Some("id"),
        ),
        (
            "/campaign/%00/insights",
            400,
            "invalid-campaign-id",
            Some("id"),
        ),
        (
            "/campaign/a%0Ab/events",
            400,
            "invalid-campaign-id",
            Some("id"),
        ),
        (
            "/campaigns?time_zone=Europe/Bonn",
            400,
            "invalid-parameter",
            Some("time_zone"),
        ),
        (
            "/campaigns?filter=colour%3C1",
            400,
            "invalid-parameter",
            Some("filter"),
        ),
        (
            "/campaigns?filter=roas~1",
            400,
            "invalid-parameter",
            Some("filter"),
        ),
        (
            "/campaigns?search=%00",
            400,
            "invalid-parameter",
            Some("search"),
        ),
        (
            "/campaigns?platform=Meta,Orkut",
            400,
            "invalid-parameter",
            Some("platform"),
        ),
        (
            "/campaigns?fields=roas,colour",
            400,
            "invalid-parameter",
            Some("fields"),
        ),
        (
            "/campaigns?cursor=811c9dc500000000000000000000000000000000.1.0",
            400,
            "invalid-cursor",
            Some("cursor"),
        ),
        (
            "/insights?breakdown=campaign",
            400,
            "invalid-parameter",
            Some("breakdown"),
        ),
        (
            "/insights?limit=99999999999999999999",
            400,
            "invalid-parameter",
            Some("limit"),
        ),
        (
            "/insights?since=2026-01-01&until=2026-06-01&time_increment=minute",
            400,
            "invalid-window",
            Some("time_increment"),
        ),
        (
            "/dead-letters?reason=boredom",
            400,
            "invalid-parameter",
            Some("reason"),
        ),
        ("/nowhere", 404, "not-found", None),
        ("/campaign/cmp-1", 404, "not-found", None),
        ("/campaign/cmp-1/insights/more", 404, "not-found", None),
    ];
    for (path, status, kind, parameter) in cases {
        let answer = api.get(path);
        assert_eq!(answer.status, *status, "{path}: {answer:?}");
        assert_eq!(answer.content_type, "application/problem+json", "{path}");
        let problem = answer.json();
        assert_eq!(
            problem["type"],
            format!("urn:adflux:problem:{kind}"),
            "{path}"
        );
        assert_eq!(problem["status"], *status, "{path}");
        assert_eq!(problem["parameter"].as_str(), *parameter, "{path}");
        assert!(
            problem["detail"].as_str().is_some_and(|d| d.len() > 20),
            "{path}"
        );
    }
    for method in [reqwest::Method::POST, reqwest::Method::DELETE] {
        let answer = api.request(method, "/campaign/cmp-1/insights");
        assert_eq!((answer.status, answer.allow.as_str()), (405, "GET, HEAD"));
        assert_eq!(
            answer.json()["type"],
            "urn:adflux:problem:method-not-allowed"
        );
    }
}

#[test]
fn a_huge_header_closes_one_connection_and_harms_nobody() {
    let database = TestDatabase::create();
    let api = Api::start(&database.url(), None, Duration::from_millis(50));
    let mut stream = TcpStream::connect(api.address).expect("connects");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("sets");
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
        .expect("writes");
    // The server may close before all of it is written.
    let sent = stream.write_all(&vec![b'a'; 1 << 20]);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        sent.is_err() || answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    assert!(!answer.contains("200 OK"), "{answer}");
    assert_eq!(api.get("/livez").status, 200);
}
