//! A request is read as its endpoint says, so no handler sees a parameter that was not checked.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::{Buf, Bytes, BytesMut};
use percent_encoding::percent_decode_str;
use tokio_stream::{Stream, StreamExt as _};
use warp::http::{HeaderMap, header};
use warp::path::FullPath;

use super::endpoint::{Body, Endpoint, JSON, Method, Most};
use super::intake::{Intake, Room};
use super::parameters::In;
use super::problem::{Problem, shorten};
use super::request::{Arguments, MAX_QUERY_BYTES, Request};

/// Reads a request for `endpoint`.
///
/// # Errors
/// A [`Problem`] that names what is not as the endpoint says.
pub(super) async fn request(
    endpoint: &'static Endpoint,
    path: FullPath,
    query: String,
    headers: HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    intake: Option<&Intake>,
) -> Result<Request, Problem> {
    let arguments = arguments(endpoint, path.as_str(), &query, &headers)?;
    let (body, room) = match &endpoint.body {
        Some(expected) => sent(expected, &headers, body, intake).await?,
        None if endpoint.method != Method::Get && has_body(&headers) && !is_json(&headers) => {
            return Err(Problem::not_json());
        }
        None => (Bytes::new(), None),
    };
    Ok(Request {
        client: None,
        arguments,
        cost: endpoint.cost,
        path,
        query,
        headers,
        key: None,
        body,
        room,
    })
}

/// The bytes of a body, which says of what type it is, and the room for it.
async fn sent(
    expected: &Body,
    headers: &HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    intake: Option<&Intake>,
) -> Result<(Bytes, Option<Room>), Problem> {
    let most = match (expected.most, intake) {
        (Most::Bytes(most), _) => most,
        (Most::Intake, Some(intake)) => intake.max_body(),
        (Most::Intake, None) => return Err(Problem::no_brokers()),
    };
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let length = text(header::CONTENT_LENGTH).map_or(Some(0), |n| n.parse().ok());
    // A body whose length is not said would have to be read to its end.
    let is_bounded = !headers.contains_key(header::TRANSFER_ENCODING);
    let length = length.filter(|n: &u64| is_bounded && *n <= most);
    let length = length.ok_or_else(|| Problem::too_large(most))?;
    if !expected.types.iter().any(|kind| is_of(headers, kind)) {
        return Err(match expected.types {
            [JSON] => Problem::not_json(),
            types => Problem::content_type(types),
        });
    }
    let (Most::Intake, Some(intake)) = (expected.most, intake) else {
        return Ok((whole(body).await?, None));
    };
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Problem::content_encoding());
    }
    let room = intake.admit(length)?;
    let time = intake.upload_time();
    let arrived = tokio::time::timeout(time, whole(body)).await;
    let body = arrived.map_err(|_| Problem::upload_too_slow(time.as_secs()))??;
    Ok((body, Some(room)))
}

/// All bytes of a body.
async fn whole(body: impl Stream<Item = Result<impl Buf, warp::Error>>) -> Result<Bytes, Problem> {
    let mut read = BytesMut::new();
    let mut body = std::pin::pin!(body);
    while let Some(piece) = body.next().await {
        let mut piece = piece.map_err(|_| Problem::body_cut_off())?;
        while piece.has_remaining() {
            let chunk = piece.chunk();
            read.extend_from_slice(chunk);
            let read = chunk.len();
            piece.advance(read);
        }
    }
    Ok(read.freeze())
}

/// Whether a body says that it is JSON. A page of another origin can send that only if a preflight allows it; anything
/// else, unasked.
fn is_json(headers: &HeaderMap) -> bool {
    is_of(headers, JSON)
}

/// Whether a body says that it is of this type.
fn is_of(headers: &HeaderMap, expected: &str) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    let text = content_type.and_then(|value| value.to_str().ok());
    let kind = text.and_then(|text| text.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case(expected))
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

/// Reads what a path, a query string and headers give.
///
/// # Errors
/// A [`Problem`] that names the parameter that is unknown, given too often or not what it must be.
pub(super) fn arguments(
    endpoint: &'static Endpoint,
    path: &str,
    query: &str,
    headers: &HeaderMap,
) -> Result<Arguments, Problem> {
    let mut arguments = Arguments::default();
    for (name, value) in endpoint.values(path) {
        // Decoded once, and only then looked at.
        let value = percent_decode_str(value).decode_utf8_lossy();
        if let Some(parameter) = endpoint.parameters_in(In::Path).find(|p| p.name == name) {
            arguments.add(parameter, value.into_owned())?;
        }
    }
    for parameter in endpoint.parameters_in(In::Header) {
        if let Some(value) = headers.get(parameter.name) {
            let value = String::from_utf8_lossy(value.as_bytes());
            arguments.add(parameter, value.into_owned())?;
        }
    }
    if endpoint.is_strict {
        read_query(endpoint, query, &mut arguments)?;
    }
    Ok(arguments)
}

fn read_query(
    endpoint: &'static Endpoint,
    query: &str,
    arguments: &mut Arguments,
) -> Result<(), Problem> {
    if query.len() > MAX_QUERY_BYTES {
        return Err(Problem::query_too_long(query.len(), MAX_QUERY_BYTES));
    }
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some(parameter) = endpoint.parameters_in(In::Query).find(|p| p.name == name) else {
            return Err(unknown(&name, endpoint));
        };
        match (arguments.all(parameter).count(), parameter.times) {
            (before, times) if before < times => {}
            (_, 1) => {
                let detail = format!("'{name}' was given twice");
                return Err(Problem::parameter(&name, detail));
            }
            (_, times) => {
                let detail = format!("'{name}' was given more than {times} times");
                return Err(Problem::parameter(&name, detail));
            }
        }
        arguments.add(parameter, value.into_owned())?;
    }
    Ok(())
}

