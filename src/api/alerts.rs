//! `/alerts`: what rules have opened and resolved, and who has seen it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use diesel::PgConnection;
use futures_util::future::{join_all, try_join_all};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;
use warp::reply::Response;

use super::State;
use super::answer;
use super::body::Paging;
use super::endpoint::{Content, Endpoint, Handler, Method, Schema};
use super::limits::Cost;
use super::openapi::schemas::{self, list, object, reference};
use super::parameters::{CURSOR, LIMIT, Parameter, ParameterType};
use super::problem::Problem;
use super::request::Request;
use super::shards::Served;
use crate::alerts::current;
use crate::alerts::document::{self, Document};
use crate::alerts::learned::Learned;
use crate::expected::provisional::ProvisionalDays;
use crate::store::keep::alerts::episodes::{self, Filter};
use crate::store::{StoreError, TransitionId};

static STATE: Parameter = Parameter::query(
    "state",
    ParameterType::OneOf(&["all", "open", "resolved"]),
    "Only alerts that are open, or only those that have resolved.",
)
.or("all");
static RULE: Parameter = Parameter::query(
    "rule",
    ParameterType::Text { most: 64 },
    "Only alerts of this rule.",
);
static CAMPAIGN: Parameter = Parameter::query(
    "campaign",
    ParameterType::CampaignId,
    "Only alerts about this campaign.",
);

static MEASURE: Parameter = Parameter::query(
    "measure",
    ParameterType::OneOf(&["now"]),
    "Also what the rule of each open alert is measured at now, by the clock and over what is counted so far: current_values.",
);

/// `GET /alerts`
pub(super) static ALERTS: Endpoint = Endpoint {
    tag: Some("alerts"),
    summary: "Alerts",
    description: "The alerts that rules have opened and resolved, latest change first.",
    parameters: &[&[STATE, RULE, CAMPAIGN, MEASURE, LIMIT, CURSOR]],
    questions: &[(
        "What should somebody look at now, and how bad is it by now?",
        "/alerts?state=open&measure=now",
    )],
    ..Endpoint::get(
        "/alerts",
        Content::Json(Schema {
            name: "Alerts",
            describe: || {
                object(json!({
                    "data": list(reference(&schemas::ALERT)),
                    "paging": reference(&schemas::PAGING),
                }))
            },
        }),
        Handler::With(|state, request| Box::pin(alerts(state, request))),
    )
};

/// Of an alert that there is: what can be no id is unknown.
static ID: Parameter = Parameter::path("alert_id", ParameterType::Name, "The alert's id.");

/// `PUT /alerts/acknowledgements/{alert_id}`
pub(super) static ACKNOWLEDGE: Endpoint = Endpoint {
    tag: Some("alerts"),
    summary: "Acknowledge an alert",
    description: "Notes that somebody has seen the alert, and with which API key. The first one stays.",
    parameters: &[&[ID]],
    failures: &[404],
    ..Endpoint::write(
        Method::Put,
        "/alerts/acknowledgements/{alert_id}",
        Content::Json(schemas::ALERT),
        Handler::With(|state, request| Box::pin(acknowledge(state, request, false))),
    )
};

/// `DELETE /alerts/acknowledgements/{alert_id}`
pub(super) static TAKE_BACK: Endpoint = Endpoint {
    summary: "Take an acknowledgement back",
    description: "Nobody has seen the alert after all.",
    method: Method::Delete,
    handler: Handler::With(|state, request| Box::pin(acknowledge(state, request, true))),
    ..ACKNOWLEDGE
};

async fn acknowledge(
    state: Arc<State>,
    request: Request,
    take_back: bool,
) -> Result<Response, Problem> {
    let id = request.arguments.in_path(&ID);
    let unknown = || Problem::unknown_alert(id);
    let alert_id: Uuid = id.parse().map_err(|_| unknown())?;
    let by = request.key_name().map(str::to_owned);
    let note = move |connection: &mut PgConnection| {
        let alert = episodes::acknowledge(connection, alert_id, by.as_deref(), take_back)?;
        let described = document::described(connection, alert.iter())?;
        Ok(alert.map(|alert| Document::of(&alert, &described)))
    };
    // Its campaign is not known here, so nor is which database has it.
    let asked = state.shards.all().map(|served| {
        let note = note.clone();
        state.change(&served.database, note)
    });
    let mut failure = None;
    for answer in join_all(asked).await {
        match answer {
            Ok(Some(alert)) => return Ok(answer::json(&alert)),
            Ok(None) => {}
            Err(problem) => failure = Some(problem),
        }
    }
    Err(failure.unwrap_or_else(unknown))
}

