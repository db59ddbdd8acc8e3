//! The sums that answer a question about insights, and where they came from.

use std::sync::Arc;

use chrono_tz::Tz;
use diesel::PgConnection;

use super::{Wanted, check_rows};
use crate::api::State;
use crate::api::problem::Problem;
use crate::api::window::{self, Increment};
use crate::cache::Source;
use crate::event::Platform;
use crate::store::read::descriptions::Descriptions;
use crate::store::read::insights::series::{self, Question, Scope, Series};
use crate::store::read::insights::{CampaignSums, Window};
use crate::time::{Length, Timestamp};
use crate::totals::Totals;

/// The sums of a window.
pub(super) struct Period {
    pub(super) window: Option<Window>,
    /// None: all time, in one part.
    cuts: Option<Vec<Timestamp>>,
    pub(super) series: Arc<Series>,
}

impl Period {
    /// A campaign's sums over a window, in one part.
    fn of_campaign(window: Option<Window>, sums: &CampaignSums) -> Period {
        Period {
            window,
            cuts: window.map(|w| vec![w.since(), w.until()]),
            series: Arc::new(of_campaign(sums)),
        }
    }

    pub(super) fn parts(&self) -> usize {
        self.cuts
            .as_ref()
            .map_or(1, |cuts| cuts.len().saturating_sub(1))
    }

    /// The part that an instant lies in.
    pub(super) fn part_at(&self, instant: Timestamp) -> Option<usize> {
        let cuts = self.cuts.as_ref()?;
        let after = cuts.partition_point(|cut| *cut <= instant);
        (after < cuts.len()).then(|| after.checked_sub(1)).flatten()
    }

    /// The instants at which a part begins and ends; none: all time.
    pub(super) fn span(&self, part: usize) -> Option<(Timestamp, Timestamp)> {
        let cuts = self.cuts.as_ref()?;
        Some((*cuts.get(part)?, *cuts.get(part.saturating_add(1))?))
    }

    /// When a part begins and ends, as it is shown.
    pub(super) fn ends(&self, part: usize, zone: Tz) -> (Option<String>, Option<String>) {
        let cut = |n: usize| window::show(*self.cuts.as_ref()?.get(n)?, zone);
        (cut(part), cut(part.saturating_add(1)))
    }
}

/// What answers a question.
pub(super) struct Sums {
    pub(super) now: Period,
    pub(super) before: Option<Period>,
    pub(super) source: Source,
}

impl Sums {
    pub(super) fn of_campaign(window: Option<Window>, sums: &CampaignSums, source: Source) -> Sums {
        Sums {
            now: Period::of_campaign(window, sums),
            before: None,
            source,
        }
    }
}

impl Wanted {
    /// Whether the parts are days of one campaign.
    pub(super) fn by_day(&self, scope: &Scope) -> bool {
        let is_one = matches!(scope, Scope::Campaigns { ids, each: false } if ids.len() == 1);
        is_one && self.increment == Increment::Day
    }

    /// Reads what is asked about a scope.
    pub(super) async fn answer(&self, state: &State, scope: &Scope) -> Result<Sums, Problem> {
        let mut window = self.asked.window;
        if window.is_none() && self.increment != Increment::All {
            // All time begins and ends with what there is.
            let (all, _) = read(state, scope, None, false).await?;
            window = all.freshness.and_then(|f| {
                let until = Timestamp::from(f.last_event_time) + Length::MICROSECOND;
                Window::covering(f.first_event_time.into(), until)
            });
        }
        let cut = |window| window::cuts(window, self.increment, self.zone);
        let period = async |window: Option<Window>| {
            let cuts = window.map(cut).transpose()?;
            let parts = cuts.as_ref().map_or(1, |cuts| cuts.len().saturating_sub(1));
            let campaigns = match scope {
                Scope::Campaigns { ids, each: true } => ids.len(),
                _ => 1,
            };
            // Before they are read: a hundred campaigns by the hour are a million and a half.
            check_rows(parts.saturating_mul(campaigns))?;
            let (series, source) = read(state, scope, cuts.clone(), self.by_day(scope)).await?;
            Ok::<_, Problem>((
                Period {
                    window,
                    cuts,
                    series,
                },
                source,
            ))
        };
        let (now, source) = period(window).await?;
        let before = match self.asked.previous.filter(|_| self.compare) {
            Some(before) => Some(period(Some(before)).await?.0),
            None => None,
        };
        Ok(Sums {
            now,
            before,
            source,
        })
    }
}

/// The sums of a scope, from the caches if it is one campaign over a window in one part.
async fn read(
    state: &State,
    scope: &Scope,
    cuts: Option<Vec<Timestamp>>,
    days: bool,
) -> Result<(Arc<Series>, Source), Problem> {
    let unavailable = |e| Problem::unavailable(&e);
    let whole = match cuts.as_deref() {
        None => Some(None),
        Some(&[since, until]) => Window::covering(since, until).map(Some),
        Some(_) => None,
    };
    if let (Scope::Campaigns { ids, each: false }, Some(window), false) = (scope, whole, days)
        && let [id] = ids.as_slice()
    {
        let answer = state.cache.get(id, window).await.map_err(unavailable)?;
        let series = answer
            .sums
            .map_or_else(Series::default, |sums| of_campaign(&sums));
        return Ok((Arc::new(series), answer.source));
    }
    let question = Question {
        scope: scope.clone(),
        cuts,
        days,
    };
    let asked = question.clone();
    let ask = async |place| {
        let read = move |connection: &mut PgConnection| series::read(connection, &asked);
        state.database.read_long(place, read).await
    };
    state.series.get(&question, ask).await.map_err(unavailable)
}

/// A campaign's sums as a series of one part.
fn of_campaign(sums: &CampaignSums) -> Series {
    let description = sums.description.as_ref();
    let row = |(platform, totals): &(Platform, Totals)| series::Row {
        part: 0,
        campaign_id: String::new(),
        platform: *platform,
        currency: description.map(|known| known.account.currency),
        totals: totals.into(),
    };
    Series {
        rows: sums.platforms.iter().map(row).collect(),
        descriptions: description
            .map(|known| Descriptions::of_one(&sums.campaign_id, known.clone()))
            .unwrap_or_default(),
        days: Vec::new(),
        freshness: Some(sums.freshness),
        positions: sums.positions.clone(),
    }
}
