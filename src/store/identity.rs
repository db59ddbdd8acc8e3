//! Which database this is, and which turn of its history. What caches hold of it they hold under that, so that a copy
//! of it, a server that took over from another, or a state that went back never finds the answers of another.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Uuid as SqlUuid;
use uuid::Uuid;

use super::StoreError;

/// Tells this database, at this turn of its history, from every other: those on other servers and beside it, those
/// that a standby took over, and those of another generation.
///
/// # Errors
/// When the database does not answer.
pub fn identity(connection: &mut PgConnection) -> Result<Uuid, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        identity: Uuid,
    }
    // A server that takes over begins a timeline; the control file says so only after its next checkpoint.
    let row: Row = sql_query(
        "SELECT encode(substring(sha256(convert_to(concat_ws('/', i.store_id, s.system_identifier, d.oid,
             CASE WHEN pg_is_in_recovery() THEN lpad(to_hex(c.timeline_id), 8, '0')
                 ELSE lower(substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)) END,
             i.generation), 'UTF8')) FOR 16), 'hex')::uuid AS identity
         FROM store_identity AS i, pg_control_system() AS s, pg_control_checkpoint() AS c, pg_database AS d
         WHERE d.datname = current_database()",
    )
    .get_result(connection)?;
    Ok(row.identity)
}

/// Gives the database an identity that none had before, where a part of its history is lost: the next generations may have been
/// those of what is lost, and caches hold answers of them.
///
/// # Errors
/// When the database does not do it.
pub fn renew(connection: &mut PgConnection) -> Result<(), StoreError> {
    sql_query(
        "UPDATE store_identity SET store_id = gen_random_uuid(), generation = generation + 1",
    )
    .execute(connection)?;
    Ok(())
}

/// Makes everything outdated that anybody holds of this database. To be called after it is so: whoever reads under the
/// new identity reads what was committed before.
///
/// # Errors
/// When the database does not do it.
pub fn raise_generation(connection: &mut PgConnection) -> Result<(), StoreError> {
    sql_query("UPDATE store_identity SET generation = generation + 1").execute(connection)?;
    Ok(())
}
