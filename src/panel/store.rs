//! A partition's panel and labels in one scratch file, as flat arrays.

use std::path::Path;

use super::attributes::{AttributeCells, AttributeColumn, AttributeTable};
use super::{BuildReport, Calendar, FollowUp, OpenWindow, Panel, Shard, Snapshots};
use crate::clock::Month;
use crate::error::Result;
use crate::fsx::Scratch;
use crate::source::Texts;
use crate::source::pack::{Packer, Unpacker};

/// What all partitions share and no file repeats.
#[derive(Debug, Clone, PartialEq)]
pub struct Shared {
    pub calendar: Calendar,
    pub measures: Vec<String>,
}

/// A missing category or date.
const NO_CODE: u32 = u32::MAX;
const NO_DAY: i32 = i32::MIN;

pub fn write(shard: &Shard, scratch: &Scratch, name: &str) -> Result<()> {
    let Shard { panel, snapshots } = shard;
    let mut out = Packer::new(scratch.create(name)?, &scratch.path().join(name));
    out.texts(&panel.customers.iter().map(String::as_str).collect())?;
    out.numbers(&panel.starts)?;
    out.numbers(&panel.values)?;
    out.number(panel.attributes.len() as u64)?;
    for table in &panel.attributes {
        out.texts(&Texts::from_iter([table.source.as_str()]))?;
        out.number(u8::from(table.versioned))?;
        out.numbers(&table.offsets)?;
        out.numbers(&table.valid_from.iter().map(|month| month.0).collect::<Vec<i32>>())?;
        out.texts(&table.columns.iter().map(|column| column.name.as_str()).collect())?;
        table.columns.iter().try_for_each(|column| write_cells(&mut out, &column.cells))?;
    }
    out.number(snapshots.horizon as u64)?;
    out.numbers(&snapshots.customers)?;
    out.numbers(&snapshots.months)?;
    out.numbers(&snapshots.churned.iter().map(|&churned| u8::from(churned)).collect::<Vec<_>>())?;
    out.numbers(&snapshots.hazards)?;
    write_open(&mut out, &snapshots.open)?;
    out.finish()
}

fn write_open<W: std::io::Write>(out: &mut Packer<W>, open: &[OpenWindow]) -> Result<()> {
    out.numbers(&open.iter().map(|o| o.customer).collect::<Vec<_>>())?;
    out.numbers(&open.iter().map(|o| o.month).collect::<Vec<_>>())?;
    out.numbers(&open.iter().map(|o| o.follow_up.months).collect::<Vec<_>>())?;
    out.numbers(&open.iter().map(|o| u8::from(o.follow_up.churned)).collect::<Vec<_>>())
}

fn read_open(input: &mut Unpacker) -> Result<Vec<OpenWindow>> {
    let customers: Vec<u32> = input.numbers()?;
    let (months, seen): (Vec<u16>, Vec<u16>) = (input.numbers()?, input.numbers()?);
    let churned: Vec<u8> = input.numbers()?;
    if [months.len(), seen.len(), churned.len()] != [customers.len(); 3] {
        return Err(input.corrupt());
    }
    let open = |(at, &customer): (usize, &u32)| OpenWindow {
        customer,
        month: months[at],
        follow_up: FollowUp { months: seen[at], churned: churned[at] != 0 },
    };
    Ok(customers.iter().enumerate().map(open).collect())
}

fn write_cells<W: std::io::Write>(out: &mut Packer<W>, cells: &AttributeCells) -> Result<()> {
    match cells {
        AttributeCells::Number(cells) => {
            out.number(0u8)?;
            out.numbers(cells)
        }
        AttributeCells::Category { codes, values } => {
            out.number(1u8)?;
            let codes: Vec<u32> = codes.iter().map(|code| code.unwrap_or(NO_CODE)).collect();
            out.numbers(&codes)?;
            out.texts(&values.iter().map(String::as_str).collect())
        }
        AttributeCells::Date(cells) => {
            out.number(2u8)?;
            let days: Vec<i32> = cells.iter().map(|day| day.unwrap_or(NO_DAY)).collect();
            out.numbers(&days)
        }
    }
}

