//! A record as a JSON object: its fields as they are written, so that numbers are read digit by digit.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::event::{CampaignId, Platform, Reason};
use crate::reports::refusal::Refusal;
use crate::reports::row::Place;
use crate::time::{Timestamp, parse_rfc3339};

/// The fields of an object, in their order.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields<'a>, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    fields.push((name.0, value));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Reader).map(Fields)
    }
}

/// A name, of the text it stands in where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// See the module.
pub struct Object<'a> {
    place: &'a Place,
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// A field that is written otherwise: its name, and what to write.
pub type Otherwise = (&'static str, &'static str);

impl<'a> Object<'a> {
    /// Reads an object that has these fields and no others, each once.
    ///
    /// # Errors
    /// Which field is not as it must be, or that it is no object.
    pub fn of(
        place: &'a Place,
        text: &'a str,
        known: &[&str],
        otherwise: &[Otherwise],
    ) -> Result<Object<'a>, Refusal> {
        let fields: Fields<'a> = serde_json::from_str(text).map_err(|error| {
            Refusal::new(format!("not a JSON object: {error}")).at(place.clone())
        })?;
        let mut seen: Vec<&str> = Vec::with_capacity(fields.0.len());
        for (name, value) in &fields.0 {
            let refused = |reason: &str, remedy: String| {
                let refusal = Refusal::new(reason).at(place.clone());
                Err(refusal.of(name.as_ref(), value.get()).so(remedy))
            };
            if let Some((_, remedy)) = otherwise.iter().find(|(other, _)| other == name) {
                return refused("this field is written otherwise here", (*remedy).to_owned());
            }
            if !known.contains(&name.as_ref()) {
                return refused("no such field", format!("there are {}", known.join(", ")));
            }
            if seen.contains(&name.as_ref()) {
                return refused("the field stands there twice", "leave one out".to_owned());
            }
            seen.push(name);
        }
        Ok(Object {
            place,
            fields: fields.0,
        })
    }

    /// The value as it is written; none where it is null or not there.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        let mut fields = self.fields.iter();
        let (_, value) = fields.find(|(there, _)| there == name)?;
        Some(value.get()).filter(|raw| *raw != "null")
    }

    /// Why a field is refused.
    pub fn refusal(&self, name: &str, reason: impl Into<String>) -> Refusal {
        let refusal = Refusal::new(reason).at(self.place.clone());
        refusal.of(name, self.raw(name).unwrap_or("null"))
    }

    /// The same for one of the processor's reasons.
    pub fn refused_as(&self, name: &str, reason: Reason) -> Refusal {
        self.refusal(name, reason.to_string())
    }

    /// A text; none where it is null or not there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        let text: Name<'a> = serde_json::from_str(raw)
            .map_err(|_| self.refusal(name, "not a text").so("write it in quotes"))?;
        Ok(Some(text.0))
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// When it is not, or is something else.
    pub fn required(&self, name: &str) -> Result<Cow<'a, str>, Refusal> {
        self.text(name)?.ok_or_else(|| self.lacking(name))
    }

    /// That a field must be there.
    pub fn lacking(&self, name: &str) -> Refusal {
        Refusal::new(format!("lacks {name}")).at(self.place.clone())
    }

    /// A whole number; none where it is null or not there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn whole(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let parse = |raw: &str| {
            raw.parse().map_err(|_| {
                self.refusal(name, "not a whole number that fits 64 bits")
                    .so("write it in digits, without quotes")
            })
        };
        self.raw(name).map(parse).transpose()
    }

    /// An instant.
    ///
    /// # Errors
    /// When it is not there, or is something else. A number says neither its unit nor its zone.
    pub fn instant(&self, name: &str) -> Result<Timestamp, Refusal> {
        let text = self.raw(name).ok_or_else(|| self.lacking(name))?;
        let text: Option<Name<'a>> = serde_json::from_str(text).ok();
        let instant = text.and_then(|text| parse_rfc3339(&text.0).ok());
        let instant = instant.ok_or_else(|| {
            self.refusal(name, "not an RFC 3339 time")
                .so("write it as \"2026-01-31T12:00:00Z\"")
        })?;
        Ok(instant.into())
    }

    /// A platform by its name.
    ///
    /// # Errors
    /// When it is not there, or none.
    pub fn platform(&self) -> Result<Platform, Refusal> {
        let name = self.required("platform")?;
        Platform::from_name(&name)
            .ok_or_else(|| self.refused_as("platform", Reason::UnknownPlatform))
    }

    /// Checks a campaign id.
    ///
    /// # Errors
    /// When it is none.
    pub fn campaign<'t>(&self, id: &'t str) -> Result<CampaignId<'t>, Refusal> {
        CampaignId::parse(id).map_err(|reason| self.refused_as("campaign_id", reason))
    }
}
