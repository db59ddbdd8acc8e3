//! `GET /campaigns`: searched, filtered, sorted, in pages.
//!
//! A list is made once, of one instant: the sums of every campaign, which other lists of the same
//! window share, and the order of those that were asked for. The first page keeps it under a name
//! of its own, and the cursors of further pages are places in it. So no page skips or repeats a
//! campaign, however the numbers move; when nobody has asked for ten minutes, or there is no room,
//! it is forgotten, and its cursors are refused. Other servers know it through Redis.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use rand::RngExt as _;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::reply::Response;

use super::answer::{self, Format};
use super::body::{
    CampaignRow, Campaigns, Comparison, Described, Fields, Figures, Fresh, Metrics, OfCurrency,
    Paging, Span, Whole,
};
use super::endpoint::{Content, Endpoint, Handler, Schema};
use super::filter::Filter;
use super::limits::Cost;
use super::openapi::schemas::{
    self, Of, described, figures, id, list, nullable, object, reference, text, with_description,
};
use super::parameters::{
    COMPARE, CURSOR, FIELDS, FORMAT, LIMIT, PLATFORM, Parameter, ParameterType, WINDOW,
};
use super::problem::Problem;
use super::rates::{self, CURRENCY};
use super::request::{Arguments, Request};
use super::{State, asked};
use crate::cache::Source;
use crate::cache::answers::Weight as _;
use crate::store::read::insights::sheet::Row;
use crate::totals::metric::Metric;
use crate::totals::mixed::Shown;

mod elsewhere;
mod sheets;
mod together;

pub(super) use sheets::SheetKey;
use sheets::Sheets;
use together::{Sums, Together};

static SEARCH: Parameter = Parameter::query(
    "search",
    ParameterType::Text { most: 64 },
    "Only campaigns whose id or name has this text in it, whatever the case.",
);
pub(super) static FILTER: Parameter = Parameter::query(
    "filter",
    ParameterType::Filter,
    "Only campaigns for which this holds: a metric, one of < <= > >= = !=, and a number, such as roas<1. May be given up to 10 times; all must hold. A metric without a value meets no condition.",
)
.up_to(MAX_FILTERS);
static SORT: Parameter = Parameter::query(
    "sort",
    ParameterType::OneOf(Metric::NAMES),
    "The metric by which campaigns are sorted; those without a value come last.",
)
.or("revenue");
static ORDER: Parameter = Parameter::query(
    "order",
    ParameterType::OneOf(&["desc", "asc"]),
    "Largest or smallest first.",
)
.or("desc");

/// The most filters of one request.
const MAX_FILTERS: usize = 10;

/// `GET /campaigns`
pub(super) static CAMPAIGNS: Endpoint = Endpoint {
    tag: Some("insights"),
    summary: "Campaigns, searched, filtered and sorted",
    description: "The campaigns that have events in a window, with their names, accounts, sums and ratios. Pages of one list are of one instant: none skips or repeats a campaign, however the numbers move.",
    parameters: &[
        &[SEARCH, FILTER, SORT, ORDER, LIMIT, CURSOR],
        WINDOW,
        &[PLATFORM, FIELDS, COMPARE, CURRENCY, FORMAT],
    ],
    csv: true,
    failures: &[410, 422],
    questions: &[
        (
            "Which Meta campaigns lost money yesterday, Berlin time?",
            "/campaigns?platform=Meta&date_preset=yesterday&time_zone=Europe/Berlin&filter=profit<0&sort=profit&order=asc",
        ),
        (
            "Which ten campaigns earned most this month?",
            "/campaigns?date_preset=this_month&sort=profit&limit=10",
        ),
        (
            "Which spent more than 100 in the last week without a conversion?",
            "/campaigns?date_preset=last_7d&filter=cost>100&filter=conversions=0&sort=cost",
        ),
        (
            "Which campaigns of any account spent more than 1,000 euros this month?",
            "/campaigns?date_preset=this_month&currency=EUR&filter=cost>1000&sort=cost",
        ),
    ],
    cost: Cost::Heavy,
    ..Endpoint::get(
        "/campaigns",
        Content::Json(Schema {
            name: "Campaigns",
            describe: || {
                object(schemas::with_rates(json!({
                    "currency?": described(schemas::currency(), "That which was asked for."),
                    "window": reference(&schemas::WINDOW),
                    "previous_window?": reference(&schemas::WINDOW),
                    "time_zone": text(),
                    "freshness": nullable(reference(&schemas::FRESHNESS)),
                    "totals": described(
                        schemas::whole(json!({}), Of::Many),
                        "Of all campaigns that match, on all pages together. Money is null where it is of several currencies.",
                    ),
                    "totals_by_currency": schemas::by_currency(),
                    "data": list(figures(with_description(json!({ "campaign_id": id() }), false), Of::One)),
                    "paging": reference(&schemas::PAGING),
                })))
            },
        }),
        Handler::With(|state, request| Box::pin(campaigns(state, request))),
    )
};

