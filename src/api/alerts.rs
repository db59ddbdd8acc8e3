//! `/alerts`: what rules have opened and resolved, and who has seen it.

use std::collections::HashMap;
use std::sync::Arc;

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
use crate::alerts::current;
use crate::alerts::document::{self, Document};
use crate::store::TransitionId;
use crate::store::keep::alerts::episodes::{self, Filter};

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
    let alert = state
        .change(state.shards.home(), move |connection| {
            let alert = episodes::acknowledge(connection, alert_id, by.as_deref(), take_back)?;
            let described = document::described(connection, alert.iter())?;
            Ok(alert.map(|alert| Document::of(&alert, &described)))
        })
        .await?;
    let alert = alert.ok_or_else(unknown)?;
    Ok(answer::json(&alert))
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
    let before = state.cursors.read(&question, asked).await?;
    let filter = Filter {
        open: match asked.get(&STATE) {
            Some("open") => Some(true),
            Some("resolved") => Some(false),
            _ => None,
        },
        rule_name: text(&RULE),
        campaign_id: text(&CAMPAIGN),
        before: before.map(|[id]| TransitionId::new(id)),
        // One more than asked tells whether there is another page.
        limit: limit + 1,
    };
    let measure = asked.has(&MEASURE);
    // Sums over what may be months.
    let cost = if measure { Cost::Heavy } else { request.cost };
    let asking = Arc::clone(&state);
    let (mut rows, described, mut values) = state
        .ask(state.shards.home(), cost, move |connection| {
            let rows = episodes::list(connection, &filter)?;
            let described = document::described(connection, rows.iter())?;
            let values = if measure {
                let days = asking.provisional_days;
                current::values(connection, &rows, days, &asking.learned)?
            } else {
                HashMap::new()
            };
            Ok((rows, described, values))
        })
        .await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let last = rows.last().filter(|_| more);
    let next_cursor = match last.and_then(|last| last.transition_id) {
        Some(id) => Some(state.cursors.give(&question, &[id.get()]).await?),
        None => None,
    };
    Ok(answer::json(&Alerts {
        data: rows
            .iter()
            .map(|row| Document {
                current_values: values.remove(&row.alert_id),
                ..Document::of(row, &described)
            })
            .collect(),
        paging: Paging {
            next_cursor,
            total: None,
        },
    }))
}
