//! What reports say of the parts of an answer that are days, besides their numbers.

use std::collections::BTreeMap;

use chrono_tz::Tz;

use super::read::Period;
use crate::api::body::ReportedDay;
use crate::api::grid::Cell;
use crate::event::Platform;
use crate::expected::provisional::ProvisionalDays;
use crate::report_row::{Values, noon};
use crate::store::read::report_days::ReportDay;
use crate::time::{Timestamp, rfc3339};
use crate::totals::metric::Sums;
use crate::totals::mixed::Shown;

/// By part, the days of the account that it has: those whose noon lies in it, which in the account's own zone is one.
pub(super) struct ReportedDays<'a>(BTreeMap<usize, Vec<&'a ReportDay>>);

impl<'a> ReportedDays<'a> {
    /// Of reports of some platforms; none named: of all.
    pub(super) fn of(period: &'a Period, platforms: &[Platform]) -> ReportedDays<'a> {
        let mut parts: BTreeMap<usize, Vec<&ReportDay>> = BTreeMap::new();
        let is_of =
            |known: &&ReportDay| platforms.is_empty() || platforms.contains(&known.platform);
        for known in period.series.days.iter().filter(is_of) {
            let zone: Option<Tz> = known.time_zone.parse().ok();
            let part = zone.and_then(|zone| period.part_at(noon(known.day, zone)));
            if let Some(part) = part {
                parts.entry(part).or_default().push(known);
            }
        }
        ReportedDays(parts)
    }

    /// Those of a cell.
    fn days(&self, cell: Cell<'_>) -> Vec<&ReportDay> {
        let days = self.0.get(&cell.part).into_iter().flatten().copied();
        let is_of = |day: &&ReportDay| cell.platform.is_none_or(|of| of == day.platform);
        days.filter(is_of).collect()
    }

    /// What is said of a cell.
    pub(super) fn get(&self, cell: Cell<'_>, settle: ProvisionalDays) -> ReportedDay {
        let days = self.days(cell);
        if days.is_empty() {
            return ReportedDay::default();
        }
        let observed_at = days.iter().map(|day| day.observed_at).max();
        let partial = days
            .iter()
            .fold(Sums::default(), |all, day| all.and(day.partial));
        let names = Values::NAMES.into_iter().zip(Sums::EACH);
        let names = names.filter(|(_, sum)| partial.meet(*sum));
        ReportedDay {
            provisional: Some(
                days.iter()
                    .any(|day| settle.is_provisional(day) != Some(false)),
            ),
            observed_at: observed_at.and_then(Timestamp::datetime).map(rfc3339),
            partial: Some(names.map(|(name, _)| name).collect()),
        }
    }

    /// These sums of a cell, without those that no report says: nothing was counted of them, which is not zero.
    pub(super) fn known(&self, cell: Cell<'_>, mut sums: Shown) -> Shown {
        let days = self.days(cell);
        if days.is_empty() {
            return sums;
        }
        let numbers = sums.totals.counts.numbers();
        for (sum, number) in Sums::EACH.into_iter().zip(numbers) {
            if number == 0 && days.iter().all(|day| day.unknown.meet(sum)) {
                sums.unknown = sums.unknown.and(sum);
            }
        }
        sums
    }
}
