//! Who may ask what, when keys are required.
//!
//! What is known of a key is kept for seconds, so that a request costs no query, and a revoked key is
//! refused within them. While it cannot be looked up a key that was good stays good, but for a minute at most: it may have
//! been revoked meanwhile.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use http_body_util::BodyDataStream;
use moka::future::Cache;
use tokio::sync::oneshot;
use tokio_stream::Stream;
use warp::Reply as _;
use warp::http::{HeaderMap, Method, header};
use warp::reply::Response;

use crate::api::Limits;
use crate::api::endpoint::Endpoint;
use crate::api::pace::Pace;
use crate::api::problem::Problem;
use crate::api::request::Client;
use crate::database::{Database, Unavailable};
use crate::keys::{self, Key, Scope};
use crate::store::keep::api_keys::{self, Row};

/// Ids that are remembered, also those of which there is no key.
const MOST: u64 = 10_000;

/// See the module.
pub struct Access {
    database: Database,
    fresh: Cache<String, Option<Arc<Row>>>,
    remembered: Cache<String, Arc<Row>>,
    /// Look-ups of ids under which no key was found lately: who makes them up has no more of them than these.
    strangers: Option<Pace<IpAddr>>,
    look_again: Duration,
}

/// A key that was found good for what was asked, and what that needed.
pub struct Opened {
    key: Key,
    pub row: Arc<Row>,
    needed: Scope,
    client: Client,
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
    /// Knows no key yet.
    pub fn new(database: Database, limits: &Limits) -> Access {
        Access {
            database,
            fresh: Cache::builder()
                .max_capacity(MOST)
                .time_to_live(limits.key_time)
                .build(),
            remembered: Cache::builder()
                .max_capacity(MOST)
                .time_to_live(limits.key_grace)
                .build(),
            strangers: Pace::new(limits.look_ups_per_address),
            look_again: limits.key_time,
        }
    }

    /// The key a request came with, if that may do this.
    ///
    /// # Errors
    /// A [`Problem`]: no key, not a good one, one that may not, or it cannot be looked up.
    pub async fn open(
        &self,
        headers: &HeaderMap,
        needed: Scope,
        client: Client,
    ) -> Result<Opened, Problem> {
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
        let row = self.check(&key, needed, client).await?;
        Ok(Opened {
            key,
            row,
            needed,
            client,
        })
    }

    async fn check(&self, key: &Key, needed: Scope, client: Client) -> Result<Arc<Row>, Problem> {
        // One answer for a key that is unknown, wrong, revoked or expired: which it is, is nobody's
        // business who does not have it.
        let kept = self
            .find(key.id(), client)
            .await?
            .filter(|kept| key.opens(kept, Utc::now()))
            .ok_or_else(|| Problem::unauthorized("this API key is not good (any more)"))?;
        if keys::allows(&kept, needed) {
            Ok(kept)
        } else {
            Err(Problem::forbidden(needed.as_str()))
        }
    }

    async fn find(&self, id: &str, client: Client) -> Result<Option<Arc<Row>>, Problem> {
        let is_stranger = !self.fresh.contains_key(id) && !self.remembered.contains_key(id);
        if is_stranger && let Some(strangers) = &self.strangers {
            strangers.admit(&client.0).map_err(|wait| {
                Problem::too_many_requests("this address, with keys that are not known yet,", wait)
            })?;
        }
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
                let away: Arc<Unavailable> = away;
                let row = self.remembered.get(id).await;
                row.map(Some).ok_or_else(|| Problem::unavailable(&away))
            }
        }
    }

    /// An answer that does not end by itself; it does as soon as the key is no longer good for it.
    pub fn guard(self: &Arc<Access>, opened: Opened, answer: Response) -> Response {
        let access = Arc::clone(self);
        let (mut guarding, refused) = oneshot::channel::<()>();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = guarding.closed() => return,
                    () = tokio::time::sleep(access.look_again) => {}
                }
                let Opened {
                    key,
                    needed,
                    client,
                    ..
                } = &opened;
                if access.check(key, *needed, *client).await.is_err() {
                    return;
                }
            }
        });
        answer.map(|body| {
            let body = Guarded {
                body: BodyDataStream::new(body),
                refused,
            };
            warp::reply::stream(body).into_response().into_body()
        })
    }
}

/// A body that ends when its key is refused.
struct Guarded<B> {
    body: BodyDataStream<B>,
    /// Its other end is dropped then.
    refused: oneshot::Receiver<()>,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> Stream for Guarded<B> {
    type Item = Result<Bytes, B::Error>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, B::Error>>> {
        if Pin::new(&mut self.refused).poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_next(context)
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
            (Method::GET, "/dead-letters", Some(Scope::DeadLetters)),
            (Method::POST, "/docs", Some(Scope::Write)),
        ] {
            let endpoint = find(ALL, &method, path);
            assert_eq!(needed(endpoint, &method), scope, "{method} {path}");
        }
    }
}
