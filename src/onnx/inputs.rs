//! What the model is given: raw columns by name, or one matrix of them.
//!
//! Which columns there are follows from the sources that the bundle was made from, laid out by the
//! very code that training uses: an empty customer is read, and its panel says where each column
//! ends up.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::Serialize;

use super::graph::{Axis, Graph, Value};
use super::proto::ElementType::{F32, I64, Text};
use super::state::{STATE_IN, STATE_OUT, State};
use super::{Attr, Call, ML, Signature, Style};
use crate::bundle::Model;
use crate::error::{Kind, Result};
use crate::features::derive::{Layout, column};
use crate::features::fit::UNKNOWN_CODE;
use crate::features::{FittedCategory, FittedFeatures};
use crate::panel::{AttributeCells, Panel, RawCustomer};

/// How many months of history a customer has, the as-of month included.
pub const HISTORY: &str = "history_months";

/// The as-of month as a number like 202406.
pub const AS_OF: &str = "as_of";

/// The only input of [`Signature::Matrix`].
pub const MATRIX: &str = "features";

/// Names of outputs and of inputs that are no columns.
const RESERVED: [&str; 7] =
    [HISTORY, AS_OF, MATRIX, "risk", "risk_curve", "customer_id", "bundle_id"];

/// Others in the step form.
const RESERVED_STEP: [&str; 2] = [STATE_IN, STATE_OUT];

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// NaN is missing.
    Number,
    /// Days since 1970-01-01; NaN is missing.
    Date,
    /// Text as it stands in a CSV file; the empty text is missing.
    Category,
}

/// A raw column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Of the input.
    pub name: String,
    /// Of the source, for attributes.
    pub source: Option<String>,
    /// In its source.
    pub raw: String,
    pub holds: Holds,
    /// `[N, T]`, a value for each month; otherwise `[N, 1]`.
    pub monthly: bool,
    /// Of a category: those that have a code.
    pub values: Vec<String>,
}

/// All raw columns, by what becomes of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Columns {
    pub static_numbers: Vec<Column>,
    pub static_categories: Vec<Column>,
    pub measures: Vec<Column>,
    /// Dates, and numbers that change with the versions of an attributes table.
    pub dated_numbers: Vec<Column>,
    pub dated_categories: Vec<Column>,
    /// Whether there are months at all.
    pub dated: bool,
    pub calendar: bool,
}

impl Columns {
    /// # Errors
    /// [`Kind::Corrupt`] if the features do not fit the sources; [`Kind::Usage`] for attributes
    /// with versions where nothing else has months.
    pub fn new(model: &Model, fitted: &FittedFeatures, signature: Signature) -> Result<Self> {
        let sources = &model.intake.sources;
        let dated = sources.iter().any(|source| source.time.is_some());
        let panel =
            Panel::from_raw(&[RawCustomer::nobody(dated, &fitted.measures)], &model.intake)?;
        let layout = fitted.check(&panel)?;
        let Layout { static_numbers, static_categories, .. } = &layout;
        if !dated && panel.attributes.iter().any(|table| table.versioned) {
            return Err(Kind::Usage
                .msg("attributes with `valid_from` cannot be given as columns without months")
                .hint("leave out `valid_from`, or add a dated source"));
        }
        let mut names = Names::new(&panel, signature);
        let mut of = |places: &[(usize, usize)]| -> Vec<Column> {
            places.iter().map(|&at| names.attribute(&panel, at)).collect()
        };
        let columns = Columns {
            static_numbers: of(static_numbers),
            static_categories: of(static_categories),
            dated_numbers: of(&layout.dated_numbers),
            dated_categories: of(&layout.dated_categories),
            measures: Vec::new(),
            dated,
            calendar: layout.calendar,
        };
        let measures = fitted.measures.iter().map(|measure| Column {
            name: names.unique(measure, "measure"),
            source: None,
            raw: measure.clone(),
            holds: Holds::Number,
            monthly: true,
            values: Vec::new(),
        });
        let mut columns = Columns { measures: measures.collect(), ..columns };
        let categories = columns.static_categories.iter_mut().zip(&fitted.static_categories);
        let dated = columns.dated_categories.iter_mut().zip(&fitted.month_categories);
        for (column, category) in categories.chain(dated) {
            column.values.clone_from(&category.values);
        }
        Ok(columns)
    }

    /// All of them: attributes, then what has months.
    pub fn all(&self) -> impl Iterator<Item = &Column> {
        let fixed = self.static_numbers.iter().chain(&self.static_categories);
        let dated = self.dated_numbers.iter().chain(&self.dated_categories);
        fixed.chain(dated).chain(&self.measures)
    }

