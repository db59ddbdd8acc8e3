//! Which path is answered by what.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::page::Page;
use super::problem::Problem;
use super::schemas::Registry;
use super::{
    State, alert_rules, alerts, campaigns, events, health, insights, live, openapi, pipeline,
};
use crate::metrics;

type Route = BoxedFilter<(Response,)>;

/// All routes; whatever matches none is a problem document.
pub(super) fn all(
    state: State,
    registry: Arc<Registry>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone {
    insights_of_campaign(state.clone())
        .or(insights_of_all(state.clone()))
        .unify()
        .or(list_of_campaigns(state.clone()))
        .unify()
        .or(events_of_campaign(state.clone()))
        .unify()
        .or(dead_letters(state.clone()))
        .unify()
        .or(live_feeds(state.clone()))
        .unify()
        .or(pipeline_of(state.clone()))
        .unify()
        .or(documents())
        .unify()
        .or(alert_routes(state.clone()))
        .unify()
        .or(health_checks(state))
        .unify()
        .or(schemas(registry))
        .unify()
        .or(page())
        .unify()
        .recover(|rejection: Rejection| async move { Ok::<_, Infallible>(refusal(&rejection)) })
        .unify()
}

/// Only `/livez`, `/readyz` and `/metrics`, for a process that serves nothing else.
pub(super) fn metrics_only() -> impl Filter<Extract = (Response,), Error = Infallible> + Clone {
    let readyz = warp::path!("readyz").and(get()).map(health::ready_to_count);
    livez()
        .or(prometheus())
        .unify()
        .or(readyz)
        .unify()
        .recover(|rejection: Rejection| async move { Ok::<_, Infallible>(refusal(&rejection)) })
        .unify()
}

/// `GET` and `HEAD`. After the path, so that another method on a known path is 405 and not 404.
fn get() -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::get().or(warp::head()).unify()
}

fn raw_query() -> impl Filter<Extract = (String,), Error = Infallible> + Clone {
    warp::query::raw().or(warp::any().map(String::new)).unify()
}

fn headers() -> impl Filter<Extract = (HeaderMap,), Error = Infallible> + Clone {
    warp::header::headers_cloned()
}

fn with(state: State) -> impl Filter<Extract = (State,), Error = Infallible> + Clone {
    warp::any().map(move || state.clone())
}

fn insights_of_campaign(state: State) -> Route {
    warp::path!("campaign" / String / "insights")
        .and(get())
        .and(raw_query())
        .and(headers())
        .and(with(state))
        .then(|id, raw, headers, state| {
            measured(
                "/campaign/{id}/insights",
                insights::campaign(state, id, raw, headers),
            )
        })
        .boxed()
}

fn insights_of_all(state: State) -> Route {
    warp::path!("insights")
        .and(get())
        .and(raw_query())
        .and(headers())
        .and(with(state))
        .then(|raw, headers, state| measured("/insights", insights::all(state, raw, headers)))
        .boxed()
}

fn list_of_campaigns(state: State) -> Route {
    warp::path!("campaigns")
        .and(get())
        .and(raw_query())
        .and(headers())
        .and(with(state))
        .then(|raw, headers, state| {
            measured("/campaigns", campaigns::campaigns(state, raw, headers))
        })
        .boxed()
}

fn events_of_campaign(state: State) -> Route {
    warp::path!("campaign" / String / "events")
        .and(get())
        .and(raw_query())
        .and(headers())
        .and(with(state))
        .then(|id, raw, headers, state| {
            measured(
                "/campaign/{id}/events",
                events::of_campaign(state, id, raw, headers),
            )
        })
        .boxed()
}

fn dead_letters(state: State) -> Route {
    warp::path!("dead-letters")
        .and(get())
        .and(raw_query())
        .and(headers())
        .and(with(state))
        .then(|raw, headers, state| {
            measured("/dead-letters", events::dead_letters(state, raw, headers))
        })
        .boxed()
}

fn live_feeds(state: State) -> Route {
    let last_event_id = warp::header::optional::<String>("last-event-id");
    let all = warp::path!("live")
        .and(get())
        .and(raw_query())
        .and(last_event_id)
        .and(with(state.clone()))
        .then(|raw, last, state| measured("/live", live::all(state, raw, last)))
        .boxed();
    let campaign = warp::path!("campaign" / String / "live")
        .and(get())
        .and(raw_query())
        .and(last_event_id)
        .and(with(state))
        .then(|id, raw, last, state| {
            measured("/campaign/{id}/live", live::campaign(state, id, raw, last))
        })
        .boxed();
    all.or(campaign).unify().boxed()
}

fn pipeline_of(state: State) -> Route {
    warp::path!("pipeline")
        .and(get())
        .and(raw_query())
        .and(with(state))
        .then(|raw, state| measured("/pipeline", pipeline::answer(state, raw)))
        .boxed()
}

