//! Divides the tables by customer: each source is read once and written into one scratch file per
//! partition, so that each partition's panel can be built alone. Nothing but buffers stays in
//! memory, and the hashes of the customers.

use std::collections::HashSet;

use super::activity::time_columns;
use super::attributes::feature_columns;
use super::events::needed_columns;
use super::partition::{hash, partition};
use super::{Declared, Intake};
use crate::clock::Month;
use crate::config::{ColumnType, EventMeasure, Format, LabelSpec, OnBad, SourceKind, SourceSpec};
use crate::error::{Kind, Result};
use crate::fsx::Scratch;
use crate::source::rows::RowsWriter;
use crate::source::{Batch, Cells, DataFile, Wanted, scan};

/// Rows that wait in all buffers together before they are written: 2^19 rows of a dozen cells are
/// about 80 MB, and with 512 partitions still a thousand rows a block.
const BUFFERED_ROWS_MAX: usize = 1 << 19;

/// One open file each, under the usual limit of 1024 a process.
pub const PARTITIONS_MAX: usize = 512;

/// The divided tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scattered {
    /// First and last month of all customers' rows; None without dated rows.
    pub months: Option<(Month, Month)>,
    /// Cells that could not be read and were set missing.
    pub cells_nulled: u64,
}

/// Name of the file of a source's rows in a partition.
pub fn file_name(source: usize, partition: usize) -> String {
    format!("source-{source}-{partition:03}.rows")
}

/// The files of one partition, as if they were the declared ones.
pub fn inputs(intake: &Intake, scratch: &Scratch, partition: usize) -> super::Inputs {
    let file = |source: usize| DataFile {
        path: scratch.path().join(file_name(source, partition)),
        format: Format::Rows,
        hive: Vec::new(),
    };
    super::Inputs { files: (0..intake.sources.len()).map(|source| vec![file(source)]).collect() }
}

/// Into how many partitions; the rows of one customer in `one_in`, drawn by hash, also go into a
/// further partition of that number, from which statistics are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampled {
    pub partitions: usize,
    pub one_in: u64,
}

impl Sampled {
    fn partition(self, id: &str) -> usize {
        partition(id, self.partitions)
    }

    /// The lower half of the hash, mixed: the upper half decides the partition.
    fn is_drawn(self, id: &str) -> bool {
        let mixed = (hash(id) & 0xffff_ffff).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        mixed.is_multiple_of(self.one_in)
    }
}

/// Divides all sources.
///
/// # Errors
/// What [`scan`] finds wrong in a file, [`Kind::Data`] for a dated row without a date.
pub fn scatter(declared: &Declared, into: Sampled, scratch: &Scratch) -> Result<Scattered> {
    let intake = declared.intake;
    let mut scattered = Scattered::default();
    let mut known: Option<HashSet<u64>> = None;
    // Attributes first: the first source of them decides who is a customer.
    let mut order: Vec<usize> = (0..intake.sources.len()).collect();
    order.sort_by_key(|&at| intake.sources[at].kind != SourceKind::Attributes);
    for at in order {
        let source = &intake.sources[at];
        let columns = columns(source, declared.label)?;
        let decides = source.kind == SourceKind::Attributes && known.is_none();
        let mut customers = HashSet::new();
        let mut sheets = Sheets::open(at, &columns, into, scratch)?;
        let (files, key) = (&declared.inputs.files[at], intake.key(source));
        let stats = scan(files, key, &columns, &intake.limits(), &mut |batch| {
            if decides {
                customers.extend(batch.keys.iter().map(|key| hash(key)));
            } else if source.kind != SourceKind::Attributes {
                let months = months(source, &columns, &batch, known.as_ref())?;
                scattered.months = widest(scattered.months, months);
            }
            sheets.push(batch)
        })?;
        sheets.finish()?;
        scattered.cells_nulled += stats.nulled.values().sum::<u64>();
        known = if decides { Some(customers) } else { known };
    }
    Ok(scattered)
}

/// Every column that panel and label will ask for, each once.
fn columns(source: &SourceSpec, label: &LabelSpec) -> Result<Vec<Wanted>> {
    let mut wanted = match source.kind {
        SourceKind::Attributes => feature_columns(source),
        SourceKind::Activity => [feature_columns(source), time_columns(source)?].concat(),
        SourceKind::Events => {
            let measures: Vec<&EventMeasure> = source.measures.values().collect();
            [needed_columns(source, &measures)?, time_columns(source)?].concat()
        }
    };
    if let Some(name) = source.valid_from.as_ref().filter(|_| source.kind == SourceKind::Attributes)
    {
        wanted.push(Wanted { name: name.clone(), kind: ColumnType::Date, on_bad: source.on_bad });
    }
    let of_label = match label {
        LabelSpec::Event { source, column, .. } => Some((source, column, ColumnType::Date)),
        LabelSpec::Column { source, column } => Some((source, column, ColumnType::Category)),
        LabelSpec::Snapshots { .. } | LabelSpec::Inactivity { .. } => None,
    };
    if let Some((_, column, kind)) = of_label.filter(|(name, ..)| **name == source.name) {
        wanted.push(Wanted { name: column.clone(), kind, on_bad: OnBad::Error });
    }
    let mut columns: Vec<Wanted> = Vec::new();
    for column in wanted {
        match columns.iter().find(|have| have.name == column.name) {
            None => columns.push(column),
            Some(have) if have.kind == column.kind => {}
            Some(_) => {
                return Err(Kind::Config
                    .msg(format!("`{}` of `{}` is read as two types", column.name, source.name))
                    .hint("declare one, or raise train.memory_gb to train without partitions"));
            }
        }
    }
    Ok(columns)
}