fn unknown(name: &str, endpoint: &Endpoint) -> Problem {
    let known: Vec<&str> = endpoint.parameters_in(In::Query).map(|p| p.name).collect();
    let detail = format!(
        "unknown parameter '{}'; {} takes {}",
        shorten(name),
        endpoint.path,
        known.join(", ")
    );
    Problem::unknown_parameter(name, detail)
}

#[cfg(test)]
mod tests {
    use super::super::campaigns::CAMPAIGNS;
    use super::super::endpoint::{Content, Handler};
    use super::super::insights::OF_CAMPAIGN;
    use super::super::parameters::ID;
    use super::super::parameters::{Parameter, ParameterType};
    use super::*;
    use proptest::prelude::*;

    static LIMIT: Parameter =
        Parameter::query("limit", ParameterType::Integer { least: 1, most: 10 }, "").or("5");
    static WORDS: Parameter = Parameter::query("words", ParameterType::SomeOf(&["a", "b"]), "");
    static IDS: Parameter = Parameter::query("ids", ParameterType::CampaignIds { most: 2 }, "");
    static TEXT: Parameter = Parameter::query("text", ParameterType::Text { most: 3 }, "").up_to(2);
    static ENDPOINT: Endpoint = Endpoint {
        parameters: &[&[LIMIT, WORDS, IDS, TEXT]],
        ..Endpoint::get(
            "/test",
            Content::Nothing,
            Handler::Alone(|_| Err(Problem::not_found())),
        )
    };

    fn parse(raw: &str, endpoint: &'static Endpoint) -> Result<Arguments, Problem> {
        arguments(endpoint, endpoint.path, raw, &HeaderMap::new())
    }

    fn refused(raw: &str) -> (String, String) {
        let problem = parse(raw, &ENDPOINT).expect_err(raw);
        let problem = serde_json::to_value(problem).expect("serialises");
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        (text("parameter"), text("detail"))
    }

    #[test]
    fn values_and_defaults() {
        let query = parse("words=b,a&text=x&text=y%20z", &ENDPOINT).expect("valid");
        assert_eq!(query.integer::<usize>(&LIMIT), 5);
        assert_eq!(query.words(&WORDS), Some(vec!["b", "a"]));
        assert_eq!(query.words(&IDS), None);
        assert_eq!(query.all(&TEXT).collect::<Vec<_>>(), ["x", "y z"]);
        let other = parse("text=x&text=y+z&limit=3&words=b,a", &ENDPOINT).expect("valid");
        assert_eq!(query.question(&[]), other.question(&[&LIMIT]));
        assert_ne!(query.question(&[]), other.question(&[]));
    }

    #[test]
    fn a_path_is_decoded_once_and_then_checked() {
        let path = "/campaign/cmp%2D1/insights";
        let read = arguments(&OF_CAMPAIGN, path, "", &HeaderMap::new());
        assert_eq!(read.expect("valid").in_path(&ID), "cmp-1");
        for wrong in ["cmp%252D1", "%00", "a%2Fb", "%ff", "a%20b"] {
            let path = format!("/campaign/{wrong}/insights");
            let read = arguments(&OF_CAMPAIGN, &path, "", &HeaderMap::new());
            assert!(read.is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (raw, parameter, detail) in [
            (
                "color=red",
                "color",
                "unknown parameter 'color'; /test takes limit, words, ids, text",
            ),
            ("limit=1&limit=2", "limit", "given twice"),
            ("text=a&text=b&text=c", "text", "more than 2 times"),
            ("limit=0", "limit", "'0' is not a whole number from 1 to 10"),
            ("limit=99999999999999999999", "limit", "not a whole number"),
            ("limit=", "limit", "not a whole number"),
            ("words=a,c", "words", "'c' is none of a, b"),
            ("words=a,a", "words", "twice"),
            ("ids=a,b,c", "ids", "3 campaigns; at most 2"),
            ("ids=a,a", "ids", "twice"),
            ("ids=a,%2F", "ids", "not a campaign id"),
            ("text=abcd", "text", "1 to 3 characters"),
            ("text=%00", "text", "control characters"),
        ] {
            let (at, said) = refused(raw);
            assert_eq!(at, parameter, "{raw}");
            assert!(said.contains(detail), "{raw}: {said}");
        }
        assert!(
            refused(&"x".repeat(MAX_QUERY_BYTES + 1))
                .1
                .contains("bytes")
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(raw in "\\PC{0,200}") {
            let _ = parse(&raw, &CAMPAIGNS);
        }

        #[test]
        fn no_value_panics(parameter in prop::sample::select(CAMPAIGNS.parameters().collect::<Vec<_>>()), value in "\\PC{0,40}") {
            let _ = parameter.check(&value);
        }

        #[test]
        fn no_time_panics(time in "[0-9TZ:.+-]{0,40}", date in "[0-9]{4}-[01][0-9]-[0-3][0-9]") {
            let _ = parse(&format!("since={time}&until={date}"), &CAMPAIGNS);
        }
    }
}
