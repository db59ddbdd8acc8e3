//! What is expected of the days of a campaign that its platform still restates.
//!
//! What is learned of an account is kept for a minute: it changes with its next export. An answer is worth something without it, so where the
//! database doesn't answer it is left out.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, Utc};
use chrono_tz::Tz;
use diesel::PgConnection;

use super::State;
use crate::database::Unavailable;
use crate::event::Platform;
use crate::expected::account::{OfDay, learn};
use crate::rates::Factor;
use crate::store::read::growth;
use crate::time::{Length, Timestamp};

/// How long what was learned of an account is kept.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(60);

/// What is expected of a campaign's days.
pub(super) struct ExpectedDays {
    pub(super) platform: Platform,
    zone: Tz,
    days: BTreeMap<NaiveDate, OfDay>,
}

impl ExpectedDays {
    /// With money multiplied by the factor of its day; without it where there is none.
    pub(super) fn converted(
        mut self,
        factor: impl Fn(NaiveDate) -> Option<Factor>,
    ) -> ExpectedDays {
        for (day, expected) in &mut self.days {
            let revenue = expected.revenue.take().zip(factor(*day));
            expected.revenue = revenue.map(|(revenue, factor)| revenue.times(factor.as_f64()));
        }
        self
    }

    /// What is expected of a row of an answer: of one that is exactly a day of the account, on all platforms or on the account's.
    pub(super) fn of(
        &self,
        (since, until): (Timestamp, Timestamp),
        platform: Option<Platform>,
    ) -> Option<OfDay> {
        let local = |at: Timestamp| Some(at.datetime()?.with_timezone(&self.zone));
        let day = local(since)?.date_naive();
        // Which begins a microsecond after the day before it has ended, at whatever o'clock.
        let begins = |at: Timestamp| {
            let before = at - Length::MICROSECOND;
            Some(local(before)?.date_naive().succ_opt()? == local(at)?.date_naive())
        };
        let is_whole = begins(since)? && begins(until)?;
        let is_one = local(until)?.date_naive() == day.succ_opt()?;
        let is_its = platform.is_none_or(|platform| platform == self.platform);
        (is_whole && is_one && is_its).then(|| self.days.get(&day).copied())?
    }
}

/// What is expected of the days of a campaign before an instant; none if no platform reports it, or all are final.
pub(super) async fn days(
    state: &State,
    campaign_id: &str,
    until: Timestamp,
) -> Option<ExpectedDays> {
    let now = state.now();
    // A day more: it is another date somewhere.
    let since = days_before(
        now,
        u32::from(state.provisional_days.most()).saturating_add(1),
    );
    if until.datetime()?.date_naive() < since {
        return None;
    }
    match read(state, campaign_id, since, now).await {
        Ok(days) => days,
        Err(unavailable) => {
            log::debug!("an answer goes without what is expected: {unavailable}");
            None
        }
    }
}

async fn read(
    state: &State,
    campaign_id: &str,
    since: NaiveDate,
    now: DateTime<Utc>,
) -> Result<Option<ExpectedDays>, Unavailable> {
    let id = campaign_id.to_owned();
    let known = move |connection: &mut PgConnection| growth::of_campaign(connection, &id, since);
    let database = &state.shards.of(campaign_id).database;
    let Some((account, known)) = database.read(known).await? else {
        return Ok(None);
    };
    let asked = account.clone();
    let provisional = usize::from(state.provisional_days.of(account.platform));
    let ask = async |place| {
        let learn =
            move |connection: &mut PgConnection| learn(connection, &asked, provisional, now.into());
        database.read_long(place, learn).await
    };
    let (developments, _) = state.developments.get(&account, ask).await?;
    let Some(developments) = developments.as_ref() else {
        return Ok(None);
    };
    let days = known.iter();
    let days = days.filter_map(|known| Some((known.day, developments.expect(known)?)));
    Ok(Some(ExpectedDays {
        platform: account.platform,
        zone: account.time_zone,
        days: days.collect(),
    }))
}

fn days_before(now: DateTime<Utc>, days: u32) -> NaiveDate {
    let before = now.date_naive().checked_sub_days(Days::new(days.into()));
    before.unwrap_or(NaiveDate::MIN)
}
