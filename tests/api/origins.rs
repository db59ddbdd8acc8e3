//! Pages of elsewhere: under which names this server answers, and from where it may be changed.

use adflux::api::Settings;
use diesel::connection::SimpleConnection as _;
use serde_json::json;

use crate::gate::{Answer, LONG, SHORT, ask, get, rest, send, start, with_campaigns};
use crate::keys::keys;
use crate::world::{Api, TestDatabase};

const JSON: (&str, &str) = ("content-type", "application/json");
const RULE: &str = r#"{"when": "no data for 30m"}"#;

/// The status line and what follows, of a request with these lines after its first.
fn raw(api: &Api, first: &str, lines: &str) -> String {
    let request = format!("{first}\r\n{lines}Connection: close\r\n\r\n");
    rest(send(api, request.as_bytes()))
}

#[test]
fn only_who_comes_by_a_name_of_ours_is_answered() {
    let database = with_campaigns(1);
    let api = Api::start_with(&database.url(), None, LONG, Settings::default());
    let insights = "/campaign/cmp-0/insights";
    // Written, so that what follows is at hand.
    assert_eq!(get(&api, insights, &[]).status, 200);
    for path in [insights, "/campaigns", "/", "/livez", "/nowhere"] {
        let by = |host: &str| {
            raw(
                &api,
                &format!("GET {path} HTTP/1.1"),
                &format!("Host: {host}\r\n"),
            )
        };
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "x",
        ] {
            let answer = by(host);
            assert!(
                answer.starts_with("HTTP/1.1 421"),
                "{path} {host}: {answer}"
            );
            let name = host.split(':').next().expect("a name");
            for part in [
                "urn:adflux:problem:unknown-host",
                &format!("--allowed-hosts {name} "),
                "--public-url",
            ] {
                assert!(answer.contains(part), "{path} {host}: {answer}");
            }
        }
        let status = if path == "/nowhere" { "404" } else { "200" };
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1:1",
            "192.0.2.7",
            "[::1]:8080",
            "[2001:db8::1]",
        ] {
            let answer = by(host);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{path} {host}: {answer}"
            );
        }
        let first = format!("GET {path} HTTP/1.1");
        for lines in ["", "Host: localhost\r\nHost: localhost\r\n", "Host: \r\n"] {
            let answer = raw(&api, &first, lines);
            assert!(
                answer.starts_with("HTTP/1.1 400"),
                "{path} {lines}: {answer}"
            );
            assert!(
                answer.contains("urn:adflux:problem:invalid-host"),
                "{path} {lines}: {answer}"
            );
        }
        // What probes of old send.
        let answer = raw(&api, &format!("GET {path} HTTP/1.0"), "");
        assert!(
            answer.starts_with(&format!("HTTP/1.0 {status}")),
            "{path}: {answer}"
        );
        let whole = format!("GET http://evil.example{path} HTTP/1.1");
        let answer = raw(&api, &whole, "Host: localhost\r\n");
        assert!(answer.starts_with("HTTP/1.1 421"), "{path}: {answer}");
    }
    let settings = Settings {
        allowed_hosts: vec!["serve".parse().expect("a name")],
        public_url: Some("https://ads.example/adflux".parse().expect("a URL")),
        ..Settings::default()
    };
    let api = start(&database, settings);
    for (host, status) in [
        ("serve:8080", 200),
        ("ads.example", 200),
        ("localhost", 200),
        ("evil.example", 421),
    ] {
        assert_eq!(
            get(&api, "/campaigns", &[("host", host)]).status,
            status,
            "{host}"
        );
    }
    let settings = Settings {
        allowed_hosts: vec!["*".parse().expect("all")],
        ..Settings::default()
    };
    let api = start(&database, settings);
    assert_eq!(
        get(&api, "/campaigns", &[("host", "any.example")]).status,
        200
    );
}

/// The status of a PUT that would keep a rule.
fn put(api: &Api, headers: &[(&str, &str)]) -> u16 {
    let headers = [&[JSON], headers].concat();
    let path = "/alerts/rules/silent";
    api.ask(reqwest::Method::PUT, path, &headers, RULE).status
}

