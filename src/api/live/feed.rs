//! The one reader of changes for all clients: asks PostgreSQL, at most four times a second, what
//! has changed, and puts it into the log. Where there are several databases, all are asked in each round; one that is away is
//! left out until it is back, and what it has then to tell is told.
//!
//! It is woken by the notices that refresh the cache, and looks by itself twice a second, so a
//! lost notice, or a server without Redis, costs half a second and no value. With nobody
//! listening it asks nothing. A client that comes back is served by the same question: the oldest
//! state among all who wait is what is asked about.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Change;
use super::followed::{Answer, Followed};
use super::log::Log;
use super::round::{Owed, Round};
use super::seen::cut;
use crate::api::Limits;
use crate::api::per_address::{OfAddress, PerAddress};
use crate::api::request::Client;
use crate::api::shards::Shards;
use crate::database::Unavailable;
use crate::store::StreamId;
use crate::store::read::changes::{Changes, Commits};

/// Between two questions to the database; a question that took long is paid for with a longer rest.
const ROUND: Duration = Duration::from_millis(250);
/// How often it is looked without a notice.
const POLL: Duration = Duration::from_millis(500);
/// The share of the time that may be spent asking is one in so many.
const REST: u32 = 3;
/// Clients that wait for their first answer; more are told to try again.
const WAITING: usize = 1_024;

/// For all clients that come back together, so many times the values that are kept are held until they are told.
const MISSED_TIMES: usize = 4;

/// Where a client begins.
pub struct Start {
    pub round: Arc<Round>,
    /// What changed since it was here last, and its share of what may be held for such clients; none: too much to tell.
    pub missed: Option<(Vec<Arc<Change>>, Option<OwnedSemaphorePermit>)>,
    pub owed: Owed,
}

struct Join {
    since: Option<Commits>,
    reply: oneshot::Sender<Result<Start, Unavailable>>,
}

/// A client's end of the feed. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    pub log: Arc<Mutex<Log>>,
    rounds: watch::Receiver<Arc<Round>>,
    joins: mpsc::Sender<Join>,
    seats: Arc<Semaphore>,
    per_address: PerAddress,
}

/// A client's right to follow.
pub struct Seat {
    _permit: OwnedSemaphorePermit,
    _of_address: Option<OfAddress>,
}

/// Why a client cannot follow.
pub enum Refused {
    /// All seats are taken.
    Full,
    /// All seats that one address may have are.
    FullHere,
    Unavailable(Unavailable),
}

impl Feed {
    /// Starts the reader of these databases, which ends when `closing` says so.
    pub fn start(shards: Shards, closing: watch::Receiver<bool>, limits: &Limits) -> Feed {
        let (seats, campaigns) = (limits.live, limits.live_campaigns);
        let (to_clients, rounds) = watch::channel(Arc::default());
        let (joins, incoming) = mpsc::channel(WAITING);
        let feed = Feed {
            log: Arc::new(Mutex::new(Log::new(campaigns))),
            rounds,
            joins,
            seats: Arc::new(Semaphore::new(seats)),
            per_address: PerAddress::new(limits.live_per_address),
        };
        let databases = shards
            .all()
            .map(|served| Followed::new(served.shard, served.database.clone()));
        let wakes = shards.all().map(|served| served.cache.changes()).collect();
        let reader = Reader {
            databases: databases.collect(),
            log: Arc::clone(&feed.log),
            free: Arc::clone(&feed.seats),
            seats,
            campaigns,
            rounds: to_clients,
            number: 0,
            missed: Arc::new(Semaphore::new(campaigns.saturating_mul(MISSED_TIMES))),
        };
        tokio::spawn(reader.run(incoming, wakes, closing));
        feed
    }

    /// Takes a seat, and learns what was missed since the commits of an earlier visit.
    ///
    /// # Errors
    /// [`Refused`] when there is no seat, or the database does not answer.
    pub async fn join(
        &self,
        client: Option<Client>,
        since: Option<Commits>,
    ) -> Result<(Seat, Start), Refused> {
        let of_address = match client {
            Some(Client(address)) => {
                let place = self.per_address.take(address);
                Some(place.ok_or(Refused::FullHere)?)
            }
            None => None,
        };
        let permit = Arc::clone(&self.seats).try_acquire_owned();
        let seat = Seat {
            _permit: permit.map_err(|_| Refused::Full)?,
            _of_address: of_address,
        };
        let (reply, answer) = oneshot::channel();
        self.joins
            .try_send(Join { since, reply })
            .map_err(|_| Refused::Unavailable(Unavailable::Busy))?;
        // Not answered: the reader has ended, because we are stopping.
        let start = answer
            .await
            .unwrap_or(Err(Unavailable::Busy))
            .map_err(Refused::Unavailable)?;
        Ok((seat, start))
    }

    /// The rounds to come.
    pub fn rounds(&self) -> watch::Receiver<Arc<Round>> {
        self.rounds.clone()
    }
}

struct Reader {
    databases: Vec<Followed>,
    log: Arc<Mutex<Log>>,
    free: Arc<Semaphore>,
    seats: usize,
    campaigns: usize,
    rounds: watch::Sender<Arc<Round>>,
    /// That of the last round.
    number: u64,
    /// How many values more may be held for clients that come back.
    missed: Arc<Semaphore>,
}

