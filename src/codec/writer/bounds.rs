//! Schemas whose values can be read with a bounded stack and in a bounded time.

use apache_avro::Schema;
use apache_avro::schema::{Name, NamespaceRef, ResolvedSchema};

/// How deep a schema may be nested. Each level is read by a call within a call.
const MOST_NESTED: usize = 64;

/// How many parts a value may have, arrays and maps counted as one: each is read however few bytes it takes.
const MOST_PARTS: usize = 10_000;

pub(super) const TOO_DEEP: &str = "it is nested more than 64 deep, or contains itself";

/// Whether JSON is nested no deeper than that; looked at before what would follow it all the way.
pub(super) fn is_shallow(json: &serde_json::Value) -> bool {
    is_shallower(json, MOST_NESTED)
}

fn is_shallower(json: &serde_json::Value, left: usize) -> bool {
    let Some(left) = left.checked_sub(1) else {
        return false;
    };
    match json {
        serde_json::Value::Array(items) => items.iter().all(|item| is_shallower(item, left)),
        serde_json::Value::Object(fields) => fields.values().all(|field| is_shallower(field, left)),
        _ => true,
    }
}

/// Whether values can be read within bounds: a name may stand for something nested deeper than it is written.
pub(super) fn check_size(schema: &Schema) -> Result<(), String> {
    let names = ResolvedSchema::try_from(schema).map_err(|e| e.to_string())?;
    let mut parts = MOST_PARTS;
    walk(schema, None, &names, MOST_NESTED, &mut parts)
}

fn walk(
    schema: &Schema,
    namespace: NamespaceRef<'_>,
    names: &ResolvedSchema<'_>,
    levels: usize,
    parts: &mut usize,
) -> Result<(), String> {
    let Some(levels) = levels.checked_sub(1) else {
        return Err(TOO_DEEP.to_owned());
    };
    *parts = parts
        .checked_sub(1)
        .ok_or_else(|| format!("its values have more than {MOST_PARTS} parts"))?;
    let within = |name: &Name| name.fully_qualified_name(namespace).into_owned();
    match schema {
        Schema::Array(array) => walk(&array.items, namespace, names, levels, parts),
        Schema::Map(map) => walk(&map.types, namespace, names, levels, parts),
        Schema::Union(union) => union
            .variants()
            .iter()
            .try_for_each(|variant| walk(variant, namespace, names, levels, parts)),
        Schema::Record(record) => {
            let name = within(&record.name);
            let mut fields = record.fields.iter();
            fields.try_for_each(|field| walk(&field.schema, name.namespace(), names, levels, parts))
        }
        Schema::Ref { name } => {
            let name = within(name);
            match names.get_names().get(&name) {
                Some(schema) => walk(schema, name.namespace(), names, levels, parts),
                None => Err(format!("it does not say what '{name}' is")),
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use crate::codec::{Decoder, SCHEMA_JSON, SchemaError, SchemaIds};

    /// A schema of version 1 with a field more.
    fn with_own(kind: &str) -> Result<(), SchemaError> {
        let own = format!(r#""fields": [{{"name":"own","type":{kind}}},"#);
        let schema = SCHEMA_JSON.replacen(r#""fields": ["#, &own, 1);
        Decoder::new(SchemaIds::OWN)?.add_writer_schema(7, &schema)
    }

    #[test]
    fn a_schema_that_is_nested_too_deep_is_refused() {
        let refused = |kind: &str, why: &str| {
            let refused = with_own(kind).expect_err(why).to_string();
            assert!(refused.contains(why), "{refused}");
        };
        let arrays = |many: usize| {
            let open = r#"{"type":"array","items":"#.repeat(many);
            format!(r#"{open}"long"{}"#, "}".repeat(many))
        };
        refused(&arrays(100), "more than 64 deep");
        refused(&arrays(100_000), "recursion limit");
        // Deeper than it is written, by names: in itself, one within the other, and two of each within the next.
        refused(
            r#"{"type":"record","name":"Node","fields":[{"name":"next","type":["null","Node"]}]}"#,
            "contains itself",
        );
        let chain = |many: usize, times: usize| {
            let mut fields =
                r#"{"name":"f0","type":{"type":"record","name":"R0","fields":[]}}"#.to_owned();
            for n in 1..many {
                let inner: Vec<String> = (0..times)
                    .map(|time| format!(r#"{{"name":"r{time}","type":"R{}"}}"#, n - 1))
                    .collect();
                write!(
                    fields,
                    r#",{{"name":"f{n}","type":{{"type":"record","name":"R{n}","fields":[{}]}}}}"#,
                    inner.join(",")
                )
                .expect("writes");
            }
            format!(r#"{{"type":"record","name":"All","fields":[{fields}]}}"#)
        };
        refused(&chain(1_000, 1), "more than 64 deep");
        refused(&chain(40, 2), "more than 10000 parts");
        assert!(with_own(&arrays(40)).is_ok());
        assert!(with_own(&chain(20, 1)).is_ok());
    }
}
