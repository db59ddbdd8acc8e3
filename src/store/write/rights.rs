//! Whether a processor may do what it does.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Nullable, Text};

use crate::store::StoreError;

/// Asks whether the role of this connection has the privileges that writing takes.
///
/// # Errors
/// [`StoreError::Privileges`] with those it lacks; else as the database does.
pub fn check_rights(connection: &mut PgConnection) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Text>)]
        lacking: Option<String>,
    }
    let Row { lacking } = sql_query(
        "SELECT string_agg(privilege || ' on ' || name, ', ' ORDER BY name, privilege) AS lacking \
         FROM (SELECT name, unnest(privileges) AS privilege FROM (VALUES \
             ('shard', ARRAY['SELECT']), \
             ('stream_positions', ARRAY['SELECT', 'INSERT', 'UPDATE']), \
             ('campaigns', ARRAY['SELECT', 'INSERT', 'UPDATE']), \
             ('event_blocks', ARRAY['SELECT', 'INSERT']), \
             ('event_periods', ARRAY['SELECT']), \
             ('late_events', ARRAY['SELECT', 'INSERT']), \
             ('sum_parts', ARRAY['SELECT', 'INSERT', 'DELETE']), \
             ('sum_chunks', ARRAY['SELECT', 'INSERT', 'DELETE']), \
             ('sum_fresh_from', ARRAY['SELECT', 'INSERT', 'UPDATE']), \
             ('metrics_total', ARRAY['SELECT']), \
             ('report_definitions', ARRAY['SELECT', 'INSERT']), \
             ('report_files', ARRAY['SELECT', 'INSERT']), \
             ('report_rows', ARRAY['SELECT', 'INSERT', 'UPDATE']), \
             ('report_history', ARRAY['SELECT', 'INSERT', 'DELETE']), \
             ('campaign_names', ARRAY['SELECT', 'INSERT', 'UPDATE']), \
             ('dead_letters', ARRAY['INSERT'])) AS t (name, privileges)) AS needed \
         WHERE has_table_privilege(to_regclass(name)::oid, privilege) IS NOT TRUE",
    )
    .get_result(connection)?;
    match lacking {
        None => Ok(()),
        Some(lacking) => Err(StoreError::Privileges(lacking)),
    }
}
