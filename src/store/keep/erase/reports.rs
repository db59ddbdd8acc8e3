//! Reports: what platforms said, names, and the files that said it.

use data_encoding::HEXLOWER;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Integer, SmallInt, Text};

use super::Removed;
use crate::event::Count;
use crate::store::StoreError;
use crate::store::columns::Integers;

/// A file that has a row of it.
#[derive(QueryableByName)]
pub(super) struct File {
    #[diesel(sql_type = Integer)]
    file_id: i32,
    #[diesel(sql_type = Binary)]
    sha256: Vec<u8>,
}

impl File {
    /// Its SHA-256 in hexadecimal.
    pub fn hash(&self) -> String {
        HEXLOWER.encode(&self.sha256)
    }
}

/// The files of an account; of campaigns those that their rows are from, and those of their accounts with a day of theirs: a file
/// that said what was known already is remembered by no row.
pub(super) fn files(
    connection: &mut PgConnection,
    names: &[String],
    account: Option<(i16, &str)>,
) -> Result<Vec<File>, StoreError> {
    let (platform, account) = account.unwrap_or((-1, ""));
    Ok(sql_query(
        "WITH said AS (
             SELECT definition_id, day, file_id FROM report_rows WHERE campaign_id = ANY($1)
             UNION ALL SELECT definition_id, day, file_id FROM report_history WHERE campaign_id = ANY($1)),
         days AS (
             SELECT d.platform, d.account, min(s.day) AS first_day, max(s.day) AS last_day
             FROM said AS s JOIN report_definitions AS d USING (definition_id) GROUP BY 1, 2)
         SELECT f.file_id, f.sha256 FROM report_files AS f
         WHERE f.file_id IN (SELECT file_id FROM said)
             OR f.file_id IN (
                 SELECT i.file_id FROM report_imports AS i JOIN days AS d ON d.platform = i.platform
                     AND d.account = ANY(i.accounts) AND d.first_day <= i.last_day AND d.last_day >= i.first_day
                 UNION SELECT i.file_id FROM report_imports AS i WHERE i.platform = $2 AND $3 = ANY(i.accounts))
         ORDER BY f.file_id",
    )
    .bind::<Array<Text>, _>(names)
    .bind::<SmallInt, _>(platform)
    .bind::<Text, _>(account)
    .load(connection)?)
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    report_rows: Count,
    #[diesel(sql_type = BigInt)]
    report_history: Count,
    #[diesel(sql_type = BigInt)]
    names: Count,
}

/// Counts what would be removed.
pub(super) fn count(
    connection: &mut PgConnection,
    names: &[String],
    removed: &mut Removed,
) -> Result<(), StoreError> {
    let counted: Counted = sql_query(
        "SELECT (SELECT count(*) FROM report_rows WHERE campaign_id = ANY($1)) AS report_rows,
             (SELECT count(*) FROM report_history WHERE campaign_id = ANY($1)) AS report_history,
             (SELECT count(*) FROM campaign_names WHERE campaign_id = ANY($1)) AS names",
    )
    .bind::<Array<Text>, _>(names)
    .get_result(connection)?;
    removed.report_rows = counted.report_rows;
    removed.report_history = counted.report_history;
    removed.names = counted.names;
    Ok(())
}

/// Removes it. Returns the files whose content is kept nowhere any more, once the caller has removed it elsewhere.
pub(super) fn remove(
    connection: &mut PgConnection,
    names: &[String],
    account: Option<(i16, &str)>,
    removed: &mut Removed,
) -> Result<Vec<File>, StoreError> {
    count(connection, names, removed)?;
    let files = files(connection, names, account)?;
    let ids: Vec<i32> = files.iter().map(|file| file.file_id).collect();
    let on_files = |connection: &mut PgConnection, sql: &str| {
        sql_query(sql)
            .bind::<Array<Integer>, _>(Integers(&ids))
            .execute(connection)
    };
    // Whoever imports one of them holds its row.
    on_files(
        connection,
        "SELECT FROM report_files WHERE file_id = ANY($1) ORDER BY file_id FOR UPDATE",
    )?;
    on_files(
        connection,
        "DELETE FROM report_file_chunks WHERE file_id = ANY($1)",
    )?;
    for table in ["report_rows", "report_history", "campaign_names"] {
        sql_query(format!("DELETE FROM {table} WHERE campaign_id = ANY($1)"))
            .bind::<Array<Text>, _>(names)
            .execute(connection)?;
    }
    let imports = match account {
        Some((platform, account)) => {
            let imports = sql_query(
                "DELETE FROM report_imports WHERE platform = $1 AND $2 = ANY(accounts) AND cardinality(accounts) = 1",
            )
            .bind::<SmallInt, _>(platform)
            .bind::<Text, _>(account)
            .execute(connection)?;
            sql_query(
                "UPDATE report_imports SET accounts = array_remove(accounts, $2), options = options - 'account'
                 WHERE platform = $1 AND $2 = ANY(accounts)",
            )
            .bind::<SmallInt, _>(platform)
            .bind::<Text, _>(account)
            .execute(connection)?;
            sql_query("DELETE FROM report_definitions WHERE platform = $1 AND account = $2")
                .bind::<SmallInt, _>(platform)
                .bind::<Text, _>(account)
                .execute(connection)?;
            // All partitions are held: none is about to count a row of such a file.
            on_files(
                connection,
                "DELETE FROM report_files AS f WHERE f.file_id = ANY($1)
                     AND NOT EXISTS (SELECT FROM report_imports AS i WHERE i.file_id = f.file_id)
                     AND NOT EXISTS (SELECT FROM report_rows AS r WHERE r.file_id = f.file_id)
                     AND NOT EXISTS (SELECT FROM report_history AS h WHERE h.file_id = f.file_id)",
            )?;
            imports
        }
        // An import of which nothing else counts.
        None => on_files(
            connection,
            "DELETE FROM report_imports AS i WHERE i.file_id = ANY($1)
                 AND NOT EXISTS (SELECT FROM report_rows AS r WHERE r.file_id = i.file_id)
                 AND NOT EXISTS (SELECT FROM report_history AS h WHERE h.file_id = i.file_id)",
        )?,
    };
    removed.imports = Count::of(imports);
    Ok(files)
}
