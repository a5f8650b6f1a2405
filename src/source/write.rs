//! Tables out: CSV and Parquet through polars, whole or piece by piece.

use std::path::{Path, PathBuf};

use polars::io::csv::write::BatchedWriter as CsvPieces;
use polars::io::parquet::write::BatchedWriter as ParquetPieces;
use polars::prelude::*;

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

/// Writes a table; the extension decides: `.csv` or `.parquet`.
pub fn write_table(path: &Path, columns: Vec<(&str, OutColumn)>) -> Result<()> {
    let mut out = TableDraft::begin(path)?;
    out.write(columns)?;
    out.publish()
}

/// A table that is written piece by piece and appears when it is published.
pub struct TableDraft {
    path: PathBuf,
    format: OutFormat,
    draft: Draft,
    /// The first piece says what the columns are.
    pieces: Option<Pieces>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutFormat {
    Csv,
    Parquet,
}

enum Pieces {
    Csv(CsvPieces<DraftOut>),
    Parquet(Box<ParquetPieces<DraftOut>>),
}

impl TableDraft {
    pub fn begin(path: &Path) -> Result<Self> {
        let format = match path.extension().and_then(|e| e.to_str()) {
            Some("csv") => OutFormat::Csv,
            Some("parquet") => OutFormat::Parquet,
            _ => return Err(unknown_format(path)),
        };
        Ok(TableDraft { path: path.into(), format, draft: Draft::begin(path)?, pieces: None })
    }

    /// Appends rows. All pieces have the same columns.
    pub fn write(&mut self, columns: Vec<(&str, OutColumn)>) -> Result<()> {
        let columns: PolarsResult<Vec<Column>> =
            columns.into_iter().map(|(name, cells)| cells.into_column(name)).collect();
        let frame = columns.and_then(DataFrame::new_infer_height);
        frame.and_then(|frame| self.append(&frame)).map_err(|error| failed(&self.path, error))
    }

    fn append(&mut self, frame: &DataFrame) -> PolarsResult<()> {
        if self.pieces.is_none() {
            self.pieces = Some(Pieces::begin(self.format, self.draft.out(), frame.schema())?);
        }
        match self.pieces.as_mut().expect("set above") {
            Pieces::Csv(pieces) => pieces.write_batch(frame),
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
    fn begin(format: OutFormat, out: DraftOut, schema: &Schema) -> PolarsResult<Self> {
        Ok(match format {
            OutFormat::Csv => Pieces::Csv(CsvWriter::new(out).batched(schema)?),
            OutFormat::Parquet => {
                let writer = ParquetWriter::new(out);
                let writer = writer.with_compression(ParquetCompression::Zstd(None));
                Pieces::Parquet(Box::new(writer.batched(schema)?))
            }
        })
    }
}

fn unknown_format(path: &Path) -> Error {
    Kind::Usage.at(path).msg("has no format that we write").hint("name it .csv or .parquet")
}
