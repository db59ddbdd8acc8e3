//! The API's connections to PostgreSQL: pooled, bounded, off the async threads.
//!
//! r2d2 waits for a connection by blocking, so a request first takes one of as many permits as
//! there are connections, and asks in a thread where blocking is allowed. A permit is held until the database is done,
//! not until who asked hangs up: hanging up and asking again starts nothing beside what is running.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::PgConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Error as R2d2Error, Pool};
use tokio::sync::Semaphore;

use crate::outage::Outage;
use crate::shard::Shard;
use crate::store::{self, Backend, Limits, StoreError, prepare, with_timeouts};

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// After a failure, nobody is made to wait for another one for so long.
const BREAK: Duration = Duration::from_millis(500);

/// Which of several databases is meant, behind the word for it; nothing where there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Which(Option<Shard>);

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(shard) => write!(f, " of partitions {shard}"),
            None => Ok(()),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// All connections were busy for too long.
    #[error("too many requests are waiting for the database")]
    Busy,
    /// The database did not answer.
    #[error("the database{0} does not answer: {1}")]
    Database(Which, String),
    /// The database is a standby, and this would change it.
    #[error("the database is a standby")]
    Standby,
}

impl Unavailable {
    fn of(which: Which, error: &StoreError) -> Unavailable {
        if error.is_read_only() {
            Unavailable::Standby
        } else {
            Unavailable::Database(which, error.to_string())
        }
    }
}

/// Prepares each new connection, and sets our clock by it.
#[derive(Debug)]
struct Prepare {
    ahead: Arc<AtomicI64>,
}

impl CustomizeConnection<PgConnection, R2d2Error> for Prepare {
    fn on_acquire(&self, connection: &mut PgConnection) -> Result<(), R2d2Error> {
        prepare(connection, Limits::API).map_err(R2d2Error::QueryError)?;
        if let Ok(skew) = store::skew(connection) {
            self.ahead
                .store(skew.get().saturating_neg(), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    pool: Pool<ConnectionManager<PgConnection>>,
    url: Arc<str>,
    which: Which,
    permits: Arc<Semaphore>,
    outage: Arc<Outage>,
    ask_again_at: Arc<Mutex<Option<Instant>>>,
    /// By how many microseconds the database's clock is ahead of ours.
    ahead: Arc<AtomicI64>,
}

impl Database {
    /// A pool of at most `connections`. None of them needs to succeed yet.
    pub fn new(url: &str, connections: u32) -> Database {
        let ahead = Arc::<AtomicI64>::default();
        let pool = Pool::builder()
            .max_size(connections)
            .min_idle(Some(1))
            .connection_timeout(PATIENCE)
            .connection_customizer(Box::new(Prepare {
                ahead: Arc::clone(&ahead),
            }))
            .error_handler(Box::new(diesel::r2d2::NopErrorHandler))
            .build_unchecked(ConnectionManager::new(with_timeouts(url)));
        Database {
            pool,
            url: url.into(),
            which: Which::default(),
            permits: Arc::new(Semaphore::new(connections as usize)),
            outage: Arc::default(),
            ask_again_at: Arc::default(),
            ahead,
        }
    }

    /// The same, named by its range of partitions where it does not answer: it is one of several.
    pub fn of_shard(self, shard: Shard) -> Database {
        Database {
            which: Which(Some(shard)),
            ..self
        }
    }

    /// What time it is by the database's clock, which is one for all processes: windows that end now end there.
    pub fn now(&self) -> DateTime<Utc> {
        let ahead = TimeDelta::microseconds(self.ahead.load(Ordering::Relaxed));
        Utc::now().checked_add_signed(ahead).unwrap_or_default()
    }

    /// Runs a question on a connection.
    ///
    /// # Errors
    /// [`Unavailable`] when there is no connection or no answer.
    pub async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut PgConnection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Unavailable> {
        if self.is_away() {
            return Err(self.away_a_moment_ago());
        }
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| Unavailable::Busy)?
            .map_err(|_| Unavailable::Busy)?;
        let database = self.clone();
        let which = self.which;
        let asked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            // In two turns: a machine that stood still for one of them has not waited yet.
            let turn = || database.pool.get_timeout(PATIENCE / 2);
            let connection = turn().or_else(|_| turn());
            database.note(connection.as_ref().err());
            let mut connection =
                connection.map_err(|e| Unavailable::Database(which, e.to_string()))?;
            question(&mut connection).map_err(|e| Unavailable::of(which, &e))
        });
        asked
            .await
            .map_err(|e| Unavailable::Database(which, e.to_string()))?
    }

