//! API keys: made on the command line, required by the API, gone within seconds of being revoked.

use std::io::Read as _;
use std::process::Command;
use std::time::Duration;

use adflux::api::{Limits, Settings, TrustedProxies};
use adflux::event::Platform;
use diesel::connection::SimpleConnection as _;

use crate::gate::{rest, send};
use crate::world::{Answer, Api, Proxy, TestDatabase, count, given, server_of, until};

const SHORT: Duration = Duration::from_millis(20);

/// Runs `adflux keys`, and returns what it printed, or what it said when it failed.
pub fn keys(database: &TestDatabase, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_adflux"))
        .args(["keys", "--database-url", &database.url()])
        .args(arguments)
        .env_remove("RUST_LOG")
        .output()
        .expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("text").trim().to_owned();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

fn start(url: &str, limits: Limits) -> Api {
    let settings = Settings {
        limits,
        keys: true,
        ..Settings::default()
    };
    Api::start_with(url, None, SHORT, settings)
}

fn ask(api: &Api, path: &str, key: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    api.request_with(reqwest::Method::GET, path, &[("authorization", &bearer)])
}

fn id_of(key: &str) -> &str {
    key.split('_').nth(1).expect("an id")
}

#[test]
fn only_a_good_key_opens_and_only_what_it_may() {
    let database = TestDatabase::create();
    let read = keys(&database, &["create", "dashboard"]).expect("a key");
    let admin = keys(&database, &["create", "ops", "--scope", "admin"]).expect("a key");
    let write = keys(&database, &["create", "etl", "--scope", "write"]).expect("a key");
    let letters = keys(&database, &["create", "dpo", "--scope", "dead-letters"]).expect("a key");
    let brief = keys(&database, &["create", "brief", "--expires-in", "1s"]).expect("a key");
    let api = start(&database.url(), Limits::default());
    for path in ["/livez", "/readyz"] {
        assert_eq!(api.get(path).status, 200, "{path}");
    }
    for (path, key, status) in [
        ("/campaigns", read.as_str(), 200),
        ("/campaigns", &admin, 200),
        ("/campaigns", &write, 403),
        ("/dead-letters", &admin, 200),
        ("/dead-letters", &read, 403),
        ("/dead-letters", &write, 403),
        ("/dead-letters/t/0/1", &read, 403),
        ("/dead-letters", &letters, 200),
        ("/dead-letters/t/0/1", &letters, 404),
        ("/campaigns", &letters, 403),
        ("/nowhere", &read, 404),
        ("/campaigns", "", 401),
        ("/campaigns", "adflux_x", 401),
        ("/campaigns", &read.to_uppercase(), 401),
        // Of the right form, and nobody's.
        (
            "/campaigns",
            &format!("{}0000", &read[..read.len() - 4]),
            401,
        ),
        (
            "/campaigns",
            &format!("adflux_000000000000{}", &read[19..]),
            401,
        ),
    ] {
        let answer = ask(&api, path, key);
        assert_eq!(answer.status, status, "{path} {answer:?}");
        if status == 401 || status == 403 {
            assert_eq!(answer.content_type, "application/problem+json");
            assert!(!answer.text.contains(&read[19..]), "a secret was repeated");
        }
    }
    assert_eq!(api.get("/campaigns").status, 401);
    let method = reqwest::Method::DELETE;
    let bearer = format!("Bearer {read}");
    let answer = api.request_with(method, "/campaigns", &[("authorization", &bearer)]);
    assert_eq!(answer.status, 403);
    let rule = |key: &str| {
        let bearer = format!("Bearer {key}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let body = "{\"when\": \"no data for 30m\"}";
        let path = "/alerts/rules/silent";
        api.ask(reqwest::Method::PUT, path, &headers, body).status
    };
    assert_eq!((rule(""), rule(&read), rule(&write)), (401, 403, 201));
    until("the brief one is over", || {
        ask(&api, "/campaigns", &brief).status == 401
    });

    let listed = keys(&database, &["list"]).expect("a list");
    for (key, name) in [(&read, "dashboard"), (&admin, "ops"), (&write, "etl")] {
        let line = listed.lines().find(|line| line.contains(name));
        assert!(
            line.is_some_and(|line| line.starts_with(id_of(key))),
            "{listed}"
        );
        assert!(!listed.contains(key.as_str()), "a secret was kept");
    }
    assert!(listed.contains("expired"), "{listed}");
}

#[test]
fn a_rotated_key_has_its_grace_and_a_revoked_one_none() {
    let database = TestDatabase::create();
    let first = keys(&database, &["create", "etl"]).expect("a key");
    let api = start(&database.url(), Limits::default());
    assert_eq!(ask(&api, "/campaigns", &first).status, 200);
    let second = keys(&database, &["rotate", id_of(&first)]).expect("a key");
    assert_eq!(id_of(&second), id_of(&first));
    until("the new one is known", || {
        ask(&api, "/campaigns", &second).status == 200
    });
    assert_eq!(ask(&api, "/campaigns", &first).status, 200, "has an hour");
    let third = keys(&database, &["rotate", id_of(&first), "--grace", "0s"]).expect("a key");
    until("without grace the one before is over", || {
        ask(&api, "/campaigns", &second).status == 401
    });
    assert_eq!(ask(&api, "/campaigns", &third).status, 200);
    keys(&database, &["revoke", id_of(&first)]).expect("revokes");
    until("it opens nothing any more", || {
        ask(&api, "/campaigns", &third).status == 401
    });
    let refused = keys(&database, &["rotate", id_of(&first)]).expect_err("is revoked");
    assert!(refused.contains("adflux keys list"), "{refused}");
    keys(&database, &["revoke", "000000000000"]).expect_err("is unknown");
}

#[test]
fn a_key_has_a_rate_and_needs_no_query_a_request() {
    let database = TestDatabase::create();
    let key = keys(&database, &["create", "etl"]).expect("a key");
    let limits = Limits {
        requests_per_key: 1,
        ..Limits::default()
    };
    let api = start(&database.url(), limits);
    until("too often", || {
        let answer = ask(&api, "/subjects", &key);
        assert!(
            answer.status == 200 || answer.retry_after == "1",
            "{answer:?}"
        );
        answer.status == 429
    });
}

#[test]
fn with_the_database_away_a_good_key_stays_good_for_a_while() {
    let database = TestDatabase::create();
    let event = given(
        "cmp-1",
        Platform::Meta,
        1_769_817_600_000_000,
        [1, 1, 1, 1, 1],
    );
    count(&mut database.connect(), &[event]);
    let key = keys(&database, &["create", "dashboard"]).expect("a key");
    let (proxy, url) = behind_proxy(&database);
    let limits = |key_grace| Limits {
        // What is known of it is never fresh.
        key_time: Duration::ZERO,
        key_grace,
        ..Limits::default()
    };
    let patient = start(&url, limits(Duration::from_secs(3_600)));
    let brief = start(&url, limits(Duration::from_secs(1)));
    let status = |api: &Api, key: &str| ask(api, "/campaign/cmp-1/insights", key).status;
    for api in [&patient, &brief] {
        assert_eq!(status(api, &key), 200);
    }
    // It is revoked where nobody behind the proxy can see it.
    proxy.cut();
    keys(&database, &["revoke", id_of(&key)]).expect("revokes");
    let stranger = format!("adflux_000000000000{}", &key[19..]);
    assert_eq!(status(&patient, &key), 200);
    assert_eq!(status(&patient, &stranger), 503);
    until("its time is over", || {
        let status = status(&brief, &key);
        assert!(status == 200 || status == 503, "{status}");
        status == 503
    });
}

/// The URL of a database, by way of something that can be cut.
fn behind_proxy(database: &TestDatabase) -> (Proxy, String) {
    let direct = database.url();
    let proxy = Proxy::before(&server_of(&direct));
    let url = direct.replace(&server_of(&direct), &proxy.address.to_string());
    (proxy, url)
}

#[test]
fn keys_that_are_made_up_cost_few_look_ups() {
    let database = TestDatabase::create();
    let key = keys(&database, &["create", "etl"]).expect("a key");
    let settings = Settings {
        limits: Limits {
            look_ups_per_address: 1,
            key_time: Duration::ZERO,
            ..Limits::default()
        },
        keys: true,
        trusted_proxies: TrustedProxies::WhoeverConnects,
        ..Settings::default()
    };
    let api = Api::start_with(&database.url(), None, SHORT, settings);
    let from = |address: &str, key: &str| {
        let bearer = format!("Bearer {key}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("x-forwarded-for", address),
        ];
        api.request_with(reqwest::Method::GET, "/subjects", &headers)
    };
    assert_eq!(from("192.0.2.1", &key).status, 200);
    let mut made = 0;
    let mut made_up = || {
        made += 1;
        format!("adflux_{made:012x}{}", &key[19..])
    };
    until("it is one too many", || {
        let answer = from("192.0.2.1", &made_up());
        assert!(
            answer.status == 401 || answer.retry_after == "1",
            "{answer:?}"
        );
        answer.status == 429
    });
    // A key that is known is looked up all the same, and so are those of others.
    assert_eq!(from("192.0.2.1", &key).status, 200);
    assert_eq!(from("192.0.2.2", &made_up()).status, 401);
}

#[test]
fn who_asks_often_whether_we_are_ready_asks_the_database_now_and_then() {
    let database = TestDatabase::create();
    let (proxy, url) = behind_proxy(&database);
    let start = |ready_time| {
        let limits = Limits {
            ready_time,
            ..Limits::default()
        };
        start(&url, limits)
    };
    let (kept, asked) = (start(Duration::from_secs(3_600)), start(Duration::ZERO));
    for api in [&kept, &asked] {
        assert_eq!(api.get("/readyz").status, 200);
    }
    proxy.cut();
    assert_eq!(asked.get("/readyz").status, 503);
    assert_eq!(kept.get("/readyz").status, 200);
}

#[test]
fn a_live_feed_ends_with_its_key() {
    let database = TestDatabase::create();
    let event = |clicks| {
        given(
            "cmp-1",
            Platform::Meta,
            1_769_817_600_000_000,
            [1, clicks, 0, 1, 1],
        )
    };
    count(&mut database.connect(), &[event(1)]);
    let limits = Limits {
        key_time: Duration::from_millis(50),
        ..Limits::default()
    };
    let api = start(&database.url(), limits);
    let open = |name: &str, path: &str| {
        let key = keys(&database, &["create", name]).expect("a key");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
        );
        (send(&api, request.as_bytes()), key)
    };
    let (kept, _) = open("kept", "/live");
    for path in ["/live", "/campaign/cmp-1/live"] {
        let (revoked, key) = open("revoked", path);
        let mut begin = [0; 12];
        (&revoked).read_exact(&mut begin).expect("reads");
        assert_eq!(&begin, b"HTTP/1.1 200");
        keys(&database, &["revoke", id_of(&key)]).expect("revokes");
        assert!(
            rest(revoked).ends_with("\r\n0\r\n\r\n"),
            "{path}: it was cut off"
        );

        let (expired, key) = open("expired", path);
        (&expired).read_exact(&mut begin).expect("reads");
        assert_eq!(&begin, b"HTTP/1.1 200");
        let expire = format!(
            "UPDATE api_keys SET expires_at = clock_timestamp() WHERE key_id = '{}'",
            id_of(&key)
        );
        database.connect().batch_execute(&expire).expect("expires");
        assert!(
            rest(expired).ends_with("\r\n0\r\n\r\n"),
            "{path}: it was cut off"
        );
    }
    count(&mut database.connect(), &[event(2)]);
    let mut told = String::new();
    while !told.contains("event: totals") {
        let mut piece = [0; 1024];
        let read = (&kept).read(&mut piece).expect("reads");
        assert!(read > 0, "a good key's feed has ended: {told}");
        told.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
}
