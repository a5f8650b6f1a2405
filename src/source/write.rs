//! Tables out: CSV and Parquet through polars, published whole.

use std::path::Path;

use polars::prelude::*;

use crate::error::{Error, Kind, Result};
use crate::fsx;

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
    fn into_column(self, name: &str) -> PolarsResult<Column> {
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
    let columns: PolarsResult<Vec<Column>> =
        columns.into_iter().map(|(name, cells)| cells.into_column(name)).collect();
    let mut frame = columns
        .and_then(DataFrame::new_infer_height)
        .map_err(|error| Kind::Internal.at(path).msg(error.to_string()))?;
    match path.extension().and_then(|e| e.to_str()) {
        Some("csv") => publish(path, |out| CsvWriter::new(out).finish(&mut frame)),
        Some("parquet") => publish(path, |out| {
            ParquetWriter::new(out)
                .with_compression(ParquetCompression::Zstd(None))
                .finish(&mut frame)
                .map(|_| ())
        }),
        _ => Err(unknown_format(path)),
    }
}

fn publish(
    path: &Path,
    write: impl FnOnce(&mut std::io::BufWriter<std::fs::File>) -> PolarsResult<()>,
) -> Result<()> {
    fsx::publish_file(path, |out| write(out).map_err(std::io::Error::other))
}

fn unknown_format(path: &Path) -> Error {
    Kind::Usage.at(path).msg("has no format that we write").hint("name it .csv or .parquet")
}
