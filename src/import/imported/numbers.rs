//! The numbers of files: each of several databases numbers them for itself. Rows are read with those of the database with the
//! files.

use std::collections::HashMap;

use diesel::PgConnection;

use crate::report_row::revisions::Revision;
use crate::store::StoreError;
use crate::store::read::imports;

/// Of a database with rows, and of the one with the files; none: they are one.
pub struct Numbers(Option<Both>);

struct Both {
    here: HashMap<i32, i32>,
    at_home: HashMap<i32, i32>,
}

impl Numbers {
    /// Of a database, beside those `at_home` by the files' SHA-256.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn of(
        connection: &mut PgConnection,
        at_home: Option<&HashMap<Vec<u8>, i32>>,
    ) -> Result<Numbers, StoreError> {
        let Some(of_home) = at_home else {
            return Ok(Numbers(None));
        };
        let (mut here, mut at_home) = (HashMap::new(), HashMap::new());
        for (sha256, number) in imports::numbers(connection, None)? {
            if let Some(home) = of_home.get(&sha256) {
                here.insert(*home, number);
                at_home.insert(number, *home);
            }
        }
        Ok(Numbers(Some(Both { here, at_home })))
    }

    /// The number here of a file at home; none: nothing here is from it.
    pub fn here(&self, file: i32) -> Option<i32> {
        match &self.0 {
            None => Some(file),
            Some(_) if !self.is_of_home(file) => Some(file.saturating_neg()),
            Some(both) => both.here.get(&file).copied(),
        }
    }

    /// The number at home of a file here. One that is not known there has a negative number.
    pub fn at_home(&self, file: i32) -> i32 {
        match &self.0 {
            None => file,
            Some(both) => {
                let home = both.at_home.get(&file).copied();
                home.unwrap_or_else(|| file.saturating_neg())
            }
        }
    }

    /// Whether a number is one that home gave, whatever database is asked.
    pub fn is_of_home(&self, file: i32) -> bool {
        file >= 0
    }

    /// Has a revision that was read here say by home's number which file it is from.
    pub fn bring_home(&self, revision: &mut Revision) {
        let (file, line) = revision.origin;
        revision.origin = (file.map(|file| self.at_home(file)), line);
    }
}
