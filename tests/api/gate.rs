//! What every request passes: its id, rates, what a client has already, compression, other origins;
//! and clients that send nothing, too much, or too slowly.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use adflux::api::{Limits, Settings, TrustedProxies};
use adflux::event::Platform;
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Nullable, Timestamptz};
use socket2::{Domain, Socket, Type};

use crate::world::{Api, TestDatabase, count, given, until};

pub const SHORT: Duration = Duration::from_millis(20);
pub const LONG: Duration = Duration::from_secs(3_600);
const TIME: i64 = 1_769_817_600_000_000;

pub fn start(database: &TestDatabase, settings: Settings) -> Api {
    Api::start_with(&database.url(), None, SHORT, settings)
}

pub fn with_campaigns(many: usize) -> TestDatabase {
    let database = TestDatabase::create();
    let campaigns: Vec<_> = (0..many)
        .map(|n| given(&format!("cmp-{n}"), Platform::Meta, TIME, [10, 1, 0, 1, 1]))
        .collect();
    count(&mut database.connect(), &campaigns);
    database
}

/// Status, headers and body.
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }
}

pub fn ask(api: &Api, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let method = method.parse().expect("a method");
        let mut request = reqwest::Client::new().request(method, api.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("an answer");
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.expect("a body").to_vec(),
        }
    })
}

pub fn get(api: &Api, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(api, "GET", path, headers)
}

#[test]
fn who_has_an_answer_is_not_sent_it_again() {
    let database = with_campaigns(1);
    let api = start(&database, Settings::default());
    let first = get(&api, "/campaigns", &[]);
    let tag = first.header("etag");
    assert!(tag.starts_with("W/\"") && tag.len() > 20, "{tag}");
    let again = get(&api, "/campaigns", &[("if-none-match", tag)]);
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(again.header("etag"), tag);
    let packed = [("if-none-match", tag), ("accept-encoding", "gzip")];
    assert_eq!(get(&api, "/campaigns", &packed).status, 304);
    let event = given("cmp-0", Platform::Meta, TIME, [1, 1, 1, 1, 1]);
    count(&mut database.connect(), &[event]);
    until("the change is seen", || {
        let changed = get(&api, "/campaigns", &[("if-none-match", tag)]);
        changed.status == 200 && changed.header("etag") != tag
    });
    // In two lines, which is as one list.
    let tag = get(&api, "/campaigns", &[]);
    let lines = [
        ("if-none-match", "\"other\""),
        ("if-none-match", tag.header("etag")),
    ];
    assert_eq!(get(&api, "/campaigns", &lines).status, 304);
    // Chosen by these, so a cache must not give a table to who asked for JSON.
    for (headers, kind) in [
        (&[][..], "application/json"),
        (&[("accept", "text/csv")], "text/csv; charset=utf-8"),
    ] {
        for path in [
            "/campaigns",
            "/insights",
            "/campaign/cmp-0/events",
            "/dead-letters",
        ] {
            let answer = get(&api, path, headers);
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (200, kind),
                "{path}"
            );
            assert_eq!(answer.header("vary"), "accept, accept-encoding", "{path}");
        }
    }
    assert_eq!(get(&api, "/alerts", &[]).header("vary"), "accept-encoding");
    // A problem is not to be kept.
    let problem = get(&api, "/campaigns?limit=0", &[]);
    assert_eq!((problem.status, problem.header("etag")), (400, ""));
}

