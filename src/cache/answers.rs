//! Answers that take the database a while: kept for a while, and asked for once at a time.
//!
//! However many ask the same question at the same moment, one of them asks the database and the
//! others wait for its answer. Different questions share a few places, so that they never take all
//! connections from the quick ones.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::future::Cache;
use moka::ops::compute;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Source;
use crate::database::Unavailable;
use crate::expected::account::Developments;
use crate::store::read::insights::series::{self, Series};
use crate::store::read::insights::sheet::{self, Sheet};

/// An answer may be as old as so many times what it cost: asking again and again for what takes a
/// second takes a fifth of a connection, no more.
const TIMES_ITS_COST: u32 = 4;
/// How long an answer that nobody asks for is kept.
const KEPT_UNASKED: Duration = Duration::from_secs(60);
/// How long a question waits for a place.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much room an answer takes.
pub trait Weight {
    /// About so many bytes.
    fn weight(&self) -> usize;
}

impl Weight for Series {
    fn weight(&self) -> usize {
        let ids: usize = self.rows.iter().map(|row| row.campaign_id.len()).sum();
        ids + self.rows.len() * size_of::<series::Row>()
            + self.descriptions.weight()
            + self.converted.weight()
    }
}

impl Weight for Sheet {
    fn weight(&self) -> usize {
        let ids: usize = self.rows.iter().map(|row| row.campaign_id.len()).sum();
        ids + self.rows.len() * size_of::<sheet::Row>()
            + self.descriptions.weight()
            + self.converted.weight()
    }
}

impl Weight for Option<Developments> {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.as_ref().map_or(0, Developments::bytes)
    }
}

struct Held<V> {
    answer: Arc<V>,
    asked_at: Instant,
    cost: Duration,
}

/// See the module.
pub struct Answers<K, V> {
    held: Cache<K, Arc<Held<V>>>,
    places: Arc<Semaphore>,
    fresh_for: Duration,
}

impl<K, V> Answers<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Weight + Send + Sync + 'static,
{
    /// Keeps answers of up to about `most_bytes`; each for `fresh_for`, or longer if it was dear.
    pub fn new(most_bytes: u64, places: Arc<Semaphore>, fresh_for: Duration) -> Answers<K, V> {
        Answers {
            held: Cache::builder()
                .max_capacity(most_bytes)
                .weigher(|_, held: &Arc<Held<V>>| {
                    u32::try_from(held.answer.weight()).unwrap_or(u32::MAX)
                })
                .time_to_idle(KEPT_UNASKED)
                .build(),
            places,
            fresh_for,
        }
    }

    /// The answer to `question`, asking with `ask` when none is held that is fresh. `ask` keeps its place until the
    /// database is done with it, also when who asked has gone.
    ///
    /// # Errors
    /// [`Unavailable`] when the database does not answer and nothing is held.
    pub async fn get(
        &self,
        question: &K,
        ask: impl AsyncFnOnce(OwnedSemaphorePermit) -> Result<V, Unavailable>,
    ) -> Result<(Arc<V>, Source), Unavailable> {
        if let Some(held) = self.held.get(question).await
            && self.is_fresh(&held)
        {
            return Ok((Arc::clone(&held.answer), Source::Process));
        }
        let result = self
            .held
            .entry_by_ref(question)
            .and_try_compute_with(|held| async {
                if held.is_some_and(|held| self.is_fresh(held.value())) {
                    return Ok(compute::Op::Nop);
                }
                let place = Arc::clone(&self.places).acquire_owned();
                let place = match tokio::time::timeout(PATIENCE, place).await {
                    Ok(Ok(place)) => place,
                    Ok(Err(_)) | Err(_) => return Err(Unavailable::Busy),
                };
                let asked_at = Instant::now();
                let answer = Arc::new(ask(place).await?);
                Ok::<_, Unavailable>(compute::Op::Put(Arc::new(Held {
                    answer,
                    asked_at,
                    cost: asked_at.elapsed(),
                })))
            })
            .await;
        let given = |entry: moka::Entry<K, Arc<Held<V>>>, source| {
            Ok((Arc::clone(&entry.into_value().answer), source))
        };
        match result {
            Ok(compute::CompResult::Inserted(entry) | compute::CompResult::ReplacedWith(entry)) => {
                given(entry, Source::Database)
            }
            Ok(compute::CompResult::Unchanged(entry)) => given(entry, Source::Process),
            Ok(compute::CompResult::StillNone(_) | compute::CompResult::Removed(_)) => {
                Err(Unavailable::Busy)
            }
            Err(unavailable) => match self.held.get(question).await {
                Some(held) => Ok((Arc::clone(&held.answer), Source::Stale)),
                None => Err(unavailable),
            },
        }
    }

    fn is_fresh(&self, held: &Held<V>) -> bool {
        let longest = held.cost.saturating_mul(TIMES_ITS_COST).max(self.fresh_for);
        held.asked_at.elapsed() < longest
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    impl Weight for usize {
        fn weight(&self) -> usize {
            8
        }
    }

    fn answers(fresh_for: Duration) -> Arc<Answers<&'static str, usize>> {
        Arc::new(Answers::new(1_000, Arc::new(Semaphore::new(1)), fresh_for))
    }

    #[tokio::test]
    async fn a_question_is_asked_once_however_many_ask_it() {
        let answers = answers(Duration::from_secs(3_600));
        let asked = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (answers, asked) = (Arc::clone(&answers), Arc::clone(&asked));
                tokio::spawn(async move {
                    let ask = async |_place| {
                        let n = asked.fetch_add(1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        Ok(n)
                    };
                    *answers.get(&"same", ask).await.expect("an answer").0
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.expect("ends"), 0);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn without_the_database_the_last_answer_is_stale() {
        let answers = answers(Duration::ZERO);
        let away = async |_place| Err(Unavailable::Busy);
        assert!(answers.get(&"q", away).await.is_err());
        let (first, source) = answers
            .get(&"q", async |_place| Ok(1))
            .await
            .expect("asked");
        assert_eq!((*first, source), (1, Source::Database));
        // Until it is older than four times what it cost.
        let mut last = Source::Process;
        while last == Source::Process {
            let (again, source) = answers.get(&"q", away).await.expect("held");
            assert_eq!(*again, 1);
            last = source;
        }
        assert_eq!(last, Source::Stale);
    }
}
