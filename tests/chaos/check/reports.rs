//! What is known of campaigns' days against the ledger: of each key the newest that was said, all that was said before and was
//! something else, and restatements that add up to what counts. Nothing else is there.

use std::collections::{BTreeMap, HashMap};

use diesel::sql_types::{Array, BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use uuid::Uuid;

use super::Violations;
use crate::ledger::reports::{Key, Reported, Revision};
use crate::ledger::{Ledger, Sums};

pub const NEWEST: &str = "report_rows is the newest that was said of each day";
pub const HISTORY: &str = "report_history is all that was said before";
pub const ADD_UP: &str = "the restatements of a report row add up to it";

/// What a table says of each place: a key, from an instant on.
type Rows = BTreeMap<String, String>;

/// Compares both tables, and what was `restated` in the event store, by the restatements' id.
pub fn check_reports(
    connection: &mut PgConnection,
    ledger: &Ledger,
    reported: &Reported,
    mut restated: HashMap<Uuid, Sums>,
    violations: &mut Violations,
) -> QueryResult<()> {
    let (mut newest, mut history) = (Rows::new(), Rows::new());
    let mut sums = HashMap::new();
    for (key, said) in &reported.keys {
        let mut revisions = said.revisions();
        if let Some(last) = revisions.pop() {
            let (place, says) = describe(ledger, key, &last);
            sums.insert(place.clone(), said.sums());
            newest.insert(place, says);
        }
        history.extend(revisions.iter().map(|said| describe(ledger, key, said)));
    }
    compare(
        HISTORY,
        history,
        load(connection, "report_history")?.0,
        violations,
    );
    let (found, ids) = load(connection, "report_rows")?;
    for (place, id) in ids {
        let adds_up = restated.remove(&id).unwrap_or_default();
        // Of a row that must not be there nothing is counted either.
        let counts = sums.remove(&place).unwrap_or_default();
        if adds_up != counts {
            let (counts, adds_up) = (format!("{counts:?}"), format!("{adds_up:?}"));
            violations.add(ADD_UP, place, counts, adds_up);
        }
    }
    for (id, sums) in restated {
        violations.add(
            ADD_UP,
            format!("restatements {id}"),
            "a row",
            format!("none, and {sums:?}"),
        );
    }
    compare(NEWEST, newest, found, violations);
    Ok(())
}

fn compare(what: &'static str, expected: Rows, mut found: Rows, violations: &mut Violations) {
    for (place, says) in expected {
        match found.remove(&place) {
            Some(found) => violations.compare(what, place, says, found),
            None => violations.add(what, place, says, "no row"),
        }
    }
    for (place, says) in found {
        violations.add(what, place, "no row", says);
    }
}

fn describe(ledger: &Ledger, key: &Key, revision: &Revision) -> (String, String) {
    let Key {
        campaign,
        day,
        slice,
    } = key;
    let campaign = &ledger.campaigns()[*campaign as usize];
    let grain = slice.split('=').next().unwrap_or_default();
    let values = match revision.values {
        Some(values) => values.map(Some),
        None => [None; 5],
    };
    (
        place(campaign, &day.to_string(), slice, revision.observed_at),
        says(
            values,
            &revision.confirmed_at,
            key.event(Uuid::nil(), [0; 5]).time,
            &format!("1 7 Africa/Johannesburg ZAR purchase, by '{grain}'"),
        ),
    )
}

fn place(campaign: &str, day: &str, slice: &str, observed_at: i64) -> String {
    format!("{campaign} on {day}, '{slice}', since {observed_at}")
}

fn says(
    values: [Option<i64>; 5],
    confirmed_at: &[i64],
    event_time: i64,
    definition: &str,
) -> String {
    format!("{values:?} of {definition}, at {event_time}, confirmed at {confirmed_at:?}")
}

/// What a table says, and the id of the restatements of each row.
fn load(connection: &mut PgConnection, table: &str) -> QueryResult<(Rows, Vec<(String, Uuid)>)> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        campaign_id: String,
        #[diesel(sql_type = Text)]
        day: String,
        #[diesel(sql_type = Text)]
        slice: String,
        #[diesel(sql_type = BigInt)]
        observed_at: i64,
        #[diesel(sql_type = Array<BigInt>)]
        confirmed_at: Vec<i64>,
        #[diesel(sql_type = BigInt)]
        event_time: i64,
        #[diesel(sql_type = SqlUuid)]
        event_id: Uuid,
        #[diesel(sql_type = Array<Nullable<BigInt>>)]
        numbers: Vec<Option<i64>>,
        #[diesel(sql_type = Text)]
        definition: String,
    }
    let micros = |column: &str| format!("(extract(epoch FROM {column}) * 1000000)::bigint");
    let rows: Vec<Row> = sql_query(format!(
        "SELECT r.campaign_id, r.day::text, r.slice, {} AS observed_at, {} AS event_time, r.event_id, \
             ARRAY(SELECT {} FROM unnest(r.confirmed_at) WITH ORDINALITY AS c (at, n) ORDER BY n) AS confirmed_at, \
             ARRAY[r.impressions, r.clicks, r.conversion_micros, r.cost_micros, r.revenue_micros] AS numbers, \
             concat_ws(' ', d.platform, d.account, d.time_zone, d.currency, d.conversions) || d.revenue \
                 || ', by ''' || d.grain || '''' AS definition \
         FROM {table} AS r JOIN report_definitions AS d USING (definition_id)",
        micros("r.observed_at"),
        micros("r.event_time"),
        micros("c.at"),
    ))
    .load(connection)?;
    let (mut said, mut ids) = (Rows::new(), Vec::new());
    for row in rows {
        let place = place(&row.campaign_id, &row.day, &row.slice, row.observed_at);
        let numbers = std::array::from_fn(|n| row.numbers[n]);
        let says = says(numbers, &row.confirmed_at, row.event_time, &row.definition);
        ids.push((place.clone(), row.event_id));
        said.insert(place, says);
    }
    Ok((said, ids))
}
