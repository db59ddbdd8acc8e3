//! The live feed: final values whatever happens to the connection, and bounds on everything.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use adflux::api::{Limits, Settings};
use adflux::event::Platform;
use adflux::store::read::insights;
use diesel::connection::SimpleConnection;
use serde_json::Value;

use crate::world::{Api, Given, TestDatabase, count, count_on, given, redis_at, until, variable};

const TIME: i64 = 1_769_817_600_000_000;
const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3_600);

pub fn one_click(campaign: &str) -> Vec<Given> {
    vec![given(campaign, Platform::Meta, TIME, [10, 1, 0, 1, 1])]
}

fn start(database: &TestDatabase, limits: Limits) -> Api {
    Api::start_with(
        &database.url(),
        None,
        SHORT,
        Settings {
            limits,
            ..Settings::default()
        },
    )
}

/// One event of a stream.
#[derive(Debug, PartialEq)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    pub data: Value,
}

/// A client of the feed, as small as one can be.
pub struct Client {
    reader: BufReader<TcpStream>,
    pub status: u16,
}

impl Client {
    pub fn open(api: &Api, path: &str, last_event_id: Option<&str>) -> Client {
        let mut stream = TcpStream::connect(api.address).expect("connects");
        stream
            .set_read_timeout(Some(Duration::from_secs(180)))
            .expect("sets");
        let last = last_event_id.map_or_else(String::new, |id| format!("Last-Event-ID: {id}\r\n"));
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n"
        )
        .expect("writes");
        let mut reader = BufReader::new(stream);
        let mut status = String::new();
        reader.read_line(&mut status).expect("a status line");
        let status = status.split(' ').nth(1).expect("a status").parse();
        let mut client = Client {
            reader,
            status: status.expect("a number"),
        };
        while !client.line().expect("a header").is_empty() {}
        client
    }

    /// The next line; none at the end of the stream, whose last chunk has no bytes.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).expect("reads");
        let line = line.trim_end();
        (read > 0 && line != "0").then(|| line.to_owned())
    }

    /// The next event; none at the end. What is no event (chunk lengths, comments, retry) is
    /// passed over.
    pub fn event(&mut self) -> Option<Event> {
        let mut event = Event {
            name: String::new(),
            id: None,
            data: Value::Null,
        };
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("data", data)) => event.data = serde_json::from_str(data).expect("JSON"),
                _ if line.is_empty() && !event.name.is_empty() => return Some(event),
                _ => {}
            }
        }
    }

    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&Event) -> bool) -> Event {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let event = self
                .event()
                .unwrap_or_else(|| panic!("ended before {what}"));
            if holds(&event) {
                return event;
            }
            assert!(Instant::now() < deadline, "never came: {what}");
        }
    }
}

pub fn clicks(event: &Event) -> i64 {
    event.data["totals"]["clicks"].as_i64().expect("a number")
}

#[test]
fn totals_come_as_they_change_and_four_times_a_second_at_the_most() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    count(&mut connection, &one_click("cmp-1"));
    let api = start(&database, Limits::default());
    let mut all = Client::open(&api, "/live", None);
    let mut one = Client::open(&api, "/campaign/cmp-1/live", None);
    assert_eq!((all.status, one.status), (200, 200));
    let progress = all.event().expect("where it begins");
    assert_eq!(progress.name, "progress");
    assert_eq!(progress.data["events"], 1);
    let present = one.event().expect("where it stands");
    assert_eq!((present.name.as_str(), clicks(&present)), ("totals", 1));
    assert_eq!(present.data["platforms"][0]["platform"], "Meta");

    let started = Instant::now();
    for _ in 0..100 {
        count(&mut connection, &one_click("cmp-1"));
    }
    let mut seen = 0;
    for client in [&mut all, &mut one] {
        let mut told = 0;
        client.until("the final value", |event| {
            if event.name == "totals" {
                assert!(clicks(event) > seen, "values only rise");
                seen = clicks(event);
                told += 1;
            }
            seen == 101
        });
        let quarters = started.elapsed().as_millis() / 250;
        assert!(told <= quarters + 2, "{told} times in {quarters} quarters");
        seen = 0;
    }
}

