//! The summaries of times (BRIN) over the projections, kept up to date.

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;

use crate::store::StoreError;

/// Brings the summaries of times (BRIN) up to date, by which lists over a window leave out what is not of it.
/// Vacuum does it as well, and alone where this role does not own them. Where one is at work, it is left to it: to wait
/// would make PostgreSQL cancel it.
///
/// # Errors
/// When a vacuum is at work, and as the database does.
pub fn summarize(connection: &mut PgConnection) -> Result<(), StoreError> {
    connection.batch_execute(
        "SET lock_timeout = '100ms';
         SELECT brin_summarize_new_values(i.indexrelid) FROM pg_index AS i
         JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS a ON a.oid = c.relam AND a.amname = 'brin'
         WHERE i.indrelid IN ('metrics_by_minute'::regclass, 'metrics_by_hour'::regclass, 'metrics_by_day'::regclass)
             AND pg_has_role(c.relowner, 'USAGE')",
    )?;
    Ok(())
}
