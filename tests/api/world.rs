//! A database of its own, an API before it, and connections that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adflux::api;
use adflux::cache::servers::Servers;
use adflux::cache::tls::TlsFiles;
use adflux::event::{AdEvent, CampaignId, Conversions, Count, Counts, MILLION, Platform};
use adflux::offset::Offset;
use adflux::run::{self, ServeSettings};
use adflux::store::events::{Columns, Fingerprinter};
use adflux::store::write::batch::{Filling, Reading};
use adflux::store::write::commit::{Outcome, commit};
use adflux::store::write::positions::{self, Partition};
use adflux::store::{self, Limits, StoreError};
use adflux::time::Timestamp;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use serde_json::Value;
use uuid::Uuid;

pub use crate::wait::wait_until as until;

/// A variable that `make test` sets.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with `make test`, or start the services with `make services-up` and source what it prints"))
}

/// A database that goes away with the test.
pub struct TestDatabase {
    pub name: String,
}

impl TestDatabase {
    pub fn create() -> TestDatabase {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let database = TestDatabase {
            name: format!("adflux_api_{}_{number}", std::process::id()),
        };
        database.drop_it().expect("drops");
        store::migrate(&database.url()).expect("migrates");
        database
    }

    pub fn url(&self) -> String {
        let url = variable("DATABASE_URL");
        let (server, _) = url.rsplit_once('/').expect("a database in DATABASE_URL");
        format!("{server}/{}", self.name)
    }

    pub fn connect(&self) -> PgConnection {
        store::connect(&self.url(), Limits::PROCESSOR).expect("connects")
    }

    fn drop_it(&self) -> Result<(), StoreError> {
        let url = variable("DATABASE_URL");
        // A slow disk may take its time over it.
        let mut connection = store::connect(&url, Limits::MAINTENANCE)?;
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        Ok(connection.batch_execute(&drop)?)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // A leftover is a nuisance, not a failure, and a test may be failing already.
        if let Err(error) = self.drop_it() {
            eprintln!("{} remains: {error}", self.name);
        }
    }
}

/// One event in words that a test can write down.
#[derive(Clone, Debug)]
pub struct Given {
    pub campaign: String,
    pub platform: Platform,
    /// Microseconds since 1970.
    pub time: i64,
    pub counts: Counts,
}

/// Of impressions, clicks, whole conversions, cost and revenue in micros.
pub fn given(
    campaign: &str,
    platform: Platform,
    time: i64,
    [impressions, clicks, conversions, cost, revenue]: [i64; 5],
) -> Given {
    let numbers = [impressions, clicks, conversions * MILLION, cost, revenue];
    Given {
        campaign: campaign.to_owned(),
        platform,
        time,
        counts: Counts::of(numbers),
    }
}

impl Given {
    /// The same with so many millionths of a conversion.
    pub fn with_conversions(mut self, millionths: i64) -> Given {
        self.counts.conversions = Conversions::new(millionths);
        self
    }
}

/// Counts events as a processor would, on one partition.
pub fn count(connection: &mut PgConnection, events: &[Given]) {
    count_on(connection, 0, events);
}

/// As [`count`], on a partition of one's choice; a campaign stays on its first.
pub fn count_on(connection: &mut PgConnection, partition: i32, events: &[Given]) {
    let partition = Partition {
        cluster_id: "test",
        topic: "ad-events",
        partition,
    };
    let claim = positions::claim(connection, partition, Offset::default(), "test").expect("claims");
    let mut columns = Columns::default();
    let mut campaigns: Vec<Arc<str>> = Vec::new();
    for (n, event) in events.iter().enumerate() {
        let index = campaigns
            .iter()
            .position(|c| **c == *event.campaign)
            .unwrap_or_else(|| {
                campaigns.push(Arc::from(event.campaign.as_str()));
                campaigns.len() - 1
            });
        let event = AdEvent {
            event_id: Uuid::from_u128(
                (claim.fence.next_offset.get() as u128) << 32
                    | n as u128
                    | (partition.partition as u128) << 80
                    | 1 << 100,
            ),
            campaign_id: CampaignId::parse(&event.campaign).expect("valid"),
            platform: event.platform,
            event_time: Timestamp::new(event.time),
            counts: event.counts,
        };
        columns.push(
            claim.fence.next_offset.plus(Count::of(n)),
            &event,
            index as u32,
        );
    }
    let next_offset = claim.fence.next_offset.plus(Count::of(events.len()));
    let mut share = Filling::new(claim.stream, claim.fence, Reading::Usual, columns);
    share.next_offset = next_offset;
    share.records = Count::of(events.len());
    share.unknown_campaigns = (0..campaigns.len() as u32).collect();
    share.campaigns = campaigns;
    let results = commit(connection, &Fingerprinter::default(), &[share.into()]).expect("commits");
    assert!(
        matches!(results.as_slice(), [r] if matches!(r.outcome, Outcome::Committed(_))),
        "{results:?}"
    );
}