impl Reader {
    async fn run(
        mut self,
        mut incoming: mpsc::Receiver<Join>,
        mut wakes: Vec<watch::Receiver<()>>,
        mut closing: watch::Receiver<bool>,
    ) {
        let mut next = Instant::now();
        loop {
            let mut joins = Vec::new();
            let listening = self.free.available_permits() < self.seats;
            if !listening {
                self.lock().clear();
                self.databases.iter_mut().for_each(Followed::forget);
            }
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => return,
                join = incoming.recv() => match join {
                    Some(join) => joins.push(join),
                    None => return,
                },
                Ok(()) = any_of(&mut wakes), if listening => {}
                () = tokio::time::sleep(POLL), if listening => {}
            }
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => return,
                () = tokio::time::sleep_until(next) => {}
            }
            while let Ok(join) = incoming.try_recv() {
                joins.push(join);
            }
            let started = Instant::now();
            let took = self.round(joins).await;
            next = (started + ROUND).max(Instant::now() + took * REST);
        }
    }

    /// Returns how long a database was kept busy: those that answer pay no rest for one that does not.
    async fn round(&mut self, joins: Vec<Join>) -> Duration {
        let started = Instant::now();
        self.number = self.number.saturating_add(1);
        let shards: Vec<_> = self.databases.iter().map(|d| d.shard).collect();
        let joins: Vec<(Join, Option<Vec<Commits>>)> = joins
            .into_iter()
            .map(|join| {
                let parts = join.since.as_ref().map(|seen| cut(&shards, seen));
                (join, parts)
            })
            .collect();
        let answers = self.ask(&joins).await;
        let answered = || answers.iter().flatten();
        let took = answered().map(|answer| answer.took).max();
        let is_too_much = answered().any(|answer| answer.is_too_much);
        let mut values = Vec::new();
        let mut unavailable = Unavailable::Busy;
        for (database, answer) in self.databases.iter_mut().zip(answers) {
            match answer {
                Ok(answer) => {
                    let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
                    values.extend(note(&mut log, database, &answer.changes));
                    database.know(answer, self.number);
                }
                Err(why) => {
                    database.miss();
                    unavailable = why;
                }
            }
        }
        let Some(took) = took else {
            for (join, _) in joins {
                let _ = join.reply.send(Err(unavailable.clone()));
            }
            return started.elapsed();
        };
        let round = Arc::new(Round {
            number: self.number,
            place: self.lock().head(),
            parts: self.databases.iter().map(Followed::part).collect(),
        });
        for (join, parts) in joins {
            let is_behind = |parts: &Vec<Commits>| {
                let mut both = self.databases.iter().zip(parts);
                both.any(|(database, seen)| database.is_behind(seen))
            };
            let missed = match &join.since {
                None => Some((Vec::new(), None)),
                Some(_) if is_too_much || parts.as_ref().is_some_and(is_behind) => None,
                Some(seen) => {
                    let missed = values.iter().filter(|(stream, c)| {
                        c.sums.freshness.commit_id > seen.get(stream).copied().unwrap_or_default()
                    });
                    let missed: Vec<_> = missed.map(|(_, change)| Arc::clone(change)).collect();
                    // Held until it is told, which takes as long as the client likes.
                    let many = u32::try_from(missed.len()).unwrap_or(u32::MAX);
                    let held = Arc::clone(&self.missed).try_acquire_many_owned(many);
                    held.ok().map(|held| (missed, Some(held)))
                }
            };
            let owes = |(n, database): (usize, &Followed)| {
                let seen = parts.as_ref().and_then(|parts| parts.get(n));
                Some((n, database.owes(seen)?))
            };
            let start = Start {
                round: Arc::clone(&round),
                missed,
                owed: self.databases.iter().enumerate().filter_map(owes).collect(),
            };
            let _ = join.reply.send(Ok(start));
        }
        self.rounds.send_if_modified(|last| {
            let news = round.has_news_since(last) || round.is_back_since(last.number);
            *last = round;
            news
        });
        took
    }

    /// Asks all databases at a time what is new since those who come were here. One that is away is waited for only when all
    /// are.
    async fn ask(
        &mut self,
        joins: &[(Join, Option<Vec<Commits>>)],
    ) -> Vec<Result<Answer, Unavailable>> {
        let limit = self.campaigns;
        let are_all_away = self.databases.iter().all(Followed::is_away);
        let databases = self.databases.iter_mut().enumerate();
        join_all(databases.map(|(n, database)| {
            let seen = joins.iter().filter_map(|(_, parts)| parts.as_ref()?.get(n));
            database.ask(seen.collect(), limit, are_all_away)
        }))
        .await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts what is new of a database into the log. Returns all that was found, with its partition.
fn note(log: &mut Log, database: &Followed, changes: &Changes) -> Vec<(StreamId, Arc<Change>)> {
    let Some(campaigns) = &changes.campaigns else {
        log.clear();
        return Vec::new();
    };
    campaigns
        .iter()
        .map(|changed| {
            let change = Arc::new(Change::of(changed.sums.clone()));
            // With nobody here before, nobody has to be told.
            let told = database.told(changed.stream);
            if told.is_some_and(|told| changed.sums.freshness.commit_id > told) {
                log.push(Arc::clone(&change));
            }
            (changed.stream, change)
        })
        .collect()
}

/// Ends when one of them tells of commits.
async fn any_of(wakes: &mut [watch::Receiver<()>]) -> Result<(), watch::error::RecvError> {
    let changed = wakes.iter_mut().map(|wake| Box::pin(wake.changed()));
    select_all(changed).await.0
}