    /// Runs a question that may take long, under a permit of what that costs, or a share of one. Both permits are held until
    /// the database is done; when who asked has gone, the question is cancelled there.
    ///
    /// # Errors
    /// As [`Database::read`].
    pub async fn read_long<T: Send + 'static>(
        &self,
        permit: impl Send + 'static,
        question: impl FnOnce(&mut PgConnection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let course = Arc::new(Mutex::new(Course::Waiting));
        // Dropped with this future, whether it was answered or who asked has gone.
        let _asker = Asker {
            url: Arc::clone(&self.url),
            course: Arc::clone(&course),
        };
        self.read(move |connection| {
            let _permit = permit;
            let backend = store::backend(connection)?;
            if !begin(&course, backend) {
                return Err(StoreError::Busy("nobody waits for the answer any more"));
            }
            let answer = question(connection);
            // Only then may somebody else have the connection: what is cancelled must be this question.
            *lock(&course) = Course::Over;
            answer
        })
        .await
    }

    /// Changes something: as [`Database::read`], under the name of what it does.
    ///
    /// # Errors
    /// [`Unavailable`] when there is no connection or no answer; whether it was done is not known
    /// then.
    pub async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut PgConnection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Unavailable> {
        self.read(change).await
    }

    /// Why nobody asks it now.
    pub fn away_a_moment_ago(&self) -> Unavailable {
        Unavailable::Database(self.which, "it was away a moment ago".to_owned())
    }

    /// Whether asking now would only make somebody wait.
    fn is_away(&self) -> bool {
        self.ask_again_at().is_some_and(|at| Instant::now() < at)
    }

    /// Notes whether there was a connection.
    fn note(&self, error: Option<&diesel::r2d2::PoolError>) {
        *self.ask_again_at() = error.map(|_| Instant::now() + BREAK);
        let which = self.which;
        match error {
            None => drop(self.outage.ended(format_args!("PostgreSQL{which} is back"))),
            Some(error) => self.outage.failed(format_args!(
                "PostgreSQL{which} does not answer ({error}); answering from the cache, or 503"
            )),
        }
    }

    fn ask_again_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.ask_again_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a question has come.
enum Course {
    Waiting,
    /// Who asked has gone before it began.
    Unwanted,
    Asked(Backend),
    Over,
}

/// Notes that a question begins; `false` if nobody waits for its answer.
fn begin(course: &Mutex<Course>, backend: Backend) -> bool {
    let mut course = lock(course);
    let is_wanted = !matches!(*course, Course::Unwanted);
    if is_wanted {
        *course = Course::Asked(backend);
    }
    is_wanted
}

fn lock(course: &Mutex<Course>) -> MutexGuard<'_, Course> {
    course.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Cancels its question, if that is not over, when it is dropped.
struct Asker {
    url: Arc<str>,
    course: Arc<Mutex<Course>>,
}

impl Drop for Asker {
    fn drop(&mut self) {
        let mut course = lock(&self.course);
        match *course {
            Course::Waiting => *course = Course::Unwanted,
            Course::Asked(_) => {
                let (url, course) = (Arc::clone(&self.url), Arc::clone(&self.course));
                // In a thread where blocking is allowed; without a runtime, all of it is ending.
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn_blocking(move || cancel(&url, &course));
                }
            }
            Course::Unwanted | Course::Over => {}
        }
    }
}

/// Over a connection of its own: those of the pool may all be taken, by questions such as this one.
fn cancel(url: &str, course: &Mutex<Course>) {
    let cancelled = store::connect(url, Limits::API).and_then(|mut connection| {
        // Held meanwhile: its connection is not given to anybody else.
        match *lock(course) {
            Course::Asked(backend) => store::cancel(&mut connection, backend),
            _ => Ok(()),
        }
    });
    if let Err(error) = cancelled {
        log::debug!("a question that nobody waits for runs on until its time is over: {error}");
    }
}
