//! `GET /campaign/{id}/insights` and `GET /insights`.
//!
//! A campaign's sums over a window in one part come from the caches. Everything else is a series,
//! asked once at a time and kept for a moment.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use warp::http::HeaderMap;
use warp::reply::Response;

use super::answer::{self, Format};
use super::body::{
    Comparison, Fields, Figures, Fresh, Insights, Metrics, OfPlatform, Paging, Row, Span, rfc3339,
};
use super::grid::Grid;
use super::params::Query;
use super::problem::Problem;
use super::window::{Asked, Increment};
use super::{State, as_of, asked, cursor, endpoints, written};
use crate::cache::Source;
use crate::event::{CampaignId, Platform};
use crate::store::read::insights::Window;
use crate::store::read::insights::series::Scope;
use crate::totals::Totals;

mod read;

use read::Answer;

/// The most rows an answer has on all its pages.
const MAX_ROWS: usize = 50_000;

/// The sums and ratios of one campaign.
pub(super) async fn campaign(
    state: State,
    id: String,
    raw: String,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // Ids need no escapes, so an escaped one is not valid either.
    let campaign_id = CampaignId::parse(&id).map_err(|_| Problem::campaign_id(&id))?;
    let query = Query::parse(&raw, &endpoints::CAMPAIGN_INSIGHTS)?;
    let instant = asked::instant(&query)?;
    let mut wanted = Wanted::of(
        &query,
        campaign_id.as_str(),
        instant.unwrap_or_else(Utc::now),
    )?;
    let mut kept = None;
    let answer = match (instant, wanted.one_row()) {
        (Some(instant), _) => {
            wanted.as_of = Some(instant);
            let window = wanted.asked.window;
            let sums = as_of::campaign(&state, campaign_id.as_str(), window, instant).await?;
            Answer::of_campaign(window, &sums, Source::Database)
        }
        (None, Some(window)) => {
            let found = state.cache.get(&id, window).await;
            let found = found.map_err(|e| Problem::unavailable(&e))?;
            let Some(sums) = found.sums else {
                return Err(Problem::unknown_campaign(&id));
            };
            let answer = Answer::of_campaign(window, &sums, found.source);
            if found.source != Source::Stale && Format::of(&query, &headers) == Format::Json {
                let question = written::Question {
                    target: target(&id, &raw),
                    campaign: Arc::from(id.as_str()),
                    window,
                    lasting: is_lasting(&query),
                };
                if let Some(response) = state.written.get(&question, &sums) {
                    return Ok(answer::from(response, found.source));
                }
                kept = Some((question, sums));
            }
            answer
        }
        (None, None) => wanted.answer(&state, &one(&id)).await?,
    };
    if answer.now.series.freshness.is_none() {
        return Err(Problem::unknown_campaign(&id));
    }
    let mut response = wanted.write(&query, &headers, &one(&id), &answer, Some(&id))?;
    if let Some((question, sums)) = kept {
        response = state.written.keep(question, sums, response).await;
    }
    Ok(answer::from(response, answer.source))
}

/// The path and the query string, as they were asked.
fn target(id: &str, raw: &str) -> String {
    let mark = if raw.is_empty() { "" } else { "?" };
    format!("/campaign/{id}/insights{mark}{raw}")
}

/// Whether the window does not move with the clock.
fn is_lasting(query: &Query) -> bool {
    let preset = query.get(&endpoints::DATE_PRESET);
    preset.is_none_or(|preset| preset == "maximum")
        && query.has(&endpoints::SINCE) == query.has(&endpoints::UNTIL)
}

fn one(id: &str) -> Scope {
    Scope::Campaigns {
        ids: vec![id.to_owned()],
        each: false,
    }
}

/// The sums and ratios of all campaigns, or of some.
pub(super) async fn all(
    state: State,
    raw: String,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = Query::parse(&raw, &endpoints::INSIGHTS)?;
    let wanted = Wanted::of(&query, "", Utc::now())?;
    let scope = match query.words(&endpoints::CAMPAIGNS_NAMED) {
        Some(ids) => Scope::Campaigns {
            ids: ids.into_iter().map(str::to_owned).collect(),
            each: wanted.by_campaign,
        },
        None if wanted.by_campaign => {
            let detail = "breakdown=campaign needs campaigns, the ids of at most 100; GET /campaigns lists all of them";
            return Err(Problem::parameter("breakdown", detail));
        }
        None => Scope::All,
    };
    let answer = wanted.answer(&state, &scope).await?;
    let response = wanted.write(&query, &headers, &scope, &answer, None)?;
    Ok(answer::from(response, answer.source))
}