    /// Whether any number depends on which month the as-of month is.
    pub fn needs_as_of(&self) -> bool {
        let is_date = |column: &Column| column.holds == Holds::Date;
        self.dated && (self.calendar || self.dated_numbers.iter().any(is_date))
    }
}

/// Names of inputs, no two alike.
struct Names {
    /// How many columns have a name.
    counts: BTreeMap<String, usize>,
}

impl Names {
    fn new(panel: &Panel, signature: Signature) -> Self {
        let mut counts = BTreeMap::new();
        let tables = panel.attributes.iter().flat_map(|table| &table.columns);
        let names = tables.map(|column| &column.name).chain(&panel.measures);
        names.for_each(|name| *counts.entry(name.clone()).or_insert(0) += 1);
        let step = RESERVED_STEP.iter().filter(|_| signature == Signature::Step);
        let reserved = RESERVED.iter().chain(step);
        reserved.for_each(|name| *counts.entry((*name).to_owned()).or_insert(0) += 1);
        Names { counts }
    }

    /// The name itself where it is the only one, else with what it belongs to in front.
    fn unique(&mut self, name: &str, owner: &str) -> String {
        if self.counts.get(name) == Some(&1) {
            return name.to_owned();
        }
        let mut unique = format!("{owner}.{name}");
        while self.counts.contains_key(&unique) {
            unique.push('_');
        }
        self.counts.insert(unique.clone(), 1);
        unique
    }

    fn attribute(&mut self, panel: &Panel, at: (usize, usize)) -> Column {
        let (table, column) = column(panel, at);
        Column {
            name: self.unique(&column.name, &table.source),
            source: Some(table.source.clone()),
            raw: column.name.clone(),
            holds: match column.cells {
                AttributeCells::Number(_) => Holds::Number,
                AttributeCells::Date(_) => Holds::Date,
                AttributeCells::Category { .. } => Holds::Category,
            },
            monthly: table.versioned,
            values: Vec::new(),
        }
    }
}

/// The inputs of a graph. All are declared; those that nothing reads are dropped in the end.
pub struct Inputs {
    pub columns: Columns,
    /// See [`Style::unroll`].
    pub unroll: Option<usize>,
    /// Of [`Signature::Step`].
    pub state: Option<State>,
    values: BTreeMap<String, Value>,
    /// Codes of categories that some member has asked for, by column: a text is looked up once.
    coded: RefCell<BTreeMap<String, Value>>,
    history: Option<Value>,
    as_of: Option<Value>,
}

impl Inputs {
    /// # Errors
    /// [`Kind::Usage`] for a matrix where the model has months.
    pub fn declare(g: &mut Graph, columns: Columns, style: Style) -> Result<Self> {
        match style.signature {
            Signature::Columns | Signature::Step => Ok(Self::by_name(g, columns, style)),
            Signature::Matrix if columns.dated => Err(Kind::Usage
                .msg("the signature `matrix` is for models without months, and this one has months")
                .hint("leave out --signature, so that every column is an input of its own")),
            Signature::Matrix => Ok(Self::of_matrix(g, columns)),
        }
    }

    fn by_name(g: &mut Graph, columns: Columns, style: Style) -> Self {
        let Style { signature, unroll } = style;
        let rows = [Axis::Any("N"), Axis::Fixed(1)];
        let months = match signature {
            Signature::Step => rows,
            _ => [Axis::Any("N"), unroll.map_or(Axis::Any("T"), Axis::Fixed)],
        };
        let mut values = BTreeMap::new();
        for column in columns.all() {
            let of = if column.holds == Holds::Category { Text } else { F32 };
            let axes = if column.monthly { months } else { rows };
            let value = g.input(&column.name, of, &axes, &column.meaning(signature));
            values.insert(column.name.clone(), value);
        }
        let dated = columns.dated;
        let step = signature == Signature::Step;
        let history = (dated && !step).then(|| g.input(HISTORY, I64, &rows, HISTORY_MEANING));
        let as_of = columns.needs_as_of().then(|| g.input(AS_OF, I64, &rows, AS_OF_MEANING));
        let state = step.then(|| State::declare(g));
        let history = history.or_else(|| state.as_ref().map(|state| state.length.clone()));
        Inputs { columns, unroll, state, values, coded: RefCell::default(), history, as_of }
    }

    fn of_matrix(g: &mut Graph, columns: Columns) -> Self {
        let width = columns.all().count();
        let axes = [Axis::Any("N"), Axis::Fixed(width)];
        let doc = "Raw columns in the order of the metadata `schema`; categories as codes.";
        let matrix = g.input(MATRIX, F32, &axes, doc);
        let mut values = BTreeMap::new();
        for (at, column) in (0..).zip(columns.all()) {
            let value = g.within(&format!("features/{}", column.name), |g| {
                g.slice(&matrix, 1, at, Some(at + 1))
            });
            values.insert(column.name.clone(), value);
        }
        let coded = RefCell::default();
        let (state, history, as_of) = (None, None, None);
        Inputs { columns, unroll: None, state, values, coded, history, as_of }
    }

