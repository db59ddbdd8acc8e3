//! The file of rules: TOML, so that it can be commented, reviewed and compared line by line.
//!
//! ```toml
//! [[rule]]
//! name = "burning"
//! when = "roas < 1 over 1h and cost > 50"
//! campaigns = ["brand-*", "cmp-7"]    # default: all
//! platforms = ["Meta"]                # default: all
//! for = "10m"                         # default: at once
//! severity = "critical"               # default: warning; or info
//! to = ["growth"]                     # default: nobody but the log and the page
//!
//! [[webhook]]
//! name = "growth"
//! url = "https://hooks.example.com/adflux"     # or url_env: the variable that holds it
//! secret_env = "GROWTH_WEBHOOK_SECRET"         # the variable that holds the signing secret
//! ```
//!
//! Secrets stand in the environment, never in the file.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::draft::{Draft, MAX_RULES, NAME_FORM, Part, is_name};
use super::rule::Rule;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    pub rules: Vec<(Draft, Rule)>,
    pub webhooks: Vec<Webhook>,
}

/// A receiver of alerts, as the file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub name: String,
    pub url: Setting,
    /// The environment variable with the secret that signs what is sent.
    pub secret_env: String,
}

/// A value, or the environment variable that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    Value(String),
    Variable(String),
}

const MAX_WEBHOOKS: usize = 50;

/// A fault of a file: where it is and what was expected, with the line and a caret under it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FileFault {
    /// The file as it was named.
    pub file: String,
    /// Both from 1; the column in characters.
    pub line: usize,
    pub column: usize,
    pub message: String,
    /// The line at fault.
    pub excerpt: String,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FileFault {
            file,
            line,
            column,
            message,
            excerpt,
        } = self;
        writeln!(f, "{file}:{line}:{column}: {message}")?;
        write!(f, "{}", pointed_at(excerpt, *column))
    }
}

