//! What lies over the file: `--set` flags, environment variables, and `${VAR}` in `data.root`.

use toml::{Table, Value};

use super::path;
use super::shape::suggestion;
use crate::error::{Kind, Result};

/// A flag's value: TOML if it is some, else the text itself.
pub fn parse_value(text: &str) -> Value {
    let document = format!("value = {text}").parse::<Table>();
    match document {
        // More than one key means that the text broke out of its line: then it is just text.
        Ok(mut table) if table.len() == 1 => table.remove("value"),
        _ => None,
    }
    .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Puts `value` at `typed`, makes missing tables on the way, and returns the path with names of
/// array items (`source.activity`) replaced by their place (`source.1`).
pub fn set(tree: &mut Table, typed: &str, value: Value) -> Result<String> {
    let mut segments = path::split(typed);
    let refuse = |what: &str| Kind::Usage.msg(format!("--set {typed}: {what}"));
    if segments.iter().any(|segment| segment.is_empty()) {
        return Err(refuse("a path is names with dots between, such as `train.patience`"));
    }
    let Some(last) = segments.pop() else { return Err(refuse("the path is empty")) };
    let mut root = Value::Table(std::mem::take(tree));
    let outcome = (|| {
        let (mut here, mut at) = (&mut root, String::new());
        for segment in &segments {
            (here, at) = step(here, &at, segment, typed)?;
        }
        // The last step of a table makes an empty table that is replaced at once.
        let (place, at) = step(here, &at, &last, typed)?;
        *place = value;
        Ok(at)
    })();
    if let Value::Table(table) = root {
        *tree = table;
    }
    outcome
}

fn step<'a>(
    here: &'a mut Value,
    at: &str,
    segment: &str,
    typed: &str,
) -> Result<(&'a mut Value, String)> {
    match here {
        Value::Table(table) => {
            let next = table.entry(segment).or_insert_with(|| Value::Table(Table::new()));
            Ok((next, path::join(at, segment)))
        }
        Value::Array(items) => {
            let names: Vec<String> = items.iter().map(item_name).collect();
            let by_name = names.iter().position(|name| name == segment);
            let by_place = segment.parse().ok().filter(|&index| index < items.len());
            let Some(index) = by_name.or(by_place) else {
                let message = format!("--set {typed}: there is no `{segment}` in {at}");
                let known: Vec<&str> = names.iter().map(String::as_str).collect();
                return Err(Kind::Usage.msg(message).hint(suggestion(segment, &known)));
            };
            Ok((&mut items[index], path::join(at, &index.to_string())))
        }
        _ => Err(Kind::Usage.msg(format!("--set {typed}: `{at}` is a value, not a table"))),
    }
}

/// What a flag may call an array item: its `name`, else its place is all it has.
fn item_name(item: &Value) -> String {
    item.get("name").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A text with its variables replaced.
#[derive(Debug, PartialEq, Eq)]
pub struct Expanded {
    pub text: String,
    /// The first variable whose value came from the environment, not from its default.
    pub variable: Option<String>,
}

/// Replaces `${VAR}` and `${VAR:-default}`; an empty variable counts as unset, as in a shell.
pub fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Expanded> {
    let mut out = Expanded { text: String::new(), variable: None };
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.text.push_str(before);
        let Some((inside, tail)) = after.split_once('}') else {
            return Err(Kind::Config.msg(format!("`data.root`: `${{` without `}}` in `{text}`")));
        };
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        match (env(name).filter(|value| !value.is_empty()), default) {
            (Some(value), _) => {
                out.text.push_str(&value);
                out.variable.get_or_insert_with(|| name.to_owned());
            }
            (None, Some(default)) => out.text.push_str(default),
            (None, None) => {
                let message = format!("`data.root`: the environment variable {name} is not set");
                let hint = format!("set it, or write ${{{name}:-folder}}");
                return Err(Kind::Config.msg(message).hint(hint));
            }
        }
        rest = tail;
    }
    out.text.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_toml_or_text() {
        for (text, wanted) in [
            ("3", "3"),
            ("1e-3", "0.001"),
            ("[1, 2]", "[1, 2]"),
            ("\"a\"", "\"a\""),
            ("gpu", "\"gpu\""),
            ("a=b", "\"a=b\""),
            ("2017-03", "\"2017-03\""),
            ("", "\"\""),
        ] {
            assert_eq!(parse_value(text).to_string(), wanted, "{text}");
        }
        assert_eq!(parse_value("1\nseed = 2"), Value::String("1\nseed = 2".into()));
    }

    #[test]
    fn variables() {
        let env = |name: &str| match name {
            "DIR" => Some("/data".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let check = |text: &str, wanted: Result<&str, &str>| match (expand(text, &env), wanted) {
            (Ok(got), Ok(wanted)) => assert_eq!(got.text, wanted),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, _) => panic!("{text}: {got:?}"),
        };
        check("plain/$x", Ok("plain/$x"));
        check("${DIR}/a", Ok("/data/a"));
        check("${DIR:-x}/${DIR}", Ok("/data//data"));
        check("${NO:-../b}/a", Ok("../b/a"));
        check("${EMPTY:-c}", Ok("c"));
        check("${NO:-}", Ok(""));
        check("${NO}", Err("NO is not set; set it, or write ${NO:-folder}"));
        check("${DIR", Err("without `}`"));
        let from_env = expand("${DIR}/a", &env).expect("expanded");
        assert_eq!(from_env.variable.as_deref(), Some("DIR"));
    }
}
