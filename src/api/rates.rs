//! Money in one currency: which rates there are, what a request's money is converted by, and why it cannot be.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::NaiveDate;
use chrono_tz::Tz;
use serde::Serialize;
use serde_json::json;
use warp::reply::Response;

use super::endpoint::{Content, Endpoint, Handler, Schema};
use super::limits::Cost;
use super::openapi::schemas::{self, date, described, list, nullable, object, text};
use super::parameters::{Parameter, ParameterType};
use super::problem::Problem;
use super::request::Arguments;
use super::window::{self, Increment};
use super::{State, answer};
use crate::currency::Currency;
use crate::rates::conversion::{Conversion, Unconverted};
use crate::store::read::insights::Window;
use crate::store::read::insights::converted::Left;
use crate::store::read::rates;
use crate::time::Timestamp;

pub(super) static CURRENCY: Parameter = Parameter::query(
    "currency",
    ParameterType::Currency,
    "Money in this currency, by its code of ISO 4217. Each day, in time_zone, is converted by the last exchange rate known on or before it, of those that adflux rates import has read; filters and order are by converted money. Without it, money is in the currency of each account.",
);

/// `GET /rates`
pub(super) static RATES: Endpoint = Endpoint {
    tag: Some("insights"),
    summary: "Exchange rates that are known",
    description: "The currencies that money can be converted into, and of which days rates are known. None where adflux rates import has read no file.",
    cost: Cost::Index,
    questions: &[("Into which currencies can money be converted?", "/rates")],
    ..Endpoint::get(
        "/rates",
        Content::Json(Schema {
            name: "Rates",
            describe: || {
                let day = || described(nullable(date()), "Null: the base, which needs no rate.");
                object(json!({
                    "source": described(text(), "Who publishes the rates: ecb, the European Central Bank."),
                    "base": described(schemas::currency(), "The currency that rates are for one of."),
                    "currencies": list(object(json!({
                        "currency": schemas::currency(), "first_day": day(), "last_day": day(),
                        "rate": described(nullable(text()), "The last one, for one of the base: an exact decimal. Null: the base."),
                    }))),
                    "account_currencies": described(list(schemas::currency()), "Those of the accounts that reports are of."),
                }))
            },
        }),
        Handler::With(|state, _| Box::pin(known(state))),
    )
};

#[derive(Serialize)]
struct Known<'a> {
    source: &'a str,
    base: Currency,
    currencies: Vec<OfCurrency>,
    account_currencies: Vec<Currency>,
}

#[derive(Serialize)]
struct OfCurrency {
    currency: Currency,
    first_day: Option<NaiveDate>,
    last_day: Option<NaiveDate>,
    rate: Option<String>,
}

async fn known(state: Arc<State>) -> Result<Response, Problem> {
    let account_currencies = state.ask_each(RATES.cost, rates::currencies_of_accounts);
    let account_currencies: BTreeSet<Currency> =
        account_currencies.await?.into_iter().flatten().collect();
    let rates = all(&state).await?;
    let mut currencies: Vec<OfCurrency> = rates
        .all()
        .map(|(currency, published)| OfCurrency {
            currency,
            first_day: published.first().map(|one| one.day),
            last_day: published.last().map(|one| one.day),
            rate: published.last().map(|one| one.rate.to_string()),
        })
        .collect();
    if !currencies.is_empty() {
        currencies.push(OfCurrency {
            currency: rates.base,
            first_day: None,
            last_day: None,
            rate: None,
        });
        currencies.sort_by_key(|of| of.currency);
    }
    Ok(answer::json(&Known {
        source: &rates.source,
        base: rates.base,
        currencies,
        account_currencies: account_currencies.into_iter().collect(),
    }))
}

/// All rates that are known.
pub(super) async fn all(state: &State) -> Result<Arc<crate::rates::Rates>, Problem> {
    let rates = state.rates.get().await;
    rates.map_err(|unavailable| Problem::unavailable(&unavailable))
}

/// The currency that a request wants money in, if it says so.
pub(super) fn currency(given: &Arguments) -> Option<Currency> {
    given.get(&CURRENCY).and_then(Currency::from_code)
}

/// What converts the money of a window: its pieces are the days of the zone, or parts of them where it is cut more finely.
pub(super) async fn conversion(
    state: &State,
    into: Currency,
    window: Window,
    zone: Tz,
    parts: &[Timestamp],
) -> Result<Conversion, Problem> {
    let days = window::cuts(window, Increment::Day, zone)?;
    let cuts: BTreeSet<Timestamp> = days.iter().chain(parts).copied().collect();
    let starts = cuts.iter().take(cuts.len().saturating_sub(1));
    let day = |start: &Timestamp| {
        let time = start.datetime().unwrap_or_default();
        window::date_of(zone, time)
    };
    Ok(Conversion {
        into,
        days: starts.map(day).collect(),
        cuts: cuts.into_iter().collect(),
        rates: all(state).await?,
    })
}

/// Refuses an answer of which some money could not be converted: that of the first of these.
pub(super) fn refuse<'a>(mut left: impl Iterator<Item = &'a Left>) -> Result<(), Problem> {
    let Some(first) = left.next() else {
        return Ok(());
    };
    let mut others: Vec<&str> = left.map(|one| &*one.campaign_id).collect();
    others.retain(|id| *id != &*first.campaign_id);
    others.dedup();
    let id = &first.campaign_id;
    let whose = match others.len() {
        0 => format!("campaign '{id}'"),
        more => format!("campaign '{id}' and {more} more"),
    };
    Err(Problem::no_rate(match first.why {
        Unconverted::CurrencyUnknown => format!(
            "of what currency the money of {whose} is, no report has said, so it cannot be converted; leave such campaigns out (platform, campaigns or search), or ask without currency"
        ),
        Unconverted::NoRate(none) => format!(
            "the money of {whose} cannot be converted: {none}; `adflux rates import` takes the newest file of the European Central Bank"
        ),
    }))
}
