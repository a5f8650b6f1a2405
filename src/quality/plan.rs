//! Which rules a source has, and which columns they read.

use std::collections::BTreeSet;

use crate::config::{
    Check, CheckRule, ColumnType, Config, LabelSpec, OnBad, Severity, SourceKind, SourceSpec,
};
use crate::source::Wanted;

/// The declared rules of a source after the one that its kind cannot do without.
pub(super) fn rules(config: &Config, source: &SourceSpec, key: &str) -> Vec<Check> {
    let declared = || config.checks.iter().filter(|check| check.source == source.name);
    let implied = match source.kind {
        SourceKind::Activity => Some((CheckRule::DuplicateMonth, None)),
        SourceKind::Attributes if source.valid_from.is_none() => {
            Some((CheckRule::Unique, Some(key)))
        }
        SourceKind::Attributes | SourceKind::Events => None,
    };
    let implied = implied.filter(|(rule, column)| {
        !declared().any(|c| c.rule == *rule && (column.is_none() || c.column.as_deref() == *column))
    });
    let implied = implied.map(|(rule, column)| Check {
        source: source.name.clone(),
        rule,
        column: column.map(str::to_owned),
        severity: Severity::Error,
        mostly: 1.0,
        values: Vec::new(),
        min: None,
        max: None,
        to: None,
    });
    implied.into_iter().chain(declared().cloned()).collect()
}

/// The column that a rule looks at. Rules about months look at the time column, whatever they name.
pub(super) fn column<'r>(source: &'r SourceSpec, rule: &'r Check) -> Option<&'r str> {
    match rule.rule {
        CheckRule::DuplicateMonth | CheckRule::GapMonths => source.time.as_deref(),
        CheckRule::Relationships => None,
        _ => rule.column.as_deref(),
    }
}

/// True of rules that cannot look at a key as the text that it is.
pub(super) fn reads_typed(rule: CheckRule) -> bool {
    use CheckRule::{Between, DuplicateMonth, FutureDates, GapMonths};
    matches!(rule, Between | FutureDates | DuplicateMonth | GapMonths)
}

/// True of rules that an unreadable cell breaks. `not_null` is no such rule: it sees the cell
/// as missing and counts it by itself.
pub(super) fn judges_unreadable(rule: CheckRule) -> bool {
    use CheckRule::{AcceptedValues, Between, FutureDates};
    matches!(rule, AcceptedValues | Between | FutureDates)
}

/// The date columns, the declared columns and the label's date, in which every cell must be readable.
pub(super) fn strict_columns<'c>(source: &'c SourceSpec, label: &'c LabelSpec) -> Vec<&'c str> {
    let dates = date_columns(source).filter(|_| source.on_bad == OnBad::Error);
    let declared = source.columns.iter().filter(|(name, spec)| {
        spec.on_bad(source.on_bad) == OnBad::Error
            && !date_columns(source).any(|date| date == **name)
    });
    let strict = dates.chain(declared.map(|(name, _)| name.as_str()));
    let churned =
        label_date(source, label).filter(|name| !date_columns(source).any(|d| d == *name));
    strict.chain(churned).collect()
}

/// Every column to read. None stops at an unreadable cell: all of them are counted.
pub(super) fn wanted(
    source: &SourceSpec,
    label: &LabelSpec,
    (key, rules): (&str, &[Check]),
) -> Vec<Wanted> {
    let ruled = rules.iter().filter_map(|rule| {
        let name = column(source, rule)?;
        (name != key || reads_typed(rule.rule)).then_some(name)
    });
    let declared = source.columns.keys().map(String::as_str);
    let churned = label.column_of(&source.name).map(|(name, _)| name);
    let names: BTreeSet<&str> =
        date_columns(source).chain(declared).chain(ruled).chain(churned).collect();
    let churn_date = label_date(source, label);
    let wanted = |name: &str| Wanted {
        name: name.into(),
        kind: if churn_date == Some(name) { ColumnType::Date } else { kind(source, name, rules) },
        on_bad: OnBad::Null,
    };
    names.into_iter().map(wanted).collect()
}

/// The declared type of a column, else the type that its rules need.
fn kind(source: &SourceSpec, name: &str, rules: &[Check]) -> ColumnType {
    let has = |rule| rules.iter().any(|r| r.rule == rule && r.column.as_deref() == Some(name));
    if date_columns(source).any(|date| date == name) {
        return ColumnType::Date;
    }
    match source.columns.get(name) {
        Some(spec) => spec.kind(),
        None if has(CheckRule::FutureDates) => ColumnType::Date,
        None if has(CheckRule::Between) => ColumnType::Number,
        None => ColumnType::Category,
    }
}

fn label_date<'c>(source: &SourceSpec, label: &'c LabelSpec) -> Option<&'c str> {
    let column = label.column_of(&source.name);
    column.filter(|(_, kind)| *kind == ColumnType::Date).map(|(name, _)| name)
}

fn date_columns(source: &SourceSpec) -> impl Iterator<Item = &str> {
    [&source.time, &source.known_at, &source.valid_from].into_iter().flatten().map(String::as_str)
}

/// The rule's name in the configuration.
pub(super) fn rule_name(rule: CheckRule) -> &'static str {
    match rule {
        CheckRule::NotNull => "not_null",
        CheckRule::Unique => "unique",
        CheckRule::AcceptedValues => "accepted_values",
        CheckRule::Between => "between",
        CheckRule::Relationships => "relationships",
        CheckRule::DuplicateMonth => "duplicate_month",
        CheckRule::GapMonths => "gap_months",
        CheckRule::NotConstant => "not_constant",
        CheckRule::FutureDates => "future_dates",
    }
}
