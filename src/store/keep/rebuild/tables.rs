//! The tables that a rebuild fills, made like the live ones, and how they take their place.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Nullable, Text};

use crate::store::StoreError;
use crate::store::sums::{Grain, TOTAL_TABLE};

/// What the name of a new table has after that of the live one.
pub(super) const SUFFIX: &str = "_rebuild";

/// The four tables.
pub(in crate::store) fn tables() -> [&'static str; 4] {
    let [minute, hour, day] = Grain::ALL.map(Grain::table);
    [minute, hour, day, TOTAL_TABLE]
}

/// Drops what a rebuild before this one has left.
pub(super) fn drop_leftovers(connection: &mut PgConnection) -> Result<(), StoreError> {
    let names = tables().map(|table| format!("{table}{SUFFIX}"));
    connection.batch_execute(&format!("DROP TABLE IF EXISTS {}", names.join(", ")))?;
    Ok(())
}

/// Creates them, empty.
pub(super) fn create_tables(connection: &mut PgConnection) -> Result<(), StoreError> {
    drop_leftovers(connection)?;
    for table in tables() {
        connection.batch_execute(&format!(
            "CREATE TABLE {table}{SUFFIX} (LIKE {table} INCLUDING ALL)"
        ))?;
        // What LIKE leaves out: storage parameters, the table's own comment, owner and grants.
        connection.batch_execute(&format!(
            "DO $$
             DECLARE
                 live    pg_class;
                 granted record;
             BEGIN
                 SELECT * INTO live FROM pg_class WHERE oid = '{table}'::regclass;
                 IF live.reloptions IS NOT NULL THEN
                     EXECUTE format('ALTER TABLE {table}{SUFFIX} SET (%s)', array_to_string(live.reloptions, ', '));
                 END IF;
                 EXECUTE format('COMMENT ON TABLE {table}{SUFFIX} IS %L', obj_description(live.oid, 'pg_class'));
                 FOR granted IN
                     SELECT a.privilege_type, a.is_grantable,
                         CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee
                     FROM aclexplode(live.relacl) AS a
                     WHERE a.grantee <> live.relowner
                 LOOP
                     EXECUTE format('GRANT %s ON {table}{SUFFIX} TO %s%s', granted.privilege_type, granted.grantee,
                         CASE WHEN granted.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
                 END LOOP;
                 IF pg_get_userbyid(live.relowner) <> current_user THEN
                     EXECUTE format('ALTER TABLE {table}{SUFFIX} OWNER TO %I', pg_get_userbyid(live.relowner));
                 END IF;
             END
             $$"
        ))?;
    }
    Ok(())
}

/// A view over a live projection.
#[derive(QueryableByName)]
pub(super) struct View {
    /// Quoted and qualified as needed.
    #[diesel(sql_type = Text)]
    pub(super) name: String,
    #[diesel(sql_type = Text)]
    definition: String,
    #[diesel(sql_type = Nullable<Text>)]
    options: Option<String>,
}

/// `campaign_metrics`, and whatever views others have made over the projections.
pub(super) fn dependent_views(connection: &mut PgConnection) -> Result<Vec<View>, StoreError> {
    let live = tables().map(|table| format!("'{table}'::regclass"));
    Ok(sql_query(format!(
        "SELECT v.oid::regclass::text AS name, rtrim(pg_get_viewdef(v.oid), ';') AS definition,
             array_to_string(v.reloptions, ', ') AS options
         FROM pg_class AS v
         WHERE v.relkind = 'v' AND v.oid IN (
             SELECT r.ev_class FROM pg_rewrite AS r
             JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
             WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid IN ({}))
         ORDER BY v.oid",
        live.join(", ")
    ))
    .load(connection)?)
}

/// Puts the new tables in the place of the live ones, under their names and those of their indexes.
pub(super) fn rename(connection: &mut PgConnection) -> Result<(), StoreError> {
    #[derive(QueryableByName)]
    struct Index {
        #[diesel(sql_type = Text)]
        made: String,
        #[diesel(sql_type = Text)]
        live: String,
    }
    // By name in their text, so that the same text means the new tables afterwards.
    let views = dependent_views(connection)?;
    let mut indexes: Vec<Index> = Vec::new();
    for table in tables() {
        // LIKE names indexes by itself; the one that indexes the same is the one it stands for.
        indexes.extend(
            sql_query(format!(
                "SELECT quote_ident(m.relname) AS made, quote_ident(l.relname) AS live
                 FROM pg_index AS li JOIN pg_class AS l ON l.oid = li.indexrelid
                 JOIN pg_index AS mi ON mi.indisprimary = li.indisprimary AND mi.indisunique = li.indisunique
                     AND split_part(pg_get_indexdef(mi.indexrelid), ' USING ', 2)
                       = split_part(pg_get_indexdef(li.indexrelid), ' USING ', 2)
                 JOIN pg_class AS m ON m.oid = mi.indexrelid
                 WHERE li.indrelid = '{table}'::regclass AND mi.indrelid = '{table}{SUFFIX}'::regclass"
            ))
            .load::<Index>(connection)?,
        );
    }
    let mut statements = Vec::new();
    for table in tables() {
        statements.push(format!("ALTER TABLE {table} RENAME TO {table}_replaced"));
        statements.push(format!("ALTER TABLE {table}{SUFFIX} RENAME TO {table}"));
    }
    // Replaced and not dropped: a view keeps its comment, its grants and the views over it.
    for view in views {
        let options = view
            .options
            .map_or_else(String::new, |options| format!(" WITH ({options})"));
        statements.push(format!(
            "CREATE OR REPLACE VIEW {}{options} AS {}",
            view.name, view.definition
        ));
    }
    for table in tables() {
        statements.push(format!("DROP TABLE {table}_replaced"));
    }
    // Index names are free only now. A constraint's name goes with its index.
    for index in indexes {
        statements.push(format!(
            "ALTER INDEX {} RENAME TO {}",
            index.made, index.live
        ));
    }
    connection.batch_execute(&statements.join("; "))?;
    Ok(())
}
