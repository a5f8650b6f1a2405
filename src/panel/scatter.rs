//! Divides the tables by customer: each source is read once and written into one scratch file per
//! partition, so that each partition's panel can be built alone. Nothing but buffers stays in
//! memory, and the hashes of the customers.

use std::collections::HashSet;

use rayon::prelude::*;

use super::activity::time_columns;
use super::attributes::feature_columns;
use super::events::needed_columns;
use super::partition::{hash, partition};
use super::{Inputs, Intake};
use crate::clock::Month;
use crate::config::{ColumnType, EventMeasure, Format, LabelSpec, OnBad, SourceKind, SourceSpec};
use crate::error::{Kind, Result};
use crate::fsx::Scratch;
use crate::source::rows::RowsWriter;
use crate::source::{Batch, Cells, DataFile, Texts, Wanted, scan};

/// Rows that wait in all buffers together before they are written: 2^19 rows of a dozen cells are
/// about 80 MB, and with 512 partitions still a thousand rows a block.
const BUFFERED_ROWS_MAX: usize = 1 << 19;

/// One open file each, see [`OPEN_FILES_MAX`].
pub const PARTITIONS_MAX: usize = 512;

/// Files of all sources that are divided at a time: the usual limit is 1024 a process, and the
/// tables are open too.
const OPEN_FILES_MAX: usize = 768;

/// Removes the files of a partition that is no longer needed.
pub fn forget(intake: &Intake, scratch: &Scratch, partition: usize) -> Result<()> {
    (0..intake.sources.len()).try_for_each(|source| scratch.remove(&file_name(source, partition)))
}

/// What to divide.
#[derive(Clone, Copy)]
pub struct Tables<'a> {
    pub intake: &'a Intake,
    pub inputs: &'a Inputs,
    /// Whose columns are to be kept too, if any.
    pub label: Option<&'a LabelSpec>,
}

/// The divided tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scattered {
    /// First and last month of all customers' rows; None without dated rows.
    pub months: Option<(Month, Month)>,
    /// Last month in which any row happened, whoever it is of and whenever it was known.
    pub last: Option<Month>,
    /// Cells that could not be read and were set missing.
    pub cells_nulled: u64,
}

/// Name of the file of a source's rows in a partition.
fn file_name(source: usize, partition: usize) -> String {
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

/// Into how many partitions. If there is a sample, the rows of one customer in `one_in`, drawn by
/// hash, also go into a further partition of that number, from which statistics are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampled {
    pub partitions: usize,
    pub one_in: Option<u64>,
}

impl Sampled {
    fn files(self) -> usize {
        self.partitions + usize::from(self.one_in.is_some())
    }

    /// The lower half of the hash, mixed: the upper half decides the partition.
    fn is_drawn(hash: u64, one_in: u64) -> bool {
        let mixed = (hash & 0xffff_ffff).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        mixed.is_multiple_of(one_in)
    }
}

/// Divides all sources.
///
/// # Errors
/// What [`scan`] finds wrong in a file, [`Kind::Data`] for a dated row without a date.
pub fn scatter(tables: &Tables, into: Sampled, scratch: &Scratch) -> Result<Scattered> {
    let sources = &tables.intake.sources;
    // The first source of attributes decides who is a customer, and so is read before all others.
    let decides = sources.iter().position(|source| source.kind == SourceKind::Attributes);
    let mut others: Vec<usize> = (0..sources.len()).filter(|at| Some(*at) != decides).collect();
    others.sort_by_key(|&at| sources[at].kind != SourceKind::Attributes);
    let mut customers = HashSet::new();
    let mut scattered = Scattered::default();
    let one = Share { into, of: 1, scratch };
    if let Some(at) = decides {
        scattered.add(source(tables, at, one, &mut Known::Learned(&mut customers))?);
    }
    let known = decides.map(|_| &customers);
    let at_once = (OPEN_FILES_MAX / into.files()).clamp(1, rayon::current_num_threads());
    for some in others.chunks(at_once) {
        let share = Share { of: some.len(), ..one };
        let read = |&at: &usize| source(tables, at, share, &mut Known::Given(known));
        let read: Vec<_> = some.par_iter().with_max_len(1).map(read).collect();
        read.into_iter().try_for_each(|read| read.map(|read| scattered.add(read)))?;
    }
    Ok(scattered)
}

/// Hashes of all customers.
enum Known<'a> {
    /// By the source that is read.
    Learned(&'a mut HashSet<u64>),
    /// None if whoever has a row is a customer.
    Given(Option<&'a HashSet<u64>>),
}

/// Where a source goes.
#[derive(Clone, Copy)]
struct Share<'a> {
    into: Sampled,
    /// Sources that are read at a time, and share what may wait in buffers.
    of: usize,
    scratch: &'a Scratch,
}

