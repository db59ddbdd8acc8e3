//! How many parts there are, and how many of them wait.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::event::Count;
use crate::store::StoreError;
use crate::store::prepared::prepared;

/// So many fresh parts of minutes may wait in a partition; then who counts there waits too.
pub const MOST_WAITING: Count = Count::new(64);

/// What the directory looks like.
#[derive(Clone, Copy, Debug, QueryableByName)]
pub struct Backlog {
    /// Parts in all.
    #[diesel(sql_type = BigInt)]
    pub parts: Count,
    /// Fresh parts of minutes, in the partition that has most.
    #[diesel(sql_type = BigInt)]
    pub waiting: Count,
    /// Chunks that are replaced and take room until PostgreSQL clears them away, as it estimates.
    #[diesel(sql_type = BigInt)]
    pub dead_chunks: Count,
}

impl Backlog {
    /// Of two databases together.
    pub fn and(self, other: Backlog) -> Backlog {
        Backlog {
            parts: [self.parts, other.parts].into_iter().sum(),
            waiting: self.waiting.max(other.waiting),
            dead_chunks: [self.dead_chunks, other.dead_chunks].into_iter().sum(),
        }
    }

    /// Whether parts are carried more slowly than they come: three quarters of those that may wait do.
    pub fn is_behind(&self) -> bool {
        self.waiting.as_u64() * 4 >= MOST_WAITING.as_u64() * 3
    }
}

/// Counts them.
///
/// # Errors
/// When the database does not answer.
pub fn backlog(connection: &mut PgConnection) -> Result<Backlog, StoreError> {
    let text = "SELECT COALESCE(sum(parts), 0)::bigint AS parts, COALESCE(max(waiting), 0) AS waiting,
             COALESCE((SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'sum_chunks'::regclass), 0) AS dead_chunks
         FROM (
             SELECT count(*) AS parts, count(*) FILTER (WHERE grain = 0 AND reach = 0) AS waiting
             FROM sum_parts GROUP BY stream_id) AS s";
    Ok(prepared(text).get_result(connection)?)
}
