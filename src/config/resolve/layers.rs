//! The layers of a configuration put over each other, and the places of its faults.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::document::{self, Document};
use super::{Origin, Overrides, layer, note_leaves, path, shape};
use crate::clock::Month;
use crate::config::validate::Fault;
use crate::config::{Config, json_schema};
use crate::error::{Error, Kind, Result};

/// The environment variable that stands for `train.device`.
const DEVICE_VARIABLE: &str = "CHURN_DEVICE";

/// The tree as it grows, and where each of its values came from.
pub struct Layers<'a> {
    path: &'a Path,
    document: Document,
    schema: serde_json::Value,
    /// Origins of what was said over the file.
    over: BTreeMap<String, Origin>,
}

impl<'a> Layers<'a> {
    pub fn of_file(text: &str, path: &'a Path) -> Result<Self> {
        let document = document::parse(text, path)?;
        Ok(Self { path, document, schema: json_schema(), over: BTreeMap::new() })
    }

    pub fn apply_env(&mut self, overrides: &Overrides) -> Result<()> {
        if let Some(device) = (overrides.env)(DEVICE_VARIABLE).filter(|value| !value.is_empty()) {
            let origin = Origin::Env(DEVICE_VARIABLE.to_owned());
            self.put("train.device", Value::String(device), origin)?;
        }
        Ok(())
    }

    /// A text that reads as another TOML type stays text where only text fits: `name=5`.
    pub fn apply_set(&mut self, typed: &str, text: &str) -> Result<()> {
        let at = self.put(typed, layer::parse_value(text), Origin::Flag)?;
        if self.is_faulty(&at) {
            let parsed = layer::parse_value(text);
            self.put(&at, Value::String(text.to_owned()), Origin::Flag)?;
            if self.is_faulty(&at) {
                self.put(&at, parsed, Origin::Flag)?;
            }
        }
        Ok(())
    }

    fn is_faulty(&self, at: &str) -> bool {
        let faults = shape::faults(&self.document.tree, &self.schema);
        faults.iter().any(|fault| path::is_within(&fault.path, at))
    }

    fn put(&mut self, typed: &str, value: Value, origin: Origin) -> Result<String> {
        let mut said = BTreeMap::new();
        let at = layer::set(&mut self.document.tree, typed, value.clone())?;
        note_leaves(&value, &at, &mut said);
        self.document.lines.retain(|old, _| !path::is_within(old, &at));
        self.over.retain(|old, _| !path::is_within(old, &at));
        self.over.insert(at.clone(), origin.clone());
        self.over.extend(said.into_keys().map(|leaf| (leaf, origin.clone())));
        Ok(at)
    }

    pub fn expand_root(&mut self, overrides: &Overrides) -> Result<()> {
        let root = self.document.tree.get_mut("data").and_then(|data| data.get_mut("root"));
        let Some(Value::String(root)) = root else { return Ok(()) };
        let expanded = layer::expand(root, overrides.env);
        let expanded = expanded.map_err(|error| {
            let Error { message, hint, .. } = error;
            self.place(Fault { path: "data.root".into(), message, hint })
        })?;
        let root = self.document.tree.get_mut("data").and_then(|data| data.get_mut("root"));
        if let Some(root) = root {
            *root = Value::String(expanded.text);
        }
        if let Some(variable) = expanded.variable {
            // A flag stays the origin: it decides what the root is relative to.
            self.over.entry("data.root".into()).or_insert(Origin::Env(variable));
        }
        Ok(())
    }

    /// The tree as a configuration. Once it has the schema's shape and its months are months, serde
    /// has nothing left to refuse.
    pub fn config(&self) -> Result<Config> {
        self.refuse(shape::faults(&self.document.tree, &self.schema))?;
        self.refuse(no_months(&self.document.tree))?;
        Config::deserialize(Value::Table(self.document.tree.clone()))
            .map_err(|error| Kind::Config.at(self.path).msg(error.message()))
    }

    pub fn origin(&self, at: &str) -> Origin {
        match (self.over.get(at), self.document.lines.get(at)) {
            (Some(origin), _) => origin.clone(),
            (None, Some(&line)) => Origin::File { file: self.file(), line: Some(line) },
            (None, None) => Origin::Default,
        }
    }

    /// The origin of `at`, or of the nearest table around it that someone wrote.
    fn nearest_origin(&self, at: &str) -> Origin {
        let mut at = at;
        while !at.is_empty() {
            match self.origin(at) {
                Origin::Default => at = path::parent(at),
                origin => return origin,
            }
        }
        Origin::Default
    }

    fn file(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// One error that tells all faults; none is no error.
    pub fn refuse(&self, faults: Vec<Fault>) -> Result<()> {
        let mut errors: Vec<Error> = faults.into_iter().map(|fault| self.place(fault)).collect();
        errors.sort_by_key(|error| error.line);
        let mut errors = errors.into_iter();
        let Some(mut first) = errors.next() else { return Ok(()) };
        let rest: Vec<String> = errors.map(|error| error.to_string()).collect();
        if !rest.is_empty() {
            let hint = first.hint.take().map(|hint| format!("; {hint}")).unwrap_or_default();
            first.message = format!("{}{hint}\n{}", first.message, rest.join("\n"));
        }
        Err(first)
    }

    /// A fault with the place where it can be mended.
    fn place(&self, fault: Fault) -> Error {
        let Fault { path: at, message, hint } = fault;
        let error = match self.nearest_origin(&at) {
            Origin::Flag => Kind::Usage.msg(format!("--set {at}: {message}")),
            Origin::Env(variable) => Kind::Config.msg(format!("env {variable}: {message}")),
            Origin::File { line: Some(line), .. } => {
                Kind::Config.at(self.path).line(line).msg(message)
            }
            Origin::File { line: None, .. } | Origin::Default => {
                Kind::Config.at(self.path).msg(message)
            }
        };
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// The one type of the configuration that the schema only knows as text.
fn no_months(tree: &Table) -> Vec<Fault> {
    let month = |key: &str| {
        let text = tree.get("panel")?.get(key)?.as_str()?;
        let Error { message, hint, .. } = text.parse::<Month>().err()?;
        let path = path::join("panel", key);
        Some(Fault { message: format!("`{path}`: {message}"), path, hint })
    };
    ["first", "last"].into_iter().filter_map(month).collect()
}
