//! The data half of the configuration: sources, panel, label, split, quality rules.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Month;

/// Where the files lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSpec {
    /// Folder that source paths are relative to. A relative root is relative to the config file's
    /// folder. `${VAR:-default}` is replaced from the environment.
    pub root: PathBuf,
    /// The customer key: the column that all tables share.
    pub key: String,
    /// A table with more columns than this is refused.
    pub columns_max: usize,
    /// A text cell longer than this many bytes is refused.
    pub cell_bytes_max: usize,
}

impl Default for DataSpec {
    fn default() -> Self {
        Self {
            root: ".".into(),
            key: "customer_id".into(),
            columns_max: 4096,
            cell_bytes_max: 65_536,
        }
    }
}

/// One table, or one set of files of the same shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    pub name: String,
    pub kind: SourceKind,
    /// A file, a glob, a hive-partitioned folder, or a list of these.
    pub path: Paths,
    /// Guessed from the file's extension if left out.
    pub format: Option<Format>,
    /// Column of the customer key, if it is not `data.key`.
    pub key: Option<String>,
    /// Column that dates a row: the month of an activity row, the time of an event.
    pub time: Option<String>,
    /// Column with the date on which the row reached us. An event counts in the month in which it
    /// was known; an activity row known only after its month is left out of the panel.
    pub known_at: Option<String>,
    /// Attributes only: column with the date from which the row is true. A customer may then have
    /// several rows; each as-of month sees the last one that was valid by its end.
    pub valid_from: Option<String>,
    /// Months without a row: all measures zero, or missing.
    #[serde(default)]
    pub absent: Absent,
    /// What to do with a cell that cannot be read as its type.
    #[serde(default)]
    pub on_bad: OnBad,
    /// The columns to use and their types. Columns that are not named are not read.
    #[serde(default)]
    pub columns: BTreeMap<String, ColumnSpec>,
    /// Events only: the monthly measures made from them.
    #[serde(default)]
    pub measures: BTreeMap<String, EventMeasure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// One row per customer (or several with `valid_from`).
    Attributes,
    /// One row per customer and month.
    Activity,
    /// Dated rows, aggregated to months.
    Events,
}

/// One path or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Paths {
    One(String),
    Many(Vec<String>),
}

impl Paths {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Paths::One(one) => std::slice::from_ref(one).iter(),
            Paths::Many(many) => many.iter(),
        }
        .map(String::as_str)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Csv,
    Parquet,
    Ndjson,
    /// Arrow IPC file.
    Arrow,
    /// Scratch file of a training by partitions; cannot be declared.
    #[serde(skip)]
    Rows,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Absent {
    #[default]
    Zero,
    Missing,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnBad {
    /// Stop with file, line, column and value.
    #[default]
    Error,
    /// Count it and treat the cell as missing.
    Null,
}

/// A type name, or a table with more to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ColumnSpec {
    Type(ColumnType),
    Full(ColumnFull),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnFull {
    #[serde(rename = "type")]
    pub kind: ColumnType,
    pub on_bad: Option<OnBad>,
}

impl ColumnSpec {
    pub fn kind(self) -> ColumnType {
        match self {
            ColumnSpec::Type(kind) => kind,
            ColumnSpec::Full(full) => full.kind,
        }
    }

    pub fn on_bad(self, source: OnBad) -> OnBad {
        match self {
            ColumnSpec::Type(_) => source,
            ColumnSpec::Full(full) => full.on_bad.unwrap_or(source),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// Integer or real; booleans read as 0 and 1.
    Number,
    /// A label out of a set; compared as text.
    Category,
    /// A calendar day; the model sees whole months between it and the as-of month.
    Date,
}

impl ColumnType {
    /// What a cell of this type is, for messages.
    pub fn expected(self) -> &'static str {
        match self {
            ColumnType::Number => "a finite number",
            ColumnType::Date => "a date such as 2024-03-31",
            ColumnType::Category => "text",
        }
    }
}

/// One monthly measure made from events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventMeasure {
    pub agg: Aggregation,
    /// The column to aggregate; not needed for `count`.
    pub column: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Aggregation {
    Count,
    Sum,
    Mean,
    Max,
    /// Number of distinct values.
    Distinct,
    /// Value of the latest event; at equal times the larger value.
    Last,
}

/// The calendar.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PanelSpec {
    /// First month; the first month with data if left out.
    #[schemars(with = "Option<String>")]
    pub first: Option<Month>,
    /// Last month; the last month with data if left out.
    #[schemars(with = "Option<String>")]
    pub last: Option<Month>,
    pub start: PanelStart,
}

/// When a customer's history begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PanelStart {
    /// At the first month in which any source has a row of the customer.
    #[default]
    FirstRow,
    /// At the panel's first month, for every customer.
    Calendar,
}

/// What churn means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LabelSpec {
    /// One label per customer, 0 or 1, at the panel's last month.
    Column { source: String, column: String },
    /// A table of (customer, as-of month, label) and, if it has one, split.
    Snapshots {
        path: String,
        #[serde(default = "names::as_of")]
        as_of: String,
        #[serde(default = "names::churned")]
        column: String,
    },
    /// A churn date per customer, empty for those who stayed: churn within `horizon` months that
    /// start `gap` months after the as-of month.
    Event {
        source: String,
        column: String,
        #[serde(default)]
        gap: u32,
        #[serde(default = "names::one")]
        horizon: u32,
    },
    /// Churn in a month = from it on, for `months` months, the mean of `measure` is zero (`below = 0`)
    /// or under `below` times its mean over the `trailing` months up to the as-of month; among
    /// customers active in one of those trailing months.
    Inactivity {
        measure: String,
        months: u32,
        #[serde(default)]
        below: f64,
        #[serde(default = "names::three")]
        trailing: u32,
        #[serde(default)]
        gap: u32,
    },
}

