//! One of the databases that the feed follows: what is known of it, and what it is asked next.

use std::sync::Arc;
use std::time::Duration;

use diesel::PgConnection;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::alerts::Happenings;
use super::round::Part;
use super::seen::{is_ahead, oldest};
use crate::database::{Database, Unavailable};
use crate::shard::Shard;
use crate::store::read::changes::{self, Changes, Commits, Since};
use crate::store::read::insights;
use crate::store::{CommitId, StreamId};

/// See the module.
pub struct Followed {
    pub shard: Option<Shard>,
    database: Database,
    /// None while nobody listens, and until it has answered those who do.
    known: Option<Since>,
    part: Arc<Part>,
    is_away: bool,
    /// Whether one that is away answers again, which is asked beside the rounds.
    probe: Option<JoinHandle<bool>>,
}

/// What it answers.
pub struct Answer {
    pub changes: Changes,
    alerts: Happenings,
    /// More has changed than is told since what those who come back have seen, or for all.
    pub is_too_much: bool,
    /// How long it was kept busy.
    pub took: Duration,
}

impl Followed {
    /// One of which nothing is known.
    pub fn new(shard: Option<Shard>, database: Database) -> Followed {
        Followed {
            shard,
            database,
            known: None,
            part: Arc::default(),
            is_away: false,
            probe: None,
        }
    }

    /// Forgets what is known, since nobody listens.
    pub fn forget(&mut self) {
        *self = Followed::new(self.shard, self.database.clone());
    }

    /// Whether it did not answer when it was last asked.
    pub fn is_away(&self) -> bool {
        self.is_away
    }

    /// What it has told by now.
    pub fn part(&self) -> Arc<Part> {
        Arc::clone(&self.part)
    }

    /// Asks what has changed since all of these, and what is known, were seen; `limit` campaigns at the most.
    ///
    /// # Errors
    /// [`Unavailable`] when it does not answer. Unless it is `needed`, it is not waited for once it is away.
    pub async fn ask(
        &mut self,
        seen: Vec<&Commits>,
        limit: usize,
        needed: bool,
    ) -> Result<Answer, Unavailable> {
        if self.is_away && !needed && !self.answers_again().await {
            return Err(self.database.away_a_moment_ago());
        }
        let known = self.known.as_ref();
        let since = match (known, seen.as_slice()) {
            (None, []) => Since::Now,
            (Some(known), []) => known.clone(),
            (known, seen) => {
                let known = known.map(commits_of);
                Since::Commits(oldest(seen.iter().copied().chain(known.as_ref())))
            }
        };
        let answer = self.read(since, limit).await?;
        if seen.is_empty() || !answer.is_too_much {
            return Ok(answer);
        }
        // Too much since somebody's last visit is not too much for those who are here.
        let since = known.cloned().unwrap_or(Since::Now);
        let again = self.read(since, limit).await?;
        Ok(Answer {
            is_too_much: true,
            took: answer.took.saturating_add(again.took),
            ..again
        })
    }

    async fn read(&self, since: Since, limit: usize) -> Result<Answer, Unavailable> {
        let alerts = self.known.is_some().then(|| self.part.alerts.clone());
        let started = Instant::now();
        let question = move |connection: &mut PgConnection| {
            let changes = changes::since(connection, &since, limit)?;
            let alerts = match alerts {
                Some(alerts) => alerts.go_on(connection)?,
                None => Happenings::begin(connection)?,
            };
            Ok((changes, alerts))
        };
        let (changes, alerts) = self.database.read(question).await?;
        Ok(Answer {
            is_too_much: changes.campaigns.is_none(),
            changes,
            alerts,
            took: started.elapsed(),
        })
    }

    /// Whether one that was away answers again, as far as that is known by now.
    async fn answers_again(&mut self) -> bool {
        if let Some(probe) = self.probe.take_if(|probe| probe.is_finished())
            && probe.await.unwrap_or_default()
        {
            return true;
        }
        let database = self.database.clone();
        self.probe.get_or_insert_with(|| {
            tokio::spawn(async move { database.read(insights::ping).await.is_ok() })
        });
        false
    }

    /// What somebody here has been told of a partition: nothing, if nobody was here.
    pub fn told(&self, stream: StreamId) -> Option<CommitId> {
        let commits = &self.part.commits;
        let told = || commits.get(&stream).copied().unwrap_or_default();
        self.known.is_some().then(told)
    }

    /// Knows what it has answered in a round.
    pub fn know(&mut self, answer: Answer, round: u64) {
        let is_back = self.is_away || self.known.is_none();
        self.part = Arc::new(Part {
            commits: changes::commits(&answer.changes.positions),
            progress: answer.changes.progress,
            alerts: answer.alerts,
            back_at: if is_back { round } else { self.part.back_at },
        });
        self.known = Some(Since::Positions(answer.changes.positions));
        self.is_away = false;
    }

    /// Knows that it has not answered.
    pub fn miss(&mut self) {
        // Blocks may have been merged by the time it is back; commits stay what they are.
        let commits = self.known.take().map(|known| commits_of(&known));
        self.known = commits.map(Since::Commits);
        self.is_away = true;
    }

    /// Whether somebody has seen more of it than there is.
    pub fn is_behind(&self, seen: &Commits) -> bool {
        !self.is_away && is_ahead(seen, &self.part.commits)
    }

    /// What somebody has seen of it to whom it is not all told: while it is away, nobody can say what is missing.
    pub fn owes(&self, seen: Option<&Commits>) -> Option<Commits> {
        let is_told = self.known.is_some() && seen.is_none_or(|seen| *seen == self.part.commits);
        let seen = || seen.cloned().unwrap_or_default();
        (self.is_away && !is_told).then(seen)
    }
}

fn commits_of(known: &Since) -> Commits {
    match known {
        Since::Now => Commits::new(),
        Since::Positions(positions) => changes::commits(positions),
        Since::Commits(commits) => commits.clone(),
    }
}
