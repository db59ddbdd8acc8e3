//! Redis: insights shared by all servers, and the channel that says which have changed.
//!
//! `adflux:{store}:insight2:{campaign}` holds `{commit id}|{JSON}`, and is only ever replaced by a
//! larger commit id: the comparison and the write are one script. `{store}` is the store's
//! [identity](crate::store::identity), so that two databases can share a Redis, and nothing is found that was written
//! before Redis missed something. `adflux:{store}:list1:{number}` is a [list](super::lists) that is paged.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redis::{AsyncCommands as _, RedisError, Script};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::Notice;
use super::cause::{Cause, explained};
use super::servers::{Connection, Servers};
use crate::event::{Conversions, Count, Counts, Money, Platform};
use crate::offset::Offset;
use crate::outage::Outage;
use crate::store::CommitId;
use crate::store::positions::Position;
use crate::store::read::insights::{CampaignSums, Freshness};
use crate::time::Timestamp;
use crate::totals::Totals;

/// A value nobody refreshed for so long is forgotten: the bound on how old one can be when a
/// processor was lost between its commit and the refresh.
const EXPIRE_SECONDS: u64 = 600;
/// A cache that takes longer than this is slower than what it caches.
const PATIENCE: Duration = Duration::from_millis(50);
/// A list may take longer: it is put and got once for each server, and nobody else has it.
const PATIENCE_FOR_LISTS: Duration = Duration::from_millis(500);
/// For how long other servers know a list.
const LIST_SECONDS: u64 = 600;
/// How often it is looked whether a connection that another request makes is there.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// After a failure, Redis is not asked for so long.
const BREAK: Duration = Duration::from_secs(1);
/// How Redis is when it does not answer.
const UNREACHABLE: &str = "unreachable";

/// Sets a value unless a newer one is there. KEYS: the key. ARGV: commit id, JSON, seconds. What is not ours is replaced,
/// and the answer is 2 then.
const SET_IF_NEWER: &str = "\
    local held = redis.pcall('GET', KEYS[1]) \
    local commit = type(held) == 'string' and tonumber(string.match(held, '^(%d+)|')) \
    if commit and commit > tonumber(ARGV[1]) then return 0 end \
    redis.call('SET', KEYS[1], ARGV[1] .. '|' .. ARGV[2], 'EX', ARGV[3]) \
    if held and not commit then return 2 end \
    return 1";
/// What [`SET_IF_NEWER`] answers when it has replaced something that is not ours.
pub(super) const REPLACED_FOREIGN: i64 = 2;

/// The script, for those who run it.
pub(super) fn set_if_newer() -> Script {
    Script::new(SET_IF_NEWER)
}

/// The names under which a database's insights are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    store: Uuid,
}

impl Names {
    /// The names for the database with this identity.
    pub fn of(store: Uuid) -> Names {
        Names { store }
    }

    /// The key of a campaign's insight. Its number is that of the form of the value: nobody reads another one.
    pub fn insight(&self, campaign: &str) -> String {
        format!("adflux:{}:insight2:{campaign}", self.store)
    }

    /// The key of a list that is paged.
    pub fn list(&self, id: i64) -> String {
        format!("adflux:{}:list1:{id}", self.store)
    }

    /// The channel on which the changed campaigns are named, separated by commas.
    pub fn channel(&self) -> String {
        format!("adflux:{}:changed", self.store)
    }
}

/// The value as it stands in Redis, behind the commit id.
#[derive(Serialize, Deserialize)]
struct Value {
    first_event_time: Timestamp,
    last_event_time: Timestamp,
    counted_at: Timestamp,
    /// Platform index, events, and the five sums.
    platforms: Vec<(u8, Count, Count, Count, Conversions, Money, Money)>,
    /// Topic, partition, next offset.
    positions: Vec<(String, i32, Offset)>,
}