#[test]
fn a_client_that_reconnects_misses_no_final_value() {
    let database = TestDatabase::create();
    let api = start(&database, Limits::default());
    let done = AtomicBool::new(false);
    let mut seen: HashMap<String, i64> = HashMap::new();
    let mut last_id: Option<String> = None;
    let visits = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // Two partitions commit side by side, until the client has come back a few times.
        let writers: Vec<_> = (0..2)
            .map(|partition| {
                let (database, visits) = (&database, &visits);
                scope.spawn(move || {
                    let mut connection = database.connect();
                    for n in 0..5_000 {
                        if n >= 150 && visits.load(Ordering::SeqCst) >= 8 {
                            break;
                        }
                        let campaign = format!("cmp-{partition}-{}", n * 7 % 40);
                        count_on(&mut connection, partition, &one_click(&campaign));
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            for writer in writers {
                writer.join().expect("writes");
            }
            done.store(true, Ordering::SeqCst);
        });
        loop {
            let last_visit = done.load(Ordering::SeqCst);
            let visit = visits.fetch_add(1, Ordering::SeqCst) + 1;
            let mut client = Client::open(&api, "/live", last_id.as_deref());
            // It goes away after a few events, wherever it is in a round.
            let mut rounds = 0;
            for n in 0.. {
                let event = client.event().expect("an event");
                assert_ne!(event.name, "reset");
                if event.name == "totals" {
                    let campaign = event.data["campaign_id"].as_str().expect("an id");
                    seen.insert(campaign.to_owned(), clicks(&event));
                }
                last_id = event.id.or(last_id);
                rounds += i32::from(event.name == "progress");
                if (last_visit && rounds == 1) || (!last_visit && n == visit % 13) {
                    break;
                }
            }
            if last_visit {
                break;
            }
        }
    });
    let visits = visits.into_inner();
    assert!(visits >= 8, "only {visits} visits");
    let mut connection = database.connect();
    let names: Vec<&str> = seen.keys().map(String::as_str).collect();
    let truth = insights::totals(&mut connection, &names).expect("reads");
    assert_eq!(seen.len(), 80);
    for sums in truth {
        let told = seen[&sums.campaign_id];
        assert_eq!(told, sums.platforms[0].1.counts.clicks.get(), "{sums:?}");
    }
}

/// Commit 2 of one partition is seen before commit 1 of another: what a client has seen is not one
/// number.
#[test]
fn a_commit_that_is_seen_late_is_not_missed() {
    let database = TestDatabase::create();
    let (mut slow, mut quick) = (database.connect(), database.connect());
    count_on(&mut slow, 0, &one_click("slow"));
    count_on(&mut quick, 1, &one_click("quick"));
    let api = start(&database, Limits::default());
    // As the processor does it, with a pause before the COMMIT.
    slow.batch_execute(
        "BEGIN; UPDATE stream_positions SET commit_id = nextval('commit_ids') WHERE partition = 0; \
         CREATE TEMP TABLE part ON COMMIT DROP AS SELECT p.* FROM sum_parts AS p JOIN stream_positions AS s USING (stream_id)
             WHERE s.partition = 0; \
         CREATE TEMP TABLE chunk ON COMMIT DROP AS SELECT c.* FROM sum_chunks AS c JOIN part AS p USING (stream_id, part_id); \
         UPDATE part SET part_id = currval('commit_ids'), commit_id = currval('commit_ids'); \
         UPDATE chunk SET part_id = currval('commit_ids'), newest_commit_id = currval('commit_ids'),
             commit_id = '\\x00'::bytea || int8send(currval('commit_ids')); \
         INSERT INTO sum_chunks SELECT * FROM chunk; INSERT INTO sum_parts SELECT * FROM part",
    )
    .expect("begins");
    count_on(&mut quick, 1, &one_click("quick"));
    let id = Client::open(&api, "/live", None)
        .event()
        .expect("an event")
        .id;
    slow.batch_execute("COMMIT").expect("commits");
    let mut back = Client::open(&api, "/live", id.as_deref());
    let event = back.event().expect("an event");
    assert_eq!(
        (&event.data["campaign_id"], clicks(&event)),
        (&"slow".into(), 2)
    );
    assert_eq!(back.event().expect("the end of the round").name, "progress");
}

#[test]
fn notices_through_redis_tell_another_process_at_once() {
    use adflux::cache::refresh::Refresher;

    let database = TestDatabase::create();
    let redis = variable("REDIS_URL");
    let mut connection = database.connect();
    count(&mut connection, &one_click("cmp-1"));
    let api = Api::start(&database.url(), Some(&redis), LONG);
    let refresher = Refresher::start(&redis_at(&redis), &database.url()).expect("starts");
    let changes = refresher.changes().expect("a channel");
    let mut client = Client::open(&api, "/live", None);
    client.event().expect("where it begins");
    count(&mut connection, &one_click("cmp-1"));
    changes.send(vec!["cmp-1".into()]).expect("sends");
    let event = client.until("the change", |event| event.name == "totals");
    assert_eq!(clicks(&event), 2);
}

#[test]
fn clients_that_stop_reading_are_cut_off_and_cost_the_others_nothing() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let api = start(
        &database,
        Limits {
            live: 9,
            write_time: Duration::from_secs(2),
            ..Limits::default()
        },
    );
    // Enough for the buffers of both kernels to fill, in values that change every time.
    let campaigns: Vec<Given> = (0..2_000)
        .flat_map(|n| one_click(&format!("cmp-{n}")))
        .collect();
    count(&mut connection, &campaigns);
    let mut counted = 1;
    let mut reading = Client::open(&api, "/live", None);
    let stalled: Vec<Client> = (0..8).map(|_| Client::open(&api, "/live", None)).collect();
    assert_eq!(Client::open(&api, "/live", None).status, 503);
    let last = format!("cmp-{}", campaigns.len() - 1);
    let own = format!("/campaign/{last}/live");
    std::thread::scope(|scope| {
        let told = scope.spawn(|| {
            let mut rounds = 0;
            while let Some(event) = reading.event() {
                rounds += usize::from(event.name == "progress");
            }
            rounds
        });
        // All of them have gone when so many places are free.
        until("their places are free again", || {
            count(&mut connection, &campaigns);
            counted += 1;
            let others: Vec<Client> = (0..8).map(|_| Client::open(&api, &own, None)).collect();
            others.iter().all(|other| other.status == 200)
        });
        until("a place is free for one", || {
            let mut client = Client::open(&api, &own, None);
            client.status == 200 && clicks(&client.event().expect("its totals")) == counted
        });
        // They had been sent something, and then nothing more.
        for mut client in stalled {
            let mut rest = Vec::new();
            match client.reader.read_to_end(&mut rest) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
        drop(api);
        assert!(told.join().expect("reads to the end") > 1);
    });
}

#[test]
fn a_client_that_missed_more_than_is_kept_is_told_to_start_anew() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    let api = start(
        &database,
        Limits {
            live_campaigns: 5,
            ..Limits::default()
        },
    );
    let mut client = Client::open(&api, "/live", None);
    let id = client.event().expect("where it begins").id;
    let many: Vec<Given> = (0..6)
        .flat_map(|n| one_click(&format!("cmp-{n}")))
        .collect();
    count(&mut connection, &many);
    let reset = client.until("the end of a round", |e| e.name != "totals");
    assert_eq!(reset.name, "reset");
    // It can go on from there.
    count(&mut connection, &one_click("cmp-3"));
    assert_eq!(clicks(&client.until("a value", |e| e.name == "totals")), 2);
    let mut back = Client::open(&api, "/live", id.as_deref());
    assert_eq!(back.event().expect("an event").name, "reset");
    let mut back = Client::open(&api, "/live", reset.id.as_deref());
    assert_eq!(clicks(&back.event().expect("what was missed")), 2);
    // An id of a database that is ahead of this one.
    let mut ahead = Client::open(&api, "/live", Some("1.999999"));
    assert_eq!(ahead.event().expect("an event").name, "reset");
}

