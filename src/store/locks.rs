//! PostgreSQL's advisory locks: what only one session may do at a time. All stand here, so that no two are
//! the same one. A process that dies lets go of its own when the server ends its session.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Text};

use super::StoreError;
use crate::pause::within;

/// A lock; as a number, its key.
#[derive(Clone, Copy, Debug)]
#[repr(i64)]
pub(super) enum Lock {
    /// Bringing the schema up to date, in a transaction.
    Migrate = 7_236_002_113,
    /// Rebuilding the projections, for as long as the session lasts.
    Rebuild,
    /// Merging blocks, in a transaction; and by a rebuild for as long as it runs.
    Merge,
    /// Sending dead letters back through the topic.
    Redrive,
    /// Evaluating the alert rules.
    LeadAlerts,
}

const BETWEEN_TRIES: Duration = Duration::from_millis(100);

#[derive(QueryableByName)]
struct Tried {
    #[diesel(sql_type = Bool)]
    is_ours: bool,
}

impl Lock {
    /// Takes it for the rest of the session, once nobody else has it.
    pub fn take(self, connection: &mut PgConnection) -> Result<(), StoreError> {
        sql_query("SELECT pg_advisory_lock($1)")
            .bind::<BigInt, _>(self as i64)
            .execute(connection)?;
        Ok(())
    }

    /// Takes it for the rest of the session, unless another session has it: `false` then.
    pub fn try_take(self, connection: &mut PgConnection) -> Result<bool, StoreError> {
        let tried: Tried = sql_query("SELECT pg_try_advisory_lock($1) AS is_ours")
            .bind::<BigInt, _>(self as i64)
            .get_result(connection)?;
        Ok(tried.is_ours)
    }

    /// As [`Lock::try_take`], and leaves the session of a killed process so long to end.
    pub fn take_within(
        self,
        connection: &mut PgConnection,
        patience: Duration,
    ) -> Result<bool, StoreError> {
        let taken = within(patience, BETWEEN_TRIES, || {
            Ok::<_, StoreError>(self.try_take(connection)?.then_some(()))
        })?;
        Ok(taken.is_some())
    }

    /// As [`Lock::try_take`], for the rest of the transaction.
    pub fn try_take_in_transaction(
        self,
        connection: &mut PgConnection,
    ) -> Result<bool, StoreError> {
        let tried: Tried = sql_query("SELECT pg_try_advisory_xact_lock($1) AS is_ours")
            .bind::<BigInt, _>(self as i64)
            .get_result(connection)?;
        Ok(tried.is_ours)
    }
}

/// Takes, for the rest of the session, the lock on publishing the dead letters of a topic of a cluster; `false`
/// if another session has it. Keys of two numbers are apart from those of one.
pub(super) fn try_take_publishing(
    connection: &mut PgConnection,
    cluster_id: &str,
    topic: &str,
) -> Result<bool, StoreError> {
    let tried: Tried =
        sql_query("SELECT pg_try_advisory_lock(7236002, hashtext($1 || ' ' || $2)) AS is_ours")
            .bind::<Text, _>(cluster_id)
            .bind::<Text, _>(topic)
            .get_result(connection)?;
    Ok(tried.is_ours)
}

/// Takes, for the rest of the transaction, the lock on rewriting the parts of a partition and a grain; `false` if another
/// session has it.
pub(super) fn try_take_sums(
    connection: &mut PgConnection,
    stream: super::StreamId,
    grain: super::sums::Grain,
) -> Result<bool, StoreError> {
    let tried: Tried = sql_query("SELECT pg_try_advisory_xact_lock(7236010 + $2, $1) AS is_ours")
        .bind::<Integer, _>(stream.0)
        .bind::<Integer, _>(i32::from(grain.number()))
        .get_result(connection)?;
    Ok(tried.is_ours)
}

/// Takes the locks on rewriting the parts of these partitions, of every grain, for the rest of the transaction.
pub(super) fn take_sums(
    connection: &mut PgConnection,
    streams: &[super::StreamId],
) -> Result<(), StoreError> {
    let ids: Vec<i32> = streams.iter().map(|stream| stream.0).collect();
    sql_query(
        "SELECT count(pg_advisory_xact_lock(7236010 + grain, stream_id)) FROM (
             SELECT stream_id, grain FROM unnest($1) AS s (stream_id), generate_series(0, 5) AS g (grain)
             ORDER BY stream_id, grain) AS s",
    )
    .bind::<Array<Integer>, _>(ids)
    .execute(connection)?;
    Ok(())
}

/// Takes the locks on rewriting the parts of every partition and grain, for the rest of the transaction.
pub(super) fn take_all_sums(connection: &mut PgConnection) -> Result<(), StoreError> {
    sql_query(
        "SELECT count(pg_advisory_xact_lock(7236010 + grain, stream_id)) FROM (
             SELECT stream_id, grain FROM stream_positions, generate_series(0, 5) AS g (grain)
             ORDER BY stream_id, grain) AS s",
    )
    .execute(connection)?;
    Ok(())
}
