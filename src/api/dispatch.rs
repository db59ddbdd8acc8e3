//! From a request to its endpoint: read as that says, under its deadline, measured under its path.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Buf;
use tokio_stream::Stream;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, Method};
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::endpoint::{self, Endpoint, Handler};
use super::limits::Cost;
use super::problem::Problem;
use super::request::{Client, KeyName};
use super::{State, reading};
use crate::metrics;

/// Answers for the endpoints of a table.
struct Dispatcher {
    endpoints: &'static [&'static Endpoint],
    /// None in a process whose endpoints need nothing that handlers share.
    state: Option<Arc<State>>,
}

/// A filter that answers every request: at an endpoint, or with the problem document that says why not.
pub(super) fn filter(
    endpoints: &'static [&'static Endpoint],
    state: Option<Arc<State>>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone {
    let dispatcher = Arc::new(Dispatcher { endpoints, state });
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let answered: BoxedFilter<(Response,)> = warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Client>())
        .and(warp::ext::optional::<KeyName>())
        .and(warp::body::stream())
        .then(
            move |method, path: FullPath, query, headers, client, key, body| {
                let dispatcher = Arc::clone(&dispatcher);
                async move {
                    dispatcher
                        .answer(&method, path, query, headers, (client, key), body)
                        .await
                }
            },
        )
        .boxed();
    // Nothing of the above refuses.
    answered
        .recover(|_: Rejection| async { Ok::<_, Infallible>(Problem::not_found().response()) })
        .unify()
}

impl Dispatcher {
    async fn answer(
        &self,
        method: &Method,
        path: FullPath,
        query: String,
        headers: HeaderMap,
        (client, key): (Option<Client>, Option<KeyName>),
        body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    ) -> Response {
        let Some(endpoint) = endpoint::find(self.endpoints, method, path.as_str()) else {
            return endpoint::refusal(self.endpoints, path.as_str()).response();
        };
        let started = Instant::now();
        let answering = async {
            let intake = self.state.as_ref().and_then(|s| s.intake.as_ref());
            let mut request =
                reading::request(endpoint, path, query, headers, body, intake).await?;
            (request.client, request.key) = (client, key);
            match (endpoint.handler, &self.state) {
                (Handler::Alone(answer), _) => answer(&request),
                (Handler::With(answer), Some(state)) => answer(Arc::clone(state), request).await,
                (Handler::With(_), None) => Err(Problem::not_found()),
            }
        };
        let answer = match (&self.state, endpoint.cost) {
            (Some(state), Cost::Index | Cost::Heavy) => {
                let time = state.limits.answer_time;
                let answer = tokio::time::timeout(time, answering).await;
                answer.unwrap_or_else(|_| Err(Problem::too_slow(time)))
            }
            (_, Cost::Memory | Cost::Intake) | (None, _) => answering.await,
        };
        let mut response = answer.unwrap_or_else(|problem| problem.response());
        endpoint.mark(response.headers_mut());
        metrics::REQUESTS
            .with_label_values(&[endpoint.path, response.status().as_str()])
            .observe(started.elapsed().as_secs_f64());
        response
    }
}