#[test]
fn a_page_of_elsewhere_changes_nothing() {
    let database = TestDatabase::create();
    let api = start(&database, Settings::default());
    let own = format!("http://{}", api.address);
    let evil = ("origin", "http://evil.example:8080");
    // As after DNS rebinding, when the page is of the same origin.
    assert_eq!(put(&api, &[evil, ("host", "evil.example:8080")]), 421);
    for headers in [
        &[evil][..],
        &[("origin", "null")],
        &[("origin", "http://127.0.0.1:1")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
    ] {
        assert_eq!(put(&api, headers), 403, "{headers:?}");
    }
    let path = "/alerts/rules/silent";
    let refused = api.ask(reqwest::Method::PUT, path, &[JSON, evil], RULE);
    let problem = refused.json();
    assert_eq!(problem["type"], "urn:adflux:problem:cross-origin");
    let detail = problem["detail"].as_str().expect("a text");
    assert!(
        detail.contains("http://evil.example:8080") && detail.contains("--public-url"),
        "{detail}"
    );
    for method in [reqwest::Method::POST, reqwest::Method::DELETE] {
        assert_eq!(api.request_with(method, path, &[evil]).status, 403);
    }
    assert_eq!(api.get(path).status, 404, "it was kept");
    // What it asks, it may not read: that is the browser's business.
    assert_eq!(get(&api, "/campaigns", &[evil]).status, 200);

    assert_eq!(
        put(&api, &[("origin", &own), ("sec-fetch-site", "same-origin")]),
        201
    );
    assert_eq!(put(&api, &[]), 200, "no page");
    for body in ["text/plain", "application/x-www-form-urlencoded"] {
        let headers = [("content-type", body)];
        let method = reqwest::Method::PUT;
        let path = "/alerts/acknowledgements/11111111-1111-1111-1111-111111111111";
        assert_eq!(api.ask(method.clone(), path, &headers, "a=b").status, 415);
        assert_eq!(
            api.ask(method, path, &[("content-type", "Application/JSON")], "{}")
                .status,
            404
        );
        assert_eq!(
            api.send(reqwest::Method::POST, "/alerts/rules", body, RULE)
                .status,
            415
        );
    }
}

#[test]
fn pages_of_named_origins_and_of_the_public_url_may_change_something() {
    let database = TestDatabase::create();
    let parse = |text: &str| text.parse().expect("an origin");
    let settings = Settings {
        cors_origins: vec![parse("https://a.example"), parse("*")],
        public_url: Some("https://ads.example/adflux".parse().expect("a URL")),
        ..Settings::default()
    };
    let api = start(&database, settings);
    assert_eq!(put(&api, &[("origin", "https://b.example")]), 403);
    assert_eq!(put(&api, &[("origin", "https://a.example")]), 201);
    // By a proxy that calls us by another name.
    assert_eq!(
        put(
            &api,
            &[
                ("origin", "https://ads.example"),
                ("host", "127.0.0.1:8080")
            ]
        ),
        200
    );

    // A key vouches for whoever sends it: no page has one that it was not given.
    let key = keys(&database, &["create", "etl", "--scope", "write"]).expect("a key");
    let api = start(
        &database,
        Settings {
            keys: true,
            ..Settings::default()
        },
    );
    let bearer = format!("Bearer {key}");
    let evil = ("origin", "https://evil.example");
    assert_eq!(put(&api, &[evil]), 401);
    assert_eq!(put(&api, &[evil, ("authorization", &bearer)]), 200);
}

#[test]
fn answers_are_for_pages_of_this_server() {
    let database = with_campaigns(1);
    let api = Api::start_with(&database.url(), None, SHORT, Settings::default());
    let resource = |answer: &Answer| answer.header("cross-origin-resource-policy").to_owned();
    for path in [
        "/",
        "/docs",
        "/campaigns",
        "/campaign/cmp-0/insights",
        "/nowhere",
        "/livez",
    ] {
        assert_eq!(resource(&get(&api, path, &[])), "same-origin", "{path}");
    }
    let foreign = ask(&api, "GET", "/campaigns", &[("host", "evil.example")]);
    assert_eq!(resource(&foreign), "same-origin");
    for path in ["/", "/docs"] {
        let page = get(&api, path, &[]);
        assert_eq!(
            page.header("cross-origin-opener-policy"),
            "same-origin",
            "{path}"
        );
    }
}

/// The proxy takes the path off, so requests are what they are without one.
#[test]
fn what_an_answer_leads_to_is_below_the_path_of_the_public_url() {
    let database = with_campaigns(1);
    database
        .connect()
        .batch_execute(
            r#"INSERT INTO dead_letters (stream_id, "offset", reason, payload, headers, commit_id)
             SELECT stream_id, 1000, 'wrong_magic_byte', convert_to(repeat('x', 2000000), 'UTF8'), '[]', 1
             FROM stream_positions"#,
        )
        .expect("inserts");
    let settings = Settings {
        public_url: Some("https://ads.example/adflux/".parse().expect("a URL")),
        ..Settings::default()
    };
    let api = start(&database, settings);
    let json = |path: &str| api.get(path).json();
    let servers = &json("/openapi.json")["servers"];
    assert_eq!(*servers, json!([{ "url": "https://ads.example/adflux" }]));
    let more = &json("/dead-letters")["data"][0]["more"];
    assert_eq!(*more, "/adflux/dead-letters/ad-events/0/1000");
    let more = &json("/dead-letters/ad-events/0/1000")["more"];
    assert_eq!(
        *more,
        "/adflux/dead-letters/ad-events/0/1000?payload_from=1048576"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let made = runtime.block_on(async {
        let request = reqwest::Client::new().put(api.url("/alerts/rules/silent"));
        let request = request.header(JSON.0, JSON.1).body(RULE);
        request.send().await.expect("an answer")
    });
    assert_eq!(made.headers()["location"], "/adflux/alerts/rules/silent");
    // What leads anywhere from the pages is relative.
    for page in ["/", "/docs"] {
        let text = String::from_utf8(get(&api, page, &[]).body).expect("text");
        for absolute in ["=\"/", "fetch(\"/", "fetch('/", "import \"/"] {
            assert!(!text.contains(absolute), "{page}: {absolute}");
        }
    }
    let plain = start(&database, Settings::default());
    let servers = &plain.get("/openapi.json").json()["servers"];
    assert_eq!(*servers, json!([{ "url": "/" }]));
}
