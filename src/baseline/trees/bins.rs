//! Values as small whole numbers: a tree sees only the order of numbers and the identity of codes.

use rayon::prelude::*;

use super::Table;
use crate::features::RawKind;

/// Bins of a number or codes of a category, so that a bin fits a byte.
pub(super) const BINS_MAX: usize = 255;

/// The borders of all columns, learned from train rows.
pub(super) struct Borders(Vec<Column>);

enum Column {
    /// Rising; the bin of a value is the number of borders below it, 0 for missing.
    Number(Vec<f32>),
    /// Named codes; a larger one shares the bin of the rare values.
    Category { codes: usize },
}

/// Binned rows, column by column.
pub(super) struct Binned {
    /// `[columns][rows]`.
    pub columns: Vec<Vec<u8>>,
}

impl Borders {
    pub fn learn(train: &Table) -> Self {
        let column = |(at, kind): (usize, &RawKind)| match kind {
            RawKind::Category { codes } => Column::Category { codes: (*codes).min(BINS_MAX) },
            RawKind::Number => {
                let values = (0..train.rows()).map(|row| train.value(row, at)).collect();
                Column::Number(number_borders(values))
            }
        };
        Borders(train.kinds.par_iter().enumerate().map(column).collect())
    }

    pub fn apply(&self, table: &Table) -> Binned {
        let column = |(at, column): (usize, &Column)| {
            (0..table.rows()).map(|row| column.bin(table.value(row, at))).collect()
        };
        Binned { columns: self.0.par_iter().enumerate().map(column).collect() }
    }

    pub fn columns(&self) -> usize {
        self.0.len()
    }

    /// Bins of a column.
    pub fn bins(&self, column: usize) -> usize {
        match &self.0[column] {
            Column::Number(borders) => borders.len() + 1,
            Column::Category { codes } => *codes,
        }
    }

    pub fn is_category(&self, column: usize) -> bool {
        matches!(self.0[column], Column::Category { .. })
    }

    /// What a node that asks for `bin` compares a raw value with.
    pub fn threshold(&self, column: usize, bin: u8) -> f32 {
        match &self.0[column] {
            Column::Number(borders) => borders[bin as usize],
            Column::Category { .. } => f32::from(bin),
        }
    }
}

impl Column {
    fn bin(&self, value: f32) -> u8 {
        match self {
            Column::Number(_) if value.is_nan() => 0,
            Column::Number(borders) => borders.partition_point(|&b| b < value) as u8,
            // Code 1 is that of rare and unknown values.
            Column::Category { codes } if value as usize >= *codes => 1,
            Column::Category { .. } => value as u8,
        }
    }
}

/// Borders halfway between neighbouring values, at most `BINS_MAX - 1`, about as many rows between
/// any two. Where values are missing the first border parts them from all numbers.
fn number_borders(mut values: Vec<f32>) -> Vec<f32> {
    let rows = values.len();
    values.retain(|v| !v.is_nan());
    let missing = values.len() < rows;
    values.sort_unstable_by(f32::total_cmp);
    let mut borders = Vec::new();
    if missing && !values.is_empty() {
        borders.push(f32::MIN);
    }
    let room = BINS_MAX - 1 - borders.len();
    let mut distinct = values.clone();
    distinct.dedup();
    let cuts = if distinct.len() <= room + 1 {
        distinct.windows(2).map(|pair| halfway(pair[0], pair[1])).collect()
    } else {
        quantile_cuts(&values, room)
    };
    borders.extend(cuts);
    borders
}

/// Rising, without repetition.
fn quantile_cuts(sorted: &[f32], room: usize) -> Vec<f32> {
    let mut cuts: Vec<f32> = Vec::with_capacity(room);
    for i in 1..=room {
        let at = sorted.len() * i / (room + 1);
        // Inside a run of equal values: behind it.
        let above = sorted.partition_point(|&v| v <= sorted[at - 1]);
        if above < sorted.len() {
            let cut = halfway(sorted[above - 1], sorted[above]);
            if cuts.last().is_none_or(|&last| last < cut) {
                cuts.push(cut);
            }
        }
    }
    cuts
}

/// Between `below` and `above`: at least the former, less than the latter.
fn halfway(below: f32, above: f32) -> f32 {
    let middle = below + (above - below) / 2.0;
    if middle.is_finite() && middle < above { middle } else { below }
}
