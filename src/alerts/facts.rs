//! What has to be known of campaigns, beside their sums, to hold rules against them: whose days theirs are, and how those still grow.
//!
//! Only what some rule asks for is read.

use std::collections::HashMap;

use diesel::PgConnection;

use super::calendar::Calendar;
use super::evaluate::Campaign;
use super::growth::Growth;
use super::learned::Learned;
use super::rule::Rule;
use crate::expected::provisional::ProvisionalDays;
use crate::store::read::descriptions::{self, Descriptions};
use crate::store::read::insights::Window;
use crate::store::{self, StoreError};
use crate::time::Timestamp;

/// See the module. Of others than those it was read of, nothing is known.
#[derive(Debug, Default)]
pub struct Facts {
    described: Descriptions,
    provisional_days: ProvisionalDays,
    growths: HashMap<String, Growth>,
}

impl Facts {
    /// Those of some campaigns, for rules that are held against them at `first` or later.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn read(
        connection: &mut PgConnection,
        campaigns: &[&str],
        rules: &[&Rule],
        first: Timestamp,
        provisional_days: ProvisionalDays,
        learned: &mut Learned,
    ) -> Result<Facts, StoreError> {
        if !rules.iter().any(|rule| rule.when.has_days()) {
            return Ok(Facts::default());
        }
        let mut facts = Facts {
            described: descriptions::of_some(connection, campaigns)?,
            provisional_days,
            growths: HashMap::new(),
        };
        let expecting: Vec<&&Rule> = rules.iter().filter(|rule| rule.when.expects()).collect();
        let is_expected = |id: &&str| expecting.iter().any(|rule| rule.scope.has_campaign(id));
        let expected: Vec<&str> = campaigns.iter().copied().filter(is_expected).collect();
        if !expected.is_empty() {
            let windows = expecting.iter();
            let windows = windows.flat_map(|rule| rule.windows(first, Calendar::default()));
            let since = windows.map(Window::since).min().unwrap_or(first);
            let now = store::clock(connection)?.into();
            let calendar = |id: &str| facts.calendar(id);
            let (days, moments) = (provisional_days, (since, now));
            facts.growths = learned.growths(connection, &expected, calendar, days, moments)?;
        }
        Ok(facts)
    }

    /// Whose days those of a campaign are.
    pub fn calendar(&self, campaign_id: &str) -> Calendar {
        Calendar::of(self.described.of(campaign_id), self.provisional_days)
    }

    /// What is known of a campaign that began then.
    pub fn of(&self, campaign_id: &str, first_event_time: Timestamp) -> Campaign<'_> {
        Campaign {
            first_event_time,
            calendar: self.calendar(campaign_id),
            growth: self.growths.get(campaign_id),
        }
    }
}
