//! Answers as they were last written. What a campaign's insights look like follows from the question and its
//! sums, so while the sums behind an answer are the very ones it was written from, its bytes are sent again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::sync::Cache;
use warp::http::{HeaderMap, header};
use warp::reply::Response;

use super::endpoint::Endpoint;
use super::gate::etag;
use crate::store::read::insights::{CampaignSums, Window};

/// About the most bytes that are kept.
const MOST_BYTES: u64 = 64 << 20;
const KEPT_UNASKED: Duration = Duration::from_secs(60);
/// How many headers an answer has when it leaves.
const HEADERS: usize = 10;

/// What was asked.
pub(super) struct Question {
    /// The path and the query string.
    pub target: String,
    pub campaign: Arc<str>,
    /// The window it means by now.
    pub window: Option<Window>,
    /// Whether it means this window at any time.
    pub lasting: bool,
}

/// An answer, with its `ETag`.
pub(super) struct Written {
    pub question: Question,
    pub sums: Arc<CampaignSums>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// See the module.
#[derive(Clone)]
pub(super) struct WrittenAnswers(Cache<String, Arc<Written>>);

impl WrittenAnswers {
    pub fn new() -> WrittenAnswers {
        let weigher = |target: &String, written: &Arc<Written>| {
            let bytes = 2 * target.len() + written.body.len() + size_of::<Written>();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder()
            .max_capacity(MOST_BYTES)
            .weigher(weigher)
            .time_to_idle(KEPT_UNASKED);
        WrittenAnswers(cache.build())
    }

    /// The answer last written to what was asked in these words, whatever they meant then.
    pub fn last(&self, target: &str) -> Option<Arc<Written>> {
        self.0.get(target)
    }

    /// The answer to this question that was written from these sums.
    pub fn get(&self, question: &Question, sums: &Arc<CampaignSums>) -> Option<Response> {
        let written = self.last(&question.target)?;
        let same = written.question.window == question.window && Arc::ptr_eq(&written.sums, sums);
        same.then(|| {
            let mut response = Response::new(written.body.clone().into());
            response.headers_mut().clone_from(&written.headers);
            response
        })
    }

    /// Keeps an answer of this endpoint that was written from these sums, as it leaves there and with its `ETag`.
    pub async fn keep(
        &self,
        endpoint: &Endpoint,
        question: Question,
        sums: Arc<CampaignSums>,
        mut response: Response,
    ) -> Response {
        endpoint.mark(response.headers_mut());
        let (mut response, tagged) = etag::tag(response).await;
        if let Some((body, tag)) = tagged {
            response.headers_mut().insert(header::ETAG, tag);
            // With room, so that none of the copies has to grow.
            let mut headers = HeaderMap::with_capacity(HEADERS);
            headers.extend(response.headers().clone());
            let written = Written {
                question,
                sums,
                headers,
                body,
            };
            let target = written.question.target.clone();
            self.0.insert(target, Arc::new(written));
        }
        response
    }
}
