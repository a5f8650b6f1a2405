//! From the rows of a batch to a panel.

use polars::prelude::{Column, DataFrame, DataType, PlSmallStr, PolarsResult, Series};

use super::{CUSTOMER, Fault};
use crate::bundle::Bundle;
use crate::clock::Month;
use crate::config::{ColumnType, OnBad, SourceKind};
use crate::error::{Kind, Result};
use crate::onnx::{AS_OF, Columns, HISTORY, Signature};
use crate::panel::{AttributeColumn, AttributeTable, BuildReport, Calendar, MONTHS_MAX, Panel};
use crate::source::stream::{ArrowColumns, is_list, is_readable};
use crate::source::{BadCell, Cells};

/// Years in which an as-of month may lie. In a batch they all share one calendar.
const YEARS: std::ops::Range<i32> = 1900..2200;

/// Most months of all customers of a batch together; they stand in memory at once.
const BATCH_MONTHS_MAX: usize = 1 << 23;

/// The month of customers for whom it plays no part.
const ANY_MONTH: Month = Month(2000 * 12);

/// Which columns a stream needs, and where they go.
pub struct Plan {
    tables: Vec<Table>,
    measures: Vec<Wanted>,
    dated: bool,
    needs_as_of: bool,
    cell_bytes_max: usize,
}

/// An attributes source.
struct Table {
    source: String,
    /// Its columns hold a list: the value at the end of each month.
    versioned: bool,
    columns: Vec<Wanted>,
}

/// A column of the stream.
#[derive(Debug, Clone)]
struct Wanted {
    name: String,
    /// In its source.
    raw: String,
    kind: ColumnType,
    on_bad: OnBad,
    is_list: bool,
}

impl Plan {
    /// # Errors
    /// Those of [`Columns::new`].
    pub fn new(bundle: &Bundle) -> Result<Self> {
        let (model, fitted) = (&bundle.model, bundle.scorer.features());
        let columns = Columns::new(model, fitted, Signature::Columns)?;
        let named = |source: &str, raw: &str| {
            let is = |column: &&crate::onnx::Column| {
                column.source.as_deref() == Some(source) && column.raw == raw
            };
            let lost = || Kind::Corrupt.msg(format!("the features lack `{raw}` of `{source}`"));
            columns.all().find(is).map(|column| column.name.clone()).ok_or_else(lost)
        };
        let mut tables = Vec::new();
        for source in model.intake.sources.iter().filter(|s| s.kind == SourceKind::Attributes) {
            let versioned = source.valid_from.is_some();
            let wanted = |(raw, spec): (&String, &crate::config::ColumnSpec)| {
                Ok(Wanted {
                    name: named(&source.name, raw)?,
                    raw: raw.clone(),
                    kind: spec.kind(),
                    on_bad: spec.on_bad(source.on_bad),
                    is_list: versioned,
                })
            };
            let columns = source.columns.iter().map(wanted).collect::<Result<_>>()?;
            tables.push(Table { source: source.name.clone(), versioned, columns });
        }
        let on_bad = |raw: &str| {
            let activity = model.intake.sources.iter();
            let mut activity = activity.filter(|source| source.kind == SourceKind::Activity);
            let spec = activity.find_map(|source| Some((source, source.columns.get(raw)?)));
            spec.map_or(OnBad::Error, |(source, spec)| spec.on_bad(source.on_bad))
        };
        let measure = |column: &crate::onnx::Column| Wanted {
            name: column.name.clone(),
            raw: column.raw.clone(),
            kind: ColumnType::Number,
            on_bad: on_bad(&column.raw),
            is_list: true,
        };
        Ok(Plan {
            tables,
            measures: columns.measures.iter().map(measure).collect(),
            dated: columns.dated,
            needs_as_of: columns.needs_as_of(),
            cell_bytes_max: model.intake.limits().cell_bytes_max,
        })
    }

    fn columns(&self) -> impl Iterator<Item = &Wanted> {
        self.tables.iter().flat_map(|table| &table.columns).chain(&self.measures)
    }

    pub fn wants(&self, name: &str) -> bool {
        let dated = self.dated && [AS_OF, HISTORY].contains(&name);
        name == CUSTOMER || dated || self.columns().any(|column| column.name == name)
    }

    /// Whether a stream has the columns that are needed, of types that can be read.
    pub fn check(&self, have: &ArrowColumns) -> Result<(), Fault> {
        let single = [(CUSTOMER, true), (AS_OF, self.needs_as_of), (HISTORY, false)];
        for (name, needed) in single {
            if self.wants(name) {
                check(have, name, (needed, false))?;
            }
        }
        self.columns().try_for_each(|column| check(have, &column.name, (true, column.is_list)))
    }

