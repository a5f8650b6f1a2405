//! One pass over an NDJSON file before polars reads it. polars maps the whole file, follows any depth
//! of brackets on its stack, and takes a second per ten thousand columns to find their types; here
//! each of them is refused with its line.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::read::Limits;
use crate::error::{Error, Kind, Result};

/// Deepest nesting of a value; tables have one level.
const DEPTH_MAX: usize = 32;

pub fn check(path: &Path, limits: &Limits) -> Result<()> {
    let file = File::open(path).map_err(|error| Kind::Data.at(path).io(&error))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let bytes_max = limits.cell_bytes_max.saturating_mul(4).max(1 << 20);
    let (mut line, mut names) = (Vec::new(), BTreeSet::new());
    for number in 1.. {
        line.clear();
        let wrong = |what: String| -> Error { Kind::Schema.at(path).line(number).msg(what) };
        let read = (&mut reader)
            .take(bytes_max as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(|error| Kind::Data.at(path).io(&error))?;
        if read == 0 {
            break;
        }
        if line.len() > bytes_max {
            let error = wrong(format!("is longer than {bytes_max} bytes"));
            return Err(error.hint("one JSON object a line; or raise `data.cell_bytes_max`"));
        }
        if deepest(&line, &mut |name| remember(&mut names, name)) > DEPTH_MAX {
            return Err(wrong(format!("is nested more than {DEPTH_MAX} deep")));
        }
        if names.len() > limits.columns_max {
            let max = limits.columns_max;
            return Err(wrong(format!("is where there are more than {max} columns"))
                .hint("raise `data.columns_max` if that is meant"));
        }
    }
    Ok(())
}

fn remember(names: &mut BTreeSet<Vec<u8>>, name: &[u8]) {
    if !names.contains(name) {
        names.insert(name.to_owned());
    }
}

/// The depth of brackets in a line. `name` hears the names of the outermost object, as written.
fn deepest(line: &[u8], name: &mut dyn FnMut(&[u8])) -> usize {
    let (mut depth, mut most, mut at) = (0usize, 0, 0);
    let mut text = 0..0;
    while at < line.len() {
        match line[at] {
            b'"' => {
                let start = at + 1;
                at = end_of_text(line, start);
                text = start..at;
            }
            b':' if depth == 1 => name(&line[text.clone()]),
            b'{' | b'[' => {
                depth += 1;
                most = most.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    most
}

/// Where the closing quote stands, or the line ends.
fn end_of_text(line: &[u8], mut at: usize) -> usize {
    while at < line.len() && line[at] != b'"' {
        at += if line[at] == b'\\' { 2 } else { 1 };
    }
    at.min(line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_and_names() {
        for (line, depth, expected) in [
            (r#"{"a":1,"b":"x"}"#, 1, "a b"),
            (r#"{"a":{"c":[1,{"d":2}]},"b":"}}:{"}"#, 4, "a b"),
            (r#"{"a\"\\":1, "b" : 2}"#, 1, r#"a\"\\ b"#),
            (r#"{"open"#, 1, ""),
            (r#"{"end\"#, 1, ""),
            ("]]]", 0, ""),
        ] {
            let mut names = Vec::new();
            let mut hear = |name: &[u8]| names.push(String::from_utf8_lossy(name).into_owned());
            assert_eq!(deepest(line.as_bytes(), &mut hear), depth, "{line}");
            assert_eq!(names.join(" "), expected, "{line}");
        }
    }
}
