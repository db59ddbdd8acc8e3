//! What the servers and Redis answer for a campaign.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use adflux::cache::redis::Names;
use adflux::store::identity;
use anyhow::Context as _;
use diesel::sql_types::{BigInt, SmallInt, Text};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use redis::TypedCommands as _;
use serde_json::Value;

use crate::ledger::{CONVERSIONS, SUM_NAMES};
use crate::traffic::is_reported;
use crate::wait::limit;

/// A server that takes longer than this does not answer.
const TIMEOUT: Duration = limit(Duration::from_secs(10));

/// The all-time sums of a campaign by platform, and the commit they are as of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Insight {
    pub commit_id: i64,
    /// By platform number, in order; in the order of [`SUM_NAMES`].
    pub platforms: Vec<(usize, [i64; 6])>,
}

impl Insight {
    /// Over all platforms.
    pub fn totals(&self) -> [i64; 6] {
        let mut totals = [0; 6];
        for (_, sums) in &self.platforms {
            for (total, sum) in totals.iter_mut().zip(sums) {
                *total += sum;
            }
        }
        totals
    }

    /// What shows that this is not the other or one before it, if anything does: sums only rise. Those of what platforms
    /// restate may fall as well, but not without another event.
    pub fn exceeds(&self, other: &Insight, campaign: &str) -> Option<String> {
        let (ours, theirs) = (self.totals(), other.totals());
        let rising = if is_reported(campaign) { 1 } else { ours.len() };
        for (name, (ours, theirs)) in SUM_NAMES.iter().zip(ours.iter().zip(theirs)).take(rising) {
            if *ours > theirs {
                return Some(format!("{name} {ours} and not {theirs}"));
            }
        }
        let differs = ours[0] == theirs[0] && ours != theirs;
        differs.then(|| format!("{ours:?} with as many events as {theirs:?}"))
    }
}

/// What became of a request.
pub enum Reply {
    Insight(Insight),
    /// There is no such campaign (yet).
    Unknown,
    /// Another status, with the body.
    Refused(u16, String),
    /// No answer at all.
    Silent(String),
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Insight(insight) => insight.fmt(f),
            Reply::Unknown => f.write_str("404"),
            Reply::Refused(status, body) => write!(f, "{status}: {body}"),
            Reply::Silent(error) => write!(f, "no answer: {error}"),
        }
    }
}

impl fmt::Display for Insight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} as of commit {}", self.platforms, self.commit_id)
    }
}

/// An HTTP client.
pub struct Api {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

impl Api {
    pub fn new() -> Api {
        Api {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
            client: reqwest::Client::builder()
                .timeout(TIMEOUT)
                .build()
                .expect("a client"),
        }
    }

    /// The status and the body that are under a URL.
    pub fn get(&self, url: &str) -> reqwest::Result<(u16, String)> {
        self.runtime.block_on(async {
            let response = self.client.get(url).send().await?;
            let status = response.status().as_u16();
            Ok((status, response.text().await?))
        })
    }

