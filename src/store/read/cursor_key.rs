//! What the cursors of the API are signed with.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Bytea;

use crate::store::StoreError;

/// The key of this database, which all its servers share.
///
/// # Errors
/// When the database does not answer, or the role may not read it.
pub fn read(connection: &mut PgConnection) -> Result<Vec<u8>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bytea)]
        secret: Vec<u8>,
    }
    let row: Row = sql_query("SELECT secret FROM cursor_key").get_result(connection)?;
    Ok(row.secret)
}