/// A line and a caret under one of its columns, from 1.
pub fn pointed_at(line: &str, column: usize) -> String {
    // A tab stays one, so that the caret stands where it should.
    let before: String = line
        .chars()
        .take(column.saturating_sub(1))
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    format!("  {line}\n  {before}^")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    rule: Vec<Spanned<RuleTable>>,
    #[serde(default)]
    webhook: Vec<Spanned<WebhookTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    name: Spanned<String>,
    when: Spanned<String>,
    #[serde(default)]
    campaigns: Vec<Spanned<String>>,
    #[serde(default)]
    platforms: Vec<Spanned<String>>,
    #[serde(rename = "for")]
    hold: Option<Spanned<String>>,
    severity: Option<Spanned<String>>,
    #[serde(default)]
    to: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookTable {
    name: Spanned<String>,
    url: Option<Spanned<String>>,
    url_env: Option<String>,
    secret_env: String,
}

/// Reads and checks a file.
///
/// # Errors
/// When it cannot be read; a [`FileFault`] when it is not as it must be.
pub fn read(path: &Path) -> anyhow::Result<File> {
    use anyhow::Context as _;

    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(parse(&path.display().to_string(), &text)?)
}

/// Checks the text of a file that is called `file` in messages.
///
/// # Errors
/// The first [`FileFault`].
pub fn parse(file: &str, text: &str) -> Result<File, FileFault> {
    let fault = |at: usize, message: String| locate(file, text, at, message);
    let document: Document = toml::from_str(text).map_err(|e| {
        let at = e.span().map_or(text.len(), |span| span.start);
        fault(at, e.message().to_owned())
    })?;
    let mut out = File::default();
    for table in document.webhook {
        let at = table.span().start;
        let table = table.into_inner();
        if out.webhooks.len() == MAX_WEBHOOKS {
            let message = format!("there are more than {MAX_WEBHOOKS} webhooks");
            return Err(fault(at, message));
        }
        let webhook =
            webhook(&table).map_err(|(span, message)| fault(span.unwrap_or(at), message))?;
        if out.webhooks.iter().any(|w| w.name == webhook.name) {
            let message = format!("there is another webhook '{}' before", webhook.name);
            return Err(fault(table.name.span().start, message));
        }
        out.webhooks.push(webhook);
    }
    for table in document.rule {
        let at = table.span().start;
        let table = table.into_inner();
        if out.rules.len() == MAX_RULES {
            let message = format!("there are more than {MAX_RULES} rules");
            return Err(fault(at, message));
        }
        let draft = table.draft();
        let is_webhook = |name: &str| out.webhooks.iter().any(|w| w.name == name);
        let rule = draft
            .check(&is_webhook)
            .map_err(|refusal| fault(table.place(text, &refusal.part), refusal.message))?;
        if out.rules.iter().any(|(_, other)| other.name == rule.name) {
            let message = format!("there is another rule '{}' before", rule.name);
            return Err(fault(table.name.span().start, message));
        }
        out.rules.push((draft, rule));
    }
    Ok(out)
}

impl RuleTable {
    fn draft(&self) -> Draft {
        let texts = |list: &[Spanned<String>]| list.iter().map(|s| s.get_ref().clone()).collect();
        Draft {
            name: self.name.get_ref().clone(),
            when: self.when.get_ref().clone(),
            campaigns: texts(&self.campaigns),
            platforms: texts(&self.platforms),
            hold: self.hold.as_ref().map(|h| h.get_ref().clone()),
            severity: self.severity.as_ref().map(|s| s.get_ref().clone()),
            to: texts(&self.to),
        }
    }

    /// Where a part stands in the file.
    fn place(&self, text: &str, part: &Part) -> usize {
        let element = |list: &[Spanned<String>], n: usize| list.get(n).map(|s| s.span().start);
        match part {
            Part::Name => Some(self.name.span().start),
            Part::When(at) => Some(inside(text, &self.when, at)),
            Part::For(at) => self.hold.as_ref().map(|hold| inside(text, hold, at)),
            Part::Severity => self.severity.as_ref().map(|s| s.span().start),
            Part::Campaigns(n) => element(&self.campaigns, *n),
            Part::Platforms(n) => element(&self.platforms, *n),
            Part::To(n) => element(&self.to, *n),
        }
        .unwrap_or(self.name.span().start)
    }
}

/// Where in the file the bytes `at` of a string's value stand. With escapes in it there is no
/// telling without parsing TOML again: then it is where the string begins.
fn inside(text: &str, string: &Spanned<String>, at: &Range<usize>) -> usize {
    let span = string.span();
    let value = string.get_ref().as_str();
    match text.get(span.clone()).and_then(|source| source.find(value)) {
        Some(opening) if !value.is_empty() => {
            span.start.saturating_add(opening).saturating_add(at.start)
        }
        _ => span.start,
    }
}

fn webhook(table: &WebhookTable) -> Result<Webhook, (Option<usize>, String)> {
    let name = table.name.get_ref();
    if !is_name(name) {
        let message = format!("'{}' is not a name: {NAME_FORM}", name.escape_debug());
        return Err((Some(table.name.span().start), message));
    }
    let url = match (&table.url, &table.url_env) {
        (Some(url), None) => {
            check_url(url.get_ref()).map_err(|m| (Some(url.span().start), m.to_owned()))?;
            Setting::Value(url.get_ref().clone())
        }
        (None, Some(variable)) => Setting::Variable(variable.clone()),
        _ => {
            let message = "a webhook has either url or url_env, the variable that holds it";
            return Err((None, message.to_owned()));
        }
    };
    Ok(Webhook {
        name: name.clone(),
        url,
        secret_env: table.secret_env.clone(),
    })
}

/// Whether a webhook can be at this URL.
///
/// # Errors
/// What is wrong, without any part of the URL.
pub fn check_url(url: &str) -> Result<(), &'static str> {
    match reqwest::Url::parse(url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
        _ => Err("the URL of a webhook is of the form https://host/path"),
    }
}