/// The first answer to it is read and written, what follows is at hand.
#[test]
fn an_answer_at_hand_is_the_ordinary_one_in_every_header_and_byte() {
    let database = with_campaigns(1);
    let api = Api::start_with(&database.url(), None, LONG, Settings::default());
    for query in [
        "",
        "?fields=clicks&date_preset=maximum",
        "?since=2026-01-01&until=2027-01-01&breakdown=platform",
    ] {
        let path = format!("/campaign/cmp-0/insights{query}");
        let with = |method: &str, headers: &[(&str, &str)]| {
            let mut given = vec![("x-request-id", "trace-7")];
            given.extend(headers);
            let mut answer = ask(&api, method, &path, &given);
            answer.headers.remove("date");
            answer
        };
        // Writes the answer.
        assert_eq!(with("GET", &[]).status, 200);
        let at_hand = with("GET", &[]);
        assert_eq!(
            (at_hand.status, at_hand.header("x-cache")),
            (200, "process")
        );
        // A tag that nobody gave leads the ordinary way.
        let ordinary = with("GET", &[("if-none-match", "\"other\"")]);
        assert_eq!(ordinary.status, 200);
        assert_eq!(at_hand.headers, ordinary.headers);
        assert_eq!(at_hand.body, ordinary.body);
        let head = with("HEAD", &[]);
        assert_eq!((&head.headers, head.body.len()), (&at_hand.headers, 0));
        let tag = at_hand.header("etag");
        let held = with("GET", &[("if-none-match", tag)]);
        assert_eq!((held.status, held.body.len()), (304, 0));
        assert_eq!(
            (held.header("etag"), held.header("vary")),
            (tag, "accept, accept-encoding")
        );
        let packed = with("GET", &[("accept-encoding", "gzip")]);
        assert_eq!(
            (packed.status, packed.header("content-encoding")),
            (200, "gzip")
        );
        assert_eq!(packed.header("etag"), tag);
        let table = with("GET", &[("accept", "text/csv")]);
        assert_eq!(table.header("content-type"), "text/csv; charset=utf-8");
        assert_eq!(with("POST", &[]).status, 405);
    }
    let made = |_| get(&api, "/campaign/cmp-0/insights", &[]);
    let (one, other) = (made(1), made(2));
    assert_eq!(one.header("x-request-id").len(), 36);
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
}

#[test]
fn an_answer_at_hand_is_counted_as_any_other() {
    let database = with_campaigns(1);
    let api = Api::start_with(&database.url(), None, LONG, Settings::default());
    let count_of = |line: &str| {
        let text = String::from_utf8(get(&api, "/metrics", &[]).body).expect("text");
        let found = text
            .lines()
            .find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or(0)
    };
    let lines = [
        "adflux_cache_total{source=\"process\"}",
        "adflux_http_request_seconds_count{route=\"/campaign/{id}/insights\",status=\"200\"}",
    ];
    let before: [u64; 2] = lines.map(count_of);
    for _ in 0..21 {
        assert_eq!(get(&api, "/campaign/cmp-0/insights", &[]).status, 200);
    }
    for (line, before) in lines.into_iter().zip(before) {
        // Other tests count as well.
        assert!(count_of(line) >= before + 20, "{line}");
    }
}

#[test]
fn an_answer_at_hand_takes_one_request_from_the_rate() {
    let database = with_campaigns(1);
    let limits = Limits {
        requests_per_address: 100,
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        trusted_proxies: TrustedProxies::WhoeverConnects,
        ..Settings::default()
    };
    let api = Api::start_with(&database.url(), None, LONG, settings);
    let path = "/campaign/cmp-0/insights";
    assert_eq!(get(&api, path, &[]).status, 200);
    // On one connection, so that they are sooner asked than the rate comes back.
    let answers = |many: usize| {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n");
        let last = format!("{head}Connection: close\r\n\r\n");
        let requests = format!("{head}\r\n").repeat(many - 1) + &last;
        let answers = rest(send(&api, requests.as_bytes()));
        let with = |status: &str| answers.matches(&format!("HTTP/1.1 {status} ")).count();
        (with("200"), with("429"))
    };
    assert_eq!(answers(100), (100, 0));
    let (admitted, refused) = answers(1_000);
    assert_eq!(admitted + refused, 1_000);
    assert!(refused > 0, "none was too many");
}

