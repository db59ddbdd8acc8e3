//! Exchange rates in memory: all of them, read again when an import has changed any. Whether one has is looked up at most once in two
//! seconds; while PostgreSQL does not answer, those that were read last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::database::{Database, Unavailable};
use crate::rates::Rates;
use crate::store::read::rates;

/// How old rates may be. A file is imported once a day.
const FRESH: Duration = Duration::from_secs(2);

/// See the module.
pub struct RatesInMemory {
    held: Mutex<Option<(Arc<Rates>, Instant)>>,
    database: Database,
}

impl RatesInMemory {
    /// None yet.
    pub fn new(database: Database) -> RatesInMemory {
        RatesInMemory {
            held: Mutex::new(None),
            database,
        }
    }

    /// All rates. One asks the database, and who comes meanwhile waits for it.
    ///
    /// # Errors
    /// [`Unavailable`] when the database does not answer and none were read.
    pub async fn get(&self) -> Result<Arc<Rates>, Unavailable> {
        let mut held = self.held.lock().await;
        let known = match &*held {
            Some((rates, asked)) if asked.elapsed() < FRESH => return Ok(Arc::clone(rates)),
            Some((rates, _)) => Some(Arc::clone(rates)),
            None => None,
        };
        let asked = Instant::now();
        let version = known.as_ref().map(|rates| rates.version());
        let read = self.database.read(move |connection| {
            if Some(rates::version(connection)?) == version {
                return Ok(None);
            }
            rates::all(connection).map(Some)
        });
        let rates = match (read.await, known) {
            (Ok(Some(read)), _) => Arc::new(read),
            (Ok(None) | Err(_), Some(known)) => known,
            (Ok(None), None) => return Err(Unavailable::Busy),
            (Err(unavailable), None) => return Err(unavailable),
        };
        *held = Some((Arc::clone(&rates), asked));
        Ok(rates)
    }
}
