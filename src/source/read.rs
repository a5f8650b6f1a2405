//! Streams typed batches out of CSV, Parquet, NDJSON and Arrow files through polars lazy scans.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use polars::prelude::*;

use super::cells::{BadCell, Cells, texts};
use super::csv_scan::{self, CsvShape};
use super::files::DataFile;
use super::texts::Texts;
use super::{bounds, ndjson_scan, rows};
use crate::config::{ColumnType, DataSpec, Format, OnBad};
use crate::error::{Error, Kind, Place, Result};

/// Rows in a batch: enough to hide the per-batch cost, small enough to stay in the cache.
const BATCH_ROWS: NonZeroUsize = NonZeroUsize::new(1 << 16).expect("not zero");

/// Batches that may wait between polars and the consumer; bounds memory.
const QUEUE_BATCHES_MAX: usize = 2;

/// Bounds on what a file may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub columns_max: usize,
    pub cell_bytes_max: usize,
}

impl From<&DataSpec> for Limits {
    fn from(data: &DataSpec) -> Self {
        Limits { columns_max: data.columns_max, cell_bytes_max: data.cell_bytes_max }
    }
}

/// A column to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub name: String,
    pub kind: ColumnType,
    pub on_bad: OnBad,
}

/// Some rows of one file.
#[derive(Debug)]
pub struct Batch<'a> {
    pub file: &'a Path,
    /// Number of the batch's first row in its file, from 0.
    pub first_row: u64,
    /// Whether the file is text in which every row is a line, after one line of header.
    pub rows_are_lines: bool,
    /// The customer key of each row.
    pub keys: Texts,
    /// The wanted columns, in their order.
    pub cells: Vec<Cells>,
}

impl Batch<'_> {
    /// An error about one of the batch's rows, with its line where rows are lines.
    pub fn error(&self, kind: Kind, row: usize, message: impl Into<String>) -> Error {
        let row = self.first_row + row as u64;
        row_error(kind.at(self.file), row, self.rows_are_lines, message.into())
    }
}

fn row_error(place: Place, row: u64, rows_are_lines: bool, message: String) -> Error {
    if rows_are_lines {
        place.line(row + 2).msg(message)
    } else {
        place.msg(format!("row {}: {message}", row + 1))
    }
}

/// What a scan met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanStats {
    pub rows: u64,
    /// Cells that could not be read and were set missing, by column.
    pub nulled: std::collections::BTreeMap<String, u64>,
}

/// Reads the key and the wanted columns of all `files`, batch by batch, in order.
///
/// # Errors
/// [`Kind::Schema`] with file, line, column and value for a cell that does not fit and is not to
/// be nulled, for a missing column and for a ragged CSV record; [`Kind::Data`] for a missing key;
/// whatever `consume` returns.
pub fn scan(
    files: &[DataFile],
    key: &str,
    wanted: &[Wanted],
    limits: &Limits,
    consume: &mut dyn FnMut(Batch) -> Result<()>,
) -> Result<ScanStats> {
    let mut stats = ScanStats::default();
    for file in files {
        if file.format == Format::Rows {
            stats.rows += rows::scan(file, wanted, consume)?;
            continue;
        }
        let reader = FileReader::open(file, key, wanted, limits)?;
        reader.run(&mut stats, consume)?;
    }
    Ok(stats)
}

/// Names and polars types of a file's columns, hive columns included.
pub fn column_names(file: &DataFile, limits: &Limits) -> Result<Vec<String>> {
    match file.format {
        Format::Rows => rows::columns(file),
        Format::Csv => {
            let names = csv_scan::columns(&file.path, limits)?;
            Ok(with_hive(names, file))
        }
        _ => open_scan(file, limits).map(|(_, names, _)| names),
    }
}

struct FileReader<'a> {
    file: &'a DataFile,
    key: &'a str,
    wanted: &'a [Wanted],
    frame: LazyFrame,
    csv: Option<CsvShape>,
    cell_bytes_max: usize,
}

impl<'a> FileReader<'a> {
    fn open(
        file: &'a DataFile,
        key: &'a str,
        wanted: &'a [Wanted],
        limits: &Limits,
    ) -> Result<Self> {
        let (frame, names, csv) = open_scan(file, limits)?;
        for name in std::iter::once(key).chain(wanted.iter().map(|w| w.name.as_str())) {
            if !names.iter().any(|have| have == name) {
                return Err(missing_column(&file.path, name, &names));
            }
        }
        let hive = |name: &str| file.hive.iter().any(|(key, _)| key == name);
        // A name may be wanted twice, e.g. as a feature and as the time; polars selects it once.
        let mut named = vec![key];
        let mut select: Vec<Expr> = vec![col(key)];
        for name in wanted.iter().map(|w| w.name.as_str()) {
            if !hive(name) && !named.contains(&name) {
                named.push(name);
                select.push(col(name));
            }
        }
        let (frame, cell_bytes_max) = (frame.select(select), limits.cell_bytes_max);
        Ok(Self { file, key, wanted, frame, csv, cell_bytes_max })
    }

