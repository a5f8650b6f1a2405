//! Tables out: CSV, Parquet, Arrow IPC and NDJSON through polars, whole or piece by piece.

use std::path::{Path, PathBuf};

use polars::io::csv::write::BatchedWriter as CsvPieces;
use polars::io::ipc::BatchedWriter as IpcPieces;
use polars::io::parquet::write::BatchedWriter as ParquetPieces;
use polars::prelude::*;
use polars_arrow::io::ipc::write::default_ipc_fields;

use super::files::format_of;
use crate::config::Format;
use crate::error::{Error, Kind, Result};
use crate::fsx::{Draft, DraftOut};

/// Rows of a row group at most: a reader holds a few groups at a time, whatever the file's size.
const ROW_GROUP_ROWS: usize = 1 << 18;

/// One column to write. `Option` cells are null in the file.
#[derive(Debug, Clone, PartialEq)]
pub enum OutColumn {
    Text(Vec<String>),
    MaybeText(Vec<Option<String>>),
    Integer(Vec<i64>),
    Number(Vec<f64>),
    MaybeNumber(Vec<Option<f64>>),
    /// Days since 1970-01-01.
    Day(Vec<i32>),
    MaybeDay(Vec<Option<i32>>),
}

impl OutColumn {
    pub fn into_column(self, name: &str) -> PolarsResult<Column> {
        let name: PlSmallStr = name.into();
        Ok(match self {
            OutColumn::Text(cells) => Column::new(name, cells),
            OutColumn::MaybeText(cells) => Column::new(name, cells),
            OutColumn::Integer(cells) => Column::new(name, cells),
            OutColumn::Number(cells) => Column::new(name, cells),
            OutColumn::MaybeNumber(cells) => Column::new(name, cells),
            OutColumn::Day(cells) => Column::new(name, cells).cast(&DataType::Date)?,
            OutColumn::MaybeDay(cells) => Column::new(name, cells).cast(&DataType::Date)?,
        })
    }
}

/// Writes a table; the extension decides: `.csv`, `.parquet`, `.arrow` or `.ndjson`, and the other
/// names of these that are read.
pub fn write_table(path: &Path, columns: Vec<(&str, OutColumn)>) -> Result<()> {
    let mut out = TableDraft::begin(path)?;
    out.write(columns)?;
    out.publish()
}

/// A table that is written piece by piece and appears when it is published.
pub struct TableDraft {
    path: PathBuf,
    format: Format,
    draft: Draft,
    /// The first piece says what the columns are.
    pieces: Option<Pieces>,
}

enum Pieces {
    Csv(CsvPieces<DraftOut>),
    Parquet(Box<ParquetPieces<DraftOut>>),
    Arrow(Box<IpcPieces<DraftOut>>),
    Ndjson(DraftOut),
}

impl TableDraft {
    pub fn begin(path: &Path) -> Result<Self> {
        let format = format_of(path).ok_or_else(|| unknown_format(path))?;
        Ok(TableDraft { path: path.into(), format, draft: Draft::begin(path)?, pieces: None })
    }

    /// Appends rows. All pieces have the same columns.
    pub fn write(&mut self, columns: Vec<(impl AsRef<str>, OutColumn)>) -> Result<()> {
        let column = |(name, cells): (_, OutColumn)| cells.into_column(AsRef::as_ref(&name));
        let columns: PolarsResult<Vec<Column>> = columns.into_iter().map(column).collect();
        let frame = columns.and_then(DataFrame::new_infer_height);
        frame.and_then(|frame| self.append(&frame)).map_err(|error| failed(&self.path, error))
    }

    fn append(&mut self, frame: &DataFrame) -> PolarsResult<()> {
        if self.pieces.is_none() {
            self.pieces = Some(Pieces::begin(self.format, self.draft.out(), frame.schema())?);
        }
        match self.pieces.as_mut().expect("set above") {
            Pieces::Csv(pieces) => pieces.write_batch(frame),
            Pieces::Arrow(pieces) => pieces.write_batch(frame),
            Pieces::Ndjson(out) => JsonWriter::new(out)
                .with_json_format(JsonFormat::JsonLines)
                .finish(&mut frame.clone()),
            Pieces::Parquet(pieces) => (0..frame.height())
                .step_by(ROW_GROUP_ROWS)
                .try_for_each(|at| pieces.write_batch(&frame.slice(at as i64, ROW_GROUP_ROWS))),
        }
    }

    /// # Errors
    /// [`Kind::Internal`] if nothing was written: such a table has no columns.
    pub fn publish(self) -> Result<()> {
        let done = match self.pieces {
            Some(Pieces::Csv(mut pieces)) => pieces.finish(),
            Some(Pieces::Parquet(pieces)) => pieces.finish().map(|_| ()),
            Some(Pieces::Arrow(mut pieces)) => pieces.finish(),
            Some(Pieces::Ndjson(_)) => Ok(()),
            None => return Err(Kind::Internal.at(&self.path).msg("a table of no pieces")),
        };
        done.map_err(|error| failed(&self.path, error))?;
        self.draft.publish()
    }
}

fn failed(path: &Path, error: PolarsError) -> Error {
    match error {
        PolarsError::IO { error, .. } => Kind::Environment.at(path).io(&error),
        error => Kind::Internal.at(path).msg(error.to_string()),
    }
}

impl Pieces {
    fn begin(format: Format, out: DraftOut, schema: &Schema) -> PolarsResult<Self> {
        Ok(match format {
            Format::Csv => Pieces::Csv(CsvWriter::new(out).batched(schema)?),
            Format::Arrow => {
                let fields = schema.to_arrow(CompatLevel::oldest());
                let fields = default_ipc_fields(fields.iter_values());
                let writer = IpcWriter::new(out).with_compat_level(CompatLevel::oldest());
                Pieces::Arrow(Box::new(writer.batched(schema, fields)?))
            }
            Format::Ndjson => Pieces::Ndjson(out),
            Format::Rows => unreachable!("no extension names scratch files"),
            Format::Parquet => {
                let writer = ParquetWriter::new(out);
                let writer = writer.with_compression(ParquetCompression::Zstd(None));
                Pieces::Parquet(Box::new(writer.batched(schema)?))
            }
        })
    }
}

fn unknown_format(path: &Path) -> Error {
    Kind::Usage
        .at(path)
        .msg("has no format that we write")
        .hint("name it .csv, .parquet, .arrow or .ndjson")
}
