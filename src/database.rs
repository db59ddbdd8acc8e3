//! The API's connections to PostgreSQL: pooled, bounded, off the async threads.
//!
//! r2d2 waits for a connection by blocking, so a request first takes one of as many permits as
//! there are connections, and asks in a thread where blocking is allowed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::PgConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Error as R2d2Error, Pool};
use tokio::sync::Semaphore;

use crate::store::{Limits, StoreError, prepare, with_timeouts};

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// After a failure, nobody is made to wait for another one for so long.
const BREAK: Duration = Duration::from_millis(500);

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// All connections were busy for too long.
    #[error("too many requests are waiting for the database")]
    Busy,
    /// The database did not answer.
    #[error("the database does not answer: {0}")]
    Database(String),
}

#[derive(Debug)]
struct Prepare;

impl CustomizeConnection<PgConnection, R2d2Error> for Prepare {
    fn on_acquire(&self, connection: &mut PgConnection) -> Result<(), R2d2Error> {
        prepare(connection, Limits::API).map_err(R2d2Error::QueryError)
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    pool: Pool<ConnectionManager<PgConnection>>,
    permits: Arc<Semaphore>,
    away: Arc<Mutex<Away>>,
}

/// When the database was last found to be away.
#[derive(Default)]
struct Away {
    since: Option<Instant>,
    ask_again_at: Option<Instant>,
}

impl Database {
    /// A pool of at most `connections`. None of them needs to succeed yet.
    pub fn new(url: &str, connections: u32) -> Database {
        let pool = Pool::builder()
            .max_size(connections)
            .min_idle(Some(1))
            .connection_timeout(PATIENCE)
            .connection_customizer(Box::new(Prepare))
            .error_handler(Box::new(diesel::r2d2::NopErrorHandler))
            .build_unchecked(ConnectionManager::new(with_timeouts(url)));
        Database {
            pool,
            permits: Arc::new(Semaphore::new(connections as usize)),
            away: Arc::default(),
        }
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
            return Err(Unavailable::Database("it was away a moment ago".to_owned()));
        }
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| Unavailable::Busy)?
            .map_err(|_| Unavailable::Busy)?;
        let database = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            // In two turns: a machine that stood still for one of them has not waited yet.
            let turn = || database.pool.get_timeout(PATIENCE / 2);
            let connection = turn().or_else(|_| turn());
            database.note(connection.as_ref().err());
            let mut connection = connection.map_err(|e| Unavailable::Database(e.to_string()))?;
            question(&mut connection).map_err(|e| Unavailable::Database(e.to_string()))
        });
        asked
            .await
            .map_err(|e| Unavailable::Database(e.to_string()))?
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

    /// Whether asking now would only make somebody wait.
    fn is_away(&self) -> bool {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.ask_again_at.is_some_and(|at| Instant::now() < at)
    }

    /// Notes whether there was a connection, and says once when that changes.
    fn note(&self, error: Option<&diesel::r2d2::PoolError>) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        match (error, away.since) {
            (None, None) => {}
            (None, Some(since)) => {
                log::info!(
                    "PostgreSQL is back after {:.1} s",
                    since.elapsed().as_secs_f64()
                );
                *away = Away::default();
            }
            (Some(error), since) => {
                if since.is_none() {
                    log::warn!(
                        "PostgreSQL does not answer ({error}); answering from the cache, or 503"
                    );
                }
                away.since = since.or_else(|| Some(Instant::now()));
                away.ask_again_at = Some(Instant::now() + BREAK);
            }
        }
    }
}