/// How long a list is kept for further pages.
const KEPT: Duration = Duration::from_secs(600);
/// Questions whose newest list is known.
const MOST_QUESTIONS: u64 = 10_000;
/// About the most bytes of all lists that are kept.
const MOST_BYTES: u64 = 256 << 20;

/// About the most KiB of all lists that are being sent whole.
const MOST_SENT_KIB: u32 = 256 << 10;
/// How long a list waits for room to be sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// A list that was made, for further pages.
pub(super) struct List {
    question: String,
    of: Sheets,
    /// The places in `now` of those that were asked for, in the order that was asked for.
    order: Vec<u32>,
    /// The sums of those.
    together: Together,
    compare: bool,
    fields: Fields,
}

/// The lists that are kept for further pages, and how much of those that are sent whole may be held.
#[derive(Clone)]
pub(super) struct Lists {
    kept: Cache<i64, Arc<List>>,
    /// Which of them was made last for a question: whoever asks the same of the same sheets need not sort them again.
    newest: Cache<String, i64>,
    /// In KiB.
    sent: Arc<Semaphore>,
}

impl Lists {
    /// None yet.
    pub fn new() -> Lists {
        let weigh = |_: &i64, list: &Arc<List>| u32::try_from(list.weight()).unwrap_or(u32::MAX);
        Lists {
            kept: Cache::builder()
                .max_capacity(MOST_BYTES)
                .weigher(weigh)
                .time_to_idle(KEPT)
                .build(),
            newest: Cache::builder()
                .max_capacity(MOST_QUESTIONS)
                .time_to_idle(KEPT)
                .build(),
            sent: Arc::new(Semaphore::new(MOST_SENT_KIB as usize)),
        }
    }

    /// The list that was made of these sheets already, if it is kept.
    async fn made_of(&self, question: &str, sheets: &Sheets) -> Option<(i64, Arc<List>)> {
        let id = self.newest.get(question).await?;
        let list = self.kept.get(&id).await?;
        sheets.are(&list.of).then_some((id, list))
    }

    /// Keeps a list, under a number.
    async fn keep(&self, list: &Arc<List>) -> i64 {
        let id = rand::rng().random_range(1..i64::MAX);
        self.kept.insert(id, Arc::clone(list)).await;
        self.newest.insert(list.question.clone(), id).await;
        id
    }

    /// Room for a list to be sent from, which takes as long as who asked likes; the largest takes all there is.
    async fn room_for(&self, list: &List) -> Result<OwnedSemaphorePermit, Problem> {
        let kib = u32::try_from(list.weight() >> 10).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.sent).acquire_many_owned(kib.min(MOST_SENT_KIB));
        match tokio::time::timeout(PATIENCE, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) | Err(_) => Err(Problem::too_busy(
                "as many large lists are being sent as there is room for; try again, or ask for pages with limit",
            )),
        }
    }
}

