//! Reports in JSON, one at a time: of documents as the platforms' APIs answer, of arrays, and of lines.
//!
//! Whatever is around them, reports stand in a list called `results`, `data`, `elements` or `list`, or are documents themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead as _, BufReader};
use std::ops::ControlFlow;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::grid::Step;
use super::refusal::Refusal;
use super::row::Place;
use super::source::{Kind, Source};
use super::text::{Budget, Text, refusal_of};

/// What a document holds.
pub enum Item<'a> {
    /// A report, or a document that may be one.
    Report(&'a str),
    /// There are more pages than this answer.
    MorePages,
}

/// What is done with an item; `u64`: which report it is, from 1.
pub type Each<'e> = dyn FnMut(Item<'_>, u64) -> Step + 'e;

/// Whether a text begins as JSON does.
///
/// # Errors
/// When it cannot be read.
pub fn is_json(source: &Source) -> Result<bool, Refusal> {
    let Kind::Text(encoding) = source.kind else {
        return Ok(false);
    };
    let mut reader = BufReader::new(Text::new(source.bytes()?, encoding));
    let first = next_character(&mut reader).map_err(|error| refusal_of(&error))?;
    Ok(matches!(first, Some(b'{' | b'[')))
}

/// The first byte that is no space, which stays where it is.
fn next_character(reader: &mut BufReader<Text>) -> io::Result<Option<u8>> {
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(None);
        }
        match bytes.iter().position(|b| !b.is_ascii_whitespace()) {
            Some(spaces) => {
                let first = bytes.get(spaces).copied();
                reader.consume(spaces);
                return Ok(first);
            }
            None => {
                let all = bytes.len();
                reader.consume(all);
            }
        }
    }
}

/// Hands over each report, until told to stop.
///
/// # Errors
/// What is wrong with the file, and whatever `each` refuses.
pub fn for_each(source: &Source, each: &mut Each<'_>) -> Result<(), Refusal> {
    let Kind::Text(encoding) = source.kind else {
        return Err(Refusal::new("not text; this is a bug"));
    };
    let text = Text::new(source.bytes()?, encoding);
    let budget = text.budget();
    let mut reader = BufReader::new(text);
    let mut walk = Walk {
        each,
        number: 0,
        budget,
        end: None,
    };
    loop {
        walk.budget.begin_record();
        if next_character(&mut reader)
            .map_err(|error| refusal_of(&error))?
            .is_none()
        {
            return Ok(());
        }
        let mut document = serde_json::Deserializer::from_reader(&mut reader);
        let walked = Document {
            walk: &mut walk,
            is_inner: false,
        }
        .deserialize(&mut document);
        if let Some(end) = walk.end.take() {
            return end;
        }
        if let Err(error) = walked {
            let at = Place::Item(walk.number.saturating_add(1));
            return Err(if error.is_io() {
                refusal_of(&io::Error::from(error))
            } else {
                Refusal::new(format!("not JSON: {error}"))
                    .at(at)
                    .so("it is cut or broken: ask for it again")
            });
        }
    }
}

/// What is kept from value to value.
struct Walk<'e, 'f> {
    each: &'e mut Each<'f>,
    number: u64,
    budget: Budget,
    /// Set when it is over before the file is.
    end: Option<Result<(), Refusal>>,
}

impl Walk<'_, '_> {
    fn give(&mut self, item: Item<'_>) -> Result<(), ()> {
        if matches!(item, Item::Report(_)) {
            self.number = self.number.saturating_add(1);
        }
        self.budget.begin_record();
        match (self.each)(item, self.number) {
            Ok(ControlFlow::Continue(())) => Ok(()),
            Ok(ControlFlow::Break(())) => {
                self.end = Some(Ok(()));
                Err(())
            }
            Err(refusal) => {
                self.end = Some(Err(refusal));
                Err(())
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.end = Some(Err(refusal));
    }
}

/// A document, or an object that is around a list of reports.
struct Document<'w, 'e, 'f> {
    walk: &'w mut Walk<'e, 'f>,
    /// Whether it stands in another.
    is_inner: bool,
}

impl<'de> DeserializeSeed<'de> for Document<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let walk = self.walk;
        while seq
            .next_element_seed(Document {
                walk: &mut *walk,
                is_inner: false,
            })?
            .is_some()
        {
            walk.budget.begin_record();
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut has_list = false;
        let mut others: BTreeMap<String, Box<RawValue>> = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if ["results", "data", "elements", "list"].contains(&key.as_str()) {
                has_list = true;
                map.next_value_seed(List {
                    walk: &mut *self.walk,
                })?;
            } else {
                others.insert(key, map.next_value()?);
            }
        }
        if let Some(message) = error_of(&others) {
            let refusal = Refusal::new(format!("an API's answer that is an error: {message}"))
                .so("ask the platform again");
            self.walk.refuse(refusal);
            return Err(A::Error::custom("an error"));
        }
        let given = if has_list || (self.is_inner && others.is_empty()) {
            if has_more(&others) {
                self.walk.give(Item::MorePages)
            } else {
                Ok(())
            }
        } else {
            let text = serde_json::to_string(&others).map_err(A::Error::custom)?;
            self.walk.give(Item::Report(&text))
        };
        given.map_err(|()| A::Error::custom("stopped"))
    }
}

