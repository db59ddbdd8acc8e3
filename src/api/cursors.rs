//! The cursors of a database: signed with its key, which is read when it is first needed, and now and then again.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::cursor::{NOT_OURS, Signer};
use super::parameters::CURSOR;
use super::problem::Problem;
use super::request::Arguments;
use crate::database::Database;
use crate::outage::Outage;
use crate::store::read::cursor_key;

/// For how long a key is used before it is read again.
const FRESH: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Cursors {
    database: Database,
    last: Mutex<Option<(Instant, Signer)>>,
    outage: Outage,
}

impl Cursors {
    /// Nothing was read yet.
    pub fn new(database: Database) -> Cursors {
        Cursors {
            database,
            last: Mutex::default(),
            outage: Outage::default(),
        }
    }

    /// A cursor with these numbers, for `question`.
    ///
    /// # Errors
    /// A [`Problem`] when the key could not be read even once.
    pub async fn give(&self, question: &str, numbers: &[i64]) -> Result<String, Problem> {
        Ok(self.signer().await?.encode(question, numbers))
    }

    /// The numbers in the cursor that came with `question`, if one did.
    ///
    /// # Errors
    /// A [`Problem`] when it is not one of ours, belongs to another question, or the key could not be read even once.
    pub async fn read<const N: usize>(
        &self,
        question: &str,
        given: &Arguments,
    ) -> Result<Option<[i64; N]>, Problem> {
        match given.get(&CURSOR) {
            Some(cursor) => self.signer().await?.decode(question, cursor).map(Some),
            None => Ok(None),
        }
    }

    /// As [`Cursors::read`], of as many numbers as there are databases.
    ///
    /// # Errors
    /// As [`Cursors::read`].
    pub async fn read_all(
        &self,
        question: &str,
        given: &Arguments,
        count: usize,
    ) -> Result<Option<Vec<i64>>, Problem> {
        let Some(cursor) = given.get(&CURSOR) else {
            return Ok(None);
        };
        let numbers = self.signer().await?.decode_all(question, cursor)?;
        let is_ours = numbers.len() == count;
        let numbers = is_ours.then_some(numbers);
        Ok(Some(numbers.ok_or_else(|| Problem::cursor(NOT_OURS))?))
    }

    /// While the key cannot be read, that of before signs.
    async fn signer(&self) -> Result<Signer, Problem> {
        let mut last = self.last.lock().await;
        if let Some((at, signer)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(signer.clone());
        }
        let signer = match (self.database.read(cursor_key::read).await, &*last) {
            (Ok(key), _) => {
                self.outage
                    .ended(format_args!("cursors can be signed again"));
                Signer::new(&key)
            }
            (Err(why), before) => {
                self.outage.failed(format_args!(
                    "the key that signs cursors cannot be read: {why}"
                ));
                let before = before.as_ref().map(|(_, signer)| signer.clone());
                before.ok_or_else(|| Problem::unavailable(&why))?
            }
        };
        *last = Some((Instant::now(), signer.clone()));
        Ok(signer)
    }
}