/// A page of the list.
async fn campaigns(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let given = &request.arguments;
    let question = given.question(&[&CURSOR, &LIMIT, &FORMAT]);
    let (id, offset, list) = match state.cursors.read(&question, given).await? {
        Some([id, offset]) => {
            let list = match state.lists.kept.get(&id).await {
                Some(held) => Some(held).filter(|list| list.question == question),
                None => elsewhere::go_on(&state, given, &question, id)
                    .await?
                    .map(Arc::new),
            };
            let list = list.ok_or_else(Problem::cursor_expired)?;
            state.lists.kept.insert(id, Arc::clone(&list)).await;
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            (Some(id), offset, list)
        }
        None => {
            // What is asked wrongly is said before anything is read.
            let filters = filters(given)?;
            let sheets = sheets::read(&state, given).await?;
            match state.lists.made_of(&question, &sheets).await {
                Some((id, list)) => (Some(id), 0, list),
                None => {
                    let list = make(&state, given, filters, question, sheets).await?;
                    (None, 0, Arc::new(list))
                }
            }
        }
    };
    let csv = request.format() == Format::Csv;
    let limit = if csv && !given.has(&LIMIT) {
        usize::MAX
    } else {
        given.integer(&LIMIT)
    };
    let end = offset.saturating_add(limit).min(list.order.len());
    let next_cursor = if end < list.order.len() {
        let id = match id {
            Some(id) => id,
            None => {
                let id = state.lists.keep(&list).await;
                elsewhere::share(&state, id, &list).await;
                id
            }
        };
        let place = i64::try_from(end).unwrap_or(i64::MAX);
        Some(state.cursors.give(&list.question, &[id, place]).await?)
    } else {
        None
    };
    let source = if id.is_some() {
        Source::Process
    } else {
        list.of.source
    };
    let response = if csv {
        let room = state.lists.room_for(&list).await?;
        list.table(offset, end, next_cursor.as_deref(), room)
    } else {
        list.document(offset, end, next_cursor)
    };
    Ok(answer::from(response, source))
}

fn filters(given: &Arguments) -> Result<Vec<Filter>, Problem> {
    let filters = given.all(&FILTER);
    filters
        .map(|text| Filter::parse(FILTER.name, text))
        .collect()
}

async fn make(
    state: &State,
    given: &Arguments,
    filters: Vec<Filter>,
    question: String,
    of: Sheets,
) -> Result<List, Problem> {
    let search = given.get(&SEARCH).map(str::to_lowercase);
    let sort = given.get(&SORT).and_then(Metric::parse);
    let sort = sort.unwrap_or(Metric::Revenue);
    let descending = given.get(&ORDER) != Some("asc");
    let (sheet, then) = (Arc::clone(&of.now), of.before.clone());
    let currency = of.currency;
    let order = move || {
        let found = |id: &str, text: &str| {
            let has = |words: &str| words.to_lowercase().contains(text);
            let name = || sheet.descriptions.of(id)?.name.as_deref();
            has(id) || name().is_some_and(has)
        };
        let is_found = |id: &str| search.as_ref().is_none_or(|text| found(id, text));
        for sheet in [Some(&sheet), then.as_ref()].into_iter().flatten() {
            let left = sheet.converted.left.iter();
            rates::refuse(left.filter(|left| is_found(&left.campaign_id)))?;
        }
        let wanted =
            |row: &Row| is_found(&row.campaign_id) && filters.iter().all(|f| f.holds(&row.shown()));
        let mut rows: Vec<(Option<f64>, u32)> = (0..)
            .zip(&sheet.rows)
            .filter(|(_, row)| wanted(row))
            .map(|(place, row)| (row.shown().value(sort).number(), place))
            .collect();
        // Places are in the order of ids.
        rows.sort_unstable_by(|a, b| by_value(a.0, b.0, descending).then(a.1.cmp(&b.1)));
        let order: Vec<u32> = rows.into_iter().map(|(_, place)| place).collect();
        let rows = || order.iter().filter_map(|n| sheet.rows.get(*n as usize));
        let together = Together::of(rows(), &sheet, then.as_deref(), currency)?;
        Ok::<_, Problem>((order, together))
    };
    // A million campaigns take a second.
    let (order, together) = state.work(CAMPAIGNS.cost, order).await??;
    Ok(List {
        question,
        of,
        order,
        together,
        compare: given.has(&COMPARE),
        fields: asked::fields(given),
    })
}

