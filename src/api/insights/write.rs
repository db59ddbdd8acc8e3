//! How an answer about insights is written: which rows it has, and what stands in them.

use warp::reply::Response;

use super::days::ReportedDays;
use super::read::Sums;
use super::{ROWS, Wanted, check_rows};
use crate::api::State;
use crate::api::answer::{self, Format};
use crate::api::body::{
    Comparison, Described, Figures, Fresh, Insights, Metrics, OfCurrency, OfPlatform, OneCurrency,
    Paging, ReportedDay, Row, Span, Whole,
};
use crate::api::expected::ExpectedDays;
use crate::api::grid::{Cell, Grid};
use crate::api::problem::Problem;
use crate::api::request::Request;
use crate::cache::Source;
use crate::currency::Currency;
use crate::event::Platform;
use crate::store::read::insights::Window;
use crate::store::read::insights::series::Scope;
use crate::time::rfc3339;
use crate::totals::mixed::Shown;
use crate::totals::{Overflow, metric};

impl Wanted {
    /// The rows of the answer, in order.
    fn rows<'a>(
        &self,
        scope: &'a Scope,
        parts: usize,
        grid: &Grid<'_>,
    ) -> Result<Vec<Cell<'a>>, Problem> {
        fn each<T>(wanted: bool, all: impl IntoIterator<Item = T>) -> Vec<Option<T>> {
            if wanted {
                all.into_iter().map(Some).collect()
            } else {
                vec![None]
            }
        }
        let campaigns: Vec<Option<&str>> = match scope {
            Scope::Campaigns { ids, each: true } => {
                ids.iter().map(|id| Some(id.as_str())).collect()
            }
            _ => vec![None],
        };
        let platforms = each(self.by_platform, grid.platforms());
        let currencies = each(self.by_currency, grid.currencies());
        let rows = parts
            .saturating_mul(campaigns.len())
            .saturating_mul(platforms.len())
            .saturating_mul(currencies.len());
        check_rows(rows)?;
        let mut cells = Vec::with_capacity(rows);
        for part in 0..parts {
            for &campaign in &campaigns {
                for &platform in &platforms {
                    cells.extend(currencies.iter().map(|&currency| Cell {
                        part,
                        campaign,
                        platform,
                        currency,
                    }));
                }
            }
        }
        Ok(cells)
    }

    fn figures(&self, sums: Shown, before: Option<Shown>) -> Figures {
        Figures {
            metrics: Metrics {
                sums,
                fields: self.fields,
            },
            comparison: self
                .compare
                .then(|| Comparison::of(&sums, before.as_ref(), self.fields)),
        }
    }

    /// Writes what was read about a scope; about one campaign, its id.
    pub(super) async fn write(
        &self,
        state: &State,
        request: &Request,
        scope: &Scope,
        answer: &Sums,
        campaign_id: Option<&str>,
        expected: Option<ExpectedDays>,
    ) -> Result<Response, Problem> {
        let Sums {
            now,
            before,
            source,
        } = answer;
        let grid = Grid::of(&now.series, now.parts(), &self.platforms, self.by_currency);
        let grid_before = before.as_ref().map(|before| {
            let (series, parts) = (&before.series, before.parts());
            Grid::of(series, parts, &self.platforms, self.by_currency)
        });
        let cells = self.rows(scope, now.parts(), &grid)?;
        let limit: usize = request.arguments.integer(&ROWS);
        let end = self.offset.saturating_add(limit);
        let next_cursor = if end < cells.len() {
            let ends = |w: Option<Window>| w.map_or([0, 0], |w| [w.since().get(), w.until().get()]);
            let [since, until] = ends(now.window);
            let [from, to] = ends(self.asked.previous);
            let row = i64::try_from(end).unwrap_or(i64::MAX);
            let numbers = [row, since, until, from, to];
            Some(state.cursors.give(&self.question, &numbers).await?)
        } else {
            None
        };
        let days_of = |period| ReportedDays::of(period, &self.platforms);
        let (days, days_before) = (days_of(now), before.as_ref().map(days_of));
        let whole = |platform, currency| -> Result<Figures, Overflow> {
            let before = grid_before.as_ref();
            let before = before.map(|grid| grid.whole(platform, currency));
            let before = match (before.transpose()?, &days_before) {
                (Some(sums), Some(days)) => Some(days.known_of_all(platform, sums)),
                (sums, _) => sums,
            };
            let now = days.known_of_all(platform, grid.whole(platform, currency)?);
            Ok(self.figures(now, before))
        };
        let by_day = self.by_day(scope) && campaign_id.is_some();
        let descriptions = &now.series.descriptions;
        let describe = |id| Described::from(descriptions.of(id)).beside(self.currency);
        let is_asked =
            |platform: &Platform| self.platforms.is_empty() || self.platforms.contains(platform);
        let expected = expected.filter(|days| is_asked(&days.platform));
        let rows = cells.iter().skip(self.offset).take(limit);
        let rows = rows.map(|&cell| {
            let (since, until) = now.ends(cell.part, self.zone);
            let expected = expected.as_ref().zip(now.span(cell.part));
            let expected = expected.and_then(|(days, span)| days.of(span, cell.platform));
            // A part that the period before does not have has nothing to be compared with.
            let before = grid_before.as_ref().map(|before| before.get(cell));
            let before = before.transpose()?.flatten();
            let before = match (before, &days_before) {
                (Some(sums), Some(days)) => Some(days.known(cell, sums)),
                (sums, _) => sums,
            };
            let now = days.known(cell, grid.get(cell)?.unwrap_or_default());
            Ok(Row {
                since,
                until,
                campaign_id: cell.campaign,
                described: cell.campaign.map(describe),
                platform: cell.platform.map(Platform::name),
                of_currency: cell.currency.map(|currency| OneCurrency { currency }),
                reported: by_day.then(|| days.get(cell, state.provisional_days)),
                figures: self.figures(now, before),
                expected,
            })
        });
        let rows: Vec<Row<'_>> = rows.collect::<Result<_, Overflow>>()?;
        if request.format() == Format::Csv {
            return Ok(self.table(rows.into_iter(), by_day, next_cursor.as_deref()));
        }
        let platforms = grid.platforms().into_iter().map(|platform| {
            Ok(OfPlatform {
                platform: platform.name(),
                figures: whole(Some(platform), None)?,
            })
        });
        let by_currency = grid.currencies().into_iter().map(|currency| {
            let figures = whole(None, Some(currency))?;
            Ok(OfCurrency {
                currency,
                whole: Whole::of(
                    figures,
                    grid.claims(Some(currency))?,
                    metric::Sums::default(),
                ),
            })
        });
        let by_currency = by_currency.collect::<Result<_, Overflow>>()?;
        let totals = whole(None, None)?;
        let partial = days.partial(&totals.metrics.sums);
        let previous = || Span::of(before.as_ref().and_then(|b| b.window), self.zone);
        Ok(answer::json(&Insights {
            campaign_id,
            described: campaign_id.map(describe),
            currency: self.currency.filter(|_| campaign_id.is_none()),
            rates: self.currency.map(|_| answer.rates()),
            as_of: self.as_of.map(rfc3339),
            window: Span::of(now.window, self.zone),
            previous_window: self.compare.then(previous),
            time_zone: self.zone.name(),
            freshness: now
                .series
                .freshness
                .as_ref()
                .map(|f| Fresh::of(f, &now.series.positions, *source == Source::Stale)),
            totals: Whole::of(totals, grid.claims(None)?, partial),
            totals_by_currency: campaign_id.is_none().then_some(by_currency),
            platforms: platforms.collect::<Result<_, Overflow>>()?,
            data: rows,
            paging: Paging {
                next_cursor,
                total: Some(cells.len()),
            },
        }))
    }

    fn table<'a>(
        &self,
        rows: impl Iterator<Item = Row<'a>>,
        by_day: bool,
        next_cursor: Option<&str>,
    ) -> Response {
        let mut head = vec!["since".to_owned(), "until".to_owned()];
        if self.by_campaign {
            head.push("campaign_id".to_owned());
            head.extend(Described::columns(self.currency).map(str::to_owned));
        }
        head.extend(self.by_platform.then(|| "platform".to_owned()));
        head.extend(self.by_currency.then(|| "currency".to_owned()));
        if by_day {
            head.extend(["provisional", "observed_at", "partial"].map(str::to_owned));
        }
        head.extend(answer::figures_head(self.fields, self.compare));
        let records: Vec<Vec<String>> = rows
            .map(|row| {
                let mut record: Vec<String> = Vec::with_capacity(head.len());
                record.extend([row.since, row.until].map(Option::unwrap_or_default));
                record.extend(row.campaign_id.map(str::to_owned));
                record.extend(row.described.iter().flat_map(Described::cells));
                record.extend(row.platform.map(str::to_owned));
                let code = |of: OneCurrency| {
                    of.currency
                        .map_or_else(String::new, |c: Currency| c.to_string())
                };
                record.extend(row.of_currency.map(code));
                record.extend(row.reported.into_iter().flat_map(ReportedDay::cells));
                record.extend(answer::figures(&row.figures));
                record
            })
            .collect();
        answer::csv(head, records.into_iter(), next_cursor)
    }
}
