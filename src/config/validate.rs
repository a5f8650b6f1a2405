//! What the types cannot say: do the values fit each other and lie in range?

mod checks;
mod data;
mod model;
#[cfg(test)]
mod tests;
mod tune;

use std::fmt::Display;
use std::ops::{Bound, RangeBounds};

use super::Config;
use crate::error::{Kind, Result};

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Dotted path of the value: `source.0.time`.
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
}

impl Fault {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None }
    }

    /// What the reader can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Checks a configuration that was made or changed by code; [`super::load`] has done it for one
/// that was read, and names the lines.
///
/// # Errors
/// `Config` with one line per fault, each beginning with the dotted path of the value.
pub fn validate(config: &Config) -> Result<()> {
    let faults = faults(config);
    if faults.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = faults
        .into_iter()
        .map(|Fault { message, hint, .. }| match hint {
            Some(hint) => format!("{message}; {hint}"),
            None => message,
        })
        .collect();
    Err(Kind::Config.msg(lines.join("\n")))
}

/// Every fault, in the order of the file's sections. Each message begins with its path.
pub fn faults(config: &Config) -> Vec<Fault> {
    let mut faults = Faults::default();
    general(config, &mut faults);
    data::sources(config, &mut faults);
    data::label(config, &mut faults);
    data::split(config, &mut faults);
    checks::checks(config, &mut faults);
    model::features(&config.features, &mut faults);
    model::models(config, &mut faults);
    model::train(&config.train, &mut faults);
    model::eval(&config.eval, &mut faults);
    tune::tune(&config.tune, &mut faults);
    faults.0
}

fn general(config: &Config, faults: &mut Faults) {
    // The name becomes part of a folder's name.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if config.name.is_empty() || !config.name.chars().all(plain) {
        faults.add("name", "letters, digits, `_` and `-` only, since it names folders");
    }
    // TOML has no larger integers, so that the resolved configuration could not be written.
    faults.within("seed", config.seed, ..=i64::MAX as u64);
    if config.data.key.is_empty() {
        faults.add("data.key", "must name the column of the customer key");
    }
    faults.within("data.columns_max", config.data.columns_max, 1..);
    faults.within("data.cell_bytes_max", config.data.cell_bytes_max, 1..);
    if let (Some(first), Some(last)) = (config.panel.first, config.panel.last)
        && first > last
    {
        faults.add("panel.first", format!("{first} is after the last month, {last}"));
    }
}

/// The faults found so far.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, path: impl Into<String>, message: impl Display) -> &mut Fault {
        let path = path.into();
        let message = format!("`{path}`: {message}");
        self.0.push(Fault::new(path, message));
        self.0.last_mut().expect("one was just put there")
    }

    /// A number that is no number lies in no range.
    fn within<T: PartialOrd + Display>(
        &mut self,
        path: &str,
        value: T,
        range: impl RangeBounds<T>,
    ) {
        if !range.contains(&value) {
            let message = format!("must lie in {}, is {value}", interval(&range));
            self.add(path, message);
        }
    }
}

/// `(0, 1]`, as mathematicians write it.
fn interval<T: Display>(range: &impl RangeBounds<T>) -> String {
    let low = match range.start_bound() {
        Bound::Included(low) => format!("[{low}"),
        Bound::Excluded(low) => format!("({low}"),
        Bound::Unbounded => "(..".into(),
    };
    let high = match range.end_bound() {
        Bound::Included(high) => format!("{high}]"),
        Bound::Excluded(high) => format!("{high})"),
        Bound::Unbounded => "..)".into(),
    };
    format!("{low}, {high}")
}