#[test]
fn silence_is_filled_and_a_server_that_stops_ends_its_feeds() {
    let database = TestDatabase::create();
    count(&mut database.connect(), &one_click("cmp-1"));
    let limits = Limits {
        heartbeat: Duration::from_millis(50),
        drain: LONG,
        ..Limits::default()
    };
    let api = start(&database, limits);
    let mut clients = [
        Client::open(&api, "/live", None),
        Client::open(&api, "/campaign/cmp-1/live", None),
    ];
    for client in &mut clients {
        while client.line().expect("a line") != ": heartbeat" {}
    }
    // A feed that did not end would be waited for.
    let stopping = std::thread::spawn(move || drop(api));
    until("it has stopped", || stopping.is_finished());
    for client in &mut clients {
        while client.line().is_some() {}
    }
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let database = TestDatabase::create();
    count(&mut database.connect(), &one_click("cmp-1"));
    let api = start(&database, Limits::default());
    for (path, id, status) in [
        ("/campaign/nobody/live", None, 404),
        ("/campaign/a%20b/live", None, 400),
        ("/live", Some("yesterday"), 400),
        ("/campaign/cmp-1/live", Some("1.2-"), 400),
        ("/campaign/cmp-1/live", Some("7"), 200),
    ] {
        assert_eq!(Client::open(&api, path, id).status, status, "{path} {id:?}");
    }
}