    /// A table of no rows with the customers' column alone.
    pub fn no_ids(&self, have: &ArrowColumns) -> Result<DataFrame> {
        let of = have
            .get(CUSTOMER)
            .map_or(DataType::String, |field| DataType::from_arrow_dtype(field.dtype()));
        let ids = Column::from(Series::new_empty(PlSmallStr::from_static(CUSTOMER), &of));
        DataFrame::new(0, vec![ids]).map_err(|error| Kind::Internal.msg(error.to_string()))
    }

    /// Customers in the order of their rows, each with its history up to its as-of month.
    pub fn panel(&self, batch: &DataFrame) -> Result<Panel, Fault> {
        let rows = batch.height();
        let ids = get(batch, CUSTOMER)?;
        if ids.null_count() > 0 {
            let row = (0..rows).find(|&row| ids.get(row).is_ok_and(|id| id.is_null()));
            return Err(Fault::of(CUSTOMER, row, "is missing".into()));
        }
        let measures: Vec<Lists> = self
            .measures
            .iter()
            .map(|wanted| self.lists(batch, wanted))
            .collect::<Result<_, _>>()?;
        let mut versions = Vec::new();
        for table in &self.tables {
            let columns = table.columns.iter().filter(|_| table.versioned);
            versions.push(
                columns.map(|wanted| self.lists(batch, wanted)).collect::<Result<Vec<_>, _>>()?,
            );
        }
        let all = || measures.iter().chain(versions.iter().flatten());
        let lengths = self.lengths(batch, &|row| all().map(|lists| lists.length(row)).max())?;
        if lengths.iter().sum::<usize>() > BATCH_MONTHS_MAX {
            let what = format!("a batch of more than {BATCH_MONTHS_MAX} months");
            return Err(Fault::from(Kind::Data.msg(what).hint("send smaller batches")));
        }
        let as_of = self.as_of(batch)?;
        let starts: Vec<Month> = lengths
            .iter()
            .zip(as_of)
            .map(|(&length, month)| month.plus(1 - length as i32))
            .collect();
        let first = starts.iter().min().copied().unwrap_or(ANY_MONTH);
        let ends = starts.iter().zip(&lengths).map(|(start, &length)| start.0 + length as i32);
        let months = ends.max().map_or(1, |end| end - first.0);
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        lengths.iter().for_each(|length| offsets.push(offsets[offsets.len() - 1] + length));
        let mut values = vec![f32::NAN; offsets[rows] * measures.len()];
        for (measure, lists) in measures.iter().enumerate() {
            let Cells::Number(cells) = &lists.cells else { unreachable!("measures are numbers") };
            for row in 0..rows {
                lists.placed(row, &offsets, |to, from| {
                    values[to * measures.len() + measure] = cells[from] as f32;
                });
            }
        }
        let places = Places { offsets: &offsets, starts: &starts };
        let tables = self.tables.iter().zip(versions);
        let attributes = tables
            .map(|(table, lists)| self.attributes(batch, table, (lists, &places)))
            .collect::<Result<_, _>>()?;
        Ok(Panel {
            customers: vec![String::new(); rows],
            calendar: Calendar { first, months: months as u32, dated: self.dated },
            measures: self.measures.iter().map(|wanted| wanted.raw.clone()).collect(),
            starts: starts.iter().map(|start| (start.0 - first.0) as u16).collect(),
            offsets,
            values,
            attributes,
            report: BuildReport::default(),
        })
    }

    /// Months of each customer's history.
    fn lengths(
        &self,
        batch: &DataFrame,
        longest: &dyn Fn(usize) -> Option<usize>,
    ) -> Result<Vec<usize>, Fault> {
        let rows = batch.height();
        if !self.dated {
            return Ok(vec![1; rows]);
        }
        let given = match batch.column(HISTORY) {
            Ok(column) => Some(integers(column, HISTORY)?),
            Err(_) => None,
        };
        let length = |row: usize| {
            let length = match &given {
                Some(given) => given[row],
                None => longest(row).unwrap_or(1) as i64,
            };
            if (1..=i64::from(MONTHS_MAX)).contains(&length) {
                return Ok(length as usize);
            }
            let what = format!("is of {length} months, expected 1 to {MONTHS_MAX}");
            match &given {
                Some(_) => Err(Fault::of(HISTORY, Some(row), what)),
                None => Err(Fault::of(&self.any_list(), Some(row), what)),
            }
        };
        (0..rows).map(length).collect()
    }

