//! Does a tree have the shape of a [`Config`](crate::config::Config)? Asked of the JSON Schema,
//! because serde forgets where a key stood once it has buffered a tagged enum, and because the
//! schema knows what could have been written instead.

use serde_json::Value as Json;
use toml::Value;

use super::path;
use crate::config::validate::Fault;

/// Similarity (Jaro-Winkler) from which a key is offered as what was meant: `patiance` and
/// `patience` reach 0.95, unrelated keys of the schema stay under 0.75.
const SIMILARITY_MIN: f64 = 0.8;

/// Every place where `tree` departs from `schema`: unknown and missing keys, wrong types, names
/// that are none of an enum's.
pub fn faults(tree: &toml::Table, schema: &Json) -> Vec<Fault> {
    let mut walk = Walk { root: schema, faults: Vec::new() };
    walk.table(tree, schema, "");
    walk.faults
}

/// The candidate that `word` most likely means.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// "did you mean ...?", or all that there is.
pub fn suggestion(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", candidates.join(", ")),
    }
}

struct Walk<'a> {
    root: &'a Json,
    faults: Vec<Fault>,
}

impl<'a> Walk<'a> {
    fn value(&mut self, value: &Value, schema: &'a Json, at: &str) {
        let branches = self.branches(schema);
        let names: Vec<&str> = branches.iter().flat_map(|branch| names(branch)).collect();
        let fitting = branches.iter().copied().find(|branch| accepts(branch, value));
        match (value, fitting) {
            (Value::String(word), Some(_)) if !names.is_empty() => self.name(word, &names, at),
            // A tagged enum: the whole schema, so that the branch is chosen by `kind`.
            (Value::Table(table), Some(_)) if is_tagged(schema, self.root) => {
                self.table(table, schema, at);
            }
            (Value::Table(table), Some(branch)) => self.table(table, branch, at),
            (Value::Array(items), Some(branch)) => self.items(items, branch, at),
            (_, Some(_)) => {}
            (_, None) => self.wrong_type(value, &branches, at),
        }
    }

    fn items(&mut self, items: &[Value], schema: &'a Json, at: &str) {
        let Some(of) = schema.get("items") else { return };
        for (index, item) in items.iter().enumerate() {
            self.value(item, of, &path::join(at, &index.to_string()));
        }
    }

    fn table(&mut self, table: &toml::Table, schema: &'a Json, at: &str) {
        let Some(schema) = self.variant(table, schema, at) else { return };
        let known = schema.get("properties").and_then(Json::as_object);
        let of_any = schema.get("additionalProperties").filter(|any| any.is_object());
        for (key, value) in table {
            let here = path::join(at, key);
            match (known.and_then(|known| known.get(key)), of_any) {
                // The variant was chosen by its `kind`: nothing is left to check there.
                (Some(of), _) if of.get("const").is_some() => {}
                (Some(of), _) | (None, Some(of)) => self.value(value, of, &here),
                (None, None) => self.unknown(key, known, heading(at, schema), here),
            }
        }
        let required = schema.get("required").and_then(Json::as_array);
        for key in required.into_iter().flatten().filter_map(Json::as_str) {
            if !table.contains_key(key) {
                let message = format!("missing key `{key}` {}", heading(at, schema));
                self.faults.push(Fault::new(path::join(at, key), message));
            }
        }
    }