/// Divides one source.
fn source(tables: &Tables, at: usize, share: Share, known: &mut Known) -> Result<Scattered> {
    let intake = tables.intake;
    let source = &intake.sources[at];
    let columns = columns(source, tables.label)?;
    let mut scattered = Scattered::default();
    let mut sheets = Sheets::open(at, &columns, share)?;
    let (files, key) = (&tables.inputs.files[at], intake.key(source));
    let stats = scan(files, key, &columns, &intake.limits(), &mut |batch| {
        let hashes: Vec<u64> = batch.keys.iter().map(hash).collect();
        match known {
            Known::Learned(customers) => customers.extend(&hashes),
            Known::Given(customers) if source.kind != SourceKind::Attributes => {
                let (months, last) = months(source, &columns, (&batch, &hashes), *customers)?;
                scattered.months = widest(scattered.months, months);
                scattered.last = scattered.last.max(last);
            }
            Known::Given(_) => {}
        }
        sheets.push(&batch, &hashes)
    })?;
    sheets.finish()?;
    scattered.cells_nulled = stats.nulled.values().sum();
    Ok(scattered)
}

impl Scattered {
    fn add(&mut self, other: Scattered) {
        self.months = widest(self.months, other.months);
        self.last = self.last.max(other.last);
        self.cells_nulled += other.cells_nulled;
    }
}

/// Every column that panel and label will ask for, each once.
fn columns(source: &SourceSpec, label: Option<&LabelSpec>) -> Result<Vec<Wanted>> {
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
    if let Some((column, kind)) = label.and_then(|label| label.column_of(&source.name)) {
        wanted.push(Wanted { name: column.to_owned(), kind, on_bad: OnBad::Error });
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

/// First and last month of a batch in which a customer has something, as the panel dates it, and the
/// last month in which any row happened.
fn months(
    source: &SourceSpec,
    columns: &[Wanted],
    (batch, hashes): (&Batch, &[u64]),
    known: Option<&HashSet<u64>>,
) -> Result<(Months, Option<Month>)> {
    let days = |name: &Option<String>| {
        let at = columns.iter().position(|column| Some(&column.name) == name.as_ref())?;
        match &batch.cells[at] {
            Cells::Date(days) => Some(days),
            _ => None,
        }
    };
    let times = days(&source.time);
    let arrivals = days(&source.known_at).filter(|_| source.kind == SourceKind::Events);
    let (mut found, mut last) = (None, None);
    // Whether a customer is known, asked once for all rows that follow each other.
    let mut asked = None;
    for (row, &hash) in hashes.iter().enumerate() {
        let day = times.and_then(|days| days[row]);
        let day = day.ok_or_else(|| batch.error(Kind::Data, row, "a dated row has no date"))?;
        last = last.max(Some(day));
        let is_known = match asked {
            Some((of, is_known)) if of == hash => is_known,
            _ => known.is_none_or(|known| known.contains(&hash)),
        };
        asked = Some((hash, is_known));
        if !is_known {
            continue;
        }
        let arrival = arrivals.and_then(|days| days[row]);
        let month = Month::of_day(arrival.map_or(day, |arrival| arrival.max(day)));
        found = widest(found, Some((month, month)));
    }
    Ok((found, last.map(Month::of_day)))
}

fn widest(a: Months, b: Months) -> Months {
    match (a, b) {
        (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
        (some, None) | (None, some) => some,
    }
}

/// The files of one source, and the rows that wait for them.
struct Sheets {
    /// One per partition, then that of the sample, if there is one.
    sheets: Vec<Sheet>,
    into: Sampled,
    rows_max: usize,
}

struct Sheet {
    keys: Texts,
    cells: Vec<Cells>,
    out: RowsWriter,
}

impl Sheets {
    fn open(source: usize, columns: &[Wanted], share: Share) -> Result<Self> {
        let Share { into, of, scratch } = share;
        let sheet = |partition: usize| {
            let name = file_name(source, partition);
            let path = scratch.path().join(&name);
            let out = RowsWriter::new(scratch.create(&name)?, &path, columns)?;
            let cells = columns.iter().map(|column| Cells::none(column.kind)).collect();
            Ok(Sheet { keys: Texts::default(), cells, out })
        };
        let sheets = (0..into.files()).map(sheet).collect::<Result<Vec<_>>>()?;
        let rows_max = (BUFFERED_ROWS_MAX / (sheets.len() * of)).max(1);
        Ok(Sheets { sheets, into, rows_max })
    }

    fn push(&mut self, batch: &Batch, hashes: &[u64]) -> Result<()> {
        let into = self.into;
        if let (Some(one_in), Some(sample)) = (into.one_in, self.sheets.last_mut()) {
            let drawn = |row: &usize| Sampled::is_drawn(hashes[*row], one_in);
            let drawn: Vec<usize> = (0..hashes.len()).filter(drawn).collect();
            sample.keys.extend(drawn.iter().map(|&row| &batch.keys[row]));
            for (to, cells) in sample.cells.iter_mut().zip(&batch.cells) {
                to.take(cells, &drawn);
            }
        }
        let places: Vec<usize> =
            hashes.iter().map(|&hash| partition(hash, into.partitions)).collect();
        for (key, &at) in batch.keys.iter().zip(&places) {
            self.sheets[at].keys.push(key);
        }
        for (column, cells) in batch.cells.iter().enumerate() {
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