/// The order of two values; those that are none come last, whatever the direction.
fn by_value(a: Option<f64>, b: Option<f64>, descending: bool) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if descending => b.total_cmp(&a),
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

impl List {
    /// About how many bytes it takes. Sheets may be shared; counted in full, a bound holds whatever is shared.
    fn weight(&self) -> usize {
        let before = self.of.before.as_ref().map_or(0, |before| before.weight());
        self.of.now.weight() + before + self.order.len() * size_of::<u32>()
    }

    fn row(&self, n: usize) -> Option<CampaignRow<'_>> {
        let sheet = &self.of.now;
        let row = sheet.rows.get(*self.order.get(n)? as usize)?;
        let campaign_id = &row.campaign_id;
        let before = self.of.before.as_ref();
        // A campaign that had no events then had zero of everything.
        let before = before.map(|b| b.get(campaign_id).map(Row::shown).unwrap_or_default());
        Some(CampaignRow {
            campaign_id,
            described: Described::from(sheet.descriptions.of(campaign_id)).beside(self.of.currency),
            figures: self.figures(row.shown(), before),
        })
    }

    fn whole(&self, sums: &Sums) -> Whole {
        Whole::of(
            self.figures(sums.now, sums.before),
            sums.claims,
            sums.partial,
        )
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

    fn document(&self, from: usize, to: usize, next_cursor: Option<String>) -> Response {
        let previous = self.of.asked.previous.filter(|_| self.compare);
        let freshness = self.of.now.freshness.as_ref();
        let by_currency = self.together.by_currency.iter();
        let by_currency = by_currency.map(|(currency, sums)| OfCurrency {
            currency: *currency,
            whole: self.whole(sums),
        });
        answer::json(&Campaigns {
            currency: self.of.currency,
            rates: self.of.currency.map(|_| self.of.rates()),
            window: Span::of(self.of.asked.window, self.of.zone),
            previous_window: self.compare.then(|| Span::of(previous, self.of.zone)),
            time_zone: self.of.zone.name(),
            freshness: freshness
                .map(|f| Fresh::of(f, &self.of.now.positions, self.of.source == Source::Stale)),
            totals: self.whole(&self.together.all),
            totals_by_currency: by_currency.collect(),
            data: (from..to).filter_map(|n| self.row(n)).collect(),
            paging: Paging {
                next_cursor,
                total: Some(self.order.len()),
            },
        })
    }

    fn table(
        self: Arc<List>,
        from: usize,
        to: usize,
        next_cursor: Option<&str>,
        room: OwnedSemaphorePermit,
    ) -> Response {
        let described = Described::columns(self.of.currency);
        let head = std::iter::once("campaign_id").chain(described);
        let head = head
            .map(str::to_owned)
            .chain(answer::figures_head(self.fields, self.compare));
        let head = head.collect();
        let list = self;
        let records = (from..to).filter_map(move |n| {
            let _sent_from = &room;
            let row = list.row(n)?;
            let id = std::iter::once(row.campaign_id.to_owned());
            let described = id.chain(row.described.cells());
            Some(described.chain(answer::figures(&row.figures)).collect())
        });
        answer::csv(head, records, next_cursor)
    }
}