/// A value and its commit id as text.
pub(super) fn encode(sums: &CampaignSums) -> (CommitId, String) {
    let value = Value {
        first_event_time: sums.freshness.first_event_time.into(),
        last_event_time: sums.freshness.last_event_time.into(),
        counted_at: sums.freshness.counted_at.into(),
        platforms: sums
            .platforms
            .iter()
            .map(|(platform, t)| {
                let c = &t.counts;
                let index = platform.index();
                (
                    index,
                    t.events,
                    c.impressions,
                    c.clicks,
                    c.conversions,
                    c.cost_micros,
                    c.revenue_micros,
                )
            })
            .collect(),
        positions: sums
            .positions
            .iter()
            .map(|p| (p.topic.clone(), p.partition, p.next_offset))
            .collect(),
    };
    // Numbers, texts and lists of them: nothing that JSON could refuse.
    (
        sums.freshness.commit_id,
        serde_json::to_string(&value).unwrap_or_default(),
    )
}

/// Reads a value; none if it is not one of ours.
fn decode(campaign: &str, text: &str) -> Option<CampaignSums> {
    let (commit_id, json) = text.split_once('|')?;
    let value: Value = serde_json::from_str(json).ok()?;
    Some(CampaignSums {
        campaign_id: campaign.to_owned(),
        platforms: value
            .platforms
            .into_iter()
            .map(
                |(
                    platform,
                    events,
                    impressions,
                    clicks,
                    conversions,
                    cost_micros,
                    revenue_micros,
                )| {
                    let counts = Counts {
                        impressions,
                        clicks,
                        conversions,
                        cost_micros,
                        revenue_micros,
                    };
                    Some((
                        Platform::from_index(platform.into())?,
                        Totals { events, counts },
                    ))
                },
            )
            .collect::<Option<_>>()?,
        freshness: Freshness {
            first_event_time: value.first_event_time.datetime()?,
            last_event_time: value.last_event_time.datetime()?,
            counted_at: value.counted_at.datetime()?,
            commit_id: CommitId::new(commit_id.parse().ok()?),
        },
        description: None,
        positions: value
            .positions
            .into_iter()
            .map(|(topic, partition, next_offset)| Position {
                topic,
                partition,
                next_offset,
            })
            .collect(),
    })
}

/// The servers' side: reads insights, and writes back what had to be read from PostgreSQL.
pub struct SharedCache {
    servers: Servers,
    connection: Arc<RwLock<Option<Connection>>>,
    /// Whether it is being made.
    connecting: Arc<AtomicBool>,
    /// None before the database has told its identity.
    names: watch::Sender<Option<Names>>,
    script: Script,
    started: Instant,
    /// Milliseconds since `started` before which Redis is not asked.
    broken_until: AtomicI64,
    /// The same for lists.
    lists_broken_until: AtomicI64,
}

impl SharedCache {
    /// Connects with the first request, and has no names before [`SharedCache::belongs_to`].
    pub fn new(servers: Servers) -> SharedCache {
        SharedCache {
            servers,
            connection: Arc::default(),
            connecting: Arc::default(),
            names: watch::Sender::new(None),
            script: set_if_newer(),
            started: Instant::now(),
            broken_until: AtomicI64::new(0),
            lists_broken_until: AtomicI64::new(0),
        }
    }

    /// Says which database it stands before.
    pub fn belongs_to(&self, names: Names) {
        self.names.send_replace(Some(names));
    }

    /// The names of now. To be asked for before the database is: what is read then is at least as new as they are.
    pub fn names(&self) -> Option<Names> {
        self.names.borrow().clone()
    }

    /// A campaign's insight; none if Redis has none, or does not answer in time.
    pub async fn get(&self, names: &Names, campaign: &str) -> Option<CampaignSums> {
        let key = names.insight(campaign);
        let asked = self.ask(|mut c| async move { c.get(key).await });
        let text: Option<String> = asked.await.ok()?;
        decode(campaign, &text?)
    }

    /// Puts an insight unless a newer one is there.
    pub async fn put(&self, names: &Names, sums: &CampaignSums) {
        let key = names.insight(&sums.campaign_id);
        let (commit_id, json) = encode(sums);
        let script = &self.script;
        // What was refused is said by `/readyz`, and what was not put is asked of PostgreSQL.
        let _ = self
            .ask(|mut c| async move {
                let mut call = script.prepare_invoke();
                call.key(key).arg(arguments(commit_id, json));
                call.invoke_async::<i64>(&mut c).await
            })
            .await;
    }

