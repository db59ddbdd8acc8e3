//! The database's clock, and ours against it.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Timestamptz;

use super::StoreError;
use crate::time::{Length, Timestamp};

/// Clocks may differ by so much before it is said.
pub const SKEW: Length = Length::MINUTE;

/// The database's clock: one for all processes.
///
/// # Errors
/// When the database does not answer.
pub fn clock(connection: &mut PgConnection) -> Result<DateTime<Utc>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Timestamptz)]
        now: DateTime<Utc>,
    }
    let row: Row = sql_query("SELECT clock_timestamp() AS now").get_result(connection)?;
    Ok(row.now)
}

/// By how much our clock is ahead of the database's; behind it if negative. Within the time that the question takes, they
/// agree.
///
/// # Errors
/// When the database does not answer.
pub fn skew(connection: &mut PgConnection) -> Result<Length, StoreError> {
    let before = Timestamp::now();
    let theirs = Timestamp::from(clock(connection)?);
    let after = Timestamp::now();
    Ok(between(before, theirs, after))
}

fn between(before: Timestamp, theirs: Timestamp, after: Timestamp) -> Length {
    if theirs < before {
        before - theirs
    } else {
        (after - theirs).min(Length::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_agree_while_one_is_asked() {
        let at = |seconds| Timestamp::EPOCH + Length::SECOND.times(seconds);
        let seconds = |theirs| between(at(100), at(theirs), at(105)).get() / Length::SECOND.get();
        let found: Vec<i64> = [90, 100, 103, 105, 125].map(seconds).to_vec();
        assert_eq!(found, [10, 0, 0, 0, -20]);
    }
}
