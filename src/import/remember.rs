//! What an account's earlier reports have said, so that nobody has to say it twice.

use diesel::PgConnection;

use crate::event::Platform;
use crate::reports::facts::Remembered;
use crate::reports::row::prefix;
use crate::store::StoreError;
use crate::store::read::reports;

/// What is remembered of an account; none if nothing was ever counted of it.
///
/// # Errors
/// When the database does not answer.
pub fn account(
    connection: &mut PgConnection,
    platform: Platform,
    account: &str,
    may_differ: bool,
) -> Result<Option<Remembered>, StoreError> {
    let prefix = prefix(platform, account);
    let newest = reports::meaning_of_account(connection, platform, account, &prefix)?;
    Ok(newest.and_then(|meaning| {
        let known = meaning.definition.known()?;
        Some(Remembered {
            zone: known.time_zone,
            currency: known.currency,
            account: known.account.to_owned(),
            conversions: known.conversions.to_owned(),
            revenue: known.revenue.to_owned(),
            may_differ,
        })
    }))
}
