//! Answers as they were last written. What a campaign's insights look like follows from the question and its
//! sums, so while the sums behind an answer are the very ones it was written from, its bytes are sent again.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use warp::http::{HeaderMap, header};
use warp::reply::Response;

use super::gate::etag;
use crate::store::insights::{CampaignSums, Window};

/// About the most bytes that are kept.
const MOST_BYTES: u64 = 64 << 20;
const KEPT_UNASKED: Duration = Duration::from_secs(60);

/// What is asked: a campaign, the query string, and the window it means by now.
pub(super) type Question = (String, String, Option<Window>);

struct Written {
    sums: Arc<CampaignSums>,
    headers: HeaderMap,
    body: bytes::Bytes,
}

/// See the module.
#[derive(Clone)]
pub(super) struct WrittenAnswers(Cache<Question, Arc<Written>>);

impl WrittenAnswers {
    pub fn new() -> WrittenAnswers {
        let weigher = |(id, query, _): &Question, written: &Arc<Written>| {
            let bytes = id.len() + query.len() + written.body.len() + size_of::<Written>();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder()
            .max_capacity(MOST_BYTES)
            .weigher(weigher)
            .time_to_idle(KEPT_UNASKED);
        WrittenAnswers(cache.build())
    }

    /// The answer to this question that was written from these sums.
    pub async fn get(&self, question: &Question, sums: &Arc<CampaignSums>) -> Option<Response> {
        let written = self.0.get(question).await?;
        Arc::ptr_eq(&written.sums, sums).then(|| {
            let mut response = Response::new(written.body.clone().into());
            response.headers_mut().clone_from(&written.headers);
            response
        })
    }

    /// Keeps an answer that was written from these sums, with its `ETag`.
    pub async fn keep(
        &self,
        question: Question,
        sums: Arc<CampaignSums>,
        response: Response,
    ) -> Response {
        let (mut response, tagged) = etag::tag(response).await;
        if let Some((body, tag)) = tagged {
            response.headers_mut().insert(header::ETAG, tag);
            let headers = response.headers().clone();
            let written = Written {
                sums,
                headers,
                body,
            };
            self.0.insert(question, Arc::new(written)).await;
        }
        response
    }
}
