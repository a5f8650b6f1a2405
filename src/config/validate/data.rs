//! Sources, label and split.

use std::collections::{BTreeMap, BTreeSet};

use super::model::MONTHS_MAX;
use super::{Fault, Faults};
use crate::config::resolve::path;
use crate::config::{
    Absent, Aggregation, ColumnType, Config, EventMeasure, LabelSpec, SourceKind, SourceSpec,
    SplitSpec,
};

pub fn sources(config: &Config, faults: &mut Faults) {
    if config.sources.is_empty() {
        faults.add("source", "at least one table is needed");
    }
    let mut names = BTreeSet::new();
    let mut measures: BTreeMap<&str, &str> = BTreeMap::new();
    for (index, source) in config.sources.iter().enumerate() {
        let at = format!("source.{index}");
        // Names stand in paths and in feature names, which are split at the dot.
        if source.name.is_empty() || source.name.contains(['.', '/', '"']) {
            faults.add(format!("{at}.name"), "must be a name without dots, slashes and quotes");
        }
        if !names.insert(&source.name) {
            let message = format!("there are two sources named `{}`", source.name);
            faults.add(format!("{at}.name"), message);
        }
        if source.path.iter().next().is_none() || source.path.iter().any(str::is_empty) {
            faults.add(format!("{at}.path"), "must name a file");
        }
        fitting_fields(source, &at, faults);
        feature_columns(config, source, &at, faults);
        for (measure, place) in measure_places(source, &at) {
            if let Some(other) = measures.insert(measure, &source.name) {
                let message = format!("the source `{other}` has a measure of that name already");
                faults.add(place, message);
            }
        }
    }
}

/// Fields that the kind of a source needs, or cannot use.
fn fitting_fields(source: &SourceSpec, at: &str, faults: &mut Faults) {
    let kind = kind_name(source.kind);
    let dated = source.kind != SourceKind::Attributes;
    if dated && source.time.is_none() {
        let message = format!("a source of {kind} needs the column that dates its rows");
        faults.add(format!("{at}.time"), message);
    }
    if !dated && source.time.is_some() {
        faults.add(format!("{at}.time"), "a source of attributes has no time").hint =
            Some("use `valid_from` where a customer has several rows over time".into());
    }
    if !dated && source.absent == Absent::Missing {
        faults.add(format!("{at}.absent"), "is for monthly sources, not for attributes");
    }
    if dated && source.valid_from.is_some() {
        let message = format!("is for attributes only, this is a source of {kind}");
        faults.add(format!("{at}.valid_from"), message);
    }
    if source.kind != SourceKind::Events && !source.measures.is_empty() {
        let message = format!("is for events only, this is a source of {kind}");
        faults.add(format!("{at}.measures"), message);
    }
    match source.kind {
        SourceKind::Events if source.measures.is_empty() => {
            faults.add(format!("{at}.measures"), "a source of events needs a measure").hint =
                Some(format!(
                    "for example [source.measures] {}_count = {{ agg = \"count\" }}",
                    source.name
                ));
        }
        SourceKind::Activity if source.columns.is_empty() => {
            faults.add(format!("{at}.columns"), "a source of activity needs a column");
        }
        _ => {}
    }
    for (name, measure) in &source.measures {
        let at = path::join(&format!("{at}.measures"), name);
        event_measure(source, measure, &at, faults);
    }
}

fn event_measure(source: &SourceSpec, measure: &EventMeasure, at: &str, faults: &mut Faults) {
    let Some(column) = &measure.column else {
        if measure.agg != Aggregation::Count {
            faults.add(format!("{at}.column"), "every aggregation but `count` needs a column");
        }
        return;
    };
    let numeric = !matches!(measure.agg, Aggregation::Count | Aggregation::Distinct);
    match source.columns.get(column) {
        None => no_column(source, column, &format!("{at}.column"), faults),
        Some(spec) if numeric && spec.kind() != ColumnType::Number => {
            let message = format!("`{column}` is no number, and only numbers can be so aggregated");
            faults.add(format!("{at}.column"), message).hint =
                Some("use `count` or `distinct`".into());
        }
        Some(_) => {}
    }
}

/// Columns that must not be features: the key, and the label.
fn feature_columns(config: &Config, source: &SourceSpec, at: &str, faults: &mut Faults) {
    let key = key_of(config, source);
    if source.columns.contains_key(key) {
        let place = path::join(&format!("{at}.columns"), key);
        faults.add(place, "the customer key cannot be a feature");
    }
    if let Some(label) = label_column(config, source)
        && source.columns.contains_key(label)
    {
        let place = path::join(&format!("{at}.columns"), label);
        faults
            .add(place, "is the label; as a feature it would leak what is to be predicted")
            .hint = Some("take it out of `columns`; the label is read without".into());
    }
}

pub fn label(config: &Config, faults: &mut Faults) {
    match &config.label {
        LabelSpec::Column { source, column } => label_place(config, source, column, faults),
        LabelSpec::Snapshots { path, as_of, column } => {
            if path.is_empty() {
                faults.add("label.path", "must name a file");
            }
            if as_of == column || column.is_empty() || as_of.is_empty() {
                faults.add("label.column", "must be named, and not be the `as_of` column");
            }
        }
        LabelSpec::Event { source, column, gap, horizon } => {
            label_place(config, source, column, faults);
            faults.within("label.gap", *gap, ..=MONTHS_MAX);
            faults.within("label.horizon", *horizon, 1..=MONTHS_MAX);
        }
        LabelSpec::Inactivity { measure, months, below, trailing, gap } => {
            inactivity_measure(config, measure, faults);
            faults.within("label.months", *months, 1..=MONTHS_MAX);
            faults.within("label.below", *below, 0.0..1.0);
            faults.within("label.trailing", *trailing, 1..=MONTHS_MAX);
            faults.within("label.gap", *gap, ..=MONTHS_MAX);
        }
    }
}

