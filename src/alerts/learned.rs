//! How the days of accounts grow, kept: it changes with their next report, and is dear to learn.
//!
//! An account of 64 campaigns, each asked about 30 times for each of 120 days, takes 1.4 s. So it is learned again once a minute at most, and
//! only after a newer report.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Days;
use diesel::PgConnection;

use super::calendar::Calendar;
use super::growth::Growth;
use crate::expected::account::{Developments, learn};
use crate::expected::provisional::ProvisionalDays;
use crate::store::StoreError;
use crate::store::keep::alerts::reported;
use crate::store::read::growth;
use crate::time::Timestamp;

/// How long what was learned stands, whatever is reported.
const FRESH_FOR: Duration = Duration::from_secs(60);

/// What was learned of accounts. All of it can be learned again.
pub struct Learned {
    /// By the short name of what their numbers mean.
    accounts: HashMap<i32, OfAccount>,
    /// For how long it is learned at a time: after that, accounts wait for the next time.
    patience: Duration,
}

impl Default for Learned {
    /// With all the time it takes.
    fn default() -> Learned {
        Learned::within(Duration::MAX)
    }
}

struct OfAccount {
    at: Instant,
    /// The newest report that was known of then.
    newest: Timestamp,
    /// None: too little is known of it.
    developments: Option<Arc<Developments>>,
}

impl Learned {
    /// Nothing yet.
    pub fn within(patience: Duration) -> Learned {
        Learned {
            accounts: HashMap::new(),
            patience,
        }
    }

    /// By how much the days of these campaigns will still grow, from that of `since` on. Those that no platform reports are left out.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn growths(
        &mut self,
        connection: &mut PgConnection,
        campaigns: &[&str],
        calendar: impl Fn(&str) -> Calendar,
        provisional_days: ProvisionalDays,
        (since, now): (Timestamp, Timestamp),
    ) -> Result<HashMap<String, Growth>, StoreError> {
        // Two days more: it is another date somewhere, and what is decided may be of before midnight.
        let since = Calendar::default().date(since);
        let since = since.checked_sub_days(Days::new(2)).unwrap_or(since);
        let reported = reported::days(connection, campaigns, since)?;
        let mut newest: HashMap<i32, Timestamp> = HashMap::new();
        for campaign in reported.values() {
            let newest = newest.entry(campaign.definition_id).or_default();
            *newest = campaign.asked.max(*newest);
        }
        newest.retain(|definition, newest| !self.knows(*definition, *newest));
        if !newest.is_empty() {
            self.learn(connection, &newest, provisional_days, now)?;
        }
        let growths = reported.into_iter().map(|(id, campaign)| {
            let calendar = calendar(&id);
            let developments = self.accounts.get(&campaign.definition_id);
            let developments = developments.and_then(|of| of.developments.as_deref());
            let growth = Growth::of(&campaign.days, developments, calendar, campaign.asked, now);
            (id, growth)
        });
        Ok(growths.collect())
    }

    fn knows(&self, definition: i32, newest: Timestamp) -> bool {
        let known = self.accounts.get(&definition);
        known.is_some_and(|known| known.newest >= newest || known.at.elapsed() < FRESH_FOR)
    }

    /// Learns the accounts of some definitions, of which so new reports are known.
    fn learn(
        &mut self,
        connection: &mut PgConnection,
        newest: &HashMap<i32, Timestamp>,
        provisional_days: ProvisionalDays,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        for account in growth::accounts(connection, None)? {
            if began.elapsed() > self.patience {
                break;
            }
            let ids = account.definitions.iter();
            let concerned: Vec<i32> = ids.copied().filter(|id| newest.contains_key(id)).collect();
            if concerned.is_empty() {
                continue;
            }
            let provisional = usize::from(provisional_days.of(account.platform));
            let developments = learn(connection, &account, provisional, now)?.map(Arc::new);
            for id in concerned {
                let of = OfAccount {
                    at: Instant::now(),
                    newest: newest.get(&id).copied().unwrap_or_default(),
                    developments: developments.clone(),
                };
                self.accounts.insert(id, of);
            }
        }
        Ok(())
    }
}