fn documents() -> Route {
    let json = warp::path!("openapi.json")
        .and(get())
        .map(openapi::json)
        .boxed();
    let page = warp::path!("docs").and(get()).map(openapi::page).boxed();
    json.or(page).unify().boxed()
}

fn alert_routes(state: State) -> Route {
    let all = warp::path!("alerts")
        .and(get())
        .and(raw_query())
        .and(with(state.clone()))
        .then(|raw, state| measured("/alerts", alerts::alerts(state, raw)))
        .boxed();
    // Every method: each path says by itself which it takes.
    let sent = warp::method()
        .and(raw_query())
        .and(warp::header::optional("content-type"))
        .and(warp::body::bytes())
        .map(|method, query, content_type, body| alert_rules::Sent {
            method,
            query,
            content_type,
            body,
        });
    // A body whose length is not said would have to be read to its end.
    let bounded = warp::header::optional::<u64>("content-length")
        .and(warp::header::optional::<String>("transfer-encoding"))
        .and_then(|length: Option<u64>, encoding: Option<String>| async move {
            if length.unwrap_or(0) <= alert_rules::MAX_BODY && encoding.is_none() {
                Ok(())
            } else {
                Err(warp::reject::custom(TooLarge))
            }
        })
        .untuple_one();
    let rules = warp::path!("alerts" / "rules")
        .and(bounded)
        .and(sent.clone())
        .and(with(state.clone()))
        .then(|sent, state| measured("/alerts/rules", alert_rules::all(state, sent)))
        .boxed();
    let rule = warp::path!("alerts" / "rules" / String)
        .and(bounded)
        .and(sent)
        .and(with(state))
        .then(|name, sent, state| {
            measured("/alerts/rules/{name}", alert_rules::one(state, name, sent))
        })
        .boxed();
    all.or(rules).unify().or(rule).unify().boxed()
}

/// A body is larger than any rule.
#[derive(Debug)]
struct TooLarge;
impl warp::reject::Reject for TooLarge {}

fn livez() -> Route {
    warp::path!("livez").and(get()).map(health::live).boxed()
}

fn prometheus() -> Route {
    warp::path!("metrics")
        .and(get())
        .map(health::prometheus)
        .boxed()
}

fn health_checks(state: State) -> Route {
    let readyz = warp::path!("readyz")
        .and(get())
        .and(with(state))
        .then(health::ready)
        .boxed();
    livez().or(prometheus()).unify().or(readyz).unify().boxed()
}

fn schemas(registry: Arc<Registry>) -> Route {
    let registry = warp::any().map(move || Arc::clone(&registry));
    let by_id = warp::path!("schemas" / "ids" / String)
        .and(get())
        .and(registry.clone())
        .map(|id: String, registry: Arc<Registry>| registry.by_id(&id))
        .boxed();
    let subjects = warp::path!("subjects")
        .and(get())
        .and(registry.clone())
        .map(|registry: Arc<Registry>| registry.subjects())
        .boxed();
    let versions = warp::path!("subjects" / String / "versions")
        .and(get())
        .and(registry.clone())
        .map(|subject: String, registry: Arc<Registry>| registry.versions(&subject))
        .boxed();
    let version = warp::path!("subjects" / String / "versions" / String)
        .and(get())
        .and(registry)
        .map(
            |subject: String, version: String, registry: Arc<Registry>| {
                registry.version(&subject, &version)
            },
        )
        .boxed();
    by_id
        .or(subjects)
        .unify()
        .or(versions)
        .unify()
        .or(version)
        .unify()
        .boxed()
}

fn page() -> Route {
    let page = Arc::new(Page::new());
    let files = Arc::clone(&page);
    let index = warp::path::end().and(get()).map(move || page.index());
    let files = warp::path!("assets" / String / String)
        .and(get())
        .map(move |version: String, name: String| files.file(&version, &name));
    index.or(files).unify().boxed()
}

/// Answers, and notes how long that took.
async fn measured(
    route: &'static str,
    answer: impl Future<Output = Result<Response, Problem>>,
) -> Response {
    let started = Instant::now();
    let response = answer.await.unwrap_or_else(|problem| problem.response());
    metrics::REQUESTS
        .with_label_values(&[route, response.status().as_str()])
        .observe(started.elapsed().as_secs_f64());
    response
}

fn refusal(rejection: &Rejection) -> Response {
    if rejection.is_not_found() {
        Problem::not_found().response()
    } else if rejection.find::<TooLarge>().is_some() {
        Problem::too_large(alert_rules::MAX_BODY).response()
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        Problem::method_not_allowed().response()
    } else {
        log::warn!("a request was refused for a reason nobody foresaw: {rejection:?}");
        let mut response = Problem::not_found().response();
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response
    }
}
