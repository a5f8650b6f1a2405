//! What a Parquet or Arrow file claims, held against what it is: their readers allocate what a file
//! says, and a few kilobytes can say gigabytes.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;

use polars::prelude::{ParquetReader, SerReader};
use polars_arrow::io::ipc::read::read_file_metadata;

use super::messages::Messages;
use crate::error::{Kind, Result};

/// A column of a row group, or a batch, that is larger than this once it is decompressed must not
/// also be much larger than it is in the file.
pub(super) const INFLATED_BYTES_MAX: u64 = 64 << 20;

/// How much larger it may be; tables reach some tens.
pub(super) const INFLATION_MAX: u64 = 100;

/// Rows of a Parquet file for each of its bytes. A key alone takes more than a tenth of a byte a
/// row, were it repeated a hundred times.
const ROWS_PER_BYTE_MAX: u64 = 16;

/// Rows below which a file is small enough, whatever its size.
const ROWS_FREE: u64 = 1 << 20;

pub fn parquet(path: &Path) -> Result<()> {
    let unreadable = |error: &dyn std::fmt::Display| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        Kind::Schema.at(path).msg(format!("cannot be read: {first}"))
    };
    let file = File::open(path).map_err(|error| Kind::Data.at(path).io(&error))?;
    let bytes = file.metadata().map_err(|error| Kind::Data.at(path).io(&error))?.len();
    let mut reader = ParquetReader::new(file);
    let metadata = reader.get_metadata().map_err(|error| unreadable(&error))?;
    let rows: u64 = metadata.row_groups.iter().map(|group| group.num_rows() as u64).sum();
    if rows > ROWS_FREE && rows / ROWS_PER_BYTE_MAX > bytes {
        let message = format!("claims {rows} rows in {bytes} bytes");
        return Err(Kind::Schema.at(path).msg(message).hint("no table is that repetitive"));
    }
    for column in metadata.row_groups.iter().flat_map(|group| group.parquet_columns()) {
        let [packed, inflated] = [column.compressed_size(), column.uncompressed_size()]
            .map(|size| u64::try_from(size).unwrap_or(u64::MAX));
        if inflated > INFLATED_BYTES_MAX && inflated / INFLATION_MAX > packed {
            return Err(Kind::Schema.at(path).msg(format!(
                "a column claims {inflated} bytes in {packed}, more than {INFLATION_MAX} times as \
                 many"
            )));
        }
    }
    Ok(())
}

pub fn arrow(path: &Path) -> Result<()> {
    let at = |error: std::io::Error| Kind::Schema.at(path).msg(format!("cannot be read: {error}"));
    let mut file = File::open(path).map_err(|error| Kind::Data.at(path).io(&error))?;
    // What polars says of a file without a footer is good enough.
    let Ok(metadata) = read_file_metadata(&mut file) else { return Ok(()) };
    let blocks = metadata.blocks.iter().chain(metadata.dictionaries.iter().flatten());
    for block in blocks {
        let offset = u64::try_from(block.offset).unwrap_or(u64::MAX);
        file.seek(SeekFrom::Start(offset)).map_err(at)?;
        Messages::new(&file).check_inflation().map_err(at)?;
    }
    Ok(())
}
