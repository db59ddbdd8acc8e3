//! Many at once: `adflux serve` as a process of its own, whose memory can be told.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use adflux::event::{Counts, Platform};
use adflux::store::sums::chunk::{Cell, Facts};
use adflux::store::sums::part::{self, Chunks, NewPart};
use adflux::store::sums::{Grain, Reach};
use adflux::store::{CommitId, StreamId};
use adflux::time::Timestamp;
use adflux::totals::Totals;
use diesel::connection::SimpleConnection as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use crate::ending::SetAtEnd;
use crate::world::{Given, TestDatabase, count, given, until};

const TIME: i64 = 1_769_817_600_000_000;
const CAMPAIGNS: usize = 200;
/// What a server may take for 500 clients, or for 10,000 that do nothing, in KB.
const MEMORY: u64 = 600_000;
/// How long one may wait, or be told to come again: on a busy machine, minutes.
const PATIENCE: Duration = Duration::from_secs(600);

/// `adflux serve`, ended with the test.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(database: &TestDatabase) -> Server {
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port");
        let child = Command::new(env!("CARGO_BIN_EXE_adflux"))
            .args(["serve", "--database-url", &database.url()])
            .args([
                "--listen",
                &address.to_string(),
                "--requests-per-address",
                "0",
                "--max-connections-per-address",
                "0",
            ])
            .env_remove("REDIS_URL")
            .spawn()
            .expect("starts");
        let server = Server { child, address };
        until("it listens", || TcpStream::connect(address).is_ok());
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Resident memory in KB.
    fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most of it that there ever was.
    fn most_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        number.expect("a line").parse().expect("a number")
    }

    /// What it answers; asked again for as long as it says that it is busy.
    fn ask(&self, path: &str) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let mut text = String::new();
        until("an answer", || {
            let asked = runtime.block_on(async {
                let response = reqwest::get(self.url(path)).await.expect("an answer");
                let status = response.status().as_u16();
                (status, response.text().await.expect("a body"))
            });
            text = asked.1;
            assert!([200, 503].contains(&asked.0), "{path}: {text}");
            asked.0 == 200
        });
        text
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.ask(path)).expect("JSON")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn events(n: i64) -> Vec<Given> {
    (0..CAMPAIGNS)
        .map(|c| {
            given(
                &format!("cmp-{c}"),
                Platform::Meta,
                TIME + n,
                [10, 1, 0, 2, 3],
            )
        })
        .collect()
}

#[test]
fn five_hundred_clients_while_events_flow() {
    let database = TestDatabase::create();
    count(&mut database.connect(), &events(0));
    let server = Server::start(&database);
    let done = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    let counted = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut connection = database.connect();
            let mut n = 1;
            while !done.load(Ordering::Relaxed) {
                count(&mut connection, &events(n));
                n += 1;
            }
            n
        });
        let ending = SetAtEnd(&done);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let client = reqwest::Client::builder()
                .timeout(PATIENCE)
                .build()
                .expect("a client");
            let mut clients = tokio::task::JoinSet::new();
            for number in 0..500 {
                let paths = [
                    server.url(&format!("/campaign/cmp-{}/insights", number % CAMPAIGNS)),
                    server.url("/campaigns?sort=roas&order=asc&limit=20"),
                    server.url(&format!(
                        "/campaign/cmp-{}/insights",
                        number * 7 % CAMPAIGNS
                    )),
                    server.url("/subjects"),
                ];
                let client = client.clone();
                clients.spawn(async move {
                    for path in paths {
                        // Together 500: each waits for its own answer.
                        let asked = Instant::now();
                        loop {
                            let response = client.get(&path).send().await.expect("an answer");
                            let status = response.status().as_u16();
                            let again = response.headers().get("retry-after").cloned();
                            let body = response.text().await.expect("a body");
                            // Too many at once for a slow machine: told when to come again, it does.
                            if status != 503 || asked.elapsed() > PATIENCE {
                                assert_eq!(status, 200, "{path}: {body}");
                                break;
                            }
                            let seconds = again.as_ref().and_then(|header| header.to_str().ok());
                            let seconds = seconds.and_then(|text| text.parse().ok());
                            let pause = Duration::from_secs(seconds.expect("Retry-After"));
                            tokio::time::sleep(pause).await;
                        }
                    }
                    4
                });
            }
            while let Some(requests) = clients.join_next().await {
                answered.fetch_add(requests.expect("no error"), Ordering::Relaxed);
            }
        });
        drop(ending);
        writer.join().expect("counts")
    });
    assert_eq!(answered.load(Ordering::Relaxed), 2_000);
    assert!(counted > 2, "events flowed: {counted} batches");
    let memory = server.memory();
    assert!(memory < MEMORY, "{memory} KB");
}

