//! `churn config show` and `churn config schema`, as text.

use crate::config::{self, Resolved};

/// Columns after which an origin no longer waits for the longest line.
const ALIGN_AT_MOST: usize = 64;

/// Every value of a configuration, one a line, with where it came from:
/// `train.patience = 3   # telecom.toml:12`.
pub fn show(resolved: &Resolved) -> String {
    let lines: Vec<(String, String)> = resolved
        .leaves()
        .into_iter()
        .map(|(path, value)| {
            let origin = resolved.origins.get(&path).map(ToString::to_string);
            (format!("{path} = {value}"), origin.unwrap_or_default())
        })
        .collect();
    let width = |(setting, _): &(String, String)| setting.chars().count();
    let widest = lines.iter().map(width).filter(|&width| width <= ALIGN_AT_MOST).max();
    let widest = widest.unwrap_or(0);
    lines.iter().map(|(setting, origin)| format!("{setting:<widest$}   # {origin}\n")).collect()
}

/// The JSON Schema of a configuration, for editors and for other programs.
pub fn schema() -> String {
    let mut text = serde_json::to_string_pretty(&config::json_schema())
        .expect("a JSON value can be written as JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, load};

    #[test]
    fn show_names_every_value_and_its_origin() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a.toml");
        let text = r#"
name = "a"
label = { kind = "column", source = "customers", column = "churned" }
split = { kind = "random" }
[models]
use = ["mlp"]
[[source]]
name = "customers"
kind = "attributes"
path = "customers.csv"
columns."a b" = "number"
"#;
        std::fs::write(&path, text).expect("written");
        let sets = [("train.patience".to_owned(), "3".to_owned())];
        let env = |name: &str| (name == "CHURN_DEVICE").then(|| "cpu".to_owned());
        let resolved = load(&path, &Overrides { sets: &sets, env: &env }).expect("a configuration");
        let shown = show(&resolved);
        for line in [
            "label.column = \"churned\"             # a.toml:3
",
            "seed = 0                             # default
",
            "source.0.columns.\"a b\" = \"number\"    # a.toml:11
",
            "train.device = \"cpu\"                 # env CHURN_DEVICE
",
            "train.patience = 3                   # flag --set
",
        ] {
            assert!(shown.contains(line), "{line} is not in\n{shown}");
        }
        assert_eq!(shown.lines().count(), resolved.origins.len());
    }

    #[test]
    fn the_schema_tells_what_a_value_is_for() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).expect("JSON");
        let patience = &schema["$defs"]["TrainSpec"]["properties"]["patience"];
        assert_eq!(patience["type"], "integer");
        assert!(patience["description"].as_str().is_some_and(|text| text.contains("Epochs")));
    }
}