/// The list of reports, or an object that has it.
struct List<'w, 'e, 'f> {
    walk: &'w mut Walk<'e, 'f>,
}

impl<'de> DeserializeSeed<'de> for List<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of reports")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(report) = seq.next_element::<Box<RawValue>>()? {
            self.walk
                .give(Item::Report(report.get()))
                .map_err(|()| A::Error::custom("stopped"))?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Document {
            walk: self.walk,
            is_inner: true,
        }
        .visit_map(map)
    }
}

/// The message of an answer that is an error.
fn error_of(of: &BTreeMap<String, Box<RawValue>>) -> Option<String> {
    let text = |key: &str| of.get(key).map(|raw| plain(raw.get()));
    let message = text("message").unwrap_or_default();
    for key in ["error", "errors"] {
        if let Some(error) = of.get(key)
            && !["null", "[]", "{}"].contains(&error.get())
        {
            let inner: Option<BTreeMap<String, Box<RawValue>>> =
                serde_json::from_str(error.get()).ok();
            let inner = inner.and_then(|inner| inner.get("message").map(|m| plain(m.get())));
            return Some(inner.unwrap_or_else(|| shortened(&plain(error.get()))));
        }
    }
    // TikTok's answers have a code that is 0 where all is well; LinkedIn's errors a status.
    let code = text("code").filter(|code| code != "0");
    let is_error = code.is_some() && of.contains_key("message")
        || of.contains_key("serviceErrorCode")
        || of.contains_key("message")
            && text("status")
                .is_some_and(|status| status.len() == 3 && status.starts_with(['4', '5']));
    is_error.then(|| shortened(&message))
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Whether an answer says that it is not the last.
fn has_more(of: &BTreeMap<String, Box<RawValue>>) -> bool {
    let paging = of.get("paging").map_or("", |raw| raw.get());
    let has_next = serde_json::from_str::<BTreeMap<String, &RawValue>>(paging)
        .is_ok_and(|paging| paging.contains_key("next"));
    let token = ["nextPageToken", "next_page_token"].iter().any(|key| {
        of.get(*key)
            .is_some_and(|raw| !["\"\"", "null"].contains(&raw.get()))
    });
    let pages = of.get("page_info").map_or("", |raw| raw.get());
    let pages: BTreeMap<String, &RawValue> = serde_json::from_str(pages).unwrap_or_default();
    let number = |key: &str| {
        pages
            .get(key)
            .and_then(|raw| plain(raw.get()).parse::<u64>().ok())
    };
    let is_before = number("page")
        .zip(number("total_page"))
        .is_some_and(|(page, of)| page < of);
    has_next || token || is_before
}

/// A string without its quotes, a number as it is written, nothing of null.
pub fn plain(raw: &str) -> String {
    if raw.starts_with('"') {
        serde_json::from_str(raw).unwrap_or_default()
    } else if raw == "null" {
        String::new()
    } else {
        raw.to_owned()
    }
}

/// The text of one field of an object; empty if there is none.
pub fn text_of(object: &str, field: &str) -> String {
    let object: BTreeMap<String, &RawValue> = serde_json::from_str(object).unwrap_or_default();
    object
        .get(field)
        .map(|raw| plain(raw.get()))
        .unwrap_or_default()
}

/// A report as paths and raw values: `metrics.cost_micros`, whether it was written `costMicros` or not. Lists stay as they are.
#[derive(Debug, Default)]
pub struct Flat(Vec<(String, String)>);

impl Flat {
    /// Of the text of an object.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(text: &str) -> Result<Flat, Refusal> {
        let mut flat = Flat::default();
        flat.add("", text, 0)?;
        Ok(flat)
    }

    fn add(&mut self, before: &str, text: &str, depth: u32) -> Result<(), Refusal> {
        if depth > 6 {
            return Err(Refusal::new("an object within too many others"));
        }
        let object: BTreeMap<String, &RawValue> = serde_json::from_str(text)
            .map_err(|error| Refusal::new(format!("not an object: {error}")))?;
        for (key, raw) in object {
            let path = if before.is_empty() {
                snake(&key)
            } else {
                format!("{before}.{}", snake(&key))
            };
            if raw.get().starts_with('{') {
                self.add(&path, raw.get(), depth.saturating_add(1))?;
            } else {
                self.0.push((path, raw.get().to_owned()));
            }
        }
        Ok(())
    }

    /// The raw value at a path.
    pub fn raw(&self, path: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(there, _)| there == path)
            .map(|(_, raw)| raw.as_str())
    }

    /// The text at the first of the paths that has any; empty if none has.
    pub fn text(&self, paths: &[&str]) -> String {
        let mut texts = paths.iter().filter_map(|path| self.raw(path)).map(plain);
        texts.find(|text| !text.is_empty()).unwrap_or_default()
    }

    /// All paths.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(path, _)| path.as_str())
    }

    /// What stands below a path.
    pub fn below(self, path: &str) -> Flat {
        let prefix = format!("{path}.");
        Flat(
            self.0
                .into_iter()
                .filter_map(|(path, raw)| {
                    path.strip_prefix(&prefix)
                        .map(|rest| (rest.to_owned(), raw))
                })
                .collect(),
        )
    }
}

