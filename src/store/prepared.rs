//! Statements whose text is always the same, which PostgreSQL parses and plans once a connection.
//!
//! What goes through diesel's `sql_query` is prepared anew each time, since its text may be another one
//! each time. In a batch of a few events that would be most of what its transaction takes.

use std::marker::PhantomData;

use diesel::pg::{Pg, PgConnection};
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Untyped};
use diesel::{RunQueryDsl, sql_types};

/// A statement and what is bound to it so far.
pub(super) struct Prepared<'a> {
    /// The text before each value that is bound, and the value.
    bound: Vec<(&'a str, Box<dyn QueryFragment<Pg> + 'a>)>,
    rest: &'a str,
}

/// A statement with the placeholders `$1`, `$2` and so on, in order, each once.
pub(super) fn prepared(text: &str) -> Prepared<'_> {
    Prepared {
        bound: Vec::new(),
        rest: text,
    }
}

impl<'a> Prepared<'a> {
    /// Binds a value to the next placeholder.
    pub fn bind<ST, T>(mut self, value: T) -> Prepared<'a>
    where
        ST: sql_types::SingleValue + 'a,
        T: ToSql<ST, Pg> + 'a,
        Pg: HasSqlType<ST>,
    {
        let placeholder = format!("${}", self.bound.len() + 1);
        let found = self.rest.split_once(&placeholder);
        debug_assert!(found.is_some(), "no {placeholder} in: {}", self.rest);
        // Without a placeholder the value stands at the end, which PostgreSQL refuses.
        let (before, rest) = found.unwrap_or((self.rest, ""));
        self.rest = rest;
        let value = Bound {
            value,
            sql_type: PhantomData::<ST>,
        };
        self.bound.push((before, Box::new(value)));
        self
    }
}

struct Bound<ST, T> {
    value: T,
    sql_type: PhantomData<ST>,
}

impl<ST, T> QueryFragment<Pg> for Bound<ST, T>
where
    T: ToSql<ST, Pg>,
    Pg: HasSqlType<ST>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_bind_param::<ST, T>(&self.value)
    }
}

impl QueryFragment<Pg> for Prepared<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        for (before, value) in &self.bound {
            out.push_sql(before);
            value.walk_ast(out.reborrow())?;
        }
        debug_assert!(!self.rest.contains('$'), "not bound: {}", self.rest);
        out.push_sql(self.rest);
        Ok(())
    }
}

/// Known by its text, not by its type.
impl QueryId for Prepared<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for Prepared<'_> {
    type SqlType = Untyped;
}

impl RunQueryDsl<PgConnection> for Prepared<'_> {}