/// Redis at a URL, without files.
pub fn redis_at(url: &str) -> Servers {
    Servers::open(url, &TlsFiles::default()).expect("a URL of Redis")
}

/// How an API is served that nothing else is said of.
pub fn settings(database_url: &str, redis_url: Option<&str>, fresh_for: Duration) -> ServeSettings {
    ServeSettings {
        shards: Vec::new(),
        database_url: database_url.to_owned(),
        may_migrate: true,
        redis: redis_url.map(redis_at),
        connections: 4,
        fresh_for,
        topic: "ad-events".to_owned(),
        schema_ids: adflux::codec::SchemaIds::OWN,
        finding: None,
        writer_schemas: Vec::new(),
        brokers: None,
        originals: None,
        api: api::Settings::default(),
    }
}

/// An API of its own, on a port of its own.
pub struct Api {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Api {
    pub fn start(database_url: &str, redis_url: Option<&str>, fresh_for: Duration) -> Api {
        Api::start_with(database_url, redis_url, fresh_for, api::Settings::default())
    }

    pub fn start_with(
        database_url: &str,
        redis_url: Option<&str>,
        fresh_for: Duration,
        api: api::Settings,
    ) -> Api {
        Api::serve(ServeSettings {
            api,
            ..settings(database_url, redis_url, fresh_for)
        })
    }

    /// Why a server with these settings does not start.
    pub fn refused(settings: ServeSettings) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let served = runtime.block_on(async {
            let local = tokio::sync::mpsc::unbounded_channel();
            run::serve(settings, listener, local, Arc::default()).await
        });
        format!("{:#}", served.expect_err("is refused"))
    }

    pub fn serve(settings: ServeSettings) -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("has an address");
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let local = tokio::sync::mpsc::unbounded_channel();
                run::serve(settings, listener, local, stopping)
                    .await
                    .expect("serves");
            });
            runtime.shutdown_background();
        });
        Api {
            address,
            stop,
            thread: Some(thread),
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request(reqwest::Method::GET, path)
    }

    pub fn request(&self, method: reqwest::Method, path: &str) -> Answer {
        self.request_with(method, path, &[])
    }

    pub fn request_with(
        &self,
        method: reqwest::Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.ask(method, path, headers, "")
    }

    /// A request with a body of this content type.
    pub fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        content_type: &str,
        body: &(impl AsRef<[u8]> + ?Sized),
    ) -> Answer {
        self.ask(method, path, &[("content-type", content_type)], body)
    }

    /// A request with headers and a body.
    pub fn ask(
        &self,
        method: reqwest::Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &(impl AsRef<[u8]> + ?Sized),
    ) -> Answer {
        let body = body.as_ref();
        let url = self.url(path);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut request = reqwest::Client::new()
                .request(method, &url)
                .timeout(Duration::from_secs(60));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if !body.is_empty() {
                request = request.body(body.to_vec());
            }
            let response = request
                .send()
                .await
                .unwrap_or_else(|e| panic!("{url}: {e}"));
            let header = |name: &str| {
                response
                    .headers()
                    .get(name)
                    .and_then(|v| v.to_str().ok())
                    .unwrap_or_default()
                    .to_owned()
            };
            Answer {
                status: response.status().as_u16(),
                content_type: header("content-type"),
                cache: header("x-cache"),
                retry_after: header("retry-after"),
                allow: header("allow"),
                location: header("location"),
                text: response.text().await.expect("a body"),
            }
        })
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the API panicked"
            );
        }
    }
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub cache: String,
    pub retry_after: String,
    pub allow: String,
    pub location: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Stands before a server and can be cut.
pub struct Proxy {
    pub address: SocketAddr,
    open: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub fn before(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("has an address");
        let open = Arc::new(AtomicBool::new(true));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let (server, opened, kept) = (server.to_owned(), Arc::clone(&open), Arc::clone(&streams));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&server) else {
                    continue;
                };
                // Held, so that who cuts finds it among the others, or it finds itself cut.
                let mut kept = kept.lock().expect("locks");
                if !opened.load(Ordering::SeqCst) {
                    continue;
                }
                let (to, from) = (
                    server.try_clone().expect("clones"),
                    client.try_clone().expect("clones"),
                );
                kept.extend([
                    client.try_clone().expect("clones"),
                    server.try_clone().expect("clones"),
                ]);
                std::thread::spawn(move || pass(from, to));
                std::thread::spawn(move || pass(server, client));
            }
        });
        Proxy {
            address,
            open,
            streams,
        }
    }

    pub fn cut(&self) {
        self.open.store(false, Ordering::SeqCst);
        for stream in self.streams.lock().expect("locks").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn mend(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16_384];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// The host and port of a URL.
pub fn server_of(url: &str) -> String {
    let rest = url.split_once("://").expect("a scheme").1;
    let authority = rest.split('/').next().expect("an authority");
    authority.rsplit('@').next().expect("a host").to_owned()
}