fn locate(file: &str, text: &str, at: usize, message: String) -> FileFault {
    let before = text.get(..at).unwrap_or(text);
    let in_line = before.rsplit_once('\n').map_or(before, |(_, line)| line);
    FileFault {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: in_line.chars().count() + 1,
        message,
        // The end of the file may be an empty line.
        excerpt: text
            .get(before.len() - in_line.len()..)
            .and_then(|rest| rest.lines().next())
            .map_or_else(String::new, str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"
# What burns money.
[[rule]]
name = "burning"
when = "roas < 1 over 1h and cost > 50"
campaigns = ["brand-*", "cmp-7"]
platforms = ["Meta"]
for = "10m"
severity = "info"
to = ["growth"]

[[rule]]
name = "silent"
when = '''
no data
for 30m'''

[[webhook]]
name = "growth"
url = "https://hooks.example.com/adflux"
secret_env = "GROWTH_SECRET"
"#;

    #[test]
    fn a_file() {
        let file = parse("rules.toml", GOOD).expect("good");
        assert_eq!(file.rules.len(), 2);
        let (draft, rule) = &file.rules[1];
        assert_eq!(draft.when, "no data\nfor 30m");
        assert_eq!(rule.when.to_string(), "no data for 30m");
        assert_eq!(file.webhooks[0].secret_env, "GROWTH_SECRET");
        assert_eq!(parse("empty", ""), Ok(File::default()));
    }

    fn shown(old: &str, new: &str) -> String {
        assert!(GOOD.contains(old), "{old}");
        parse("rules.toml", &GOOD.replacen(old, new, 1))
            .expect_err("a fault")
            .to_string()
    }

    #[test]
    fn a_fault_is_pointed_at() {
        assert_eq!(
            shown("over 1h", "over xyz"),
            "rules.toml:5:23: expected a duration such as 1h, found 'xyz'\n\
             \x20 when = \"roas < 1 over xyz and cost > 50\"\n\
             \x20                       ^"
        );
        // On the second line of a string of several.
        assert_eq!(
            shown("for 30m'''", "for ever'''"),
            "rules.toml:16:5: expected a duration such as 1h, found 'ever'\n  for ever'''\n      ^"
        );
        assert_eq!(
            shown("\"Meta\"", "\"Facebook\""),
            "rules.toml:7:14: 'Facebook' is none of Meta, Google, LinkedIn, TikTok\n\
             \x20 platforms = [\"Facebook\"]\n\
             \x20              ^"
        );
        for (old, new, place) in [
            (
                "\"growth\"]",
                "\"grwth\"]",
                "rules.toml:10:7: there is no webhook 'grwth'",
            ),
            ("\"10m\"", "\"soon\"", "rules.toml:8:8: expected a duration"),
            (
                "\"info\"",
                "\"urgent\"",
                "rules.toml:9:12: 'urgent' is none of critical, warning, info",
            ),
            (
                "\"silent\"",
                "\"burning\"",
                "rules.toml:13:8: there is another rule 'burning' before",
            ),
            (
                "https://",
                "ftp://",
                "rules.toml:20:7: the URL of a webhook",
            ),
            (
                "name = \"burning\"",
                "nam = \"burning\"",
                "rules.toml:4:1: unknown field `nam`",
            ),
            (
                "[[rule]]",
                "[[rules]]",
                "rules.toml:3:3: unknown field `rules`",
            ),
            ("for = \"10m\"", "for = 10m", "rules.toml:8:"),
            (
                "for = \"10m\"",
                "for = 10",
                "rules.toml:8:7: invalid type: integer `10`",
            ),
        ] {
            let shown = shown(old, new);
            assert!(shown.starts_with(place), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>(), text in "\\PC{0,20}") {
            let (from, to) = (from.index(GOOD.len()), to.index(GOOD.len()));
            let mut changed = GOOD.to_owned();
            changed.replace_range(from.min(to)..from.max(to), &text);
            if let Err(fault) = parse("rules.toml", &changed) {
                let _ = fault.to_string();
            }
        }
    }
}