    fn run(
        self,
        stats: &mut ScanStats,
        consume: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        let (send, receive) = sync_channel(QUEUE_BATCHES_MAX);
        let frame = self.frame.clone();
        std::thread::scope(|scope| {
            // A thread with a name may panic without ending the program (`cli`).
            let reader = std::thread::Builder::new().name("reader".into());
            let spawned = reader.spawn_scoped(scope, move || produce(frame, send));
            spawned.map_err(|error| Kind::Environment.at(&self.file.path).io(&error))?;
            self.drain(receive, stats, consume)
        })
    }

    fn drain(
        &self,
        receive: Receiver<PolarsResult<DataFrame>>,
        stats: &mut ScanStats,
        consume: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        let mut first_row = 0;
        for frame in receive {
            let mut frame = frame.map_err(|error| self.polars_error(&error))?;
            let rows = frame.height();
            if let Some(csv) = &self.csv {
                // Blank lines behind the last record come as rows without values.
                let left = csv.rows.saturating_sub(first_row);
                frame = frame.head(Some(rows.min(left as usize)));
            }
            let batch = self.batch(&frame, first_row, stats)?;
            consume(batch)?;
            first_row += rows as u64;
        }
        if let Some(csv) = &self.csv {
            // The counterpart of the pass before: both must have seen the same records.
            let (found, expected) = (first_row, csv.rows + csv.blank_lines);
            if found != expected {
                return Err(Kind::Schema
                    .at(&self.file.path)
                    .msg(format!("has {expected} records, but {found} were read"))
                    .hint("quotes inside of cells must be doubled, and the cell quoted"));
            }
            first_row = csv.rows;
        }
        stats.rows += first_row;
        Ok(())
    }

    fn batch(&self, frame: &DataFrame, first_row: u64, stats: &mut ScanStats) -> Result<Batch<'a>> {
        let polars = |error: PolarsError| self.polars_error(&error);
        let keys = texts(frame.column(self.key).map_err(polars)?).map_err(polars)?;
        if let Some(row) = keys.iter().position(str::is_empty) {
            let message = format!("the customer key `{}` is empty", self.key);
            return Err(self.place(first_row + row as u64)(message));
        }
        let mut cells = Vec::with_capacity(self.wanted.len());
        for wanted in self.wanted {
            let hive = self.file.hive.iter().find(|(key, _)| *key == wanted.name);
            let (column, bad) = match hive {
                Some((_, value)) => Cells::constant(value, wanted.kind, frame.height()),
                None => {
                    let column = frame.column(&wanted.name).map_err(polars)?;
                    Cells::read(column, wanted.kind).map_err(polars)?
                }
            };
            self.judge(wanted, &bad, first_row, stats)?;
            self.check_length(wanted, &column, first_row)?;
            cells.push(column);
        }
        let rows_are_lines = self.rows_are_lines();
        Ok(Batch { file: &self.file.path, first_row, rows_are_lines, keys, cells })
    }

    fn judge(
        &self,
        wanted: &Wanted,
        bad: &[BadCell],
        first_row: u64,
        stats: &mut ScanStats,
    ) -> Result<()> {
        let Some(first) = bad.first() else { return Ok(()) };
        if wanted.on_bad == OnBad::Null {
            *stats.nulled.entry(wanted.name.clone()).or_default() += bad.len() as u64;
            return Ok(());
        }
        let expected = wanted.kind.expected();
        let value: String = first.value.chars().take(60).collect();
        let message = format!("column `{}` holds \"{value}\", expected {expected}", wanted.name);
        Err(self.place(first_row + first.row as u64)(message).hint(format!(
            "fix the export; a column of [source.columns] may count as missing instead, by {} = \
             {{ type = ..., on_bad = \"null\" }}",
            wanted.name
        )))
    }

    /// CSV cells were measured before; the other formats come here unmeasured.
    fn check_length(&self, wanted: &Wanted, cells: &Cells, first_row: u64) -> Result<()> {
        let Cells::Category(texts) = cells else { return Ok(()) };
        match texts.iter().position(|text| text.len() > self.cell_bytes_max) {
            Some(row) => Err(self.place(first_row + row as u64)(format!(
                "column `{}` holds a cell of {} bytes, at most {} are read",
                wanted.name,
                texts[row].len(),
                self.cell_bytes_max
            ))),
            None => Ok(()),
        }
    }

    /// An error at a row; with its line where rows are lines, else with its row number.
    fn place(&self, row: u64) -> impl FnOnce(String) -> Error + '_ {
        move |message| {
            row_error(Kind::Schema.at(&self.file.path), row, self.rows_are_lines(), message)
        }
    }

    fn rows_are_lines(&self) -> bool {
        self.csv.as_ref().is_some_and(|shape| shape.rows_are_lines)
    }

    fn polars_error(&self, error: &PolarsError) -> Error {
        unreadable(self.file, error)
    }
}

