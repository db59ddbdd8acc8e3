//! The sums that a list is made of: those of every campaign, in a window and in the one before.

use std::sync::Arc;

use chrono_tz::Tz;
use diesel::PgConnection;

use crate::api::limits::Cost;
use crate::api::parameters::COMPARE;
use crate::api::problem::Problem;
use crate::api::request::Arguments;
use crate::api::window::Asked;
use crate::api::{Served, State, asked, rates};
use crate::cache::Source;
use crate::currency::Currency;
use crate::database::Unavailable;
use crate::event::Platform;
use crate::rates::conversion::Conversion;
use crate::store::read::insights::converted::Used;
use crate::store::read::insights::sheet::{self, Sheet};
use crate::store::read::insights::{Freshness, Window};

/// What a sheet is about: a window (or all time), platforms (none named: all), and what money is converted by.
pub(in crate::api) type SheetKey = (Option<Window>, Vec<Platform>, Option<Conversion>);

/// What a list is made of.
pub(super) struct Sheets {
    pub asked: Asked,
    pub zone: Tz,
    /// In which all money is.
    pub currency: Option<Currency>,
    pub now: Arc<Sheet>,
    pub before: Option<Arc<Sheet>>,
    pub source: Source,
}

impl Sheets {
    /// Whether a list of these is one of those again.
    pub fn are(&self, them: &Sheets) -> bool {
        let both_before = match (&self.before, &them.before) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        let is_stale = |sheets: &Sheets| sheets.source == Source::Stale;
        self.asked == them.asked
            && Arc::ptr_eq(&self.now, &them.now)
            && both_before
            && is_stale(self) == is_stale(them)
    }

    /// The rates that money was converted by.
    pub fn rates(&self) -> Option<Used> {
        let sheets = [Some(&self.now), self.before.as_ref()];
        let used = sheets.into_iter().flatten();
        used.filter_map(|sheet| sheet.converted.used.clone())
            .reduce(Used::and)
    }
}

/// That of all databases together.
async fn of_all(
    state: &State,
    place: impl Send + Sync + 'static,
    key: &SheetKey,
) -> Result<Sheet, Unavailable> {
    let own = |_: &Served| {
        let (window, platforms, conversion) = key.clone();
        Some(move |connection: &mut PgConnection| {
            sheet::read(connection, window, &platforms, conversion.as_ref())
        })
    };
    state.shards.together(place, own, Sheet::and).await
}

/// The sheets that a list is made of.
pub(super) async fn read(state: &State, given: &Arguments) -> Result<Sheets, Problem> {
    let (asked, zone) = asked::window(given, state.now())?;
    read_as(state, given, asked, zone, false).await
}

/// Those of a list of these windows that another server has made: of now, since what is held here may be older than it.
pub(super) async fn read_for(
    state: &State,
    given: &Arguments,
    asked: Asked,
) -> Result<Sheets, Problem> {
    let (_, zone) = asked::window(given, state.now())?;
    read_as(state, given, asked, zone, true).await
}

async fn read_as(
    state: &State,
    given: &Arguments,
    asked: Asked,
    zone: Tz,
    anew: bool,
) -> Result<Sheets, Problem> {
    let currency = rates::currency(given);
    let sheet = async |key: SheetKey| {
        let unavailable = |e| Problem::unavailable(&e);
        if anew {
            let place = state.permit(Cost::Heavy).await?;
            let sheet = of_all(state, place, &key).await.map_err(unavailable)?;
            return Ok((Arc::new(sheet), Source::Database));
        }
        let ask = async |place| of_all(state, place, &key).await;
        state.sheets.get(&key, ask).await.map_err(unavailable)
    };
    let read = async |window: Option<Window>| {
        let platforms = asked::platforms(given);
        let Some(into) = currency else {
            return sheet((window, platforms, None)).await;
        };
        let whole = match window {
            Some(window) => Some(window),
            // All time begins and ends with what there is.
            None => {
                let (all, _) = sheet((None, platforms.clone(), None)).await?;
                all.freshness.and_then(Freshness::window)
            }
        };
        let conversion = match whole {
            Some(whole) => Some(rates::conversion(state, into, whole, zone, &[]).await?),
            None => None,
        };
        sheet((window, platforms, conversion)).await
    };
    let (now, source) = read(asked.window).await?;
    let before = match asked.previous.filter(|_| given.has(&COMPARE)) {
        Some(previous) => Some(read(Some(previous)).await?.0),
        None => None,
    };
    Ok(Sheets {
        asked,
        zone,
        currency,
        now,
        before,
        source,
    })
}