    /// The branch of a tagged enum that the table's `kind` names; any other schema as it is.
    fn variant(&mut self, table: &toml::Table, schema: &'a Json, at: &str) -> Option<&'a Json> {
        if !is_tagged(schema, self.root) {
            return Some(schema);
        }
        let branches = self.branches(schema);
        let kinds: Vec<&str> = branches.iter().filter_map(|branch| kind(branch)).collect();
        let here = path::join(at, "kind");
        match table.get("kind") {
            Some(Value::String(word)) => match kinds.iter().position(|kind| kind == word) {
                Some(index) => return Some(branches[index]),
                None => self.name(word, &kinds, &here),
            },
            Some(other) => self.faults.push(Fault::new(
                here.clone(),
                format!("`{here}`: expected text, found {}", found(other)),
            )),
            None => {
                let fault = Fault::new(here, format!("missing key `kind` in [{at}]"));
                self.faults.push(fault.hint(format!("one of {}", kinds.join(", "))));
            }
        }
        None
    }

    fn unknown(
        &mut self,
        key: &str,
        known: Option<&serde_json::Map<String, Json>>,
        heading: String,
        here: String,
    ) {
        let known: Vec<&str> = known.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        let fault = Fault::new(here, format!("unknown key `{key}` {heading}"));
        self.faults.push(fault.hint(suggestion(key, &known)));
    }

    fn name(&mut self, word: &str, names: &[&str], at: &str) {
        if !names.contains(&word) {
            let fault = Fault::new(at, format!("`{at}`: there is no `{word}`"));
            self.faults.push(fault.hint(suggestion(word, names)));
        }
    }

    fn wrong_type(&mut self, value: &Value, branches: &[&Json], at: &str) {
        let mut wanted: Vec<&str> = Vec::new();
        for branch in branches {
            let text = expected(branch);
            if text != "nothing" && !wanted.contains(&text) {
                wanted.push(text);
            }
        }
        let message = format!("`{at}`: expected {}, found {}", wanted.join(" or "), found(value));
        let fault = Fault::new(at, message);
        self.faults.push(match value {
            Value::Datetime(_) => fault.hint("put the date in quotes"),
            _ => fault,
        });
    }

    /// The alternatives of a schema: references followed, unions flattened.
    fn branches(&self, schema: &'a Json) -> Vec<&'a Json> {
        let schema = follow(schema, self.root);
        let union = ["oneOf", "anyOf"].iter().find_map(|key| schema.get(key)?.as_array());
        match union {
            Some(parts) => parts.iter().flat_map(|part| self.branches(part)).collect(),
            None => vec![schema],
        }
    }
}

fn follow<'a>(schema: &'a Json, root: &'a Json) -> &'a Json {
    let target = schema.get("$ref").and_then(Json::as_str).and_then(|to| to.strip_prefix('#'));
    match target.and_then(|pointer| root.pointer(pointer)) {
        Some(target) => follow(target, root),
        None => schema,
    }
}

/// A union whose every branch is a table with a constant `kind`.
fn is_tagged(schema: &Json, root: &Json) -> bool {
    let union = follow(schema, root).get("oneOf").and_then(Json::as_array);
    union.is_some_and(|parts| parts.iter().all(|part| kind(part).is_some()))
}

fn kind(schema: &Json) -> Option<&str> {
    schema.pointer("/properties/kind/const")?.as_str()
}

/// The words that a text schema allows; empty if it allows any.
fn names(schema: &Json) -> Vec<&str> {
    let several = schema.get("enum").and_then(Json::as_array).into_iter().flatten();
    several.chain(schema.get("const")).filter_map(Json::as_str).collect()
}

fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(many)) => many.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn accepts(schema: &Json, value: &Value) -> bool {
    types(schema).into_iter().any(|kind| match value {
        Value::String(_) => kind == "string",
        // TOML's numbers: an integer is also a fine real.
        Value::Integer(n) => kind == "number" || (kind == "integer" && in_range(schema, *n)),
        Value::Float(_) => kind == "number",
        Value::Boolean(_) => kind == "boolean",
        Value::Array(_) => kind == "array",
        Value::Table(_) => kind == "object",
        Value::Datetime(_) => false,
    })
}

/// What the field's integer type can hold.
fn in_range(schema: &Json, n: i64) -> bool {
    let most = if of_32_bits(schema) { i64::from(u32::MAX) } else { i64::MAX };
    let least = schema.get("minimum").and_then(Json::as_f64).unwrap_or(f64::MIN);
    n as f64 >= least && n <= most
}

fn of_32_bits(schema: &Json) -> bool {
    schema.get("format").and_then(Json::as_str) == Some("uint32")
}

fn expected(schema: &Json) -> &'static str {
    match types(schema).first() {
        Some(&"string") => "text",
        Some(&"integer") if of_32_bits(schema) => "a whole number from 0 to 4294967295",
        Some(&"integer") if schema.get("minimum").is_some() => "a whole number from 0 up",
        Some(&"integer") => "a whole number",
        Some(&"number") => "a number",
        Some(&"boolean") => "true or false",
        Some(&"array") => "a list",
        Some(&"object") => "a table",
        _ => "nothing",
    }
}

fn found(value: &Value) -> String {
    match value {
        Value::String(_) => "text".into(),
        Value::Integer(n) => n.to_string(),
        Value::Float(x) => x.to_string(),
        Value::Boolean(b) => b.to_string(),
        Value::Datetime(_) => "a date".into(),
        Value::Array(_) => "a list".into(),
        Value::Table(_) => "a table".into(),
    }
}

/// Where the table at `path` stands in the file: `in [train]`, `in [[source]]`.
fn heading(path: &str, schema: &Json) -> String {
    let last = path::split(path).pop().unwrap_or_default();
    let place = match path {
        "" => "at the top level".to_owned(),
        _ if last.parse::<usize>().is_ok() => format!("in [[{}]]", path::parent(path)),
        _ => format!("in [{path}]"),
    };
    match kind(schema) {
        Some(kind) => format!("{place} of kind `{kind}`"),
        None => place,
    }
}
