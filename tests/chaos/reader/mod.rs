//! Readers that poll for as long as the laboratory breaks things, and must never see anything that is
//! not so: a partial batch, a total that went down, a 5xx, a value that PostgreSQL has not committed,
//! or, once a fault is healed, a value older than what was committed before it.
//!
//! One thread reads PostgreSQL, one the servers, one Kafka's committed offsets ([`database`], [`servers`],
//! [`offsets`]). A service that is away is
//! no violation; a reader that saw nothing is one.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::api::Insight;
use crate::check::{Target, Violations};
use crate::wait::limit;

pub mod database;
mod offsets;
pub mod servers;

/// How long servers may take to show what was committed before a fault, once it is healed: they
/// notice a Redis that is back within a second and ask it again, and a refresher tries five times a
/// second.
const GRACE: Duration = limit(Duration::from_secs(5));

/// What the readers share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    violations: Violations,
    /// What PostgreSQL had committed when it was last asked.
    committed: HashMap<String, Insight>,
    /// From when on servers must show at least what, in order.
    floors: VecDeque<(Instant, Arc<HashMap<String, Insight>>)>,
    looks: Looks,
}

/// How often the readers saw something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looks {
    /// Snapshots of the database.
    pub snapshots: u64,
    /// Answers of servers.
    pub answers: u64,
    /// Of those, the ones held against what was committed before a fault.
    pub after_healing: u64,
    /// Kafka's committed offsets, held against the positions.
    pub offsets: u64,
}

impl fmt::Display for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the readers saw {} snapshots, {} answers, {} of these after a fault was healed, and Kafka's offsets {} times",
            self.snapshots, self.answers, self.after_healing, self.offsets
        )
    }
}

impl State {
    /// What a server must show of a campaign at least, if it is asked now.
    fn floor(&mut self, campaign: &str) -> Option<Insight> {
        let now = Instant::now();
        while self.floors.get(1).is_some_and(|(from, _)| *from <= now) {
            self.floors.pop_front();
        }
        let (from, committed) = self.floors.front()?;
        (*from <= now).then(|| committed.get(campaign).cloned())?
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// See the module.
pub struct Reader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    asks_servers: bool,
}

impl Reader {
    /// Starts reading. The database need not be there yet.
    pub fn start(target: &Target) -> Reader {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        let (seen, at) = (Arc::clone(&shared), target.clone());
        threads.push(std::thread::spawn(move || database::read(&at, &seen)));
        let (seen, at) = (Arc::clone(&shared), target.clone());
        threads.push(std::thread::spawn(move || offsets::read(&at, &seen)));
        if !target.servers.is_empty() {
            let (seen, at) = (Arc::clone(&shared), target.clone());
            threads.push(std::thread::spawn(move || servers::read(&at, &seen)));
        }
        Reader {
            shared,
            threads,
            asks_servers: !target.servers.is_empty(),
        }
    }

    /// What PostgreSQL had committed when it was last looked at, by campaign.
    pub fn committed(&self) -> HashMap<String, Insight> {
        self.shared.state().committed.clone()
    }

    /// A fault is healed: a little later, servers show at least what was committed before it.
    pub fn healed(&self, committed_before: HashMap<String, Insight>) {
        let from = Instant::now() + GRACE;
        let floor = (from, Arc::new(committed_before));
        self.shared.state().floors.push_back(floor);
    }

    /// How much was read so far.
    pub fn looks(&self) -> Looks {
        self.shared.state().looks
    }

    /// What was seen since the last call and must not have been.
    pub fn violations(&self) -> Violations {
        let mut state = self.shared.state();
        let mut violations = std::mem::take(&mut state.violations);
        for (what, looks) in [
            ("PostgreSQL is read throughout", Some(state.looks.snapshots)),
            (
                "the servers are read throughout",
                self.asks_servers.then_some(state.looks.answers),
            ),
        ] {
            if looks == Some(0) {
                violations.add(what, "the reader", "something seen", "nothing");
            }
        }
        violations
    }

    /// Stops reading. Returns how much was seen, and what must not have been.
    pub fn stop(mut self) -> (Looks, Violations) {
        self.end();
        (self.looks(), self.violations())
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in &mut self.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.state().violations.add(
                    "a reader can go on reading",
                    "the reader",
                    "no panic",
                    "a panic",
                );
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.end();
    }
}