/// # Errors
/// [`Kind::Corrupt`](crate::error::Kind) if the arrays do not fit together.
pub fn read(path: &Path, shared: &Shared) -> Result<Shard> {
    let mut input = Unpacker::open(path)?;
    let customers: Vec<String> = names(&mut input)?;
    let starts: Vec<u16> = input.numbers()?;
    let values: Vec<f32> = input.numbers()?;
    let tables: u64 = input.number()?;
    let attributes = (0..tables).map(|_| read_table(&mut input)).collect::<Result<Vec<_>>>()?;
    let snapshots = read_snapshots(&mut input)?;
    let months = shared.calendar.months as usize;
    let mut offsets = Vec::with_capacity(starts.len() + 1);
    offsets.push(0);
    let mut rows = 0;
    for &start in &starts {
        rows += months.saturating_sub(start as usize);
        offsets.push(rows);
    }
    let versions = |table: &AttributeTable| table.offsets.len() == customers.len() + 1;
    if starts.len() != customers.len()
        || values.len() != rows * shared.measures.len()
        || !attributes.iter().all(versions)
        || !input.is_at_end()
    {
        return Err(input.corrupt());
    }
    let panel = Panel {
        customers,
        calendar: shared.calendar,
        measures: shared.measures.clone(),
        offsets,
        starts,
        values,
        attributes,
        report: BuildReport::default(),
    };
    Ok(Shard { panel, snapshots })
}

fn read_table(input: &mut Unpacker) -> Result<AttributeTable> {
    let source = names(input)?.pop().ok_or_else(|| input.corrupt())?;
    let versioned = input.number::<u8>()? != 0;
    let offsets = input.numbers()?;
    let valid_from: Vec<i32> = input.numbers()?;
    let mut columns = Vec::new();
    for name in names(input)? {
        columns.push(AttributeColumn { name, cells: read_cells(input)? });
    }
    let valid_from = valid_from.into_iter().map(Month).collect();
    Ok(AttributeTable { source, versioned, offsets, valid_from, columns })
}

fn read_cells(input: &mut Unpacker) -> Result<AttributeCells> {
    Ok(match input.number::<u8>()? {
        0 => AttributeCells::Number(input.numbers()?),
        1 => {
            let codes: Vec<u32> = input.numbers()?;
            let codes = codes.into_iter().map(|code| (code != NO_CODE).then_some(code)).collect();
            AttributeCells::Category { codes, values: names(input)? }
        }
        2 => {
            let days: Vec<i32> = input.numbers()?;
            let days = days.into_iter().map(|day| (day != NO_DAY).then_some(day)).collect();
            AttributeCells::Date(days)
        }
        _ => return Err(input.corrupt()),
    })
}

fn read_snapshots(input: &mut Unpacker) -> Result<Snapshots> {
    let horizon = input.number::<u64>()? as usize;
    let customers: Vec<u32> = input.numbers()?;
    let months: Vec<u16> = input.numbers()?;
    let churned: Vec<u8> = input.numbers()?;
    let churned: Vec<bool> = churned.into_iter().map(|churned| churned != 0).collect();
    let hazards: Vec<i8> = input.numbers()?;
    let open = read_open(input)?;
    let count = customers.len();
    if months.len() != count || churned.len() != count || hazards.len() != count * horizon {
        return Err(input.corrupt());
    }
    let declared_parts = Vec::new();
    Ok(Snapshots { customers, months, churned, horizon, hazards, declared_parts, open })
}

fn names(input: &mut Unpacker) -> Result<Vec<String>> {
    Ok(input.texts()?.iter().map(str::to_owned).collect())
}