/// `costMicros` is `cost_micros`.
pub fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len().saturating_add(4));
    let mut before = '_';
    for c in name.chars() {
        if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            out.push('_');
        }
        before = c;
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::source::{Limits, from_reader};
    use proptest::prelude::*;

    fn items(text: &str) -> Result<Vec<String>, Refusal> {
        let sources = from_reader("it", text.as_bytes(), Limits::USUAL)?;
        let mut items = Vec::new();
        for_each(&sources[0], &mut |item, number| {
            items.push(match item {
                Item::Report(text) => format!("{number} {text}"),
                Item::MorePages => "more".to_owned(),
            });
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(items)
    }

    #[test]
    fn reports_are_found_whatever_is_around_them() {
        for (text, found) in [
            (
                r#"[{"results":[{"a":1},{"a":2}],"fieldMask":"a"},{"results":[{"a":3}]}]"#,
                "1 {\"a\":1}|2 {\"a\":2}|3 {\"a\":3}",
            ),
            (
                r#"{"data":[{"a":1}],"paging":{"cursors":{"after":"x"}}}"#,
                "1 {\"a\":1}",
            ),
            (
                r#"{"data":[{"a":1}],"paging":{"next":"https://x"}}"#,
                "1 {\"a\":1}|more",
            ),
            (
                r#"{"code":0,"message":"OK","data":{"list":[{"a":1}],"page_info":{"page":1,"total_page":2}}}"#,
                "1 {\"a\":1}|more",
            ),
            (r#"{"elements":[{"a":1}],"paging":{}}"#, "1 {\"a\":1}"),
            ("{\"a\":1}\n\n{\"a\":2}\n", "1 {\"a\":1}|2 {\"a\":2}"),
            (r#"[{"a":1},{"a":2}]"#, "1 {\"a\":1}|2 {\"a\":2}"),
            (r#"{"results":[]}"#, ""),
            (r#"{"results":null}"#, ""),
            ("[]", ""),
        ] {
            assert_eq!(
                items(text).map(|i| i.join("|")),
                Ok(found.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn answers_that_are_errors_are_refused_as_such() {
        for (text, said) in [
            (
                r#"{"error":{"message":"Invalid OAuth access token.","code":190}}"#,
                "Invalid OAuth access token.",
            ),
            (
                r#"[{"error":{"code":401,"message":"expired","status":"UNAUTHENTICATED"}}]"#,
                "expired",
            ),
            (
                r#"{"code":40105,"message":"Access token is incorrect","data":{}}"#,
                "Access token is incorrect",
            ),
            (
                r#"{"status":401,"serviceErrorCode":65600,"message":"Invalid access token"}"#,
                "Invalid access token",
            ),
        ] {
            let refusal = items(text).expect_err("an error").to_string();
            assert!(refusal.contains(said), "{refusal}");
        }
        for text in [
            "{\"data\":[{\"a\":1}",
            "{]",
            "[1]",
            "{\"data\":[{\"a\":1},]}",
        ] {
            let refusal = items(text).expect_err("no JSON").to_string();
            assert!(refusal.contains("not JSON"), "{refusal}");
        }
    }

    #[test]
    fn a_string_without_an_end_is_refused() {
        let text = format!("{{\"data\":[\"{}", "a".repeat(3 << 20));
        let refusal = items(&text).expect_err("no end").to_string();
        assert!(refusal.contains("1 MiB"), "{refusal}");
    }

    #[test]
    fn paths_are_the_same_in_either_writing() {
        let flat =
            Flat::of(r#"{"metrics":{"costMicros":"12","all_conversions":1.5},"a":[1],"b":null}"#);
        let flat = flat.expect("an object");
        assert_eq!(flat.text(&["x", "metrics.cost_micros"]), "12");
        assert_eq!(flat.text(&["metrics.all_conversions"]), "1.5");
        assert_eq!(flat.text(&["b"]), "");
        assert_eq!(flat.raw("a"), Some("[1]"));
        assert_eq!(flat.below("metrics").text(&["cost_micros"]), "12");
    }

    proptest! {
        #[test]
        fn any_text_is_json_or_refused(text in "[\\[\\]{}\":,a0 \\\\\n]{0,60}") {
            let _ = items(&text);
            let _ = Flat::of(&text);
        }
    }
}