#[test]
fn answers_are_compressed_for_those_who_can_read_that() {
    let database = with_campaigns(200);
    let api = start(&database, Settings::default());
    let plain = get(&api, "/campaigns?limit=200", &[]);
    let packed = get(&api, "/campaigns?limit=200", &[("accept-encoding", "gzip")]);
    assert_eq!(plain.header("content-encoding"), "");
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(
        packed
            .header("vary")
            .to_lowercase()
            .contains("accept-encoding")
    );
    assert_eq!(
        packed.body.get(..2),
        Some(&[0x1f, 0x8b][..]),
        "gzip's magic"
    );
    assert!(packed.body.len() * 5 < plain.body.len());
    // A feed would be held back until a block is full.
    let mut stream = TcpStream::connect(api.address).expect("connects");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("sets");
    stream
        .write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n")
        .expect("writes");
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).expect("reads");
    let answer = String::from_utf8_lossy(&answer[..read]).to_lowercase();
    assert!(!answer.contains("content-encoding"), "{answer}");
}

#[test]
fn every_answer_names_its_request() {
    let database = TestDatabase::create();
    let api = start(&database, Settings::default());
    for (path, status) in [("/campaigns", 200), ("/nowhere", 404), ("/livez", 200)] {
        let answer = get(&api, path, &[("x-request-id", "trace-7")]);
        assert_eq!(
            (answer.status, answer.header("x-request-id")),
            (status, "trace-7")
        );
        let made = get(&api, path, &[("x-request-id", "not\tsane")]);
        assert_eq!(made.header("x-request-id").len(), 36);
        assert_eq!(made.header("x-content-type-options"), "nosniff");
    }
}

#[test]
fn other_origins_may_ask_only_when_they_are_named() {
    let database = TestDatabase::create();
    let preflight = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "authorization"),
    ];
    let api = start(&database, Settings::default());
    let answer = get(&api, "/campaigns", &preflight[..1]);
    assert_eq!(answer.header("access-control-allow-origin"), "");
    assert_eq!(ask(&api, "OPTIONS", "/campaigns", &preflight).status, 405);
    let settings = Settings {
        cors_origins: vec!["https://a.example".parse().expect("a value")],
        ..Settings::default()
    };
    let api = start(&database, settings);
    let answer = get(&api, "/campaigns", &preflight[..1]);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://a.example"
    );
    let answer = get(&api, "/campaigns?format=csv", &preflight[..1]);
    let exposed = answer.header("access-control-expose-headers");
    for name in ["etag", "location", "x-next-cursor", "x-request-id"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    let answer = ask(&api, "OPTIONS", "/campaigns", &preflight);
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("access-control-allow-headers")
            .contains("authorization")
    );
    let other = get(&api, "/campaigns", &[("origin", "https://b.example")]);
    assert_eq!(other.header("access-control-allow-origin"), "");
}

#[test]
fn an_address_that_asks_too_often_is_told_when_to_come_back() {
    let database = TestDatabase::create();
    let limits = Limits {
        requests_per_address: 1,
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        trusted_proxies: TrustedProxies::WhoeverConnects,
        ..Settings::default()
    };
    let api = start(&database, settings);
    let from = |address: &str| get(&api, "/subjects", &[("x-forwarded-for", address)]);
    let mut refused = from("6.6.6.6, 192.0.2.1");
    until("one is too many", || {
        refused = from("6.6.6.6, 192.0.2.1");
        refused.status != 200
    });
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), "1");
    let problem: serde_json::Value = serde_json::from_slice(&refused.body).expect("JSON");
    assert_eq!(problem["type"], "urn:adflux:problem:too-many-requests");
    // Somebody else, and whoever asks whether we live.
    assert_eq!(from("192.0.2.2").status, 200);
    for _ in 0..20 {
        let lives = get(&api, "/livez", &[("x-forwarded-for", "192.0.2.1")]);
        assert_eq!(lives.status, 200);
    }
    until("it may ask again", || from("192.0.2.1").status == 200);
    // Whatever the port, and however it is written; and an IPv6 network is one address.
    until("it is too often", || {
        from("192.0.2.3:1234").status == 429 || from("192.0.2.3:5678").status == 429
    });
    until("it is too often", || {
        from("2001:db8::1").status == 429 || from("[2001:db8::2]:443").status == 429
    });
    assert_eq!(from("192.0.2.4:1234").status, 200);
}