type Months = Option<(Month, Month)>;

/// First and last month of a batch in which a customer has something, as the panel dates it.
fn months(
    source: &SourceSpec,
    columns: &[Wanted],
    batch: &Batch,
    known: Option<&HashSet<u64>>,
) -> Result<Months> {
    let days = |name: &Option<String>| {
        let at = columns.iter().position(|column| Some(&column.name) == name.as_ref())?;
        match &batch.cells[at] {
            Cells::Date(days) => Some(days),
            _ => None,
        }
    };
    let times = days(&source.time);
    let arrivals = days(&source.known_at).filter(|_| source.kind == SourceKind::Events);
    let mut found = None;
    for (row, key) in batch.keys.iter().enumerate() {
        let day = times.and_then(|days| days[row]);
        let day = day.ok_or_else(|| batch.error(Kind::Data, row, "a dated row has no date"))?;
        if known.is_some_and(|known| !known.contains(&hash(key))) {
            continue;
        }
        let arrival = arrivals.and_then(|days| days[row]);
        let month = Month::of_day(arrival.map_or(day, |arrival| arrival.max(day)));
        found = widest(found, Some((month, month)));
    }
    Ok(found)
}

fn widest(a: Months, b: Months) -> Months {
    match (a, b) {
        (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
        (some, None) | (None, some) => some,
    }
}

/// The files of one source, and the rows that wait for them.
struct Sheets {
    /// One per partition, then that of the sample.
    sheets: Vec<Sheet>,
    into: Sampled,
    rows_max: usize,
}

struct Sheet {
    keys: Vec<String>,
    cells: Vec<Cells>,
    out: RowsWriter,
}

impl Sheets {
    fn open(source: usize, columns: &[Wanted], into: Sampled, scratch: &Scratch) -> Result<Self> {
        let sheet = |partition: usize| {
            let name = file_name(source, partition);
            let path = scratch.path().join(&name);
            let out = RowsWriter::new(scratch.create(&name)?, &path, columns)?;
            let cells = columns.iter().map(|column| Cells::none(column.kind)).collect();
            Ok(Sheet { keys: Vec::new(), cells, out })
        };
        let sheets = (0..=into.partitions).map(sheet).collect::<Result<Vec<_>>>()?;
        let rows_max = (BUFFERED_ROWS_MAX / sheets.len()).max(1);
        Ok(Sheets { sheets, into, rows_max })
    }

    fn push(&mut self, batch: Batch) -> Result<()> {
        let into = self.into;
        let drawn: Vec<usize> =
            (0..batch.keys.len()).filter(|&row| into.is_drawn(&batch.keys[row])).collect();
        if let Some(sample) = self.sheets.last_mut() {
            sample.keys.extend(drawn.iter().map(|&row| batch.keys[row].clone()));
            for (to, cells) in sample.cells.iter_mut().zip(&batch.cells) {
                to.take(cells, &drawn);
            }
        }
        let places: Vec<usize> = batch.keys.iter().map(|key| into.partition(key)).collect();
        for (key, &at) in batch.keys.into_iter().zip(&places) {
            self.sheets[at].keys.push(key);
        }
        for (column, cells) in batch.cells.into_iter().enumerate() {
            let mut to: Vec<&mut Cells> =
                self.sheets.iter_mut().map(|sheet| &mut sheet.cells[column]).collect();
            cells.deal(&places, &mut to);
        }
        let rows_max = self.rows_max;
        self.sheets
            .iter_mut()
            .filter(|sheet| sheet.keys.len() >= rows_max)
            .try_for_each(Sheet::flush)
    }

    fn finish(self) -> Result<()> {
        self.sheets.into_iter().try_for_each(|mut sheet| {
            sheet.flush()?;
            sheet.out.finish()
        })
    }
}

impl Sheet {
    fn flush(&mut self) -> Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        self.out.write(&self.keys, &self.cells)?;
        self.keys.clear();
        self.cells.iter_mut().for_each(Cells::clear);
        Ok(())
    }
}
