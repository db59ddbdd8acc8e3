//! The API's connections to PostgreSQL: pooled, bounded, off the async threads.
//!
//! r2d2 waits for a connection by blocking, so a request first takes one of as many permits as
//! there are connections, and asks in a thread where blocking is allowed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diesel::PgConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Error as R2d2Error, Pool};
use tokio::sync::Semaphore;

use crate::outage::Outage;
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
    outage: Arc<Outage>,
    ask_again_at: Arc<Mutex<Option<Instant>>>,
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
            outage: Arc::default(),
            ask_again_at: Arc::default(),
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
        self.ask_again_at().is_some_and(|at| Instant::now() < at)
    }

    /// Notes whether there was a connection.
    fn note(&self, error: Option<&diesel::r2d2::PoolError>) {
        *self.ask_again_at() = error.map(|_| Instant::now() + BREAK);
        match error {
            None => drop(self.outage.ended(format_args!("PostgreSQL is back"))),
            Some(error) => self.outage.failed(format_args!(
                "PostgreSQL does not answer ({error}); answering from the cache, or 503"
            )),
        }
    }

    fn ask_again_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.ask_again_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
