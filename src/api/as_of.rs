//! `GET /campaign/{id}/insights?as_of=…`: what was known at an instant in the past.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::State;
use super::problem::Problem;
use crate::rates::conversion::Conversion;
use crate::store::read::as_of::{self, Known, NotYet};
use crate::store::read::insights::converted::Converted;
use crate::store::read::insights::{CampaignSums, Window};
use crate::time::{rfc3339, rfc3339_exact};

/// How long a question waits for the one before it.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long before its deadline a question gives up, to say so itself.
const RESERVE: Duration = Duration::from_secs(1);

/// The sums of one campaign as they were known at `instant`. Never cached: it is asked
/// once, and reads more than one would keep.
pub(super) async fn campaign(
    state: &State,
    id: &str,
    window: Option<Window>,
    conversion: Option<Conversion>,
    instant: DateTime<Utc>,
) -> Result<(CampaignSums, Converted), Problem> {
    let until = Instant::now() + state.limits.answer_time.saturating_sub(RESERVE);
    let busy =
        "another question about the past is being answered, and they go one at a time; try again";
    let turn = Arc::clone(&state.as_of).acquire_owned();
    let turn = match tokio::time::timeout(PATIENCE, turn).await {
        Ok(Ok(turn)) => turn,
        Ok(Err(_)) | Err(_) => return Err(Problem::too_busy(busy)),
    };
    let campaign = id.to_owned();
    let database = &state.shards.of(id).database;
    let answer = database
        .read_long(turn, move |connection| {
            let conversion = conversion.as_ref();
            as_of::campaign(
                connection,
                &campaign,
                window,
                conversion,
                instant.into(),
                until,
            )
        })
        .await
        .map_err(|e| Problem::unavailable(&e))?;
    match answer {
        Known::Sums(sums, converted) => Ok((sums, converted)),
        Known::NothingYet => Err(Problem::unknown_campaign_then(id, &rfc3339(instant))),
        Known::NotYet(NotYet::InTheFuture { now }) => Err(Problem::parameter(
            "as_of",
            format!(
                "{} has not come yet: by the database's clock it is {}",
                rfc3339(instant),
                rfc3339(now)
            ),
        )),
        Known::NotYet(NotYet::NotReplayed { until }) => Err(Problem::parameter(
            "as_of",
            format!(
                "{} is not final here: this server reads from a standby, which knows all that was counted up to {}; ask for \
                 an earlier instant, or a server that reads from the primary",
                rfc3339(instant),
                rfc3339(until)
            ),
        )),
        Known::NotYet(NotYet::InFlight) => Err(Problem::too_busy(
            "a commit that began before this instant has not ended; try again",
        )),
        Known::Dropped { stored_until } => Err(Problem::parameter(
            "as_of",
            format!(
                "what was known at {} can no longer be told: of the events that were counted up to {until}, their sums are kept, and \
                 they themselves were dropped (adflux retain); ask for {until} or later",
                rfc3339(instant),
                until = rfc3339_exact(stored_until)
            ),
        )),
        Known::TooLong => Err(Problem::too_busy(
            "reading the event store took longer than a request may; adflux rebuild --as-of has no such bound",
        )),
    }
}