    /// A column for a message about the months of a row.
    fn any_list(&self) -> String {
        self.columns().find(|column| column.is_list).map_or(HISTORY.into(), |c| c.name.clone())
    }

    fn as_of(&self, batch: &DataFrame) -> Result<Vec<Month>, Fault> {
        let rows = batch.height();
        let Some(column) = batch.column(AS_OF).ok().filter(|_| self.dated) else {
            return Ok(vec![if self.dated { ANY_MONTH } else { Month(0) }; rows]);
        };
        let months: Vec<Option<Month>> = match column.dtype().is_integer() {
            true => integers(column, AS_OF)?.into_iter().map(month_of_number).collect(),
            false => {
                let (days, bad) = read(column, ColumnType::Date)?;
                if let Some(BadCell { row, value }) = bad.first() {
                    let what = format!("holds \"{value}\", expected a month such as 2024-06");
                    return Err(Fault::of(AS_OF, Some(*row), what));
                }
                let Cells::Date(days) = days else { unreachable!("read as dates") };
                days.into_iter().map(|day| day.map(Month::of_day)).collect()
            }
        };
        let month = |(row, month): (usize, Option<Month>)| match month {
            Some(month) if YEARS.contains(&month.year()) => Ok(month),
            _ => Err(Fault::of(AS_OF, Some(row), "holds no month such as 202406".into())),
        };
        months.into_iter().enumerate().map(month).collect()
    }

    fn attributes(
        &self,
        batch: &DataFrame,
        table: &Table,
        (lists, places): (Vec<Lists>, &Places),
    ) -> Result<AttributeTable, Fault> {
        let rows = batch.height();
        let mut columns = Vec::new();
        let (offsets, valid_from) = if table.versioned {
            for (wanted, lists) in table.columns.iter().zip(lists) {
                let mut from = vec![None; places.offsets[rows]];
                for row in 0..rows {
                    lists.placed(row, places.offsets, |to, at| from[to] = Some(at));
                }
                let cells = lists.cells.placed(&from);
                columns.push(AttributeColumn { name: wanted.raw.clone(), cells: cells.into() });
            }
            let offsets = places.offsets.iter().map(|&at| at as u32).collect();
            (offsets, places.months().collect())
        } else {
            for wanted in &table.columns {
                let cells = self.cells(get(batch, &wanted.name)?, wanted, Some)?;
                columns.push(AttributeColumn { name: wanted.raw.clone(), cells: cells.into() });
            }
            ((0..=rows as u32).collect(), vec![Month(i32::MIN); rows])
        };
        let (source, versioned) = (table.source.clone(), table.versioned);
        Ok(AttributeTable { source, versioned, offsets, valid_from, columns })
    }

    /// The cells of a column; `row_of` tells the row of a cell, if it belongs to one.
    fn cells(
        &self,
        column: &Column,
        wanted: &Wanted,
        row_of: impl Fn(usize) -> Option<usize>,
    ) -> Result<Cells, Fault> {
        let (cells, bad) = read(column, wanted.kind)?;
        let mut bad = bad.into_iter().filter_map(|cell| Some((row_of(cell.row)?, cell.value)));
        if let (OnBad::Error, Some((row, value))) = (wanted.on_bad, bad.next()) {
            let value: String = value.chars().take(60).collect();
            let what = format!("holds \"{value}\", expected {}", wanted.kind.expected());
            return Err(Fault::of(&wanted.name, Some(row), what));
        }
        if let Cells::Category(texts) = &cells
            && let Some(at) = texts.iter().position(|text| text.len() > self.cell_bytes_max)
        {
            let what = format!("holds a text of more than {} bytes", self.cell_bytes_max);
            return Err(Fault::of(&wanted.name, row_of(at), what));
        }
        Ok(cells)
    }

    fn lists(&self, batch: &DataFrame, wanted: &Wanted) -> Result<Lists, Fault> {
        let column = get(batch, &wanted.name)?;
        let lists = column.list().map_err(|error| internal(&error))?.rechunk();
        let array = lists.downcast_iter().next();
        let array = array.ok_or_else(|| Fault::from(Kind::Internal.msg("a list of no chunk")))?;
        let bounds: Vec<usize> = array.offsets().iter().map(|&at| at as usize).collect();
        let is_there: Option<Vec<bool>> = array.validity().map(|valid| valid.iter().collect());
        let values = Series::try_from((PlSmallStr::EMPTY, array.values().clone()));
        let values = Column::from(values.map_err(|error| internal(&error))?);
        let there = |row: usize| is_there.as_ref().is_none_or(|is_there| is_there[row]);
        // What lies between lists, or in one that is null, belongs to nobody.
        let row_of = |cell: usize| {
            let row = bounds.partition_point(|&bound| bound <= cell).checked_sub(1)?;
            (row < batch.height() && there(row)).then_some(row)
        };
        let cells = self.cells(&values, wanted, row_of)?;
        Ok(Lists { bounds, is_there, cells })
    }
}

