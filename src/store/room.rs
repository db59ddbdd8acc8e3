//! Whether the server's disk has room. diesel has no kind for a full disk, and the message is in the server's language.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Nullable, Text};

use super::StoreError;

/// Has the server write 8 MiB beside the tables, which are gone again at once, and say whether it could.
///
/// # Errors
/// [`StoreError::Full`] with what it said; else as the database does.
pub fn check_room(connection: &mut PgConnection) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Text>)]
        refusal: Option<String>,
    }
    let tried: Row = connection.transaction(|connection| {
        // Rows that are too short to be compressed. A table of the session is written at once, page by page.
        connection.batch_execute(
            "DO $$
             BEGIN
                 SET LOCAL temp_tablespaces = '';
                 CREATE TEMPORARY TABLE adflux_room (filler text) ON COMMIT DROP;
                 INSERT INTO adflux_room SELECT repeat('x', 1900) FROM generate_series(1, 4096);
             EXCEPTION WHEN disk_full THEN
                 PERFORM set_config('adflux.refusal', SQLERRM, true);
             END
             $$",
        )?;
        sql_query("SELECT NULLIF(current_setting('adflux.refusal', true), '') AS refusal")
            .get_result(connection)
    })?;
    match tried.refusal {
        None => Ok(()),
        Some(refusal) => Err(StoreError::Full(refusal)),
    }
}
