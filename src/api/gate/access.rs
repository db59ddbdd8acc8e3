//! Who may ask what, when keys are required.
//!
//! What is known of a key is kept for seconds, so that a request costs no query, and a revoked key is
//! refused within them. While the database is away a key that was good stays good: what is answered
//! then is old as well, and nobody can have revoked it meanwhile.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use moka::future::Cache;
use warp::http::{HeaderMap, Method, header};

use crate::api::endpoint::Endpoint;
use crate::api::problem::Problem;
use crate::database::Database;
use crate::keys::{self, Key, Scope};
use crate::store::keep::api_keys::{self, Row};

/// While the database is away, a key is good for so long.
const REMEMBERED: Duration = Duration::from_secs(3_600);
/// Ids that are remembered, also those of which there is no key.
const MOST: u64 = 10_000;

/// See the module.
pub struct Access {
    database: Database,
    fresh: Cache<String, Option<Arc<Row>>>,
    remembered: Cache<String, Arc<Row>>,
}

/// What a request needs of a key; none: it needs no key. What leads nowhere is as guarded as what leads somewhere.
pub fn needed(endpoint: Option<&Endpoint>, method: &Method) -> Option<Scope> {
    match endpoint {
        Some(endpoint) => endpoint.scope,
        None if method == Method::GET || method == Method::HEAD => Some(Scope::Read),
        None => Some(Scope::Write),
    }
}

impl Access {
    /// Knows no key yet, and looks one up again after so long.
    pub fn new(database: Database, fresh: Duration) -> Access {
        Access {
            database,
            fresh: Cache::builder()
                .max_capacity(MOST)
                .time_to_live(fresh)
                .build(),
            remembered: Cache::builder()
                .max_capacity(MOST)
                .time_to_live(REMEMBERED)
                .build(),
        }
    }

    /// The key a request came with, if that may do this.
    ///
    /// # Errors
    /// A [`Problem`]: no key, not a good one, one that may not, or the database does not answer.
    pub async fn check(&self, headers: &HeaderMap, needed: Scope) -> Result<Arc<Row>, Problem> {
        let given = headers
            .get(header::AUTHORIZATION)
            .ok_or_else(|| Problem::unauthorized("this server requires an API key"))?;
        let key = given
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .and_then(|(_, key)| Key::parse(key.trim()))
            .ok_or_else(|| Problem::unauthorized("this is not an API key"))?;
        // One answer for a key that is unknown, wrong, revoked or expired: which it is, is nobody's
        // business who does not have it.
        let kept = self
            .find(key.id())
            .await?
            .filter(|kept| key.opens(kept, Utc::now()))
            .ok_or_else(|| Problem::unauthorized("this API key is not good (any more)"))?;
        if keys::allows(&kept, needed) {
            Ok(kept)
        } else {
            Err(Problem::forbidden(needed.as_str()))
        }
    }

    async fn find(&self, id: &str) -> Result<Option<Arc<Row>>, Problem> {
        let look_up = async {
            let id = id.to_owned();
            let row = self
                .database
                .read(move |connection| api_keys::find(connection, &id))
                .await?
                .map(Arc::new);
            if let Some(row) = &row {
                let row = Arc::clone(row);
                self.remembered.insert(row.key_id.clone(), row).await;
            }
            Ok(row)
        };
        // One look-up per key at a time.
        let found = self.fresh.try_get_with_by_ref(id, look_up).await;
        match found {
            Ok(row) => Ok(row),
            Err(away) => {
                let away: Arc<crate::database::Unavailable> = away;
                let row = self.remembered.get(id).await;
                row.map(Some).ok_or_else(|| Problem::unavailable(&away))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::endpoint::find;
    use crate::api::endpoints::ALL;

    #[test]
    fn what_is_needed() {
        for (method, path, scope) in [
            (Method::GET, "/docs", None),
            (Method::GET, "/campaigns", Some(Scope::Read)),
            (Method::HEAD, "/live", Some(Scope::Read)),
            (Method::GET, "/docs/more", Some(Scope::Read)),
            (Method::GET, "/livez", None),
            (Method::DELETE, "/alerts/rules/a", Some(Scope::Write)),
            (Method::GET, "/dead-letters", Some(Scope::Admin)),
            (Method::POST, "/docs", Some(Scope::Write)),
        ] {
            let endpoint = find(ALL, &method, path);
            assert_eq!(needed(endpoint, &method), scope, "{method} {path}");
        }
    }
}
