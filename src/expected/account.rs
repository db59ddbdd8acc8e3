//! What is learned of an account, from all that was known of its days.

use chrono::{Days, NaiveDateTime, NaiveTime};
use chrono_tz::Tz;
use diesel::PgConnection;
use serde::Serialize;

use super::Expected;
use super::curve::{self, Curve};
use super::development::{Development, LOOK_BACK};
use crate::store::StoreError;
use crate::store::read::growth::{self, Account, Change, KnownDay, Whose};
use crate::time::Timestamp;

/// So many of an account's campaigns are enough to learn how its campaigns' days grow: those that were reported last.
pub const CAMPAIGNS: u32 = 64;

/// How the days of an account's campaigns grow, learned from what is stored; none if it has none. `provisional`: the age from which on a day
/// is final.
///
/// # Errors
/// When the database does not answer.
pub fn learn(
    connection: &mut PgConnection,
    account: &Account,
    provisional: usize,
    now: Timestamp,
) -> Result<Option<Developments>, StoreError> {
    let today = now.datetime().map(|now| now.date_naive());
    let since = today.and_then(|today| today.checked_sub_days(Days::new(LOOK_BACK.into())));
    let campaigns = growth::campaigns(connection, account, CAMPAIGNS)?;
    let whose = Whose::Campaigns(&campaigns);
    let changes = growth::changes(connection, account, &whose, since)?;
    let history = History::new(&changes, account.time_zone, provisional);
    Ok(history.map(|history| Developments::learn(&history, account.time_zone, provisional)))
}

/// All that was known of an account's days, or of its campaigns', and when.
#[derive(Clone, Debug)]
pub struct History {
    /// When the account was asked last, by the clock of its zone.
    pub asked: NaiveDateTime,
    pub conversions: Vec<Curve>,
    pub revenue: Vec<Curve>,
}

impl History {
    /// Of changes as [`changes`](crate::store::read::growth::changes) gives them; none if there are none. `provisional`: the age from which
    /// on a day is final.
    pub fn new(changes: &[Change], zone: Tz, provisional: usize) -> Option<History> {
        let local = |at: Timestamp| Some(at.datetime()?.with_timezone(&zone).naive_local());
        let asked = changes.iter().map(|change| change.observed_at).max();
        let asked = asked.and_then(local)?;
        let mut history = History {
            asked,
            conversions: Vec::new(),
            revenue: Vec::new(),
        };
        let of_a_day = |a: &Change, b: &Change| (&a.campaign_id, a.day) == (&b.campaign_id, b.day);
        for changes in changes.chunk_by(of_a_day) {
            let Some(day) = changes.first().map(|change| change.day) else {
                continue;
            };
            let curve = |of: fn(&Change) -> f64| {
                let mut known = 0.0;
                let answers = changes.iter().filter_map(|change| {
                    known += of(change);
                    Some((local(change.observed_at)?, known))
                });
                Curve::new(day, asked.time(), provisional, answers)
            };
            history.conversions.push(curve(|change| change.conversions));
            history.revenue.push(curve(|change| change.revenue));
        }
        Some(history)
    }
}

/// What is expected of a day. Of what is none, nothing is known, or nothing is expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct OfDay {
    pub conversions: Option<Expected>,
    pub revenue: Option<Expected>,
}

/// How an account's days grow, or its campaigns'.
#[derive(Clone, Debug)]
pub struct Developments {
    clock: NaiveTime,
    zone: Tz,
    provisional: usize,
    conversions: Development,
    revenue: Development,
}

impl Developments {
    /// Learns from all of it.
    pub fn learn(history: &History, zone: Tz, provisional: usize) -> Developments {
        let learn = |curves| Development::learn(curves, history.asked.date(), provisional);
        Developments {
            clock: history.asked.time(),
            zone,
            provisional,
            conversions: learn(&history.conversions),
            revenue: learn(&history.revenue),
        }
    }

    /// What is expected of a campaign's day; none where nothing is, as of one that is final.
    pub fn expect(&self, known: &KnownDay) -> Option<OfDay> {
        let age = self.age(known)?;
        let conversions = known.conversions.map(|value| value.get() as f64);
        let revenue = known.revenue.map(|value| value.get() as f64);
        let of_day = OfDay {
            conversions: conversions.and_then(|known| self.conversions.expect(known, age)),
            revenue: revenue.and_then(|known| self.revenue.expect(known, age)),
        };
        (of_day != OfDay::default()).then_some(of_day)
    }

    /// Whether what is known of a day is final: its platform was asked when it was old enough.
    pub fn is_final(&self, known: &KnownDay) -> bool {
        self.age(known).is_some_and(|age| age >= self.provisional)
    }

    /// How old a day was when its platform was last asked.
    fn age(&self, known: &KnownDay) -> Option<usize> {
        let asked = known.observed_at.datetime()?;
        let asked = asked.with_timezone(&self.zone).naive_local();
        let (age, _) = curve::age(known.day, self.clock, asked)?;
        Some(age)
    }

    /// About how much room it takes.
    pub fn bytes(&self) -> usize {
        self.conversions.bytes() + self.revenue.bytes()
    }
}