    /// Puts a list there, for ten minutes.
    pub async fn put_list(&self, key: &str, text: String) {
        // Not put: only this server has it, and others say so.
        let _: Option<()> = self
            .ask_for_list(|mut c| async move {
                let mut set = redis::cmd("SET");
                set.arg(key).arg(text).arg("EX").arg(LIST_SECONDS);
                set.query_async(&mut c).await
            })
            .await;
    }

    /// A list; none if Redis has none, or does not answer in time.
    pub async fn get_list(&self, key: &str) -> Option<String> {
        let got = self.ask_for_list(|mut c| async move { c.get::<_, Option<String>>(key).await });
        got.await.flatten()
    }

    /// What Redis answers, of which nobody else could be asked: a break that others take is none for it.
    async fn ask_for_list<T, F>(&self, request: impl FnOnce(Connection) -> F) -> Option<T>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        if self.is_broken(&self.lists_broken_until) {
            return None;
        }
        let asked = tokio::time::timeout(PATIENCE_FOR_LISTS, async {
            let connection = loop {
                match self.connection().await? {
                    Some(connection) => break connection,
                    None => tokio::time::sleep(LOOK_AGAIN).await,
                }
            };
            request(connection).await
        });
        let problem = match asked.await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) if !Cause::is_of_connection(&error) => {
                log::debug!("Redis: {error}; a list is known to this server only");
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", PATIENCE_FOR_LISTS.as_millis()),
        };
        log::debug!("Redis: {problem}; a list is known to this server only");
        self.take_a_break(&self.lists_broken_until);
        None
    }

    fn is_broken(&self, until: &AtomicI64) -> bool {
        let now = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        now < until.load(Ordering::Relaxed)
    }

    fn take_a_break(&self, until: &AtomicI64) {
        let ends = self.started.elapsed().saturating_add(BREAK).as_millis();
        until.store(i64::try_from(ends).unwrap_or(i64::MAX), Ordering::Relaxed);
        *self
            .connection
            .write()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// How Redis is, in a word or two: `ok` if it takes what is written, however well it answers else.
    pub async fn standing(&self) -> &'static str {
        self.broken_until.store(0, Ordering::Relaxed);
        let probe = self.ask(|mut c| async move { probe(&mut c).await });
        probe.await.map_or_else(|word| word, |()| "ok")
    }

    /// What Redis answers; or how it is, if it does not.
    async fn ask<T, F>(&self, request: impl FnOnce(Connection) -> F) -> Result<T, &'static str>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        if self.is_broken(&self.broken_until) {
            return Err(UNREACHABLE);
        }
        let asked = tokio::time::timeout(PATIENCE, async {
            match self.connection().await? {
                Some(connection) => request(connection).await.map(Some),
                None => Ok(None),
            }
        })
        .await;
        let (problem, word) = match asked {
            Ok(Ok(answer)) => return answer.ok_or(UNREACHABLE),
            Ok(Err(error)) => {
                let word = Cause::of(&error).word;
                // It answers, if not as we would like: a value that is not ours, or no room for one that is.
                if !Cause::is_of_connection(&error) {
                    log::debug!("Redis: {error}");
                    return Err(word);
                }
                (error.to_string(), word)
            }
            Err(_) => {
                let slow = format!("no answer within {} ms", PATIENCE.as_millis());
                (slow, UNREACHABLE)
            }
        };
        log::debug!("Redis: {problem}; asking PostgreSQL for a while");
        self.take_a_break(&self.broken_until);
        Err(word)
    }

    /// The connection; none while another request has it made.
    async fn connection(&self) -> Result<Option<Connection>, RedisError> {
        let held = self
            .connection
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if held.is_some() {
            return Ok(held);
        }
        if self.connecting.swap(true, Ordering::Acquire) {
            return Ok(None);
        }
        let (servers, held) = (self.servers.clone(), Arc::clone(&self.connection));
        let connecting = Arc::clone(&self.connecting);
        // Goes on when who asked has given up: others find it made.
        let making = tokio::spawn(async move {
            let made = servers.connect().await;
            if let Ok(made) = &made {
                let mut held = held.write().unwrap_or_else(PoisonError::into_inner);
                *held = Some(made.clone());
            }
            connecting.store(false, Ordering::Release);
            made
        });
        match making.await {
            Ok(made) => made.map(Some),
            Err(_) => Ok(None),
        }
    }
}