/// A panic of polars over a file is the file's fault as far as anybody can tell.
fn produce(frame: LazyFrame, send: SyncSender<PolarsResult<DataFrame>>) {
    let batches = send.clone();
    let run = std::panic::catch_unwind(AssertUnwindSafe(|| stream(frame, batches)));
    let broken = |_| Err(polars_err!(ComputeError: "it is not what it says it is"));
    if let Err(error) = run.unwrap_or_else(broken) {
        let _ = send.send(Err(error));
    }
}

fn stream(frame: LazyFrame, batches: SyncSender<PolarsResult<DataFrame>>) -> PolarsResult<()> {
    let callback = PlanCallback::new(move |frame: DataFrame| {
        let consumer_is_gone = batches.send(Ok(frame)).is_err();
        Ok(consumer_is_gone)
    });
    let plan = frame.sink_batches(callback, true, Some(BATCH_ROWS))?;
    plan.collect_with_engine(Engine::Streaming).map(drop)
}

fn open_scan(
    file: &DataFile,
    limits: &Limits,
) -> Result<(LazyFrame, Vec<String>, Option<CsvShape>)> {
    let path = &file.path;
    let polars = |error: PolarsError| unreadable(file, &error);
    if std::fs::metadata(path).map_err(|e| Kind::Data.at(path).io(&e))?.len() == 0 {
        return Err(Kind::Data.at(path).msg("is empty"));
    }
    let text = path.to_str().ok_or_else(|| Kind::Data.at(path).msg("its name is not UTF-8"))?;
    let place = PlRefPath::new(text);
    let mut csv = None;
    let mut frame = match file.format {
        Format::Csv => {
            csv = Some(csv_scan::check(path, limits)?);
            // No inference: every cell comes as text, so that a bad one can be shown as written.
            let reader = LazyCsvReader::new(place).with_glob(false);
            reader.with_infer_schema_length(Some(0)).finish()
        }
        Format::Parquet => {
            bounds::parquet(path)?;
            LazyFrame::scan_parquet(place, ScanArgsParquet { glob: false, ..Default::default() })
        }
        // Types come from all lines: the first fraction or text of a column may stand far down.
        Format::Ndjson => {
            ndjson_scan::check(path, limits)?;
            LazyJsonLineReader::new(place).with_infer_schema_length(None).finish()
        }
        Format::Arrow => {
            bounds::arrow(path)?;
            LazyFrame::scan_ipc(place, Default::default(), UnifiedScanArgs::default())
        }
        Format::Rows => unreachable!("scratch files are not read by polars"),
    }
    .map_err(polars)?;
    let schema = frame.collect_schema().map_err(polars)?;
    let names: Vec<String> = schema.iter_names().map(|name| name.to_string()).collect();
    if names.len() > limits.columns_max {
        let (n, max) = (names.len(), limits.columns_max);
        return Err(Kind::Schema.at(path).msg(format!("has {n} columns, at most {max} are read")));
    }
    Ok((frame, with_hive(names, file), csv))
}

/// Names of columns, with those that the file's folders carry.
fn with_hive(mut names: Vec<String>, file: &DataFile) -> Vec<String> {
    for (key, _) in &file.hive {
        if !names.contains(key) {
            names.push(key.clone());
        }
    }
    names
}

fn missing_column(path: &Path, name: &str, names: &[String]) -> Error {
    let near = names
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
    let error = Kind::Schema.at(path).msg(format!("has no column `{name}`"));
    match near {
        Some(only) if names.len() == 1 && only.contains([';', '\t', '|']) => error
            .hint(format!("its header is one column, `{only}`: separate the columns by commas")),
        Some(near) if strsim::jaro_winkler(near, name) > 0.7 => {
            error.hint(format!("did you mean `{near}`?"))
        }
        _ => {
            let some = names.iter().take(12).cloned().collect::<Vec<_>>().join(", ");
            error.hint(format!("its columns are {some}"))
        }
    }
}

fn unreadable(file: &DataFile, error: &PolarsError) -> Error {
    let path = &file.path;
    if let (Format::Ndjson, Some((line, why))) = (file.format, first_bad_line(path)) {
        return Kind::Schema.at(path).line(line).msg(format!("is no JSON object: {why}"));
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or("unknown error").to_owned();
    Kind::Schema.at(path).msg(format!("cannot be read: {first}"))
}

/// The first line of an NDJSON file that is no object, and why; polars does not name it.
fn first_bad_line(path: &Path) -> Option<(u64, String)> {
    let mut reader = BufReader::new(File::open(path).ok()?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let blank = line.iter().all(u8::is_ascii_whitespace);
        if let (false, Err(error)) = (blank, serde_json::from_slice::<JsonObject>(&line)) {
            let why = error.to_string();
            // The line that serde_json counts is always the first of what it was given.
            let why = why.split(" at line ").next().unwrap_or_default();
            return Some((number, why.to_owned()));
        }
    }
    None
}

type JsonObject = serde_json::Map<String, serde_json::Value>;