/// A list of months in each row; the last is the as-of month.
struct Lists {
    /// Row r holds the cells `bounds[r]..bounds[r + 1]`, if it is there.
    bounds: Vec<usize>,
    is_there: Option<Vec<bool>>,
    cells: Cells,
}

impl Lists {
    fn length(&self, row: usize) -> usize {
        match self.is_there.as_ref().is_none_or(|is_there| is_there[row]) {
            true => self.bounds[row + 1] - self.bounds[row],
            false => 0,
        }
    }

    /// Calls with the place of each month in the panel and among the cells, newest first.
    fn placed(&self, row: usize, offsets: &[usize], mut at: impl FnMut(usize, usize)) {
        let months = self.length(row).min(offsets[row + 1] - offsets[row]);
        for back in 1..=months {
            at(offsets[row + 1] - back, self.bounds[row + 1] - back);
        }
    }
}

/// Where the months of each customer lie in the panel.
struct Places<'a> {
    offsets: &'a [usize],
    starts: &'a [Month],
}

impl Places<'_> {
    /// The month of each row of the panel.
    fn months(&self) -> impl Iterator<Item = Month> {
        let lengths = self.offsets.windows(2).map(|pair| pair[1] - pair[0]);
        lengths
            .zip(self.starts)
            .flat_map(|(length, start)| (0..length as i32).map(move |month| start.plus(month)))
    }
}

/// Whole numbers as they are, everything else as text.
pub fn ids(column: &Column) -> PolarsResult<Column> {
    match column.dtype() {
        of if of.is_integer() || of == &DataType::String => Ok(column.clone()),
        _ => column.cast(&DataType::String),
    }
}

fn check(have: &ArrowColumns, name: &str, (needed, wants_list): (bool, bool)) -> Result<(), Fault> {
    let Some(field) = have.get(name) else {
        if !needed {
            return Ok(());
        }
        let near = have.iter_names().map(|near| (strsim::jaro_winkler(near, name), near));
        let near = near.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(likeness, _)| *likeness > 0.7);
        let mut fault = Fault::of(name, None, "the stream has no such column".into());
        if let Some((_, near)) = near {
            fault.error = Box::new(fault.error.hint(format!("did you mean `{near}`?")));
        }
        return Err(fault);
    };
    let of = field.dtype();
    match (is_readable(of), is_list(of) == wants_list) {
        (true, true) => Ok(()),
        (_, true) => Err(Fault::of(name, None, format!("is of a type that is not read, {of:?}"))),
        (_, false) => {
            let wanted =
                if wants_list { "a list with a value for each month" } else { "one value" };
            let what = format!("is of the type {of:?}, expected {wanted} in each row");
            Err(Fault::of(name, None, what))
        }
    }
}

fn get<'a>(batch: &'a DataFrame, name: &str) -> Result<&'a Column, Fault> {
    batch.column(name).map_err(|error| internal(&error))
}

fn read(column: &Column, kind: ColumnType) -> Result<(Cells, Vec<BadCell>), Fault> {
    Cells::read(column, kind).map_err(|error| internal(&error))
}

fn internal(error: &polars::prelude::PolarsError) -> Fault {
    Kind::Internal.msg(error.to_string()).into()
}

fn integers(column: &Column, name: &str) -> Result<Vec<i64>, Fault> {
    if !column.dtype().is_integer() {
        return Err(Fault::of(name, None, "is no column of whole numbers".into()));
    }
    let cells = column.cast(&DataType::Int64).map_err(|error| internal(&error))?;
    let cells = cells.i64().map_err(|error| internal(&error))?;
    let missing = |row: usize| Fault::of(name, Some(row), "is missing".into());
    cells.iter().enumerate().map(|(row, cell)| cell.ok_or_else(|| missing(row))).collect()
}

/// 202406 is June 2024.
fn month_of_number(number: i64) -> Option<Month> {
    let (year, month) = (i32::try_from(number / 100).ok()?, (number % 100) as u32);
    (number > 0 && (1..=12).contains(&month)).then(|| Month::new(year, month))
}
