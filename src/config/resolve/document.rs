//! A TOML text as a tree, with the line of every key.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::path;
use crate::error::{Kind, Result};

/// What the file says and where.
pub struct Document {
    pub tree: toml::Table,
    /// One-based line of every key, table and array item, by dotted path.
    pub lines: BTreeMap<String, u64>,
}

/// Parses `text`; `file` only names it in errors.
pub fn parse(text: &str, file: &Path) -> Result<Document> {
    let wrong = |error: toml::de::Error| {
        let place = Kind::Config.at(file);
        let place = match error.span() {
            Some(span) => place.line(line_of(text, span.start)),
            None => place,
        };
        place.msg(format!("is no valid TOML: {}", error.message().replace('\n', ", ")))
    };
    let spanned = DeTable::parse(text).map_err(wrong)?;
    let tree: toml::Table = text.parse().map_err(wrong)?;
    let mut lines = BTreeMap::new();
    for_table(spanned.get_ref(), "", &mut |key, offset| {
        lines.insert(key, line_of(text, offset));
    });
    Ok(Document { tree, lines })
}

/// One-based line that holds byte `offset`.
fn line_of(text: &str, offset: usize) -> u64 {
    let before = &text.as_bytes()[..offset.min(text.len())];
    before.iter().filter(|&&byte| byte == b'\n').count() as u64 + 1
}

fn for_table(table: &DeTable, at: &str, note: &mut impl FnMut(String, usize)) {
    for (key, value) in table {
        let here = path::join(at, key.get_ref());
        note(here.clone(), key.span().start);
        for_value(value, &here, note);
    }
}

fn for_value(value: &Spanned<DeValue>, at: &str, note: &mut impl FnMut(String, usize)) {
    match value.get_ref() {
        DeValue::Table(table) => for_table(table, at, note),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let here = path::join(at, &index.to_string());
                note(here.clone(), item.span().start);
                for_value(item, &here, note);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_line() {
        let text = r#"name = "a"

[train]
patience = 3
[[source]]
name = "x"
columns = { a = "number" }
[[source]]
path = [
 "b",
 "c"]
[source.columns]
"d e" = 1
"#;
        let document = parse(text, Path::new("a.toml")).expect("TOML");
        let wanted = [
            ("name", 1),
            ("train", 3),
            ("train.patience", 4),
            ("source.0", 5),
            ("source.0.name", 6),
            ("source.0.columns.a", 7),
            ("source.1", 8),
            ("source.1.path.1", 11),
            ("source.1.columns.\"d e\"", 13),
        ];
        for (path, line) in wanted {
            assert_eq!(document.lines.get(path), Some(&line), "{path}");
        }
        assert_eq!(document.lines.get("train.absent"), None);
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let error = parse("a = 1\nb = [1, 2\nc = 3\n", Path::new("a.toml")).err().expect("no TOML");
        let text = error.to_string();
        assert!(text.starts_with("a.toml:3: is no valid TOML"), "{text}");
        let twice = parse("a = 1\na = 2\n", Path::new("a.toml")).err().expect("no TOML");
        assert_eq!(twice.to_string(), "a.toml:2: is no valid TOML: duplicate key");
    }
}