pub fn send(api: &Api, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(api.address).expect("connects");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("sets");
    let _ = stream.write_all(bytes);
    stream
}

/// What is left to read: nothing more than a refusal, until the server closes.
pub fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // It may be a reset, where not all that was sent had been read.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn clients_that_send_nothing_or_too_slowly_are_closed_and_harm_nobody() {
    let database = TestDatabase::create();
    let limits = Limits {
        header_time: Duration::from_secs(3),
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    let api = start(&database, settings);
    let silent = send(&api, b"");
    let mut drip = send(&api, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n");
    // A header a while, for ever: the time is for the whole head.
    until("a head without an end is given up", || {
        assert_eq!(api.get("/livez").status, 200);
        drip.write_all(b"X-A: b\r\n").is_err()
    });
    assert!(!rest(silent).contains("200 OK"));
}

/// A proxy that keeps connections must be the one to close them: otherwise it asks on one that is closed just then.
#[test]
fn a_connection_is_kept_between_requests_for_longer_than_a_head_may_take() {
    let database = TestDatabase::create();
    let limits = |keep_alive| Limits {
        header_time: Duration::from_secs(1),
        keep_alive,
        ..Limits::default()
    };
    let with = |keep_alive| {
        let limits = limits(keep_alive);
        start(
            &database,
            Settings {
                limits,
                ..Settings::default()
            },
        )
    };
    let (patient, brief) = (
        with(Duration::from_secs(3_600)),
        with(Duration::from_secs(2)),
    );
    let ask = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = |mut stream: &TcpStream| {
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer).expect("reads");
        String::from_utf8_lossy(&answer[..read]).into_owned()
    };
    let kept = send(&patient, ask);
    assert!(answer(&kept).starts_with("HTTP/1.1 200"));
    // Heads that do not come to their end: of a first request, and of another one.
    let half = b"GET /livez HTTP/1.1\r\nHost";
    let is_closed = |mut stream: TcpStream| {
        let read = stream.read_to_end(&mut Vec::new());
        // Not that nothing came in time.
        read.is_ok() || read.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
    };
    assert!(is_closed(send(&patient, half)));
    let second = send(&patient, ask);
    assert!(answer(&second).starts_with("HTTP/1.1 200"));
    (&second).write_all(half).expect("sends");
    assert!(is_closed(second));
    // By then `kept` has been silent for longer than those could be.
    (&kept).write_all(ask).expect("sends");
    assert!(answer(&kept).starts_with("HTTP/1.1 200"));
    let forgotten = send(&brief, ask);
    assert!(answer(&forgotten).starts_with("HTTP/1.1 200"));
    assert!(is_closed(forgotten));
}

