//! The API's connections to PostgreSQL: pooled, bounded, off the async threads.
//!
//! r2d2 waits for a connection by blocking, so a request first takes one of as many permits as
//! there are connections, and asks in a thread where blocking is allowed.

use std::sync::Arc;
use std::time::Duration;

use diesel::PgConnection;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Error as R2d2Error, Pool};
use tokio::sync::Semaphore;

use crate::store::{Limits, StoreError, prepare, with_timeouts};

/// How long a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
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
        let permit = tokio::time::timeout(PATIENCE, Arc::clone(&self.permits).acquire_owned())
            .await
            .map_err(|_| Unavailable::Busy)?
            .map_err(|_| Unavailable::Busy)?;
        let pool = self.pool.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut connection = pool
                .get()
                .map_err(|e| Unavailable::Database(e.to_string()))?;
            question(&mut connection).map_err(|e| Unavailable::Database(e.to_string()))
        });
        asked
            .await
            .map_err(|e| Unavailable::Database(e.to_string()))?
    }
}
