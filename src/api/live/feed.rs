//! The one reader of changes for all clients: asks PostgreSQL, at most four times a second, what
//! has changed, and puts it into the log.
//!
//! It is woken by the notices that refresh the cache, and looks by itself twice a second, so a
//! lost notice, or a server without Redis, costs half a second and no value. With nobody
//! listening it asks nothing. A client that comes back is served by the same question: the oldest
//! state among all who wait is what is asked about.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Change;
use super::alerts::Happenings;
use super::log::{Log, Place};
use crate::api::Limits;
use crate::api::per_address::{OfAddress, PerAddress};
use crate::api::request::Client;
use crate::api::shards::Shards;
use crate::database::{Database, Unavailable};
use crate::store::read::changes::{self, Changes, Commits, Progress, Since};

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

/// What a round brought, besides the values in the log.
#[derive(Debug, Default)]
pub struct Round {
    /// Everything up to this place of the log belongs to this round or an earlier one.
    pub place: Place,
    pub commits: Commits,
    pub progress: Progress,
    pub alerts: Happenings,
}

/// Where a client begins.
pub struct Start {
    pub round: Arc<Round>,
    /// What changed since it was here last, and its share of what may be held for such clients; none: too much to tell.
    pub missed: Option<(Vec<Arc<Change>>, Option<OwnedSemaphorePermit>)>,
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
    /// Starts the reader, which ends when `closing` says so. `wake` tells of commits.
    pub fn start(shards: Shards, closing: watch::Receiver<bool>, limits: &Limits) -> Feed {
        let served = shards.all().next().cloned();
        let (database, wake) = served
            .map(|one| (one.database, one.cache.changes()))
            .unzip();
        let (database, wake) = (
            database.unwrap_or(shards.home().clone()),
            wake.expect("TODO"),
        );
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
        let reader = Reader {
            database,
            log: Arc::clone(&feed.log),
            free: Arc::clone(&feed.seats),
            seats,
            campaigns,
            rounds: to_clients,
            known: None,
            alerts: None,
            missed: Arc::new(Semaphore::new(campaigns.saturating_mul(MISSED_TIMES))),
        };
        tokio::spawn(reader.run(incoming, wake, closing));
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
    database: Database,
    log: Arc<Mutex<Log>>,
    free: Arc<Semaphore>,
    seats: usize,
    campaigns: usize,
    rounds: watch::Sender<Arc<Round>>,
    /// None while nobody listens.
    known: Option<Since>,
    alerts: Option<Happenings>,
    /// How many values more may be held for clients that come back.
    missed: Arc<Semaphore>,
}

impl Reader {
    async fn run(
        mut self,
        mut incoming: mpsc::Receiver<Join>,
        mut wake: watch::Receiver<()>,
        mut closing: watch::Receiver<bool>,
    ) {
        let mut next = Instant::now();
        loop {
            let mut joins = Vec::new();
            let listening = self.free.available_permits() < self.seats;
            if !listening && self.known.take().is_some() {
                self.lock().clear();
                self.alerts = None;
            }
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => return,
                join = incoming.recv() => match join {
                    Some(join) => joins.push(join),
                    None => return,
                },
                Ok(()) = wake.changed(), if listening => {}
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
            self.round(joins).await;
            let took = started.elapsed();
            next = (started + ROUND).max(Instant::now() + took * REST);
        }
    }

    async fn round(&mut self, joins: Vec<Join>) {
        let tokens: Vec<&Commits> = joins.iter().filter_map(|j| j.since.as_ref()).collect();
        let asked = match (&self.known, tokens.as_slice()) {
            (None, []) => Since::Now,
            (Some(known), []) => known.clone(),
            (known, tokens) => {
                let known = known.as_ref().map(commits_of);
                Since::Commits(oldest(tokens.iter().copied().chain(known.as_ref())))
            }
        };
        let mut changes = self.ask(asked).await;
        let too_much = matches!(&changes, Ok((changes, _)) if changes.campaigns.is_none());
        if too_much && !tokens.is_empty() {
            // Too much since somebody's last visit is not too much for those who are here.
            changes = self.ask(self.known.clone().unwrap_or(Since::Now)).await;
        }
        let (changes, alerts) = match changes {
            Ok(answer) => answer,
            Err(unavailable) => {
                // Blocks may have been merged by the time it is back; commits stay what they are.
                self.known = self.known.take().map(|k| Since::Commits(commits_of(&k)));
                for join in joins {
                    let _ = join.reply.send(Err(unavailable.clone()));
                }
                return;
            }
        };
        let values = self.note(&changes);
        let round = Arc::new(Round {
            place: self.lock().head(),
            commits: changes::commits(&changes.positions),
            progress: changes.progress,
            alerts: alerts.clone(),
        });
        for join in joins {
            let missed = match &join.since {
                None => Some((Vec::new(), None)),
                Some(seen) if too_much || is_ahead(seen, &round.commits) => None,
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
            let round = Arc::clone(&round);
            let _ = join.reply.send(Ok(Start { round, missed }));
        }
        self.known = Some(Since::Positions(changes.positions));
        self.alerts = Some(alerts);
        self.rounds.send_if_modified(|last| {
            let news = last.commits != round.commits
                || last.place != round.place
                || last.alerts.last() != round.alerts.last();
            *last = round;
            news
        });
    }

    /// Puts what is new into the log. Returns all that was found, with its partition.
    fn note(&self, changes: &Changes) -> Vec<(crate::store::StreamId, Arc<Change>)> {
        let mut log = self.lock();
        let Some(campaigns) = &changes.campaigns else {
            log.clear();
            return Vec::new();
        };
        let seen = self.known.as_ref().map(commits_of);
        campaigns
            .iter()
            .map(|changed| {
                let change = Arc::new(Change::of(changed.sums.clone()));
                let before = seen.as_ref().map(|s| s.get(&changed.stream).copied());
                // With nobody here before, nobody has to be told.
                if before.is_some_and(|b| changed.sums.freshness.commit_id > b.unwrap_or_default())
                {
                    log.push(Arc::clone(&change));
                }
                (changed.stream, change)
            })
            .collect()
    }

    async fn ask(&self, since: Since) -> Result<(Changes, Happenings), Unavailable> {
        let limit = self.campaigns;
        let alerts = self.alerts.clone();
        self.database
            .read(move |connection| {
                let changes = changes::since(connection, &since, limit)?;
                let alerts = match alerts {
                    Some(alerts) => alerts.go_on(connection)?,
                    None => Happenings::begin(connection)?,
                };
                Ok((changes, alerts))
            })
            .await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn commits_of(known: &Since) -> Commits {
    match known {
        Since::Now => Commits::new(),
        Since::Positions(positions) => changes::commits(positions),
        Since::Commits(commits) => commits.clone(),
    }
}

/// What all of them have seen.
fn oldest<'a>(commits: impl Iterator<Item = &'a Commits>) -> Commits {
    commits
        .cloned()
        .reduce(|a, b| {
            a.into_iter()
                .filter_map(|(stream, commit)| Some((stream, commit.min(*b.get(&stream)?))))
                .collect::<BTreeMap<_, _>>()
        })
        .unwrap_or_default()
}

/// Whether somebody has seen more than there is: of another database, or one that went back.
fn is_ahead(seen: &Commits, now: &Commits) -> bool {
    seen.iter()
        .any(|(stream, commit)| now.get(stream).is_none_or(|now| now < commit))
}
