//! Every endpoint, in the order in which people want them. Each stands as a value beside its handler.

use super::endpoint::Endpoint;
use super::{
    alert_rules, alerts, campaigns, dead_letters, events, health, insights, intake, live, openapi,
    page, pipeline, rates, receipts, registry, restatements,
};

/// See the module.
pub(super) static ALL: &[&Endpoint] = &[
    &campaigns::CAMPAIGNS,
    &insights::OF_ALL,
    &insights::OF_CAMPAIGN,
    &rates::RATES,
    &alerts::ALERTS,
    &alerts::ACKNOWLEDGE,
    &alerts::TAKE_BACK,
    &alert_rules::ALL,
    &alert_rules::ADD,
    &alert_rules::ONE,
    &alert_rules::PUT,
    &alert_rules::DELETE,
    &alert_rules::MUTE,
    &alert_rules::UNMUTE,
    &events::EVENTS,
    &restatements::RESTATEMENTS,
    &dead_letters::DEAD_LETTERS,
    &dead_letters::DEAD_LETTER,
    &intake::EVENTS,
    &intake::REPORTS,
    &receipts::RECEIPT,
    &live::OF_ALL,
    &live::OF_CAMPAIGN,
    &pipeline::PIPELINE,
    &health::READYZ,
    &health::LIVEZ,
    &health::METRICS,
    &openapi::DOCUMENT,
    &openapi::DOCS,
    &registry::SUBJECTS,
    &registry::VERSIONS,
    &registry::VERSION,
    &registry::SCHEMA,
    &page::INDEX,
    &page::FILE,
];

/// Those that a processor answers, which serves nothing else.
pub(super) static OF_PROCESSOR: &[&Endpoint] =
    &[&health::LIVEZ, &health::READY_TO_COUNT, &health::METRICS];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use warp::http::Method;

    use super::super::endpoint::{find, refusal};
    use super::super::openapi::TAGS;
    use super::super::parameters::In;
    use super::*;

    #[test]
    fn each_stands_there_once_and_its_path_and_parameters_agree() {
        let mut seen = BTreeSet::new();
        for endpoint in ALL {
            let name = format!("{} {}", endpoint.method, endpoint.path);
            assert!(seen.insert(name.clone()), "{name} stands there twice");
            let in_path: Vec<&str> = endpoint
                .values(endpoint.path)
                .map(|(name, _)| name)
                .collect();
            let of_path: Vec<&str> = endpoint.parameters_in(In::Path).map(|p| p.name).collect();
            assert_eq!(in_path, of_path, "{name}");
            if let Some(tag) = endpoint.tag {
                assert!(TAGS.iter().any(|(known, _)| *known == tag), "{name}: {tag}");
                assert!(!endpoint.summary.is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn a_path_leads_to_its_endpoint_or_says_what_it_allows() {
        let at = |path: &str| find(ALL, &Method::GET, path).map(|e| e.path);
        for (path, endpoint) in [
            ("/", Some("/")),
            ("/campaigns", Some("/campaigns")),
            ("/campaigns/", Some("/campaigns")),
            ("/campaign/a%2Fb/insights", Some("/campaign/{id}/insights")),
            ("/alerts/rules", Some("/alerts/rules")),
            ("/alerts/rules/rules", Some("/alerts/rules/{name}")),
            ("/campaign//insights", None),
            ("/campaigns//", None),
            ("//campaigns", None),
            ("/campaign/cmp-1", None),
            ("", None),
            ("*", None),
        ] {
            assert_eq!(at(path), endpoint, "{path}");
        }
        let refused = |path| {
            let response = refusal(ALL, path).response();
            let allow = response.headers().get("allow").cloned();
            (response.status().as_u16(), allow)
        };
        assert_eq!(refused("/nowhere"), (404, None));
        let (status, allow) = refused("/alerts/rules/a");
        assert_eq!(status, 405);
        assert_eq!(allow.expect("a header"), "GET, HEAD, PUT, DELETE");
    }
}
