//! The sums of a list's campaigns: all together, and of each currency.

use std::collections::BTreeMap;

use crate::currency::Currency;
use crate::store::read::insights::sheet::{Row, Sheet};
use crate::totals::mixed::{Claims, Mixed, Shown, Unknown};
use crate::totals::{Overflow, WideTotals, metric};

/// Sums, and what they were in the period before.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub now: Shown,
    pub before: Option<Shown>,
    pub claims: Claims,
    /// What is unknown of some of the campaigns.
    pub partial: metric::Sums,
}

/// See the module.
pub(super) struct Together {
    pub all: Sums,
    /// By code; that of campaigns of which no currency is known is last.
    pub by_currency: Vec<(Option<Currency>, Sums)>,
}

#[derive(Default)]
struct Adding {
    now: WideTotals,
    before: WideTotals,
    claims: Claims,
    unknown: Unknown,
    unknown_before: Unknown,
}

/// Sums, but for what is unknown of all that are added up.
fn known(sums: Shown, unknown: Unknown) -> Shown {
    Shown {
        unknown: sums.unknown.and(unknown.of_all()),
        ..sums
    }
}

impl Together {
    /// The sums of these rows of a sheet, whose money is in this currency if there is one. In the period before, campaigns have
    /// the currency that they have now.
    ///
    /// # Errors
    /// [`Overflow`] if one does not fit an `i64`.
    pub fn of<'a>(
        rows: impl Iterator<Item = &'a Row>,
        sheet: &Sheet,
        before: Option<&Sheet>,
        into: Option<Currency>,
    ) -> Result<Together, Overflow> {
        let mut adding: BTreeMap<Option<Currency>, Adding> = BTreeMap::new();
        for row in rows {
            let currency = into.or_else(|| sheet.descriptions.currency(&row.campaign_id));
            let sums = adding.entry(currency).or_default();
            sums.now.add(&row.totals, 1);
            sums.claims = sums.claims.and(row.claims);
            sums.unknown.add(row.shown().unknown);
            if let Some(then) = before.and_then(|before| before.get(&row.campaign_id)) {
                sums.before.add(&then.totals, 1);
                sums.unknown_before.add(then.shown().unknown);
            }
        }
        let (mut now, mut then) = (Mixed::default(), Mixed::default());
        let mut claims = Claims::default();
        let (mut unknown, mut unknown_before) = (Unknown::default(), Unknown::default());
        let mut by_currency = Vec::with_capacity(adding.len());
        for (currency, sums) in adding {
            now.add(&sums.now, currency);
            then.add(&sums.before, currency);
            claims = claims.and(sums.claims);
            unknown = unknown.and(sums.unknown);
            unknown_before = unknown_before.and(sums.unknown_before);
            let was = before.is_some().then(|| sums.before.totals());
            let was = was.transpose()?.map(Shown::from);
            let sums = Sums {
                now: known(sums.now.totals()?.into(), sums.unknown),
                before: was.map(|was| known(was, sums.unknown_before)),
                claims: sums.claims,
                partial: sums.unknown.partial(),
            };
            by_currency.push((currency, sums));
        }
        // None comes first in the order of the map.
        by_currency.sort_by_key(|(currency, _)| currency.is_none());
        let was = before.is_some().then(|| then.shown());
        Ok(Together {
            all: Sums {
                now: known(now.shown()?, unknown),
                before: was.transpose()?.map(|was| known(was, unknown_before)),
                claims,
                partial: unknown.partial(),
            },
            by_currency,
        })
    }
}
