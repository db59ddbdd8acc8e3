//! The servers, asked for one campaign after the other, and Redis behind them.
//!
//! An answer is kept until PostgreSQL can be asked: what it holds by then must be at least the answer,
//! for nothing may be shown that was not committed. While PostgreSQL is away answers wait, a few
//! thousand at the most.

use std::collections::HashMap;
use std::time::Duration;

use diesel::{Connection, PgConnection};

use super::Shared;
use crate::api::{self, Api, Insight, Reply};
use crate::check::{Target, Violations};

pub const NO_5XX: &str = "a server always answers";
pub const NEVER_DOWN: &str = "a total at a server never goes down";
pub const COMMITTED: &str = "a server shows only what is committed";
pub const NOT_OLDER: &str = "once healed, a server shows what was committed before the fault";

/// Between two rounds.
const INTERVAL: Duration = Duration::from_millis(100);
/// Campaigns asked for in a round, at each server.
const A_ROUND: usize = 20;
/// Answers that wait for PostgreSQL, at the most.
const WAITING: usize = 5_000;

/// An answer that PostgreSQL has yet to confirm.
struct Shown {
    where_from: String,
    campaign: String,
    insight: Insight,
}

/// Polls until it is told to stop.
pub(super) fn read(target: &Target, shared: &Shared) {
    let api = Api::new();
    // What each server said last of each campaign.
    let mut said: HashMap<(usize, String), Insight> = HashMap::new();
    let mut waiting: Vec<Shown> = Vec::new();
    let mut round = 0;
    while !shared.stopped() {
        let mut campaigns: Vec<String> = shared.state().committed.keys().cloned().collect();
        campaigns.sort_unstable();
        let mut violations = Violations::default();
        for step in 0..A_ROUND.min(campaigns.len()) {
            let campaign = &campaigns[(round * A_ROUND + step) % campaigns.len()];
            for (server, url) in target.servers.iter().enumerate() {
                let floor = shared.state().floor(campaign);
                let asked = api.ask(url, campaign);
                let place = || format!("{campaign} at {url}");
                let insight = match asked {
                    Reply::Insight(insight) => insight,
                    // It has asked just before this campaign was counted; or it never got to see it
                    // before PostgreSQL went away.
                    Reply::Unknown | Reply::Refused(503, _)
                        if !said.contains_key(&(server, campaign.clone())) =>
                    {
                        continue;
                    }
                    other => {
                        violations.add(NO_5XX, place(), "200", other);
                        continue;
                    }
                };
                shared.state().looks.answers += 1;
                if let Some(floor) = floor {
                    shared.state().looks.after_healing += 1;
                    if let Some(what) = floor.exceeds(&insight, campaign) {
                        violations.add(NOT_OLDER, place(), format!("at least {what}"), "less");
                    }
                }
                let key = (server, campaign.clone());
                if let Some(what) = said
                    .get(&key)
                    .and_then(|before| before.exceeds(&insight, campaign))
                {
                    violations.add(NEVER_DOWN, place(), format!("still {what}"), "less");
                }
                said.insert(key, insight.clone());
                if waiting.len() < WAITING {
                    waiting.push(Shown {
                        where_from: url.clone(),
                        campaign: campaign.clone(),
                        insight,
                    });
                }
            }
        }
        round += 1;
        confirm(&target.database_url, &mut waiting, &mut violations);
        shared.state().violations.append(violations);
        std::thread::sleep(INTERVAL);
    }
    let mut violations = Violations::default();
    confirm(&target.database_url, &mut waiting, &mut violations);
    shared.state().violations.append(violations);
}

/// Holds the answers that wait against what PostgreSQL has now, if it answers.
fn confirm(database_url: &str, waiting: &mut Vec<Shown>, violations: &mut Violations) {
    let separator = if database_url.contains('?') { '&' } else { '?' };
    let url = format!("{database_url}{separator}connect_timeout=2&tcp_user_timeout=5000");
    let Ok(mut connection) = PgConnection::establish(&url) else {
        return;
    };
    let Ok(committed) = api::from_database(&mut connection) else {
        return;
    };
    for shown in waiting.drain(..) {
        let none = Insight::default();
        let stored = committed.get(&shown.campaign).unwrap_or(&none);
        if let Some(what) = shown.insight.exceeds(stored, &shown.campaign) {
            let place = format!("{} at {}", shown.campaign, shown.where_from);
            violations.add(COMMITTED, place, "at most what is committed", what);
        }
    }
}