#[derive(Serialize)]
struct Alerts {
    data: Vec<Document>,
    paging: Paging,
}

/// Alerts, those to which something happened last first.
async fn alerts(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let asked = &request.arguments;
    let limit: u32 = asked.integer(&LIMIT);
    let text = |parameter| asked.get(parameter).map(str::to_owned);
    let question = asked.question(&[&CURSOR, &LIMIT]);
    let campaign = text(&CAMPAIGN);
    let shards: Vec<Served> = match &campaign {
        Some(campaign) => vec![state.shards.of(campaign).clone()],
        None => state.shards.all().cloned().collect(),
    };
    let before = state.cursors.read_all(&question, asked, shards.len());
    let mut before: Vec<TransitionId> = match before.await? {
        Some(before) => before.into_iter().map(TransitionId::new).collect(),
        None => vec![TransitionId::new(i64::MAX); shards.len()],
    };
    let filter = Filter {
        open: match asked.get(&STATE) {
            Some("open") => Some(true),
            Some("resolved") => Some(false),
            _ => None,
        },
        rule_name: text(&RULE),
        campaign_id: campaign,
        before: None,
        // One more than asked tells whether there is another page.
        limit: limit + 1,
    };
    let measure = asked.has(&MEASURE);
    // Sums over what may be months.
    let cost = if measure { Cost::Heavy } else { request.cost };
    let permit = state.permit(cost).await?.map(Arc::new);
    let days = state.provisional_days;
    let parts = shards.into_iter().zip(&before).map(|(served, before)| {
        let filter = Filter {
            before: Some(*before),
            ..filter.clone()
        };
        let (database, learned) = (served.database, served.learned);
        let measure = measure.then_some((days, learned));
        let read = move |connection: &mut PgConnection| read(connection, &filter, measure);
        let permit = permit.clone();
        async move {
            match permit {
                Some(permit) => database.read_long(permit, read).await,
                None => database.read(read).await,
            }
        }
    });
    let parts = try_join_all(parts).await;
    let parts = parts.map_err(|e| Problem::unavailable(&e))?;
    let (data, more) = latest(parts, &mut before, limit as usize);
    let next_cursor = if more {
        let before: Vec<i64> = before.iter().map(|id| id.get()).collect();
        Some(state.cursors.give(&question, &before).await?)
    } else {
        None
    };
    Ok(answer::json(&Alerts {
        data,
        paging: Paging {
            next_cursor,
            total: None,
        },
    }))
}

/// An alert, and when something last happened to it.
struct Row {
    at: Option<DateTime<Utc>>,
    transition_id: TransitionId,
    document: Document,
}

/// The alerts of one database, also measured by what was learned of its accounts.
fn read(
    connection: &mut PgConnection,
    filter: &Filter,
    measure: Option<(ProvisionalDays, Arc<Mutex<Learned>>)>,
) -> Result<VecDeque<Row>, StoreError> {
    let rows = episodes::list(connection, filter)?;
    let described = document::described(connection, rows.iter())?;
    let mut values = match measure {
        Some((days, learned)) => current::values(connection, &rows, days, &learned)?,
        None => HashMap::new(),
    };
    let rows = rows.iter().filter_map(|row| {
        Some(Row {
            at: row.resolved_at.or(row.opened_at),
            transition_id: row.transition_id?,
            document: Document {
                current_values: values.remove(&row.alert_id),
                ..Document::of(row, &described)
            },
        })
    });
    Ok(rows.collect())
}

/// The first of the alerts of several databases, and whether there are more. Each database's stay in its order, which is that
/// of its transitions, and how far they were taken is left in `before`: so pages neither repeat nor lose one.
fn latest(
    mut parts: Vec<VecDeque<Row>>,
    before: &mut [TransitionId],
    limit: usize,
) -> (Vec<Document>, bool) {
    let mut data = Vec::new();
    while data.len() < limit {
        let heads = parts.iter_mut().zip(before.iter_mut());
        let heads = heads.filter_map(|(part, before)| {
            let at = part.front()?.at;
            Some((at, part, before))
        });
        let Some((_, part, before)) = heads.max_by_key(|(at, ..)| *at) else {
            break;
        };
        if let Some(row) = part.pop_front() {
            *before = row.transition_id;
            data.push(row.document);
        }
    }
    let more = parts.iter().any(|part| !part.is_empty());
    (data, more)
}
