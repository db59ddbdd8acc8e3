//! What platforms said of days, and when: all revisions of an account's report rows, as changes.
//!
//! A revision is one more answer than the one before it, so the sum of the changes up to an instant is what was known then, of however
//! many rows.

use chrono::NaiveDate;
use chrono_tz::Tz;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Date, Double, Integer, Nullable, Text, Timestamptz};

use super::definitions::DefinitionRow;
use crate::currency::Currency;
use crate::event::{Conversions, Money, Platform};
use crate::store::StoreError;
use crate::time::Timestamp;

/// An account, by what its numbers mean: where that was changed, its days from then on are those of another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// The short names of that, one for each grain of its rows.
    pub definitions: Vec<i32>,
    pub platform: Platform,
    /// The platform's own id of it.
    pub id: String,
    pub time_zone: Tz,
    pub currency: Currency,
    /// What counts as a conversion, in the platform's own words; empty: what it counts itself.
    pub conversions: String,
    /// What is revenue, likewise.
    pub revenue: String,
}

#[derive(QueryableByName)]
struct AccountRow {
    #[diesel(sql_type = Array<Integer>)]
    definitions: Vec<i32>,
    #[diesel(embed)]
    definition: DefinitionRow,
}

impl AccountRow {
    /// None where a newer version wrote what this one doesn't know.
    fn account(self) -> Option<Account> {
        let definition = self.definition.known()?;
        Some(Account {
            definitions: self.definitions,
            platform: definition.platform,
            id: definition.account.to_owned(),
            time_zone: definition.time_zone,
            currency: definition.currency,
            conversions: definition.conversions.to_owned(),
            revenue: definition.revenue.to_owned(),
        })
    }
}

/// All that are alike but for their grain.
const ACCOUNTS: &str = "SELECT array_agg(d.definition_id ORDER BY d.definition_id) AS definitions, platform, account, time_zone, currency, \
     conversions, revenue
     FROM report_definitions AS d";
const BY_MEANING: &str = "GROUP BY platform, account, time_zone, currency, conversions, revenue \
     ORDER BY platform, account, time_zone, currency, conversions, revenue";

/// All accounts, or those that the platform calls so.
///
/// # Errors
/// When the database does not answer.
pub fn accounts(
    connection: &mut PgConnection,
    id: Option<&str>,
) -> Result<Vec<Account>, StoreError> {
    let rows: Vec<AccountRow> = sql_query(format!(
        "{ACCOUNTS} WHERE $1 IS NULL OR account = $1 {BY_MEANING}"
    ))
    .bind::<Nullable<Text>, _>(id)
    .load(connection)?;
    Ok(rows.into_iter().filter_map(AccountRow::account).collect())
}

/// What a campaign's day is known to be.
#[derive(Clone, Copy, Debug, PartialEq, QueryableByName)]
pub struct KnownDay {
    #[diesel(sql_type = Date)]
    pub day: NaiveDate,
    /// When the platform was last asked.
    #[diesel(sql_type = Timestamptz)]
    pub observed_at: Timestamp,
    /// None: of some of its rows they are unknown.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub conversions: Option<Conversions>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub revenue: Option<Money>,
}

/// The account of a campaign, and what is known of its days from `since` on. None: no platform has reported it.
///
/// # Errors
/// When the database does not answer.
pub fn of_campaign(
    connection: &mut PgConnection,
    campaign_id: &str,
    since: NaiveDate,
) -> Result<Option<(Account, Vec<KnownDay>)>, StoreError> {
    let account: Option<AccountRow> = sql_query(format!(
        "{ACCOUNTS} JOIN (SELECT o.* FROM campaigns AS c JOIN report_definitions AS o USING (definition_id) WHERE c.campaign_id = $1) AS own
             USING (platform, account, time_zone, currency, conversions, revenue)
         {BY_MEANING}"
    ))
    .bind::<Text, _>(campaign_id)
    .get_result(connection)
    .optional()?;
    let Some(account) = account.and_then(AccountRow::account) else {
        return Ok(None);
    };
    // A row that says nothing was taken back.
    let days = sql_query(
        "SELECT day, max(GREATEST(observed_at, confirmed_at[cardinality(confirmed_at)])) AS observed_at,
             CASE WHEN count(conversion_micros) = count(*) THEN sum(conversion_micros)::bigint END AS conversions,
             CASE WHEN count(revenue_micros) = count(*) THEN sum(revenue_micros)::bigint END AS revenue
         FROM report_rows
         WHERE campaign_id = $1 AND day >= $2 AND definition_id = ANY($3)
             AND num_nonnulls(impressions, clicks, conversion_micros, cost_micros, revenue_micros) > 0
         GROUP BY day ORDER BY day",
    )
    .bind::<Text, _>(campaign_id)
    .bind::<Date, _>(since)
    .bind::<Array<Integer>, _>(&account.definitions)
    .load(connection)?;
    Ok(Some((account, days)))
}

