//! A pooler between us and the server that hands every transaction to another session.
//!
//! pgbouncer does so with `pool_mode = transaction`. Prepared statements, settings and locks of a session would be left
//! to whoever comes next, so adflux does not work over one.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Nullable, Text};

use super::StoreError;

/// How often it is tried: another client of the pooler may take the session that we look for.
const TRIES: u32 = 3;

/// Whether these two connections keep their sessions. Each statement is in a transaction, which a pooler leaves in one piece.
///
/// # Errors
/// [`StoreError::Pooled`] when they do not, and when the database does not answer.
pub fn check(one: &mut PgConnection, other: &mut PgConnection) -> Result<(), StoreError> {
    for _ in 0..TRIES {
        let tag = format!("{:032x}", rand::random::<u128>());
        one.transaction(|one| {
            sql_query("SELECT set_config('adflux.session', $1, false)")
                .bind::<Text, _>(&tag)
                .execute(one)
        })?;
        // The other has a session for as long as its transaction lasts: it is this one's, or this one has another by now.
        let is_shared = other.transaction(|other| {
            let is_seen = seen(other)? == Some(tag.clone());
            Ok::<_, StoreError>(is_seen || one.transaction(seen)? != Some(tag))
        })?;
        if is_shared {
            return Err(StoreError::Pooled);
        }
    }
    Ok(())
}

fn seen(connection: &mut PgConnection) -> Result<Option<String>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Text>)]
        tag: Option<String>,
    }
    let row: Row = sql_query("SELECT current_setting('adflux.session', true) AS tag")
        .get_result(connection)?;
    Ok(row.tag)
}