    /// `[N, 1]` or `[N, T]`, 32-bit numbers or text.
    fn value(&self, column: &Column) -> Value {
        self.values[&column.name].clone()
    }

    /// A number or date, `[N, 1]` or `[N, T]`.
    pub fn number(&self, column: &Column) -> Value {
        assert_ne!(column.holds, Holds::Category, "a category is no number");
        self.value(column)
    }

    /// Codes of a category, `[N, 1]` or `[N, T]`: 0 = missing, 1 = any value without a code.
    pub fn codes(&self, g: &mut Graph, column: &Column, fitted: &FittedCategory) -> Value {
        let mut coded = self.coded.borrow_mut();
        let codes = coded.entry(column.name.clone()).or_insert_with(|| {
            let value = self.value(column);
            let scope = format!("categories/{}", column.name);
            g.within(&scope, |g| match value.of {
                Text => look_up(g, &value, fitted),
                _ => checked(g, &value, fitted.codes()),
            })
        });
        codes.clone()
    }

    /// `[N, 1]`; the model has months.
    pub fn history(&self) -> Result<Value> {
        self.history.clone().ok_or_else(|| Kind::Internal.msg("there is no history without months"))
    }

    /// `[N, 1]`.
    pub fn as_of(&self) -> Result<Value> {
        self.as_of.clone().ok_or_else(|| Kind::Internal.msg("the as-of month was not declared"))
    }

    /// Some value with a row for each customer.
    pub fn any(&self) -> Result<Value> {
        let value = self.history.clone().or_else(|| self.values.values().next().cloned());
        value.ok_or_else(|| Kind::Corrupt.msg("the model has no columns"))
    }

    /// Some value `[N, T]`; None where no column has months.
    pub fn any_months(&self) -> Option<Value> {
        self.columns.all().find(|column| column.monthly).map(|column| self.value(column))
    }
}

/// By text.
fn look_up(g: &mut Graph, text: &Value, fitted: &FittedCategory) -> Value {
    let texts: Vec<String> = std::iter::once(String::new()).chain(fitted.values.clone()).collect();
    let code = |text: &String| i64::from(fitted.code((!text.is_empty()).then_some(text)));
    let codes: Vec<i64> = texts.iter().map(code).collect();
    let attributes = vec![
        ("cats_int64s", Attr::Ints(codes)),
        ("cats_strings", Attr::Texts(texts)),
        ("default_int64", Attr::Int(i64::from(UNKNOWN_CODE))),
    ];
    let (operator, inputs) = ("CategoryMapper", &[Some(text)][..]);
    g.call(Call { operator, domain: ML, inputs, attributes, outputs: &[I64] }).remove(0)
}

/// Codes that come as numbers: what is none of `count` codes is unknown.
fn checked(g: &mut Graph, codes: &Value, count: usize) -> Value {
    let missing = g.is_nan(codes);
    let codes = g.number_where(&missing, 0.0, codes);
    let low = g.compare_number("GreaterOrEqual", &codes, 0.0);
    let high = g.compare_number("Less", &codes, count as f64);
    let known = g.and(&low, &high);
    let unknown = g.scalar(f64::from(UNKNOWN_CODE), F32);
    let codes = g.choose(&known, &codes, &unknown);
    g.cast(&codes, I64)
}

pub const HISTORY_MEANING: &str = "Months of history, the as-of month included, at least 1. The \
    months of a shorter history stand at the end of T; what stands before them is not read.";
pub const AS_OF_MEANING: &str = "The as-of month as year x 100 + month, for example 202406.";

impl Column {
    /// In words.
    pub fn meaning(&self, signature: Signature) -> String {
        let what = match (self.holds, &self.source) {
            (Holds::Number, None) => "Monthly measure; NaN is missing.".to_owned(),
            (Holds::Number, Some(source)) => format!("Number of `{source}`; NaN is missing."),
            (Holds::Date, _) => "Date as days since 1970-01-01; NaN is missing.".to_owned(),
            (Holds::Category, _) => {
                "Category as text; empty is missing, any other text may come.".to_owned()
            }
        };
        let step = signature == Signature::Step;
        let months = match (self.monthly, &self.source) {
            (true, None) if step => " Of the as-of month.",
            (true, Some(_)) if step => " Its value at the end of the as-of month.",
            (true, None) => " The last of T is the as-of month.",
            (true, Some(_)) => " Its value at the end of each month; the last is the as-of month.",
            _ => "",
        };
        what + months
    }
}
