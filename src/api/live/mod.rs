//! `GET /live` and `GET /campaign/{id}/live`: totals as they change, as server-sent events.
//!
//! ```text
//! commit ─notice─▶ feed: what has changed since? ─▶ log: the newest value of each campaign
//!                   one question for all clients        ▲ read by place
//!                                     client · client · client: a place, no queue
//! ```
//!
//! A client is asked for more only when it has taken what it was given, so one that reads slowly
//! gets fewer, newer values; one that stopped reading is cut off by the connection's own bound on
//! writing. Format: the [WHATWG's event stream][sse].
//!
//! [sse]: https://html.spec.whatwg.org/multipage/server-sent-events.html

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::sync::mpsc::Sender;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use warp::Reply as _;
use warp::http::{HeaderValue, header};
use warp::reply::Response;

use super::State;
use super::body::Metrics;
use super::endpoint::{Caching, Content, Endpoint, Handler, Schema};
use super::limits::Cost;
use super::openapi::schemas::{
    self, count, described, id, list, nullable, object, platform, reference, time, with_metrics,
};
use super::parameters::{ID, Parameter, ParameterType};
use super::problem::Problem;
use super::request::Request;
use crate::event::Count;
use crate::store::CommitId;
use crate::store::read::insights::{self, CampaignSums};
use crate::time::rfc3339;
use crate::totals::Totals;

mod alerts;
pub(super) mod event_id;
mod feed;
mod followed;
mod log;
mod round;
mod seen;

pub use feed::Feed;
use feed::{Refused, Seat, Start};
use log::Place;
use round::{Owed, Round};

static LAST_EVENT_ID: Parameter = Parameter::header(
    "Last-Event-ID",
    ParameterType::EventId,
    "The last id that was received: what has changed since is sent first.",
);

/// `GET /live`
pub(super) static OF_ALL: Endpoint = Endpoint {
    summary: "Totals of all campaigns as they change",
    description: "Server-sent events: `totals` when a campaign has changed, at most four times a second and with its newest value; `alert` when one opens or resolves, as /alerts lists it; `progress` at the start and after each round; `reset` when more has changed than is kept. Hand the last id back as Last-Event-ID and no total is missed; what happened to alerts meanwhile is in /alerts.",
    parameters: &[&[LAST_EVENT_ID]],
    questions: &[("What is changing right now?", "/live")],
    ..endpoint(
        "/live",
        Content::Events(&[
            (
                "totals",
                "A campaign's sums have changed to these.",
                Some(TOTALS),
            ),
            (
                "alert",
                "An alert has opened or resolved.",
                Some(schemas::ALERT),
            ),
            (
                "progress",
                "What is counted by now; its id is where to go on from.",
                Some(PROGRESS),
            ),
            (
                "reset",
                "More has changed than is kept: ask for everything anew.",
                None,
            ),
        ]),
        Handler::With(|state, request| Box::pin(of_all(state, request))),
    )
};

/// `GET /campaign/{id}/live`
pub(super) static OF_CAMPAIGN: Endpoint = Endpoint {
    summary: "Totals of a campaign as they change",
    description: "Server-sent events: `totals` at the start and when the campaign has changed, at most four times a second and with its newest value; `alert` when one about it opens or resolves.",
    parameters: &[&[ID, LAST_EVENT_ID]],
    failures: &[404],
    questions: &[(
        "What does a campaign earn right now?",
        "/campaign/cmp-42/live",
    )],
    ..endpoint(
        "/campaign/{id}/live",
        Content::Events(&[
            ("totals", "The campaign's sums are these.", Some(TOTALS)),
            (
                "alert",
                "An alert about it has opened or resolved.",
                Some(schemas::ALERT),
            ),
        ]),
        Handler::With(|state, request| Box::pin(of_campaign(state, request))),
    )
};

const fn endpoint(path: &'static str, content: Content, handler: Handler) -> Endpoint {
    Endpoint {
        tag: Some("live"),
        caching: Caching::Never,
        ..Endpoint::get(path, content, handler)
    }
}

const TOTALS: Schema = Schema {
    name: "LiveTotals",
    describe: || {
        object(json!({
            "campaign_id": id(),
            "commit_id": count(),
            "counted_at": time(),
            "last_event_time": time(),
            "totals": reference(&schemas::METRICS),
            "platforms?": described(list(with_metrics(json!({ "platform": platform() }), schemas::Of::One)), "On a campaign's own feed."),
        }))
    },
};

const PROGRESS: Schema = Schema {
    name: "LiveProgress",
    describe: || {
        object(json!({
            "events": count(), "duplicates": count(), "dead_letters": count(),
            "unchanged": schemas::unchanged(), "superseded": schemas::superseded(), "commit_id": count(), "counted_at": nullable(time()),
        }))
    },
};

/// Values in a piece of the stream: about 30 KB, of which a stalled connection holds three.
const PIECE: usize = 64;
/// After how long a client that lost its connection comes back: some spread is the network's.
const RETRY: Duration = Duration::from_secs(1);