/// The campaigns of an account that its platform reported last, at most so many.
///
/// # Errors
/// When the database does not answer.
pub fn campaigns(
    connection: &mut PgConnection,
    account: &Account,
    most: u32,
) -> Result<Vec<String>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        campaign_id: String,
    }
    // Of those that were reported at the same time, always the same, and not those that are neighbours.
    let rows: Vec<Row> = sql_query(
        "SELECT campaign_id FROM campaigns WHERE definition_id = ANY($1)
         ORDER BY described_at DESC, md5(campaign_id), campaign_id LIMIT $2",
    )
    .bind::<Array<Integer>, _>(&account.definitions)
    .bind::<BigInt, _>(i64::from(most))
    .load(connection)?;
    Ok(rows.into_iter().map(|row| row.campaign_id).collect())
}

/// The last day that an account's platform has reported.
///
/// # Errors
/// When the database does not answer.
pub fn last_day(
    connection: &mut PgConnection,
    account: &Account,
) -> Result<Option<NaiveDate>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Date>)]
        day: Option<NaiveDate>,
    }
    let row: Row =
        sql_query("SELECT max(day) AS day FROM report_rows WHERE definition_id = ANY($1)")
            .bind::<Array<Integer>, _>(&account.definitions)
            .get_result(connection)?;
    Ok(row.day)
}

/// Whose days changes are of.
#[derive(Clone, Debug)]
pub enum Whose<'a> {
    /// The account's, all of its campaigns together.
    Account,
    /// Those of each of these campaigns.
    Campaigns(&'a [String]),
}

/// By how much more was known of a day from an instant on, in millionths.
#[derive(Clone, Debug, PartialEq, QueryableByName)]
pub struct Change {
    /// Empty: all of the account.
    #[diesel(sql_type = Text)]
    pub campaign_id: String,
    #[diesel(sql_type = Date)]
    pub day: NaiveDate,
    /// When the platform was asked; where nothing changed, it said the same again.
    #[diesel(sql_type = Timestamptz)]
    pub observed_at: Timestamp,
    #[diesel(sql_type = Double)]
    pub conversions: f64,
    #[diesel(sql_type = Double)]
    pub revenue: f64,
}

/// How what was known of days changed, from `since` on or of all, by campaign, day and instant. What is unknown adds nothing.
///
/// # Errors
/// When the database does not answer.
pub fn changes(
    connection: &mut PgConnection,
    account: &Account,
    whose: &Whose<'_>,
    since: Option<NaiveDate>,
) -> Result<Vec<Change>, StoreError> {
    let (each, campaigns) = match whose {
        Whose::Account => (false, &[][..]),
        Whose::Campaigns(ids) => (true, *ids),
    };
    let said = |table| {
        format!(
            "SELECT campaign_id, day, slice, observed_at, confirmed_at, conversion_micros, revenue_micros FROM {table}
             WHERE definition_id = ANY($2) AND day >= COALESCE($3, day) AND (NOT $1 OR campaign_id = ANY($4))"
        )
    };
    let changes = sql_query(format!(
        "WITH said AS ({} UNION ALL {}),
         change AS (
             SELECT campaign_id, day, observed_at,
                 COALESCE(conversion_micros, 0) - COALESCE(lag(conversion_micros) OVER revisions, 0) AS conversions,
                 COALESCE(revenue_micros, 0) - COALESCE(lag(revenue_micros) OVER revisions, 0) AS revenue
             FROM said WINDOW revisions AS (PARTITION BY campaign_id, day, slice ORDER BY observed_at)
             UNION ALL
             SELECT campaign_id, day, confirmed_at[cardinality(confirmed_at)], 0, 0 FROM said WHERE confirmed_at IS NOT NULL)
         SELECT CASE WHEN $1 THEN campaign_id ELSE '' END AS campaign_id, day, observed_at,
             sum(conversions)::float8 AS conversions, sum(revenue)::float8 AS revenue
         FROM change GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        said("report_rows"),
        said("report_history"),
    ))
    .bind::<Bool, _>(each)
    .bind::<Array<Integer>, _>(&account.definitions)
    .bind::<Nullable<Date>, _>(since)
    .bind::<Array<Text>, _>(campaigns)
    .load(connection)?;
    Ok(changes)
}