/// Writes what means nothing and is soon gone: a server that answers may still take nothing.
async fn probe(connection: &mut Connection) -> Result<(), RedisError> {
    let mut set = redis::cmd("SET");
    set.arg("adflux:probe").arg("").arg("EX").arg(1);
    set.query_async(connection).await
}

/// Whether Redis takes what is written.
///
/// # Errors
/// What keeps it from that.
pub async fn try_writing(servers: &Servers) -> Result<(), RedisError> {
    probe(&mut servers.connect().await?).await
}

/// Removes what is kept of campaigns under the names of these identities of the database.
///
/// # Errors
/// When Redis does not do it.
pub async fn forget(
    servers: &Servers,
    stores: &[Uuid],
    campaigns: &[String],
) -> Result<(), RedisError> {
    let mut connection = servers.connect().await?;
    for names in stores.iter().map(|store| Names::of(*store)) {
        for campaign in campaigns {
            // One at a time: in a Cluster they are on different servers. Whoever may write need not be allowed to delete.
            let mut set = redis::cmd("SET");
            set.arg(names.insight(campaign)).arg("").arg("PX").arg(1);
            let () = set.query_async(&mut connection).await?;
        }
    }
    Ok(())
}

/// Passes the notices of all processors on to this process's cache, for as long as it runs.
pub async fn listen(shared: Arc<SharedCache>, notices: mpsc::UnboundedSender<Notice>) {
    let outage = Outage::default();
    let mut names = shared.names.subscribe();
    loop {
        let Ok(now) = names.wait_for(Option::is_some).await.map(|now| now.clone()) else {
            return;
        };
        let Some(now) = now else { continue };
        let lost = tokio::select! {
            ended = hear(&shared.servers, &now, &notices, &outage) => match ended {
                Ok(()) => "the connection was closed".to_owned(),
                Err(error) => explained(&error),
            },
            // From now on they come under other names.
            _ = names.wait_for(|other| other.as_ref() != Some(&now)) => continue,
        };
        if notices.is_closed() {
            return;
        }
        outage.failed(format_args!(
            "Redis: {lost}; insights come from PostgreSQL until it is back"
        ));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn hear(
    servers: &Servers,
    names: &Names,
    notices: &mpsc::UnboundedSender<Notice>,
    outage: &Outage,
) -> Result<(), RedisError> {
    use tokio_stream::StreamExt as _;

    let mut channel = servers.subscribe(&names.channel()).await?;
    outage.ended(format_args!("Redis is back"));
    // What was published while nobody listened is gone.
    let _ = notices.send(Notice::Anything);
    let mut messages = channel.on_message();
    while let Some(message) = messages.next().await {
        let text: String = message.get_payload()?;
        let campaigns = text.split(',').map(Arc::from).collect();
        if notices.send(Notice::Changed(campaigns)).is_err() {
            break;
        }
    }
    Ok(())
}

/// What [`set_if_newer`] wants to know of a value. Each has an end.
pub(super) fn arguments(commit_id: CommitId, json: String) -> (i64, String, u64) {
    (commit_id.get(), json, EXPIRE_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_the_round_trip_and_garbage_is_none() {
        let time = Timestamp::new(1_700_000_000_123_456)
            .datetime()
            .expect("valid");
        let sums = CampaignSums {
            campaign_id: "cmp-1".into(),
            platforms: vec![(
                Platform::TikTok,
                Totals {
                    events: Count::new(3),
                    counts: Counts::of([0, 7, 1_500_000, 0, 0]),
                },
            )],
            freshness: Freshness {
                first_event_time: time,
                last_event_time: time,
                counted_at: time,
                commit_id: CommitId::new(9),
            },
            description: None,
            positions: vec![Position {
                topic: "ad-events".into(),
                partition: 2,
                next_offset: Offset::new(1 << 40),
            }],
        };
        let (commit_id, json) = encode(&sums);
        assert_eq!(decode("cmp-1", &format!("{commit_id}|{json}")), Some(sums));
        for garbage in ["", "9", "9|", "x|{}", "9|{\"platforms\":[[9,0,0,0,0,0,0]]}"] {
            assert_eq!(decode("cmp-1", garbage), None, "{garbage}");
        }
    }
}
