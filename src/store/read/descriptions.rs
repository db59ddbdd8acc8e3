//! What campaigns are called and whose they are, by their newest reports.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Integer, Nullable, SmallInt, Text, Timestamptz};

use crate::currency::Currency;
use crate::event::Platform;
use crate::store::{StoreError, platform};
use crate::time::Timestamp;

/// An account of a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub platform: Platform,
    /// The platform's own id of it.
    pub id: String,
    /// Whose days its reports are of, by its name in the IANA database.
    pub time_zone: String,
    pub currency: Currency,
}

/// What is known of a campaign besides its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// None: it has had none in any report.
    pub name: Option<String>,
    pub account: Arc<Account>,
}

/// Those of the campaigns that reports are of; of others, nothing is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Descriptions(HashMap<Box<str>, Description, foldhash::fast::RandomState>);

impl FromIterator<(Box<str>, Description)> for Descriptions {
    fn from_iter<I: IntoIterator<Item = (Box<str>, Description)>>(of: I) -> Descriptions {
        Descriptions(of.into_iter().collect())
    }
}

impl Descriptions {
    /// Those of a single campaign.
    pub fn of_one(campaign_id: &str, description: Description) -> Descriptions {
        std::iter::once((campaign_id.into(), description)).collect()
    }

    /// Those of two databases together.
    pub fn and(mut self, other: Descriptions) -> Descriptions {
        self.0.extend(other.0);
        self
    }

    /// That of a campaign.
    pub fn of(&self, campaign_id: &str) -> Option<&Description> {
        self.0.get(campaign_id)
    }

    /// The currency of a campaign.
    pub fn currency(&self, campaign_id: &str) -> Option<Currency> {
        Some(self.of(campaign_id)?.account.currency)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The campaigns, in no order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|id| &**id)
    }

    /// About how many bytes they take.
    pub fn weight(&self) -> usize {
        let ids: usize = self.0.keys().map(|id| id.len()).sum();
        let names = self.0.values().filter_map(|known| known.name.as_ref());
        let texts = ids + names.map(String::len).sum::<usize>();
        texts + self.0.len() * size_of::<(Box<str>, Description)>()
    }
}

/// The newest report of an account.
#[derive(Clone, Debug, PartialEq)]
pub struct NewestReport {
    pub platform: Platform,
    pub account_id: String,
    /// When its platform was asked.
    pub observed_at: Timestamp,
}

/// The newest report of each account, the oldest first.
///
/// # Errors
/// When the database does not answer.
pub fn newest_reports(connection: &mut PgConnection) -> Result<Vec<NewestReport>, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SmallInt)]
        platform: i16,
        #[diesel(sql_type = Text)]
        account: String,
        #[diesel(sql_type = Timestamptz)]
        observed_at: Timestamp,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT d.platform, d.account, max(c.described_at) AS observed_at
         FROM report_definitions AS d JOIN campaigns AS c USING (definition_id)
         GROUP BY d.platform, d.account ORDER BY observed_at, d.platform, d.account",
    )
    .load(connection)?;
    let newest = rows.into_iter().map(|row| {
        Ok(NewestReport {
            platform: platform(row.platform)?,
            account_id: row.account,
            observed_at: row.observed_at,
        })
    });
    newest.collect()
}

#[derive(QueryableByName)]
struct AccountRow {
    #[diesel(sql_type = Integer)]
    definition_id: i32,
    #[diesel(sql_type = SmallInt)]
    platform: i16,
    #[diesel(sql_type = Text)]
    account: String,
    #[diesel(sql_type = Text)]
    time_zone: String,
    #[diesel(sql_type = Text)]
    currency: String,
}

impl AccountRow {
    fn account(self) -> Result<Account, StoreError> {
        Ok(Account {
            platform: platform(self.platform)?,
            currency: currency(&self.currency)?,
            id: self.account,
            time_zone: self.time_zone,
        })
    }
}

/// Reads a code as it is stored.
pub(super) fn currency(code: &str) -> Result<Currency, StoreError> {
    Currency::from_code(code).ok_or_else(|| {
        StoreError::Query(diesel::result::Error::DeserializationError(
            format!("currency {code} is none we know").into(),
        ))
    })
}

#[derive(QueryableByName)]
struct CampaignRow {
    #[diesel(sql_type = Text)]
    campaign_id: String,
    #[diesel(sql_type = Nullable<Text>)]
    name: Option<String>,
    #[diesel(sql_type = Integer)]
    definition_id: i32,
}

/// Those of all campaigns. Where there are no reports, one look at an empty table.
///
/// # Errors
/// When the database does not answer.
pub fn of_all(connection: &mut PgConnection) -> Result<Descriptions, StoreError> {
    let accounts: Vec<AccountRow> = sql_query(
        "SELECT definition_id, platform, account, time_zone, currency FROM report_definitions",
    )
    .load(connection)?;
    if accounts.is_empty() {
        return Ok(Descriptions::default());
    }
    let accounts = accounts.into_iter();
    let accounts = accounts.map(|row| Ok((row.definition_id, Arc::new(row.account()?))));
    let accounts: HashMap<i32, Arc<Account>> = accounts.collect::<Result<_, StoreError>>()?;
    let campaigns: Vec<CampaignRow> = sql_query(
        "SELECT campaign_id, name, definition_id FROM campaigns WHERE definition_id IS NOT NULL",
    )
    .load(connection)?;
    let described = campaigns.into_iter().filter_map(|row| {
        let account = Arc::clone(accounts.get(&row.definition_id)?);
        let name = row.name;
        Some((row.campaign_id.into(), Description { name, account }))
    });
    Ok(described.collect())
}

/// Those of some campaigns, by their keys.
///
/// # Errors
/// When the database does not answer.
pub fn of_some(
    connection: &mut PgConnection,
    campaigns: &[&str],
) -> Result<Descriptions, StoreError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(embed)]
        campaign: CampaignRow,
        #[diesel(embed)]
        account: AccountRow,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT c.campaign_id, c.name, d.definition_id, d.platform, d.account, d.time_zone, d.currency
         FROM campaigns AS c JOIN report_definitions AS d USING (definition_id) WHERE c.campaign_id = ANY($1)",
    )
    .bind::<Array<Text>, _>(campaigns)
    .load(connection)?;
    let described = rows.into_iter().map(|Row { campaign, account }| {
        let description = Description {
            name: campaign.name,
            account: Arc::new(account.account()?),
        };
        Ok((campaign.campaign_id.into(), description))
    });
    described.collect()
}

/// That of one campaign.
///
/// # Errors
/// When the database does not answer.
pub fn of_one(
    connection: &mut PgConnection,
    campaign: &str,
) -> Result<Option<Description>, StoreError> {
    let described = of_some(connection, &[campaign])?;
    Ok(described.of(campaign).cloned())
}
