//! What servers and Redis answer equals the database once things have settled, and is never newer. Of the campaigns that
//! platforms report, it is the newest that was said.

use std::collections::HashMap;

use super::{READABLE, Target, Violations, connect, until_settled};
use crate::api::{self, Api, Insight, Reply, Shared};
use crate::ledger::{Ledger, Sums};

pub const SERVER: &str = "a server answers what the database holds";
pub const REPORTED: &str = "a server answers the newest that was said of each day";
pub const SHARED: &str = "Redis holds what the database holds";

/// Asks every server and Redis for every campaign, until they have had their time to follow.
pub fn check_answers(target: &Target, ledger: &Ledger) -> Violations {
    if target.servers.is_empty() && target.redis_url.is_none() {
        return Violations::default();
    }
    until_settled(|| look(target, ledger))
}

/// Asks them once.
pub fn look(target: &Target, ledger: &Ledger) -> Violations {
    let api = Api::new();
    let reported = newest(ledger);
    let mut violations = Violations::default();
    let asked =
        connect(&target.database_url).and_then(|mut c| Ok((api::from_database(&mut c)?, c)));
    let (stored, mut connection) = match asked {
        Ok(asked) => asked,
        Err(error) => {
            violations.add(READABLE, &target.database_url, "rows", format!("{error:#}"));
            return violations;
        }
    };
    let mut shared =
        target
            .redis_url
            .as_ref()
            .and_then(|url| match Shared::connect(url, &mut connection) {
                Ok(shared) => Some(shared),
                Err(error) => {
                    violations.add(SHARED, url, "an answer", error);
                    None
                }
            });
    for campaign in ledger.campaigns() {
        let expected = stored.get(campaign);
        for server in &target.servers {
            let place = || format!("{campaign} at {server}");
            let answer = api.ask(server, campaign);
            if let (Reply::Insight(found), Some(newest)) =
                (&answer, reported.get(campaign.as_str()))
                && found.totals().map(i128::from) != *newest
            {
                violations.add(REPORTED, place(), format!("{newest:?}"), found);
            }
            match (answer, expected) {
                (Reply::Insight(found), Some(expected)) if found == *expected => {}
                (Reply::Insight(found), Some(expected)) => {
                    violations.add(SERVER, place(), expected, found);
                }
                (Reply::Unknown, None) => {}
                (other, expected) => {
                    let expected = expected.map_or_else(|| "404".to_owned(), Insight::to_string);
                    violations.add(SERVER, place(), expected, other);
                }
            }
        }
        if let Some(shared) = &mut shared {
            match (shared.get(campaign), expected) {
                (Ok(Some(found)), Some(expected)) if found == *expected => {}
                // Forgotten, not yet asked for, or never counted: the database is asked then.
                (Ok(None), _) => {}
                (Ok(Some(found)), expected) => {
                    let expected =
                        expected.map_or_else(|| "nothing".to_owned(), Insight::to_string);
                    violations.add(SHARED, campaign, expected, found);
                }
                (Err(error), _) => violations.add(SHARED, campaign, "a value of ours", error),
            }
        }
    }
    violations
}

/// Of each campaign that platforms report, the sum of the newest that was said of its days.
fn newest(ledger: &Ledger) -> HashMap<&str, Sums> {
    let mut newest: HashMap<&str, Sums> = HashMap::new();
    for (key, said) in ledger.reported().keys {
        let sums = newest
            .entry(&ledger.campaigns()[key.campaign as usize])
            .or_default();
        for (sum, more) in sums.iter_mut().zip(said.sums()) {
            *sum += more;
        }
    }
    newest
}
