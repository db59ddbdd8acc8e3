//! Why a file, or a row of it, is not taken: where, what stands there, what is wrong with it, and what to do.

use std::fmt;
use std::ops::Deref;

use super::row::Place;

/// See the module. Boxed, for it travels with every result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Box<Parts>);

/// What a refusal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// None: it is about the file as a whole.
    pub place: Option<Place>,
    /// The column as its header names it.
    pub column: Option<String>,
    pub value: Option<String>,
    pub reason: String,
    pub remedy: Option<String>,
}

/// The longest value that is quoted, in characters.
const QUOTED: usize = 80;

impl Refusal {
    /// Of a file as a whole.
    pub fn new(reason: impl Into<String>) -> Refusal {
        Refusal(Box::new(Parts {
            place: None,
            column: None,
            value: None,
            reason: reason.into(),
            remedy: None,
        }))
    }

    /// With where it is.
    pub fn at(mut self, place: Place) -> Refusal {
        self.0.place = Some(place);
        self
    }

    /// With the column and what stands in it.
    pub fn of(mut self, column: impl Into<String>, value: &str) -> Refusal {
        self.0.column = Some(column.into());
        let mut quoted: String = value.chars().take(QUOTED).collect();
        if quoted.len() < value.len() {
            quoted.push('…');
        }
        self.0.value = Some(quoted);
        self
    }

    /// With what a person can do about it.
    pub fn so(mut self, remedy: impl Into<String>) -> Refusal {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// With reason and remedy in other words.
    pub fn in_words(mut self, words: impl Fn(&str) -> String) -> Refusal {
        self.0.reason = words(&self.0.reason);
        self.0.remedy = self.0.remedy.as_deref().map(words);
        self
    }

    /// With what it is about before the reason.
    pub fn about(mut self, what: &str) -> Refusal {
        self.0.reason = format!("{what}: {}", self.0.reason);
        self
    }
}

impl Deref for Refusal {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}, ")?;
        }
        if let Some(column) = &self.column {
            write!(f, "column '{column}'")?;
            match &self.value {
                Some(value) if value.is_empty() => f.write_str(", empty: ")?,
                Some(value) => write!(f, ", '{value}': ")?,
                None => f.write_str(": ")?,
            }
        }
        f.write_str(&self.reason)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_place_column_value_reason_and_remedy() {
        let refusal = Refusal::new("not a number")
            .at(Place::Line(7))
            .of("Cost", "abc")
            .so("mend it");
        assert_eq!(
            refusal.to_string(),
            "line 7, column 'Cost', 'abc': not a number; mend it"
        );
        let long = Refusal::new("too long").of("Campaign", &"é".repeat(200));
        assert_eq!(
            long.value.as_ref().map(|v| v.chars().count()),
            Some(QUOTED + 1)
        );
    }
}
