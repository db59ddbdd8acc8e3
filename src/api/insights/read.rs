//! The sums that answer a question about insights, and where they came from.

use std::sync::Arc;

use chrono_tz::Tz;
use diesel::PgConnection;

use super::{Wanted, check_rows};
use crate::api::problem::Problem;
use crate::api::rates;
use crate::api::window::{self, Increment};
use crate::api::{Served, State};
use crate::cache::Source;
use crate::event::Platform;
use crate::rates::conversion::Conversion;
use crate::store::read::descriptions::Descriptions;
use crate::store::read::insights::converted::{Converted, Left, Used};
use crate::store::read::insights::series::{self, Question, Scope, Series};
use crate::store::read::insights::{CampaignSums, Freshness, Window};
use crate::time::Timestamp;
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

impl Sums {
    /// The rates that money was converted by, that of the period before too.
    pub(super) fn rates(&self) -> Option<Used> {
        let periods = [Some(&self.now), self.before.as_ref()];
        let used = periods.into_iter().flatten();
        used.filter_map(|period| period.series.converted.used.clone())
            .reduce(Used::and)
    }
}

impl Wanted {
    /// Whether the parts are days of one campaign.
    pub(super) fn by_day(&self, scope: &Scope) -> bool {
        let is_one = matches!(scope, Scope::Campaigns { ids, each: false } if ids.len() == 1);
        is_one && self.increment == Increment::Day
    }

    /// The window; where it is all time and it matters when that begins and ends, the one that has all events.
    async fn all_there_is(&self, state: &State, scope: &Scope) -> Result<Option<Window>, Problem> {
        let matters = self.increment != Increment::All || self.is_converted;
        if self.asked.window.is_some() || !matters {
            return Ok(self.asked.window);
        }
        let question = Question {
            scope: scope.clone(),
            cuts: None,
            days: false,
            conversion: None,
        };
        let (all, _) = read(state, question).await?;
        Ok(all.freshness.and_then(Freshness::window))
    }

    /// What converts the money of the whole window; none where none is to be.
    pub(super) async fn conversion_of_all(
        &self,
        state: &State,
        scope: &Scope,
    ) -> Result<Option<Conversion>, Problem> {
        let window = self.all_there_is(state, scope).await?;
        self.conversion(state, window, &[]).await
    }

    /// The same of a window that is cut into parts.
    async fn conversion(
        &self,
        state: &State,
        window: Option<Window>,
        parts: &[Timestamp],
    ) -> Result<Option<Conversion>, Problem> {
        match self.currency.filter(|_| self.is_converted).zip(window) {
            Some((into, window)) => {
                let conversion = rates::conversion(state, into, window, self.zone, parts);
                Ok(Some(conversion.await?))
            }
            None => Ok(None),
        }
    }

    /// Refuses what could not be converted of the platforms that are asked for.
    pub(super) fn refuse(&self, converted: &Converted) -> Result<(), Problem> {
        let is_asked =
            |left: &&Left| self.platforms.is_empty() || self.platforms.contains(&left.platform);
        rates::refuse(converted.left.iter().filter(is_asked))
    }

    /// What was known of a campaign, in one part.
    pub(super) fn of_the_past(
        &self,
        window: Option<Window>,
        sums: &CampaignSums,
        converted: Converted,
    ) -> Sums {
        let mut answer = Sums::of_campaign(window, sums, Source::Database);
        if self.is_converted
            && let Some(series) = Arc::get_mut(&mut answer.now.series)
        {
            series.converted = converted;
            for row in &mut series.rows {
                row.currency = self.currency;
            }
        }
        answer
    }

    /// Reads what is asked about a scope.
    pub(super) async fn answer(&self, state: &State, scope: &Scope) -> Result<Sums, Problem> {
        let mut window = self.asked.window;
        let all_there_is = self.all_there_is(state, scope).await?;
        if self.increment != Increment::All {
            window = all_there_is;
        }
        let cut = |window| window::cuts(window, self.increment, self.zone);
        let period = async |window: Option<Window>, all_there_is: Option<Window>| {
            let cuts = window.map(cut).transpose()?;
            let parts = cuts.as_ref().map_or(1, |cuts| cuts.len().saturating_sub(1));
            let campaigns = match scope {
                Scope::Campaigns { ids, each: true } => ids.len(),
                _ => 1,
            };
            // Before they are read: a hundred campaigns by the hour are a million and a half.
            check_rows(parts.saturating_mul(campaigns))?;
            let parts = cuts.as_deref().unwrap_or_default();
            let conversion = self.conversion(state, all_there_is, parts).await?;
            let question = Question {
                scope: scope.clone(),
                cuts: cuts.clone(),
                days: self.by_day(scope),
                conversion,
            };
            let (series, source) = read(state, question).await?;
            self.refuse(&series.converted)?;
            Ok::<_, Problem>((
                Period {
                    window,
                    cuts,
                    series,
                },
                source,
            ))
        };
        let (now, source) = period(window, all_there_is).await?;
        let before = match self.asked.previous.filter(|_| self.compare) {
            Some(before) => Some(period(Some(before), Some(before)).await?.0),
            None => None,
        };
        Ok(Sums {
            now,
            before,
            source,
        })
    }
}

/// Answers a question, from the caches if it is about one campaign over a window in one part.
async fn read(state: &State, question: Question) -> Result<(Arc<Series>, Source), Problem> {
    let unavailable = |e| Problem::unavailable(&e);
    let whole = match question.cuts.as_deref() {
        None => Some(None),
        Some(&[since, until]) => Window::covering(since, until).map(Some),
        Some(_) => None,
    };
    let is_more = question.days || question.conversion.is_some();
    if let (Scope::Campaigns { ids, each: false }, Some(window), false) =
        (&question.scope, whole, is_more)
        && let [id] = ids.as_slice()
    {
        let answer = state
            .shards
            .of(id)
            .cache
            .get(id, window)
            .await
            .map_err(unavailable)?;
        let series = answer
            .sums
            .map_or_else(Series::default, |sums| of_campaign(&sums));
        return Ok((Arc::new(series), answer.source));
    }
    let asked = &question;
    let ask = async |place| {
        let own = |served: &Served| {
            let own = asked.about(|id| served.has(id))?;
            Some(move |connection: &mut PgConnection| series::read(connection, &own))
        };
        state.shards.together(place, own, Series::and).await
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
        converted: Converted::default(),
        freshness: Some(sums.freshness),
        positions: sums.positions.clone(),
    }
}
