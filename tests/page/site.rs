//! What a page is tested against: a processor and a server of a world of its own.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::Process;
use crate::records::Event;
use crate::support::ports::free_address;
use crate::wait::wait_until;
use crate::world::{World, required};

/// A running adflux.
pub struct Site {
    pub world: World,
    pub server: Option<Process>,
    _processor: Process,
    pub origin: String,
}

impl Site {
    /// An adflux that has counted nothing yet.
    pub fn empty(test: &str) -> Site {
        Site::with(test, |world| world.database_url.clone(), &[])
    }

    /// The same with a server that reaches the database at another address, and with more
    /// arguments.
    pub fn with(test: &str, url: impl Fn(&World) -> String, args: &[&str]) -> Site {
        let world = World::new(test);
        world.create_topic(4, &[]);
        let processor = Process::start(
            world
                .command("process", &[])
                .env("REDIS_URL", required("REDIS_URL")),
        );
        let address = free_address();
        let mut site = Site {
            origin: format!("http://{address}"),
            server: None,
            _processor: processor,
            world,
        };
        site.serve(&url(&site.world), args);
        site
    }

    /// Starts the server, again if need be.
    pub fn serve(&mut self, database_url: &str, args: &[&str]) {
        let listen = self.origin.trim_start_matches("http://").to_owned();
        let mut command = self.world.command("serve", &["--listen", &listen]);
        command
            .args(args)
            .env("DATABASE_URL", database_url)
            .env("REDIS_URL", required("REDIS_URL"));
        self.server = Some(Process::start(&mut command));
        wait_until("the server is ready", || {
            self.status("/readyz") == Some(200)
        });
    }

    /// The site of those tests that only look at it: fifteen days of history, made for the first of them
    /// and gone with the last.
    pub fn shared() -> Arc<Site> {
        static SHARED: Mutex<Weak<Site>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let site = Arc::new(Site::empty("page"));
            site.history();
            *shared = Arc::downgrade(&site);
            site
        })
    }

    /// Fifteen days of 40 campaigns on all platforms.
    fn history(&self) {
        let ledger = self.world.simulate(&[
            "--backfill",
            "15d",
            "--rate",
            "0.01",
            "--count",
            "12960",
            "--campaigns",
            "40",
        ]);
        self.world.wait_until_counted(ledger.records);
        self.rule(
            "burning",
            &json!({ "when": "roas < 1 over 7d and cost > 100" }),
        );
        self.rule(
            "quiet",
            &json!({ "when": "no data for 15m", "campaigns": ["cmp-3"], "for": "10m" }),
        );
        wait_until("alerts are open", || {
            self.api("/alerts")["data"] != json!([])
        });
    }

    /// Adds an alert rule, through the API.
    pub fn rule(&self, name: &str, rule: &Value) {
        let url = format!("{}/alerts/rules/{name}", self.origin);
        let request = reqwest::Client::new().put(url).json(rule);
        let (status, text) = answer(request).expect("the server answers");
        assert_eq!(status, 201, "{text}");
    }

    /// A few events of `cmp-0` to `cmp-4`, for tests that are about something else.
    pub fn some_events(&self) {
        let events: Vec<Event> = (0..20)
            .map(|n| Event::of(&format!("cmp-{}", n % 5)))
            .collect();
        self.send(&events);
        self.world.wait_until_counted(20);
    }

    /// Sends events and returns at once.
    pub fn send(&self, events: &[Event]) {
        let records: Vec<_> = events.iter().map(Event::record).collect();
        self.world.send(&records);
    }

    fn ask(&self, path: &str) -> Option<(u16, String)> {
        answer(reqwest::Client::new().get(format!("{}{path}", self.origin)))
    }

    /// The status of an answer; none if there is no answer.
    pub fn status(&self, path: &str) -> Option<u16> {
        self.ask(path).map(|(status, _)| status)
    }

    /// What the API answers.
    pub fn api(&self, path: &str) -> Value {
        let (status, text) = self.ask(path).expect("the server answers");
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}: {text}"))
    }
}

/// Status and body of an answer; none if there is no answer.
fn answer(request: reqwest::RequestBuilder) -> Option<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let answer = request.timeout(Duration::from_secs(60)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    })
}
