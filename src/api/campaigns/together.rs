//! The sums of a list's campaigns: all together, and of each currency.

use std::collections::BTreeMap;

use crate::currency::Currency;
use crate::store::read::insights::sheet::{Row, Sheet};
use crate::totals::mixed::{Claims, Mixed, Shown};
use crate::totals::{Overflow, WideTotals};

/// Sums, and what they were in the period before.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub now: Shown,
    pub before: Option<Shown>,
    pub claims: Claims,
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
            if let Some(then) = before.and_then(|before| before.get(&row.campaign_id)) {
                sums.before.add(then, 1);
            }
        }
        let (mut now, mut then) = (Mixed::default(), Mixed::default());
        let mut claims = Claims::default();
        let mut by_currency = Vec::with_capacity(adding.len());
        for (currency, sums) in adding {
            now.add(&sums.now, currency);
            then.add(&sums.before, currency);
            claims = claims.and(sums.claims);
            let was = before.is_some().then(|| sums.before.totals());
            let sums = Sums {
                now: sums.now.totals()?.into(),
                before: was.transpose()?.map(Shown::from),
                claims: sums.claims,
            };
            by_currency.push((currency, sums));
        }
        // None comes first in the order of the map.
        by_currency.sort_by_key(|(currency, _)| currency.is_none());
        let was = before.is_some().then(|| then.shown());
        Ok(Together {
            all: Sums {
                now: now.shown()?,
                before: was.transpose()?,
                claims,
            },
            by_currency,
        })
    }
}
