//! Looks at the partitions once a second, says what has changed, and tells the database, so that others can show it.
//! A thread of its own with a connection of its own: it goes on when polling and writing do not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use diesel::PgConnection;

use crate::guards;
use crate::metrics;
use crate::offset::Offset;
use crate::outage::Outage;
use crate::pause::pause;
use crate::progress::{BOARD, Cause, Side, Standing};
use crate::store::positions::{self, Stored};
use crate::store::{self, Limits, StoreError, identity, states};
use crate::time::Length;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// How often the database is told, whether or not something has changed.
const TELL: Duration = Duration::from_secs(3);

/// Whom the watch reports for.
pub struct Settings {
    pub database_url: String,
    pub cluster_id: String,
    pub topic: String,
    pub owner: String,
    /// Whoever waits for so long stands still.
    pub standstill: Duration,
    /// The topic's partitions.
    pub partitions: Vec<i32>,
}

/// What the database says of the positions.
pub struct Seen {
    pub stored: Vec<Stored>,
    /// Those that stand before what this process has seen committed, with that: the database has lost commits.
    pub gone: Vec<(Stored, Offset)>,
}

/// The positions that went back.
fn lost(known: &BTreeMap<i32, Offset>, stored: &[Stored]) -> Vec<(Stored, Offset)> {
    let went_back = |stored: &Stored| {
        let committed = *known.get(&stored.partition)?;
        (stored.next_offset < committed).then_some((*stored, committed))
    };
    stored.iter().filter_map(went_back).collect()
}

/// See the module.
pub struct Watch {
    ended: Arc<AtomicBool>,
    last_words: Arc<Mutex<Option<String>>>,
    seen: Receiver<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives us none.
    pub fn start(settings: Settings) -> std::io::Result<Watch> {
        BOARD.begin(&settings.topic, settings.standstill);
        let (outgoing, seen) = channel();
        let ended = Arc::new(AtomicBool::new(false));
        let last_words = Arc::new(Mutex::new(None));
        let mut work = Work {
            settings,
            connection: None,
            told: None,
            outgoing,
            skewed: Outage::default(),
        };
        let (until, words) = (Arc::clone(&ended), Arc::clone(&last_words));
        let thread = std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || {
                while pause(LOOK, &until) {
                    BOARD.look();
                    work.tell(&until);
                }
                let words = words.lock().unwrap_or_else(PoisonError::into_inner).take();
                work.end(words);
            })?;
        Ok(Watch {
            ended,
            last_words,
            seen,
            thread: Some(thread),
        })
    }

    /// What was seen in the database since the last call, if anything.
    pub fn seen(&self) -> Option<Seen> {
        self.seen.try_recv().ok()
    }

    /// Why the processor ends, for those who ask the database afterwards.
    pub fn last_words(&self, why: &anyhow::Error) {
        let mut words = self
            .last_words
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *words = Some(format!("{why:#}"));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the watch panicked");
        }
    }
}

struct Work {
    settings: Settings,
    connection: Option<PgConnection>,
    /// When the database was last told.
    told: Option<Instant>,
    outgoing: Sender<Seen>,
    skewed: Outage,
}

impl Work {
    /// Tells the database what the partitions are doing, if it is time to.
    fn tell(&mut self, until: &AtomicBool) {
        if self.told.is_some_and(|at| at.elapsed() < TELL) || until.load(Ordering::Relaxed) {
            return;
        }
        self.told = Some(Instant::now());
        if let Err(error) = self.try_tell() {
            // The writers say when the database is away.
            log::debug!("what the partitions are doing cannot be told: {error}");
            self.connection = None;
        }
    }

    fn try_tell(&mut self) -> Result<(), StoreError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(store::connect(&self.settings.database_url, Limits::API)?),
        };
        let Settings {
            cluster_id,
            topic,
            owner,
            partitions,
            ..
        } = &self.settings;
        let (standings, outside) = BOARD.standings();
        states::report(connection, (cluster_id, topic), owner, &standings, false)?;
        if let Some(outside) = outside {
            let each = |&partition: &i32| Standing {
                partition,
                ..outside.clone()
            };
            let all: Vec<Standing> = partitions.iter().map(each).collect();
            states::report(connection, (cluster_id, topic), owner, &all, true)?;
        }
        // Known before it is asked for: what was committed then must be there. Without guards no position moves.
        let known = if guards::up() {
            BOARD.positions()
        } else {
            BTreeMap::new()
        };
        let stored = positions::stored(connection, cluster_id, topic)?;
        let gone = lost(&known, &stored);
        if !gone.is_empty() {
            // What caches hold is of commits that are no more.
            identity::renew(connection)?;
        }
        // Nobody wants to know any more.
        let _ = self.outgoing.send(Seen { stored, gone });
        let skew = store::skew(connection)?;
        self.compare_clocks(skew);
        Ok(())
    }

    fn compare_clocks(&mut self, skew: Length) {
        let seconds = skew.get() as f64 / 1e6;
        metrics::CLOCK_SKEW
            .with_label_values(&["postgresql"])
            .set(seconds);
        if skew.abs() > store::SKEW {
            self.skewed.failed(format_args!(
                "the clock of this machine is {:.0} s {} PostgreSQL's: set one of them right (NTP)",
                seconds.abs(),
                if seconds > 0.0 { "ahead of" } else { "behind" }
            ));
        } else {
            self.skewed.ended(format_args!(
                "the clock of this machine agrees with PostgreSQL's again"
            ));
        }
    }

    /// Tells why the processor ended, or takes its reports back.
    fn end(&mut self, last_words: Option<String>) {
        if let Some(words) = last_words {
            let (standings, _) = BOARD.standings();
            let cause = Cause::new("halted", words);
            let unstopped = standings.iter().filter(|s| s.cause.is_none());
            let unstopped: Vec<i32> = unstopped.map(|s| s.partition).collect();
            BOARD.stops(&unstopped, Side::Log, &cause);
        }
        let ended = self.try_tell().and_then(|()| match &mut self.connection {
            Some(connection) => states::take_back(
                connection,
                (&self.settings.cluster_id, &self.settings.topic),
                &self.settings.owner,
            ),
            None => Ok(()),
        });
        if let Err(error) = ended {
            log::debug!("what the partitions are doing cannot be told: {error}");
        }
    }
}
