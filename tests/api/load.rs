//! Many at once: `adflux serve` as a process of its own, whose memory can be told.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use adflux::event::Platform;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

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
        let pid = self.child.id().to_string();
        let output = Command::new("ps").args(["-o", "rss=", "-p", &pid]).output();
        let text = String::from_utf8(output.expect("ps").stdout).expect("text");
        text.trim().parse().expect("a number")
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