/// What is asked about a scope.
struct Wanted {
    asked: Asked,
    zone: Tz,
    increment: Increment,
    by_campaign: bool,
    by_platform: bool,
    platforms: Vec<Platform>,
    fields: Fields,
    compare: bool,
    /// What a cursor belongs to.
    question: String,
    /// The first row that is shown.
    offset: usize,
    /// The instant of the past that is asked about.
    as_of: Option<DateTime<Utc>>,
}

/// Which row of the answer: a part, and a campaign and a platform or all of them.
type Key<'a> = (usize, Option<&'a str>, Option<Platform>);

impl Wanted {
    fn of(query: &Query, about: &str, now: DateTime<Utc>) -> Result<Wanted, Problem> {
        let (mut window, zone) = asked::window(query, now)?;
        let question = query.question(&[&endpoints::CURSOR, &endpoints::ROWS, &endpoints::FORMAT]);
        let question = format!("{about}?{question}");
        let mut offset = 0;
        if let Some(cursor) = query.get(&endpoints::CURSOR) {
            // A preset moves on with the clock; the pages of one answer are of one window.
            let [row, since, until, from, to] = cursor::decode(&question, cursor)?;
            offset = usize::try_from(row).unwrap_or(usize::MAX);
            window = Asked {
                window: Window::covering(since, until),
                previous: Window::covering(from, to),
            };
        }
        let breakdown = query.words(&endpoints::BREAKDOWN).unwrap_or_default();
        let increment = query.get(&endpoints::TIME_INCREMENT);
        Ok(Wanted {
            asked: window,
            zone,
            increment: increment
                .and_then(Increment::parse)
                .unwrap_or(Increment::All),
            by_campaign: breakdown.contains(&"campaign"),
            by_platform: breakdown.contains(&"platform"),
            platforms: asked::platforms(query),
            fields: asked::fields(query),
            compare: query.has(&endpoints::COMPARE),
            question,
            offset,
            as_of: None,
        })
    }

    /// The window, where all of it is one part and nothing is compared with it.
    fn one_row(&self) -> Option<Option<Window>> {
        (self.increment == Increment::All && !self.compare).then_some(self.asked.window)
    }

