//! The short way of the question asked most: a campaign's insights whose answer is written already and still
//! rests on what the cache holds.
//!
//! It gives the answer of the ordinary way, in every header and byte, or none. What could make that another
//! answer (another method, a header that chooses among forms, a window that moves with the clock) goes
//! the ordinary way; so does everything where keys are needed or other origins may ask.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response};
use prometheus::{Histogram, IntCounter};
use warp::http::{HeaderName, HeaderValue, Method, header};

use crate::api::answer;
use crate::api::insights::OF_CAMPAIGN;
use crate::api::shards::Shards;
use crate::api::written::{Written, WrittenAnswers};
use crate::cache::Source;
use crate::metrics;

/// Who sends one of these may be given other bytes, or none.
const CHOOSING: [HeaderName; 2] = [header::ACCEPT_ENCODING, header::IF_NONE_MATCH];

/// See the module.
pub(in crate::api) struct AtHand {
    shards: Shards,
    written: WrittenAnswers,
    seconds: Histogram,
    answered: IntCounter,
}

impl AtHand {
    /// Answers what is in `written` as long as the caches say it holds.
    pub fn new(shards: Shards, written: WrittenAnswers) -> AtHand {
        AtHand {
            shards,
            written,
            seconds: metrics::REQUESTS.with_label_values(&[OF_CAMPAIGN.path, "200"]),
            answered: metrics::CACHE.with_label_values(&[Source::Process.as_str()]),
        }
    }

    /// What is at hand to answer this request.
    pub fn find<B>(&self, request: &Request<B>) -> Option<Arc<Written>> {
        let headers = request.headers();
        if request.method() != Method::GET
            || CHOOSING.iter().any(|name| headers.contains_key(name))
            || answer::wants_csv(headers)
        {
            return None;
        }
        let written = self
            .written
            .last(request.uri().path_and_query()?.as_str())?;
        let question = &written.question;
        let cache = &self.shards.of(&question.campaign).cache;
        let sums = cache.peek(&question.campaign, question.window)?;
        (question.lasting && Arc::ptr_eq(&sums, &written.sums)).then_some(written)
    }

    /// The answer, which has been looked for since `started`.
    pub fn answer(&self, written: &Written, started: Instant) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(written.body.clone()));
        let headers = response.headers_mut();
        headers.clone_from(&written.headers);
        headers.insert(answer::X_CACHE, PROCESS.clone());
        self.answered.inc();
        self.seconds.observe(started.elapsed().as_secs_f64());
        response
    }
}

static PROCESS: HeaderValue = HeaderValue::from_static(Source::Process.as_str());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::written::Question;
    use crate::cache::InsightCache;
    use crate::cache::tests::{cache, sums};

    const TARGET: &str = "/campaign/cmp-1/insights";

    async fn written(lasting: bool) -> (Arc<InsightCache>, AtHand) {
        let (cache, written) = (cache(), WrittenAnswers::new());
        let sums = sums(1);
        cache.hold(&sums);
        let question = Question {
            target: TARGET.to_owned(),
            campaign: Arc::from("cmp-1"),
            window: None,
            lasting,
        };
        let response = answer::json(&serde_json::json!({"clicks": 1}));
        written.keep(&OF_CAMPAIGN, question, sums, response).await;
        (
            Arc::clone(&cache),
            AtHand::new(Shards::nowhere(cache), written),
        )
    }

    fn finds(at_hand: &AtHand, method: Method, target: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        at_hand.find(&request).is_some()
    }

    #[tokio::test]
    async fn only_the_plain_question_is_answered() {
        let (_, at_hand) = written(true).await;
        let get = |headers: &[_]| finds(&at_hand, Method::GET, TARGET, headers);
        assert!(get(&[]) && get(&[("accept", "*/*"), ("host", "a"), ("origin", "b")]));
        assert!(get(&[("accept", "text/csv, application/json")]));
        for header in [
            ("accept", "text/csv"),
            ("accept-encoding", "gzip"),
            ("if-none-match", "*"),
        ] {
            assert!(!get(&[header]), "{header:?}");
        }
        for (method, target) in [
            (Method::HEAD, TARGET),
            (Method::POST, TARGET),
            (Method::GET, "/campaign/cmp-1/insights?fields=clicks"),
            (Method::GET, "/campaign/cmp-2/insights"),
        ] {
            assert!(!finds(&at_hand, method, target, &[]), "{target}");
        }
        let (_, moving) = written(false).await;
        assert!(!finds(&moving, Method::GET, TARGET, &[]));
    }

    #[tokio::test]
    async fn only_from_the_very_sums_the_cache_holds() {
        let (cache, at_hand) = written(true).await;
        let found = || finds(&at_hand, Method::GET, TARGET, &[]);
        assert!(found());
        cache.outdate("cmp-1");
        assert!(!found(), "a commit was heard of");
        cache.hold(&sums(1));
        assert!(!found(), "others, though they say the same");
    }
}
