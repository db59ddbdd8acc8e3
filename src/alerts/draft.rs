//! A rule as somebody wrote it, in a file or a request: checked here, once for both.

use std::ops::Range;

use super::parse::{self, Fault};
use super::rule::{CampaignPattern, Minutes, RESERVED, Rule, Scope, Severity};
use crate::event::{CampaignId, Platform};

pub use crate::store::keep::alerts::rules::{Draft, MAX_RULES};

/// The part of a draft that is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Name,
    /// These bytes of the condition.
    When(Range<usize>),
    /// The pattern of this index.
    Campaigns(usize),
    Platforms(usize),
    For(Range<usize>),
    Severity,
    To(usize),
}

impl Part {
    /// The field's name.
    pub fn field(&self) -> &'static str {
        match self {
            Part::Name => "name",
            Part::When(_) => "when",
            Part::Campaigns(_) => "campaigns",
            Part::Platforms(_) => "platforms",
            Part::For(_) => "for",
            Part::Severity => "severity",
            Part::To(_) => "to",
        }
    }
}

/// Why a draft is no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub part: Part,
    pub message: String,
}

/// The longest name of a rule or a webhook.
pub const MAX_NAME: usize = 64;
/// The most campaigns, by id or prefix, of one rule, and the most webhooks.
const MAX_CAMPAIGNS: usize = 1_000;
const MAX_TO: usize = 16;

impl Draft {
    /// The rule this says; `is_webhook` knows the webhooks there are.
    ///
    /// # Errors
    /// The first [`Refusal`].
    pub fn check(&self, is_webhook: &dyn Fn(&str) -> bool) -> Result<Rule, Refusal> {
        let refuse = |part: Part, message: String| Err(Refusal { part, message });
        if !is_name(&self.name) {
            return refuse(
                Part::Name,
                format!("'{}' is not a name: {NAME_FORM}", self.name.escape_debug()),
            );
        }
        if RESERVED.contains(&self.name.as_str()) {
            let message = format!(
                "'{0}' is the name of what is said of the {0}; choose another",
                self.name
            );
            return refuse(Part::Name, message);
        }
        let at = |part: fn(Range<usize>) -> Part| {
            move |fault: Fault| Refusal {
                part: part(fault.at),
                message: fault.message,
            }
        };
        let when = parse::when(&self.when).map_err(at(Part::When))?;
        let hold = match &self.hold {
            Some(text) => parse::duration(text).map_err(at(Part::For))?,
            None => Minutes(0),
        };
        let mut scope = Scope::default();
        for (n, text) in self.campaigns.iter().enumerate() {
            match campaign_pattern(text) {
                _ if n == MAX_CAMPAIGNS => {
                    let message = format!("a rule names at most {MAX_CAMPAIGNS} campaigns");
                    return refuse(Part::Campaigns(n), message);
                }
                Some(pattern) => scope.campaigns.push(pattern),
                None => {
                    let message = format!(
                        "'{}' is neither a campaign id nor the beginning of one with a * behind it",
                        text.escape_debug()
                    );
                    return refuse(Part::Campaigns(n), message);
                }
            }
        }
        for (n, text) in self.platforms.iter().enumerate() {
            match Platform::ALL.into_iter().find(|p| p.name() == text) {
                Some(platform) if !scope.platforms.contains(&platform) => {
                    scope.platforms.push(platform);
                }
                Some(platform) => {
                    return refuse(Part::Platforms(n), format!("{platform} was named before"));
                }
                None => {
                    let message = format!(
                        "'{}' is none of Meta, Google, LinkedIn, TikTok",
                        text.escape_debug()
                    );
                    return refuse(Part::Platforms(n), message);
                }
            }
        }
        let named = |name: &String| Severity::ALL.into_iter().find(|s| s.as_str() == name);
        let severity = match &self.severity {
            None => Severity::default(),
            Some(name) => match named(name) {
                Some(severity) => severity,
                None => {
                    let message = format!(
                        "'{}' is none of {}",
                        name.escape_debug(),
                        Severity::NAMES.join(", ")
                    );
                    return refuse(Part::Severity, message);
                }
            },
        };
        for (n, name) in self.to.iter().enumerate() {
            if n == MAX_TO {
                return refuse(
                    Part::To(n),
                    format!("a rule tells at most {MAX_TO} webhooks"),
                );
            }
            if !is_webhook(name) {
                let message = format!("there is no webhook '{}'", name.escape_debug());
                return refuse(Part::To(n), message);
            }
        }
        Ok(Rule {
            name: self.name.clone(),
            when,
            scope,
            hold,
            severity,
            to: self.to.clone(),
        })
    }
}

/// What a name may be, in words.
pub const NAME_FORM: &str = "1 to 64 characters of A-Z a-z 0-9 _ . -, not only dots";

/// Whether a rule or a webhook may be called so. In a path, clients take `.` and `..` for steps.
pub fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let says_something = text.bytes().any(|b| b != b'.');
    says_something && text.len() <= MAX_NAME && text.bytes().all(allowed)
}

fn campaign_pattern(text: &str) -> Option<CampaignPattern> {
    match text.strip_suffix('*') {
        Some(prefix) => CampaignId::parse(prefix)
            .is_ok()
            .then(|| CampaignPattern::Prefix(prefix.to_owned())),
        None => CampaignId::parse(text)
            .is_ok()
            .then(|| CampaignPattern::Id(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        Draft {
            name: "burning".into(),
            when: "roas < 1 over 1h".into(),
            ..Draft::default()
        }
    }

    #[test]
    fn what_is_checked_beside_the_condition() {
        let none = |_: &str| false;
        let rule = Draft {
            campaigns: vec!["cmp-1".into(), "brand-*".into()],
            platforms: vec!["Meta".into()],
            hold: Some("10m".into()),
            severity: Some("critical".into()),
            ..draft()
        }
        .check(&none)
        .expect("a rule");
        assert!(rule.scope.has_campaign("cmp-1") && rule.scope.has_campaign("brand-x"));
        assert!(!rule.scope.has_campaign("cmp-10") && !rule.scope.has_campaign("bran"));
        assert!(rule.scope.has_platform(Platform::Meta));
        assert!(!rule.scope.has_platform(Platform::TikTok));
        assert_eq!(
            (rule.hold, rule.severity),
            (Minutes(10), Severity::Critical)
        );
        let usual = draft().check(&none).expect("a rule");
        assert_eq!(usual.severity, Severity::Warning);

        let refused = |draft: Draft| draft.check(&none).expect_err("refused").part;
        for name in ["", ".", "..", "a b", "pipeline", "reports", &"x".repeat(65)] {
            let name = name.to_owned();
            assert_eq!(refused(Draft { name, ..draft() }), Part::Name);
        }
        for pattern in ["", "*", "a*b", "a b", "**"] {
            let campaigns = vec!["x".into(), pattern.into()];
            assert_eq!(
                refused(Draft {
                    campaigns,
                    ..draft()
                }),
                Part::Campaigns(1)
            );
        }
        let platforms = vec!["Meta".into(), "Meta".into()];
        assert_eq!(
            refused(Draft {
                platforms,
                ..draft()
            }),
            Part::Platforms(1)
        );
        let hold = Some("10".into());
        assert_eq!(refused(Draft { hold, ..draft() }), Part::For(0..2));
        let severity = Some("urgent".into());
        assert_eq!(
            refused(Draft {
                severity,
                ..draft()
            }),
            Part::Severity
        );
        let to = vec!["growth".into()];
        assert_eq!(refused(Draft { to, ..draft() }), Part::To(0));
    }
}
