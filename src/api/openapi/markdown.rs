//! The endpoints as tables, for `docs/api.md`.

use std::fmt::Write as _;

use super::{TAGS, documented};
use crate::api::endpoint::{Caching, Content, Endpoint, Most};
use crate::api::parameters::{Parameter, ParameterType};

/// What stands around the tables in a page.
const BEGIN: &str = "<!-- endpoints: begin -->";
const END: &str = "<!-- endpoints: end -->";

/// The tables, between their marks.
pub fn tables(endpoints: &[&'static Endpoint]) -> String {
    let mut text = format!("{BEGIN}\n");
    for (tag, about) in TAGS {
        line(&mut text, &format!("\n### {about}"));
        let of_tag = documented(endpoints).filter(|e| e.tag == Some(tag));
        of_tag.for_each(|endpoint| describe(&mut text, endpoint));
    }
    line(&mut text, &format!("\n{END}"));
    text
}

fn describe(text: &mut String, endpoint: &Endpoint) {
    line(
        text,
        &format!("\n#### `{} {}`", endpoint.method, endpoint.path),
    );
    let about = format!("\n{}. {}", endpoint.summary, endpoint.description);
    line(text, about.trim_end());
    line(text, "\n| | |\n|---|---|");
    row(text, &["answers", &answers(endpoint)]);
    let statuses = endpoint
        .successes
        .iter()
        .copied()
        .chain(endpoint.refusals());
    let statuses: Vec<String> = statuses.map(|s| s.to_string()).collect();
    row(text, &["statuses", &statuses.join(", ")]);
    let key = endpoint.scope.map_or("none", |scope| scope.as_str());
    row(text, &["scope of the key", key]);
    row(text, &["cost at most", endpoint.cost.as_str()]);
    if let Some(body) = &endpoint.body {
        let most = match body.most {
            Most::Bytes(most) => format!("{most} bytes"),
            Most::Intake => "`--max-body`".to_owned(),
        };
        let others: Vec<String> = body
            .types
            .iter()
            .skip(1)
            .map(|t| format!("`{t}`"))
            .collect();
        let or = if others.is_empty() { "" } else { ", or " };
        let sent = format!(
            "JSON `{}`{or}{}; at most {most}",
            body.schema.name,
            others.join(", ")
        );
        row(text, &["takes", &sent]);
    }
    if endpoint.parameters().next().is_some() {
        line(
            text,
            "\n| parameter | in | type | default | |\n|---|---|---|---|---|",
        );
        for p in endpoint.parameters() {
            let name = format!("`{}`", p.name);
            let default = p.default.map_or_else(String::new, |d| format!("`{d}`"));
            row(
                text,
                &[
                    &name,
                    p.within.as_str(),
                    &type_of(p),
                    &default,
                    p.description,
                ],
            );
        }
    }
}

fn answers(endpoint: &Endpoint) -> String {
    let mut answers = match &endpoint.content {
        Content::Nothing => "nothing".to_owned(),
        Content::Json(schema) | Content::Health(schema) | Content::Registry(schema) => {
            format!("JSON `{}`", schema.name)
        }
        Content::Text(content_type) => format!("`{content_type}`"),
        Content::Events(events) => {
            let each = events.iter().map(|(name, _, data)| match data {
                Some(schema) => format!("`{name}` with `{}`", schema.name),
                None => format!("`{name}`"),
            });
            format!(
                "server-sent events: {}",
                each.collect::<Vec<_>>().join(", ")
            )
        }
    };
    if endpoint.csv {
        answers.push_str(", or CSV");
    }
    answers.push_str(match endpoint.caching {
        Caching::Revalidate
            if endpoint
                .scope
                .is_none_or(|s| s != crate::keys::Scope::Write) =>
        {
            "; has an `ETag`"
        }
        Caching::Never => "; never kept",
        _ => "",
    });
    answers
}

/// What a value may be, in words.
fn type_of(parameter: &Parameter) -> String {
    let mut words = match parameter.is_a {
        ParameterType::OneOf(words) => format!("one of {}", code(words)),
        ParameterType::SomeOf(words) => format!("some of {}", code(words)),
        ParameterType::Integer { least, most } => format!("{least} to {most}"),
        ParameterType::Time => "time or date".to_owned(),
        ParameterType::TimeZone => "time zone".to_owned(),
        ParameterType::Currency => "currency".to_owned(),
        ParameterType::TimeZoneOrAccount => "time zone or `account`".to_owned(),
        ParameterType::Date => "date".to_owned(),
        ParameterType::CampaignId => "campaign id".to_owned(),
        ParameterType::CampaignIds { most } => format!("1 to {most} campaign ids"),
        ParameterType::RuleName => "name of a rule".to_owned(),
        ParameterType::Filter => "condition".to_owned(),
        ParameterType::Cursor => "cursor".to_owned(),
        ParameterType::EventId => "id of an event".to_owned(),
        ParameterType::Text { most } => format!("text, 1 to {most} characters"),
        ParameterType::Name => "text".to_owned(),
    };
    if parameter.times > 1 {
        let _ = write!(words, ", up to {} times", parameter.times);
    }
    words
}

fn code(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

fn row(text: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    line(text, &format!("| {} |", cells.join(" | ")));
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
