//! What an account's earlier reports have said, so that nobody has to say it twice.

use diesel::PgConnection;

use crate::event::Platform;
use crate::reports::facts::Remembered;
use crate::reports::row::prefix;
use crate::store::StoreError;
use crate::store::read::reports::{self, NewestMeaning};

/// What an account's newest report in a database means; none if nothing was ever counted there of it.
///
/// # Errors
/// When the database does not answer.
pub fn meaning(
    connection: &mut PgConnection,
    platform: Platform,
    account: &str,
) -> Result<Option<NewestMeaning>, StoreError> {
    let prefix = prefix(platform, account);
    reports::meaning_of_account(connection, platform, account, &prefix)
}

/// What is remembered of an account, by what its reports mean in each database; none if nothing was ever counted of it.
pub fn newest(
    known: impl IntoIterator<Item = Option<NewestMeaning>>,
    may_differ: bool,
) -> Option<Remembered> {
    let newest = known.into_iter().flatten().max_by_key(|one| one.at)?;
    let known = newest.meaning.definition.known()?;
    Some(Remembered {
        zone: known.time_zone,
        currency: known.currency,
        account: known.account.to_owned(),
        conversions: known.conversions.to_owned(),
        revenue: known.revenue.to_owned(),
        may_differ,
    })
}