/// A campaign's new sums, and the event that tells of them, written once for all clients.
#[derive(Debug)]
pub struct Change {
    pub sums: CampaignSums,
    event: OnceLock<String>,
}

impl Change {
    /// The change to these sums.
    pub fn of(sums: CampaignSums) -> Change {
        Change {
            sums,
            event: OnceLock::new(),
        }
    }

    fn event(&self) -> &str {
        self.event
            .get_or_init(|| event("totals", None, &Document::of(&self.sums, false)))
    }
}

/// The data of a `totals` event.
#[derive(Serialize)]
struct Document<'a> {
    campaign_id: &'a str,
    commit_id: CommitId,
    counted_at: String,
    last_event_time: String,
    totals: Metrics,
    /// On a campaign's own feed.
    #[serde(skip_serializing_if = "Option::is_none")]
    platforms: Option<Vec<PlatformMetrics>>,
}

#[derive(Serialize)]
struct PlatformMetrics {
    platform: &'static str,
    #[serde(flatten)]
    metrics: Metrics,
}

impl<'a> Document<'a> {
    fn of(sums: &'a CampaignSums, with_platforms: bool) -> Document<'a> {
        // Each platform's sums are within 2^60, so four of them fit.
        let totals = sums
            .platforms
            .iter()
            .try_fold(Totals::default(), |sum, (_, t)| sum.checked_add(*t))
            .unwrap_or_default();
        let platforms = sums
            .platforms
            .iter()
            .map(|(platform, totals)| PlatformMetrics {
                platform: platform.name(),
                metrics: Metrics::from(totals),
            });
        Document {
            campaign_id: &sums.campaign_id,
            commit_id: sums.freshness.commit_id,
            counted_at: rfc3339(sums.freshness.counted_at),
            last_event_time: rfc3339(sums.freshness.last_event_time),
            totals: Metrics::from(&totals),
            platforms: with_platforms.then(|| platforms.collect()),
        }
    }
}

/// The data of a `progress` event, which ends each round.
#[derive(Serialize)]
struct Progress {
    events: Count,
    duplicates: Count,
    dead_letters: Count,
    unchanged: Count,
    superseded: Count,
    commit_id: CommitId,
    counted_at: Option<String>,
}

fn event(name: &str, id: Option<&str>, data: &impl Serialize) -> String {
    // Numbers and short strings: nothing that JSON could refuse; and JSON has no line breaks.
    let data = serde_json::to_string(data).unwrap_or_default();
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    format!("event: {name}\n{id}data: {data}\n\n")
}

fn progress(round: &Round, owed: &Owed) -> String {
    let p = round.progress();
    let data = Progress {
        events: p.events,
        duplicates: p.duplicates,
        dead_letters: p.dead_letters,
        unchanged: p.unchanged,
        superseded: p.superseded,
        commit_id: p.commit_id,
        counted_at: p.counted_at.map(rfc3339),
    };
    event("progress", Some(&round.event_id(owed)), &data)
}

/// Tells a client to ask for everything anew: it missed more than can be told.
fn reset(round: &Round, owed: &Owed) -> String {
    event("reset", Some(&round.event_id(owed)), &())
}

/// Every campaign's totals.
async fn of_all(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let last_event_id = request.arguments.get(&LAST_EVENT_ID);
    let since = last_event_id.map(event_id::read).transpose()?;
    let join = state.live.join(request.client, since);
    let (seat, start) = join.await.map_err(refusal)?;
    let (pieces, stream) = mpsc::channel(1);
    tokio::spawn(follow_all(
        state.live.clone(),
        start,
        pieces,
        seat,
        state.limits.heartbeat,
    ));
    Ok(response(stream))
}

/// One campaign's totals.
async fn of_campaign(state: Arc<State>, request: Request) -> Result<Response, Problem> {
    let id = request.arguments.in_path(&ID);
    let join = state.live.join(request.client, None);
    let (seat, start) = join.await.map_err(refusal)?;
    // Read after the place in the log was taken, so nothing falls between the two. Whatever a
    // client has seen before: it is told where the campaign stands.
    let present = present(&state, id)
        .await?
        .ok_or_else(|| Problem::unknown_campaign(id))?;
    let (pieces, stream) = mpsc::channel(1);
    tokio::spawn(follow_one(state, present, start, pieces, seat));
    Ok(response(stream))
}

fn refusal(refused: Refused) -> Problem {
    match refused {
        Refused::Full => Problem::too_many_live(),
        Refused::FullHere => Problem::too_many_live_here(),
        Refused::Unavailable(why) => Problem::unavailable(&why),
    }
}

async fn present(state: &State, campaign: &str) -> Result<Option<CampaignSums>, Problem> {
    let asked = campaign.to_owned();
    let sums = state
        .ask_of(campaign, Cost::Index, move |connection| {
            insights::totals(connection, &[&asked])
        })
        .await;
    Ok(sums?.pop())
}

fn response(pieces: mpsc::Receiver<String>) -> Response {
    let pieces = ReceiverStream::new(pieces).map(Ok::<_, std::convert::Infallible>);
    let mut response = warp::reply::stream(pieces).into_response();
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, content_type);
    // Not held back by proxies: nginx knows this.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Ends with the client, or with the feed.
async fn follow_all(
    feed: Feed,
    start: Start,
    pieces: Sender<String>,
    _seat: Seat,
    heartbeat: Duration,
) {
    let mut rounds = feed.rounds();
    let mut last = Arc::clone(&start.round);
    let mut place = last.place;
    let owed = &start.owed;
    let mut first = format!("retry: {}\n\n", RETRY.as_millis());
    match start.missed {
        None => first.push_str(&reset(&start.round, owed)),
        Some((missed, _held)) => {
            for changes in missed.chunks(PIECE) {
                first.extend(changes.iter().map(|c| c.event()));
                if pieces.send(std::mem::take(&mut first)).await.is_err() {
                    return;
                }
            }
            first.push_str(&progress(&start.round, owed));
        }
    }
    if pieces.send(first).await.is_err() {
        return;
    }
    loop {
        let round = tokio::select! {
            () = pieces.closed() => return,
            changed = rounds.changed() => match changed {
                Ok(()) => Arc::clone(&rounds.borrow_and_update()),
                Err(_) => return,
            },
            () = tokio::time::sleep(heartbeat) => {
                if pieces.send(HEARTBEAT.to_owned()).await.is_err() {
                    return;
                }
                continue;
            }
        };
        if round.can_pay_since(owed, start.round.number) {
            // It comes again with its last id, and is told what it missed of that database.
            return;
        }
        // The round with which we began, or one before it.
        if round.number <= last.number || !round.has_news_since(&last) {
            continue;
        }
        let mut end = match round.happenings_since(&last) {
            Some(happenings) => {
                let mut end: String = happenings.iter().map(|h| h.event.as_str()).collect();
                end.push_str(&progress(&round, owed));
                end
            }
            None => reset(&round, owed),
        };
        while place < round.place {
            let read = feed
                .log
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .between(place, round.place, PIECE);
            let Some((changes, reached)) = read else {
                end = reset(&round, owed);
                break;
            };
            place = reached;
            let piece: String = changes.iter().map(|c| c.event()).collect();
            if !piece.is_empty() && pieces.send(piece).await.is_err() {
                return;
            }
        }
        place = round.place;
        last = round;
        if pieces.send(end).await.is_err() {
            return;
        }
    }
}

const HEARTBEAT: &str = ": heartbeat\n\n";

/// Ends with the client, or with the feed.
async fn follow_one(
    state: Arc<State>,
    mut sums: CampaignSums,
    start: Start,
    pieces: Sender<String>,
    _seat: Seat,
) {
    let mut rounds = state.live.rounds();
    let mut last = Arc::clone(&start.round);
    let mut place: Place = last.place;
    let mut read_at = last.number;
    let mut piece = format!("retry: {}\n\n", RETRY.as_millis());
    let mut news = true;
    loop {
        if news {
            let id = sums.freshness.commit_id.to_string();
            let _ = write!(
                piece,
                "{}",
                event("totals", Some(&id), &Document::of(&sums, true))
            );
        }
        if !piece.is_empty() && pieces.send(std::mem::take(&mut piece)).await.is_err() {
            return;
        }
        news = false;
        let round = tokio::select! {
            () = pieces.closed() => return,
            changed = rounds.changed() => match changed {
                Ok(()) => Arc::clone(&rounds.borrow_and_update()),
                Err(_) => return,
            },
            () = tokio::time::sleep(state.limits.heartbeat) => {
                piece.push_str(HEARTBEAT);
                continue;
            }
        };
        if round.number <= last.number {
            continue;
        }
        // Of a thousand alerts that opened at once a slow client may miss this one's: /alerts has it.
        let happenings = round.happenings_since(&last).into_iter().flatten();
        let here = happenings.filter(|h| h.campaign_id == sums.campaign_id);
        piece.extend(here.map(|h| h.event.as_str()));
        last = Arc::clone(&round);
        let found = state
            .live
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .of_campaign(&sums.campaign_id, place);
        // The log has nothing of what a database counted before it answered for the first time.
        let is_missing = round.can_pay_since(&start.owed, read_at);
        let newest = match found {
            Ok(found) if !is_missing => found.map(|change| change.sums.clone()),
            Ok(_) | Err(log::Dropped) => match present(&state, &sums.campaign_id).await {
                Ok(newest) => newest,
                // Asked again with the next round, since the place stays what it is.
                Err(_) => continue,
            },
        };
        place = place.max(round.place);
        read_at = round.number;
        // What was read on arrival may be newer than what the log told first.
        if let Some(newest) = newest
            && newest.freshness.commit_id > sums.freshness.commit_id
        {
            sums = newest;
            news = true;
        }
    }
}