    /// Asks a server for a campaign's insights over all time.
    pub fn ask(&self, server: &str, campaign: &str) -> Reply {
        match self.get(&format!("{server}/campaign/{campaign}/insights")) {
            Ok((200, body)) => match insight(&body) {
                Some(insight) => Reply::Insight(insight),
                None => Reply::Refused(200, body),
            },
            Ok((404, _)) => Reply::Unknown,
            Ok((status, body)) => Reply::Refused(status, body),
            Err(error) => Reply::Silent(error.to_string()),
        }
    }
}

/// Reads the API's document.
fn insight(body: &str) -> Option<Insight> {
    const PLATFORMS: [&str; 4] = ["meta", "google", "linkedin", "tiktok"];
    let body: Value = serde_json::from_str(body).ok()?;
    let sums = |of: &Value| -> Option<[i64; 6]> {
        let mut sums = [0; 6];
        for (sum, name) in sums.iter_mut().zip(SUM_NAMES) {
            let value = of.get(name)?;
            *sum = match name {
                // Far from where a float has no millionths.
                "conversions" => (value.as_f64()? * 1_000_000.0).round() as i64,
                _ => value.as_i64()?,
            };
        }
        Some(sums)
    };
    let insight = Insight {
        commit_id: body.pointer("/freshness/commit_id")?.as_i64()?,
        platforms: body
            .get("platforms")?
            .as_array()?
            .iter()
            .map(|platform| {
                let name = platform.get("platform")?.as_str()?.to_lowercase();
                Some((PLATFORMS.iter().position(|p| *p == name)?, sums(platform)?))
            })
            .collect::<Option<_>>()?,
    };
    // The document adds its platforms up itself, and must do so rightly.
    (sums(body.get("totals")?)? == insight.totals()).then_some(insight)
}

/// What PostgreSQL has for every campaign.
pub fn from_database(connection: &mut PgConnection) -> QueryResult<HashMap<String, Insight>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        campaign_id: String,
        #[diesel(sql_type = SmallInt)]
        platform: i16,
        #[diesel(sql_type = BigInt)]
        commit_id: i64,
        #[diesel(sql_type = BigInt)]
        events: i64,
        #[diesel(sql_type = BigInt)]
        impressions: i64,
        #[diesel(sql_type = BigInt)]
        clicks: i64,
        #[diesel(sql_type = BigInt)]
        conversions: i64,
        #[diesel(sql_type = BigInt)]
        cost_micros: i64,
        #[diesel(sql_type = BigInt)]
        revenue_micros: i64,
    }
    let rows: Vec<Row> = sql_query(format!(
        "SELECT campaign_id, platform, commit_id, events, impressions, clicks, {CONVERSIONS}, cost_micros, \
             revenue_micros \
         FROM metrics_total ORDER BY campaign_id, platform",
    ))
    .load(connection)?;
    let mut insights: HashMap<String, Insight> = HashMap::new();
    for row in rows {
        let insight = insights.entry(row.campaign_id).or_default();
        insight.commit_id = insight.commit_id.max(row.commit_id);
        insight.platforms.push((
            usize::try_from(row.platform).unwrap_or(usize::MAX),
            [
                row.events,
                row.impressions,
                row.clicks,
                row.conversions,
                row.cost_micros,
                row.revenue_micros,
            ],
        ));
    }
    Ok(insights)
}

/// Redis, as the servers share it.
pub struct Shared {
    connection: redis::Connection,
    names: Names,
}

impl Shared {
    /// Connects; the database says under which names its insights are.
    pub fn connect(url: &str, database: &mut PgConnection) -> Result<Shared, String> {
        let store = identity::identity(database).map_err(|e| e.to_string())?;
        let connect = || {
            let client = redis::Client::open(url)?;
            let connection = client.get_connection_with_timeout(TIMEOUT)?;
            connection.set_read_timeout(Some(TIMEOUT))?;
            Ok::<_, redis::RedisError>(connection)
        };
        Ok(Shared {
            connection: connect().map_err(|e| e.to_string())?,
            names: Names::of(store),
        })
    }

    /// Replaces what Redis holds for a campaign by a newer value that nobody has counted, with one more of [`SUM_NAMES`].
    pub fn tamper(&mut self, campaign: &str, sum: &str) -> anyhow::Result<()> {
        let key = self.names.insight(campaign);
        let text = self.connection.get(&key)?.context("Redis holds a value")?;
        let (commit_id, json) = text.split_once('|').context("a value of ours")?;
        let mut value: Value = serde_json::from_str(json)?;
        let at = SUM_NAMES.iter().position(|name| *name == sum);
        let platform = value.pointer_mut("/platforms/0").context("a platform")?;
        let number = &mut platform[1 + at.context("a sum")?];
        *number = (number.as_i64().context("a number")? + 1).into();
        let newer = commit_id.parse::<i64>()? + 1_000_000;
        Ok(self.connection.set(&key, format!("{newer}|{value}"))?)
    }

    /// What Redis holds for a campaign, if anything.
    pub fn get(&mut self, campaign: &str) -> Result<Option<Insight>, String> {
        let key = self.names.insight(campaign);
        let text = self.connection.get(&key).map_err(|e| e.to_string())?;
        let Some(text) = text else { return Ok(None) };
        let parse = || {
            let (commit_id, json) = text.split_once('|')?;
            let value: Value = serde_json::from_str(json).ok()?;
            let platforms = value.get("platforms")?.as_array()?;
            Some(Insight {
                commit_id: commit_id.parse().ok()?,
                platforms: platforms
                    .iter()
                    .map(|platform| {
                        let numbers: Vec<i64> = serde_json::from_value(platform.clone()).ok()?;
                        let (&platform, sums) = numbers.split_first()?;
                        Some((usize::try_from(platform).ok()?, sums.try_into().ok()?))
                    })
                    .collect::<Option<_>>()?,
            })
        };
        match parse() {
            Some(insight) => Ok(Some(insight)),
            None => Err(format!("{key} holds '{text}'")),
        }
    }
}