/// A label per customer stands in a source with one row per customer.
fn label_place(config: &Config, name: &str, column: &str, faults: &mut Faults) {
    match config.sources.iter().find(|source| source.name == name) {
        None => no_source(config, name, "label.source", faults),
        Some(source) if source.kind != SourceKind::Attributes => {
            let message = format!("`{name}` is a source of {}", kind_name(source.kind));
            faults.add("label.source", message).hint =
                Some("a label per customer stands in a source of attributes".into());
        }
        Some(_) if column.is_empty() => {
            faults.add("label.column", "must name a column");
        }
        Some(_) => {}
    }
}

fn inactivity_measure(config: &Config, measure: &str, faults: &mut Faults) {
    let all = || config.sources.iter().flat_map(|source| measure_places(source, ""));
    if !all().any(|(name, _)| name == measure) {
        let known: Vec<&str> = all().map(|(name, _)| name).collect();
        let message = format!("there is no measure `{measure}`");
        suggest(faults.add("label.measure", message), measure, &known);
    }
    let activity = config.sources.iter().filter(|source| source.kind == SourceKind::Activity);
    let mut columns = activity.filter_map(|source| source.columns.get(measure));
    if columns.any(|spec| spec.kind() != ColumnType::Number) {
        faults.add("label.measure", format!("`{measure}` is no number"));
    }
}

pub fn split(config: &Config, faults: &mut Faults) {
    let label = &config.label;
    match &config.split {
        SplitSpec::Time { validation_months, test_months } => {
            over_time("time", label, faults);
            faults.within("split.validation_months", *validation_months, 1..=MONTHS_MAX);
            faults.within("split.test_months", *test_months, 1..=MONTHS_MAX);
        }
        SplitSpec::Rolling {
            origins,
            validation_months,
            test_months,
            step_months,
            train_months,
            embargo_months,
        } => {
            over_time("rolling", label, faults);
            // One origin is a split by time.
            faults.within("split.origins", *origins, 2..=100);
            faults.within("split.validation_months", *validation_months, 1..=MONTHS_MAX);
            faults.within("split.test_months", *test_months, 1..=MONTHS_MAX);
            let optional = [("step_months", step_months), ("train_months", train_months)];
            for (name, months) in optional {
                let months = months.unwrap_or(1);
                faults.within(&format!("split.{name}"), months, 1..=MONTHS_MAX);
            }
            faults.within("split.embargo_months", *embargo_months, ..=MONTHS_MAX);
        }
        SplitSpec::Snapshots { column } => {
            if !matches!(label, LabelSpec::Snapshots { .. }) {
                faults.add("split.kind", "`snapshots` needs a label of kind snapshots");
            }
            if column.is_empty() {
                faults.add("split.column", "must name a column");
            }
        }
        SplitSpec::Folds { path } if path.is_empty() => {
            faults.add("split.path", "must name a file");
        }
        SplitSpec::Folds { .. } => {}
        // One fold tests, one validates, at least one trains.
        SplitSpec::Random { folds } => faults.within("split.folds", *folds, 3..=100),
    }
}

fn over_time(kind: &str, label: &LabelSpec, faults: &mut Faults) {
    if matches!(label, LabelSpec::Column { .. }) {
        let message = format!("`{kind}` needs labels over time, but there is one per customer");
        faults.add("split.kind", message).hint =
            Some("split by `folds` or `random`, or use another kind of label".into());
    }
}

/// Monthly measures of a source with the path of each.
fn measure_places<'a>(source: &'a SourceSpec, at: &str) -> Vec<(&'a str, String)> {
    let (names, field): (Vec<&String>, _) = match source.kind {
        SourceKind::Attributes => return Vec::new(),
        SourceKind::Activity => (source.columns.keys().collect(), "columns"),
        SourceKind::Events => (source.measures.keys().collect(), "measures"),
    };
    let at = path::join(at, field);
    names.into_iter().map(|name| (name.as_str(), path::join(&at, name))).collect()
}

pub fn key_of<'a>(config: &'a Config, source: &'a SourceSpec) -> &'a str {
    source.key.as_deref().unwrap_or(&config.data.key)
}

pub fn label_column<'a>(config: &'a Config, of: &SourceSpec) -> Option<&'a str> {
    match &config.label {
        LabelSpec::Column { source, column } | LabelSpec::Event { source, column, .. } => {
            (*source == of.name).then_some(column)
        }
        _ => None,
    }
}

fn kind_name(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Attributes => "attributes",
        SourceKind::Activity => "activity",
        SourceKind::Events => "events",
    }
}

pub fn no_source(config: &Config, name: &str, at: &str, faults: &mut Faults) {
    let known: Vec<&str> = config.sources.iter().map(|source| source.name.as_str()).collect();
    suggest(faults.add(at, format!("there is no source `{name}`")), name, &known);
}

pub fn no_column(source: &SourceSpec, column: &str, at: &str, faults: &mut Faults) {
    let known: Vec<&str> = source.columns.keys().map(String::as_str).collect();
    let message = format!("`{column}` is not among the columns of `{}`", source.name);
    suggest(faults.add(at, message), column, &known);
}

fn suggest(fault: &mut Fault, word: &str, known: &[&str]) {
    if !known.is_empty() {
        fault.hint = Some(crate::config::resolve::shape::suggestion(word, known));
    }
}