#[test]
fn idle_connections_make_room_for_those_who_ask() {
    let database = TestDatabase::create();
    let limits = Limits {
        connections: 20,
        header_time: Duration::from_secs(3_600),
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    let api = start(&database, settings);
    // A feed is not idle, and stays.
    let mut feed = send(&api, b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = [0; 12];
    feed.read_exact(&mut answer).expect("reads");
    assert_eq!(&answer, b"HTTP/1.1 200");
    let idle: Vec<TcpStream> = (0..60)
        .map(|n| send(&api, if n % 2 == 0 { b"" } else { b"GET /livez HT" }))
        .collect();
    for _ in 0..5 {
        assert_eq!(api.get("/livez").status, 200);
    }
    let is_open = |mut stream: &TcpStream| {
        stream.set_nonblocking(true).expect("sets");
        let read = stream.read(&mut [0]);
        read.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
    };
    let mut open = idle.len();
    until("there is room", || {
        open = idle.iter().filter(|stream| is_open(stream)).count();
        open <= 20
    });
    assert!(open > 0, "all were closed");
    count(
        &mut database.connect(),
        &[given("cmp-1", Platform::Meta, TIME, [1, 1, 1, 1, 1])],
    );
    feed.set_read_timeout(Some(Duration::from_secs(60)))
        .expect("sets");
    let mut told = String::new();
    while !told.contains("cmp-1") {
        let mut piece = [0; 1024];
        let read = feed.read(&mut piece).expect("reads");
        assert!(read > 0, "the feed was closed");
        told.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let database = TestDatabase::create();
    let api = start(&database, Settings::default());
    let many: String = (0..100).map(|n| format!("X-{n}: a\r\n")).collect();
    for request in [
        format!(
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n",
            "a".repeat(1 << 20)
        ),
        format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
        format!(
            "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "a".repeat(1 << 20)
        ),
        "NONSENSE\r\n\r\n".to_owned(),
    ] {
        let answer = rest(send(&api, request.as_bytes()));
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{answer}"
        );
    }
    // As large as hyper lets through in one piece, and as large as may be.
    let padded = |bytes: usize| {
        let long = "a".repeat(bytes);
        rest(send(
            &api,
            format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        ))
    };
    for bytes in (16_384..40_960).step_by(2_048) {
        assert!(padded(bytes).starts_with("HTTP/1.1 431"), "{bytes}");
    }
    assert!(padded(16_000).starts_with("HTTP/1.1 200"));
    let long = format!("/campaigns?cursor={}", "a".repeat(10_000));
    assert_eq!(get(&api, &long, &[]).status, 414);
    assert_eq!(api.get("/livez").status, 200);
}

/// However fast somebody hangs up and asks anew, no more is asked at a time, and what nobody waits for is cancelled.
#[test]
fn hanging_up_starts_nothing_beside_what_is_running() {
    #[derive(QueryableByName)]
    struct Held {
        #[diesel(sql_type = BigInt)]
        running: i64,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        newest: Option<chrono::DateTime<chrono::Utc>>,
        #[diesel(sql_type = BigInt)]
        cancelled: i64,
    }
    let database = with_campaigns(1);
    let mut connection = database.connect();
    // Sums that take until they are cancelled to read. A lock of the session tells that they were.
    connection
        .batch_execute(
            "CREATE FUNCTION held() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM pg_sleep(3600);
                 RETURN true;
             EXCEPTION WHEN query_canceled THEN
                 IF SQLERRM LIKE '%user request%' THEN PERFORM pg_advisory_lock_shared(4711); END IF;
                 RAISE;
             END $$;
             ALTER TABLE sum_parts RENAME TO kept_parts;
             CREATE VIEW sum_parts AS SELECT * FROM kept_parts WHERE held()",
        )
        .expect("holds");
    let api = start(&database, Settings::default());
    let mut look = || -> Held {
        sql_query(
            "SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep')
                 AS running,
                 (SELECT max(query_start) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event = 'PgSleep') AS newest,
                 (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711) AS cancelled",
        )
        .get_result(&mut connection)
        .expect("looks")
    };
    let mut seen = None;
    for day in 1..=12 {
        let path = format!("/campaigns?since=2026-01-{day:02}&until=2026-02-01");
        let asker = send(
            &api,
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes(),
        );
        until("it is asked", || {
            let held = look();
            assert!(held.running <= 2, "{} at a time", held.running);
            let is_new = held.newest > seen;
            seen = seen.max(held.newest);
            is_new
        });
        drop(asker);
    }
    until("what nobody waits for is cancelled", || {
        let held = look();
        held.running == 0 && held.cancelled > 0
    });
    // What would have too many rows is not read to find that out.
    let ids: Vec<String> = (0..100).map(|n| format!("cmp-{n}")).collect();
    let ids = ids.join(",");
    let window = "since=2026-01-01&until=2026-02-01&time_increment=hour";
    let refused = api.get(&format!(
        "/insights?campaigns={ids}&breakdown=campaign&{window}"
    ));
    assert_eq!(refused.status, 400, "{}", refused.text);
    connection
        .batch_execute("DROP VIEW sum_parts; ALTER TABLE kept_parts RENAME TO sum_parts")
        .expect("lets go");
    until("the permits are back", || {
        (0..3).all(|_| api.get("/campaigns").status == 200)
    });
}

/// A connection from another address of this machine.
fn from(address: [u8; 4], api: &Api, request: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let source = SocketAddr::from((address, 0));
    socket.bind(&source.into()).expect("binds");
    socket.connect(&api.address.into()).expect("connects");
    let mut stream = TcpStream::from(socket);
    stream.write_all(request.as_bytes()).expect("sends");
    stream
}

fn status_line(mut stream: &TcpStream) -> String {
    let mut status = [0; 12];
    stream.read_exact(&mut status).expect("reads");
    String::from_utf8_lossy(&status).into_owned()
}

#[test]
fn an_address_has_so_many_connections_and_no_more() {
    let database = TestDatabase::create();
    let limits = Limits {
        connections_per_address: 5,
        header_time: Duration::from_secs(3_600),
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    let api = start(&database, settings);
    let ask = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let held: Vec<TcpStream> = (0..5).map(|_| from([127, 0, 0, 2], &api, ask)).collect();
    for stream in &held {
        assert_eq!(status_line(stream), "HTTP/1.1 200");
    }
    let refused = rest(from([127, 0, 0, 2], &api, ask));
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    assert!(refused.contains("too-many-connections"), "{refused}");
    // Others are not concerned, and there is room again when one of them goes.
    let other = from([127, 0, 0, 3], &api, ask);
    assert_eq!(status_line(&other), "HTTP/1.1 200");
    drop(held);
    until("there is room", || {
        status_line(&from([127, 0, 0, 2], &api, ask)) == "HTTP/1.1 200"
    });
}

#[test]
fn an_address_has_so_many_live_feeds_and_no_more() {
    let database = with_campaigns(1);
    let limits = Limits {
        live_per_address: 2,
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        trusted_proxies: TrustedProxies::WhoeverConnects,
        ..Settings::default()
    };
    let api = start(&database, settings);
    let open = |path: &str, client: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client}\r\n\r\n");
        let stream = send(&api, request.as_bytes());
        (status_line(&stream), stream)
    };
    let held = [
        open("/live", "192.0.2.1"),
        open("/campaign/cmp-0/live", "192.0.2.1"),
    ];
    assert!(held.iter().all(|(status, _)| status == "HTTP/1.1 200"));
    assert_eq!(open("/live", "192.0.2.1").0, "HTTP/1.1 429");
    assert_eq!(open("/live", "192.0.2.2").0, "HTTP/1.1 200");
    drop(held);
    until("there is room", || {
        open("/live", "192.0.2.1").0 == "HTTP/1.1 200"
    });
}

/// Little by little, so that it never stands still.
#[test]
fn an_answer_is_taken_in_time_or_not_at_all() {
    let database = with_campaigns(20_000);
    let limits = Limits {
        download_time: Duration::from_secs(2),
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    let api = start(&database, settings);
    let whole = get(&api, "/campaigns?format=csv", &[]).body.len();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("sets");
    socket.connect(&api.address.into()).expect("connects");
    let mut slow = TcpStream::from(socket);
    slow.write_all(b"GET /campaigns?format=csv HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("sends");
    let mut taken = 0;
    while let Ok(read @ 1..) = slow.read(&mut [0; 512]) {
        taken += read;
        assert!(taken < whole, "it took all of it");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(taken > 0);
    assert_eq!(api.get("/campaigns").status, 200);
}