impl LabelSpec {
    /// The column of a source that tells who left, and its type; None if another one or none does.
    pub fn column_of(&self, name: &str) -> Option<(&str, ColumnType)> {
        let (source, column, kind) = match self {
            LabelSpec::Event { source, column, .. } => (source, column, ColumnType::Date),
            LabelSpec::Column { source, column } => (source, column, ColumnType::Category),
            LabelSpec::Snapshots { .. } | LabelSpec::Inactivity { .. } => return None,
        };
        (source == name).then_some((column.as_str(), kind))
    }

    /// What it is to leave.
    pub fn in_words(&self) -> String {
        let window = match (self.gap() + 1, self.gap() + self.window()) {
            (1, 1) => "the month".to_owned(),
            (first, last) if first == last => format!("month {first}"),
            (first, last) => format!("months {first} to {last}"),
        };
        match self {
            LabelSpec::Column { source, column } => format!("{column} of {source} is 1"),
            LabelSpec::Snapshots { path, column, .. } => format!("{column} of {path} is 1"),
            LabelSpec::Event { source, column, .. } => {
                format!("{column} of {source} lies in {window} after the as-of month")
            }
            LabelSpec::Inactivity { measure, below, trailing, .. } => {
                let little = match *below > 0.0 {
                    true => format!("below {below} of its mean over the {trailing} months before"),
                    false => "zero".into(),
                };
                format!("{measure} is {little} in {window} after the as-of month")
            }
        }
    }

    /// Months between the as-of month and the first month of the label's window.
    pub fn gap(&self) -> u32 {
        match self {
            LabelSpec::Event { gap, .. } | LabelSpec::Inactivity { gap, .. } => *gap,
            LabelSpec::Column { .. } | LabelSpec::Snapshots { .. } => 0,
        }
    }

    /// Months that the label looks at.
    pub fn window(&self) -> u32 {
        match self {
            LabelSpec::Event { horizon, .. } => *horizon,
            LabelSpec::Inactivity { months, .. } => *months,
            LabelSpec::Column { .. } | LabelSpec::Snapshots { .. } => 0,
        }
    }

    /// Length of the last axis of the label tensor.
    pub fn horizon(&self) -> u32 {
        match self {
            LabelSpec::Event { horizon, .. } => *horizon,
            _ => 1,
        }
    }
}

mod names {
    pub fn as_of() -> String {
        "as_of".into()
    }
    pub fn churned() -> String {
        "churned".into()
    }
    pub fn split() -> String {
        "split".into()
    }
    pub fn one() -> u32 {
        1
    }
    pub fn three() -> u32 {
        3
    }
    pub fn five() -> u32 {
        5
    }
}

/// How snapshots are divided into train, validation and test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SplitSpec {
    /// Out of time: the last `test_months` as-of months with a label test, those before validate.
    /// Each part's label windows end by the first as-of month of the next part.
    Time {
        #[serde(default = "names::three")]
        validation_months: u32,
        #[serde(default = "names::three")]
        test_months: u32,
    },
    /// Out of time several times (rolling origin): fold k divides like `time`, the last fold at the
    /// end of the data, each fold before it `step_months` earlier.
    Rolling {
        /// Folds.
        #[serde(default = "names::three")]
        origins: u32,
        #[serde(default = "names::one")]
        validation_months: u32,
        #[serde(default = "names::one")]
        test_months: u32,
        /// From one fold's test months to the next one's; `test_months` if left out, so that no
        /// month is tested twice.
        step_months: Option<u32>,
        /// As-of months of the train part, the last ones before validation; all if left out.
        train_months: Option<u32>,
        /// As-of months left out between two parts beyond those whose label windows overlap.
        #[serde(default)]
        embargo_months: u32,
    },
    /// The `split` column of the snapshot table: train, validation (or valid), test.
    Snapshots {
        #[serde(default = "names::split")]
        column: String,
    },
    /// A table of customers with columns `split_0`, `split_1` ... of train, valid, test.
    Folds { path: String },
    /// Customers at random, stratified by whether they ever churn; fold k tests, fold k + 1 validates.
    Random {
        #[serde(default = "names::five")]
        folds: u32,
    },
}

/// A data quality rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    pub source: String,
    pub rule: CheckRule,
    /// Column that the rule looks at; not needed for `duplicate_month` and `gap_months`.
    pub column: Option<String>,
    #[serde(default)]
    pub severity: Severity,
    /// Share of rows that must keep the rule.
    #[serde(default = "Check::all")]
    pub mostly: f64,
    /// `accepted_values`: the set.
    #[serde(default)]
    pub values: Vec<String>,
    /// `between`: inclusive bounds.
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// `relationships`: the source whose customers must hold this one's.
    pub to: Option<String>,
}

impl Check {
    fn all() -> f64 {
        1.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckRule {
    NotNull,
    Unique,
    AcceptedValues,
    Between,
    /// Every customer of the source is a customer of the source `to`.
    Relationships,
    /// No two activity rows of one customer and month.
    DuplicateMonth,
    /// No month missing between a customer's first and last row.
    GapMonths,
    /// At least two different values.
    NotConstant,
    /// No date after the panel's last month.
    FutureDates,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    #[default]
    Error,
    Warn,
}
