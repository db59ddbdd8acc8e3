//! What reports say of the parts of an answer that are days, besides their numbers.

use std::collections::BTreeMap;

use chrono_tz::Tz;

use super::read::Period;
use crate::api::body::{ReportedDay, names};
use crate::api::grid::Cell;
use crate::event::Platform;
use crate::expected::provisional::ProvisionalDays;
use crate::report_row::noon;
use crate::store::read::report_days::ReportDay;
use crate::time::{Timestamp, rfc3339};
use crate::totals::metric::Sums;
use crate::totals::mixed::{Shown, Unknown};

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
        ReportedDay {
            provisional: Some(
                days.iter()
                    .any(|day| settle.is_provisional(day) != Some(false)),
            ),
            observed_at: observed_at.and_then(Timestamp::datetime).map(rfc3339),
            partial: Some(names(partial).collect()),
        }
    }

    /// These sums of a cell, without those that no report says: nothing was counted of them, which is not zero.
    pub(super) fn known(&self, cell: Cell<'_>, sums: Shown) -> Shown {
        let mut unsaid = Unknown::default();
        for day in self.days(cell) {
            unsaid.add(day.unknown);
        }
        sums.unless_said(unsaid.of_all())
    }

    /// The sums over all parts, without those that the newest day leaves unknown and of which nothing was counted.
    pub(super) fn known_of_all(&self, platform: Option<Platform>, sums: Shown) -> Shown {
        let days = || {
            let days = self.0.values().flatten();
            days.filter(|day| platform.is_none_or(|of| of == day.platform))
        };
        let newest = days().map(|day| day.day).max();
        let mut unsaid = Unknown::default();
        for day in days().filter(|day| Some(day.day) == newest) {
            unsaid.add(day.unknown);
        }
        sums.unless_said(unsaid.of_all())
    }

    /// What some day leaves unknown of the sums over all parts.
    pub(super) fn partial(&self, sums: &Shown) -> Sums {
        let days = self.0.values().flatten();
        let partial = days.fold(Sums::default(), |all, day| all.and(day.partial));
        partial.without(sums.unknown)
    }
}
