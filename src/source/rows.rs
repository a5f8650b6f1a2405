//! Scratch files of a table's rows, already typed: written while a table is divided into
//! partitions, read back like any other file of a source.
//!
//! A file is a header (columns and their types) and blocks of rows: keys, then column by column.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use super::cells::Cells;
use super::files::DataFile;
use super::pack::{Packer, Unpacker};
use super::read::{Batch, Wanted};
use super::texts::Texts;
use crate::config::ColumnType;
use crate::error::{Kind, Result};

/// A missing date.
const NO_DAY: i32 = i32::MIN;

/// Writes the rows of one partition of one table.
pub struct RowsWriter(Packer<BufWriter<File>>);

impl RowsWriter {
    pub fn new(out: BufWriter<File>, path: &Path, columns: &[Wanted]) -> Result<Self> {
        let mut packer = Packer::new(out, path);
        packer.texts(&columns.iter().map(|column| column.name.as_str()).collect())?;
        packer.numbers(&columns.iter().map(|column| code(column.kind)).collect::<Vec<u8>>())?;
        Ok(RowsWriter(packer))
    }

    /// Appends a block; `cells` are the columns that were named, in their order.
    pub fn write(&mut self, keys: &Texts, cells: &[Cells]) -> Result<()> {
        self.0.texts(keys)?;
        cells.iter().try_for_each(|cells| match cells {
            Cells::Number(cells) => self.0.numbers(cells),
            Cells::Category(cells) => self.0.texts(cells),
            Cells::Date(cells) => {
                let days: Vec<i32> = cells.iter().map(|day| day.unwrap_or(NO_DAY)).collect();
                self.0.numbers(&days)
            }
        })
    }

    pub fn finish(self) -> Result<()> {
        self.0.finish()
    }
}

/// Names of the columns of a file.
pub fn columns(file: &DataFile) -> Result<Vec<String>> {
    let names = Unpacker::open(&file.path)?.texts()?;
    Ok(names.iter().map(str::to_owned).collect())
}

/// Hands out the wanted columns block by block. Returns the rows.
pub fn scan(
    file: &DataFile,
    wanted: &[Wanted],
    consume: &mut dyn FnMut(Batch) -> Result<()>,
) -> Result<u64> {
    let mut input = Unpacker::open(&file.path)?;
    let names = input.texts()?;
    let kinds: Vec<u8> = input.numbers()?;
    let place = |wanted: &Wanted| {
        let there = |(name, kind): (&str, &u8)| name == wanted.name && *kind == code(wanted.kind);
        names.iter().zip(&kinds).position(there).ok_or_else(|| {
            Kind::Internal.at(&file.path).msg(format!("has no column `{}`", wanted.name))
        })
    };
    let places = wanted.iter().map(place).collect::<Result<Vec<_>>>()?;
    let mut first_row = 0;
    while !input.is_at_end() {
        let keys = input.texts()?;
        let rows = keys.len();
        let mut cells = Vec::with_capacity(kinds.len());
        for &kind in &kinds {
            let column = read(&mut input, kind)?;
            if column.len() != rows {
                return Err(input.corrupt());
            }
            cells.push(column);
        }
        // A column may be wanted twice.
        let cells = places.iter().map(|&at| cells[at].clone()).collect();
        let batch = Batch { file: &file.path, first_row, rows_are_lines: false, keys, cells };
        consume(batch)?;
        first_row += rows as u64;
    }
    Ok(first_row)
}

fn read(input: &mut Unpacker, kind: u8) -> Result<Cells> {
    Ok(match kind {
        0 => Cells::Number(input.numbers()?),
        1 => Cells::Category(input.texts()?),
        2 => {
            let day = |day: i32| (day != NO_DAY).then_some(day);
            Cells::Date(input.numbers()?.into_iter().map(day).collect())
        }
        _ => return Err(input.corrupt()),
    })
}

fn code(kind: ColumnType) -> u8 {
    match kind {
        ColumnType::Number => 0,
        ColumnType::Category => 1,
        ColumnType::Date => 2,
    }
}