#[test]
fn ten_thousand_idle_connections_keep_nobody_out() {
    const IDLE: usize = 10_000;
    let database = TestDatabase::create();
    count(&mut database.connect(), &events(0));
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let needed = (IDLE + 1_000) as u64;
    if soft < needed {
        setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard).expect("sets");
        assert!(hard >= needed, "this test needs `ulimit -Hn` of {needed}");
    }
    let server = Server::start(&database);
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        idle.push(TcpStream::connect(server.address).expect("connects"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        for n in 0..20 {
            // Each on a connection of its own.
            let client = reqwest::Client::builder()
                .timeout(PATIENCE)
                .build()
                .expect("a client");
            let url = server.url(&format!("/campaign/cmp-{n}/insights"));
            let response = client.get(&url).send().await.expect("an answer");
            assert_eq!(response.status().as_u16(), 200);
        }
    });
    let memory = server.memory();
    assert!(memory < MEMORY, "{memory} KB");
    drop(idle);
}

/// A megabyte each, and whoever looks at them asks for as many as there can be on a page.
#[test]
fn pages_of_large_dead_letters_take_little_memory() {
    const MEGABYTE: usize = 1 << 20;
    let database = TestDatabase::create();
    let mut connection = database.connect();
    count(&mut connection, &events(0));
    connection
        .batch_execute(
            r#"INSERT INTO dead_letters (stream_id, "offset", reason, key, payload, headers, commit_id)
             SELECT (SELECT min(stream_id) FROM stream_positions), 1000 + n, 'wrong_magic_byte',
                 convert_to(repeat('k', 3000), 'UTF8'), convert_to(repeat(md5(n::text), 32768), 'UTF8'),
                 jsonb_build_array(jsonb_build_object('key', 'h', 'value', repeat('00', 100000))), 1
             FROM generate_series(1, 600) AS n"#,
        )
        .expect("inserts");
    let server = Server::start(&database);
    std::thread::scope(|scope| {
        for format in ["json", "csv", "json"] {
            let path = format!("/dead-letters?limit=500&format={format}");
            let server = &server;
            scope.spawn(move || {
                for _ in 0..5 {
                    let text = server.ask(&path);
                    assert_eq!(text.matches("wrong_magic_byte").count(), 500);
                }
            });
        }
    });
    let page = server.json("/dead-letters?limit=1");
    let letter = &page["data"][0];
    assert_eq!(letter["payload_bytes"], MEGABYTE);
    let shown = letter["payload_hex"].as_str().expect("hexadecimal");
    assert_eq!(shown.len(), 2 * 4_096);
    assert_eq!(letter["headers"], Value::Null);
    // The rest is where it says.
    let more = letter["more"].as_str().expect("a path");
    let whole = server.json(more);
    let payload = whole["payload_hex"].as_str().expect("hexadecimal");
    assert_eq!(payload.len(), 2 * MEGABYTE);
    assert!(payload.starts_with(shown));
    assert_eq!(whole["key"].as_str().map(str::len), Some(3_000));
    assert_eq!(whole["headers"][0]["key"], "h");
    assert_eq!(whole["more"], Value::Null);
    let memory = server.most_memory();
    assert!(memory < 250_000, "{memory} KB");
}

#[test]
fn a_list_of_very_many_campaigns_takes_little_more_than_its_rows() {
    let database = TestDatabase::create();
    let mut connection = database.connect();
    count(&mut connection, &events(0));
    let names: Vec<String> = (0..300_000).map(|n| format!("many-{n:06}")).collect();
    let stream = StreamId(1);
    let mut chunks = Chunks::default();
    let mut part = NewPart::new(
        stream,
        1_000_000,
        Grain::AllTime,
        Reach::AllTime,
        Timestamp::EPOCH,
    );
    for name in &names {
        let facts = Facts {
            first: Timestamp::EPOCH,
            last: Timestamp::EPOCH,
            commit_id: CommitId::new(1),
            committed_at: Timestamp::EPOCH,
        };
        let cell = Cell {
            start: Timestamp::EPOCH,
            platform: 0,
            totals: Totals::of(Counts::of([100, 10, 1_000_000, 1_000_000, 2_000_000])),
            facts,
        };
        part.push(name, &[cell], &mut chunks);
        chunks.relieve(&mut connection).expect("writes");
    }
    let part = part.finish(&mut chunks);
    chunks.flush(&mut connection).expect("writes");
    part::enter(&mut connection, "sum_parts", part.as_slice()).expect("enters");
    let server = Server::start(&database);
    let page = server.json("/campaigns?limit=500");
    assert_eq!(page["paging"]["total"], 300_000 + CAMPAIGNS);
    let memory = server.most_memory();
    assert!(memory < 250_000, "{memory} KB");
}