    /// The rows of the answer, in order.
    fn keys<'a>(
        &self,
        scope: &'a Scope,
        parts: usize,
        present: impl Iterator<Item = Platform>,
    ) -> Result<Vec<Key<'a>>, Problem> {
        let campaigns: Vec<Option<&str>> = match scope {
            Scope::Campaigns { ids, each: true } => {
                ids.iter().map(|id| Some(id.as_str())).collect()
            }
            _ => vec![None],
        };
        let platforms: Vec<Option<Platform>> = if self.by_platform {
            present.map(Some).collect()
        } else {
            vec![None]
        };
        let rows = parts
            .saturating_mul(campaigns.len())
            .saturating_mul(platforms.len());
        if rows > MAX_ROWS {
            let detail = format!(
                "the answer would have {rows} rows and may have {MAX_ROWS}; take a coarser time_increment, a shorter window or fewer campaigns"
            );
            return Err(Problem::window("time_increment", detail));
        }
        let mut keys = Vec::with_capacity(rows);
        for part in 0..parts {
            for &campaign in &campaigns {
                keys.extend(platforms.iter().map(|&platform| (part, campaign, platform)));
            }
        }
        Ok(keys)
    }

    fn write(
        &self,
        query: &Query,
        headers: &HeaderMap,
        scope: &Scope,
        answer: &Answer,
        campaign_id: Option<&str>,
    ) -> Result<Response, Problem> {
        let Answer {
            now,
            before,
            source,
        } = answer;
        let grid = Grid::of(&now.series, now.parts(), &self.platforms);
        let grid_before = before.as_ref();
        let grid_before =
            grid_before.map(|before| Grid::of(&before.series, before.parts(), &self.platforms));
        let figures = |totals: Totals, before: Option<Totals>| Figures {
            metrics: Metrics {
                totals,
                fields: self.fields,
            },
            comparison: self
                .compare
                .then(|| Comparison::of(&totals, before.as_ref(), self.fields)),
        };
        let whole = |platform| {
            let before = grid_before.as_ref().map(|grid| grid.whole(platform));
            figures(grid.whole(platform), before)
        };
        let keys = self.keys(scope, now.parts(), grid.platforms().into_iter())?;
        let limit = usize::try_from(query.integer(&endpoints::ROWS)).unwrap_or_default();
        let end = self.offset.saturating_add(limit);
        let next_cursor = (end < keys.len()).then(|| {
            let ends = |w: Option<Window>| w.map_or([0, 0], |w| [w.since(), w.until()]);
            let [since, until] = ends(now.window);
            let [from, to] = ends(self.asked.previous);
            let row = i64::try_from(end).unwrap_or(i64::MAX);
            cursor::encode(&self.question, &[row, since, until, from, to])
        });
        let rows = keys.iter().skip(self.offset).take(limit);
        let rows = rows.map(|&(part, campaign, platform)| {
            let (since, until) = now.ends(part, self.zone);
            let before = grid_before.as_ref();
            Row {
                since,
                until,
                campaign_id: campaign,
                platform: platform.map(Platform::name),
                figures: figures(
                    grid.get(part, campaign, platform).unwrap_or_default(),
                    // A part that the period before does not have has nothing to be compared with.
                    before.and_then(|before| before.get(part, campaign, platform)),
                ),
            }
        });
        if Format::of(query, headers) == Format::Csv {
            return Ok(self.table(rows, next_cursor.as_deref()));
        }
        let platforms = grid.platforms().into_iter();
        let previous = || Span::of(before.as_ref().and_then(|b| b.window), self.zone);
        Ok(answer::json(&Insights {
            campaign_id,
            as_of: self.as_of.map(rfc3339),
            window: Span::of(now.window, self.zone),
            previous_window: self.compare.then(previous),
            time_zone: self.zone.name(),
            freshness: now
                .series
                .freshness
                .as_ref()
                .map(|f| Fresh::of(f, &now.series.positions, *source == Source::Stale)),
            totals: whole(None),
            platforms: platforms
                .map(|platform| OfPlatform {
                    platform: platform.name(),
                    figures: whole(Some(platform)),
                })
                .collect(),
            data: rows.collect(),
            paging: Paging {
                next_cursor,
                total: Some(keys.len()),
            },
        }))
    }
}

impl Wanted {
    fn table<'a>(
        &self,
        rows: impl Iterator<Item = Row<'a>>,
        next_cursor: Option<&str>,
    ) -> Response {
        let mut head = vec!["since".to_owned(), "until".to_owned()];
        head.extend(self.by_campaign.then(|| "campaign_id".to_owned()));
        head.extend(self.by_platform.then(|| "platform".to_owned()));
        head.extend(answer::figures_head(self.fields, self.compare));
        let records: Vec<Vec<String>> = rows
            .map(|row| {
                let ends = [row.since, row.until].map(Option::unwrap_or_default);
                let names = [row.campaign_id, row.platform].into_iter().flatten();
                ends.into_iter()
                    .chain(names.map(str::to_owned))
                    .chain(answer::figures(&row.figures))
                    .collect()
            })
            .collect();
        answer::csv(head, records.into_iter(), next_cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_move_with_the_clock_do_not_last() {
        let lasting = |raw| {
            let query = Query::parse(raw, &endpoints::CAMPAIGN_INSIGHTS).expect("a query");
            is_lasting(&query)
        };
        for raw in [
            "",
            "date_preset=maximum",
            "since=2026-01-01&until=2026-01-02&time_zone=Asia/Kolkata",
        ] {
            assert!(lasting(raw), "{raw}");
        }
        for raw in [
            "date_preset=today",
            "date_preset=last_month",
            "since=2026-01-01",
        ] {
            assert!(!lasting(raw), "{raw}");
        }
    }
}
