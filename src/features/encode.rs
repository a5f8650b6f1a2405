//! Applies fitted features to a panel.

use rayon::prelude::*;

use super::derive::{self, Layout};
use super::fit::{FittedCategory, FittedFeatures};
use super::scale::FittedNumber;
use crate::config::ModelKind;
use crate::error::Result;
use crate::panel::{AttributeCells, Panel, Snapshots};

/// A row-major matrix.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Block {
    pub values: Vec<f32>,
    pub width: usize,
}

impl Block {
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..(row + 1) * self.width]
    }
}

/// What does not change: one row per customer.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticBlock {
    pub numbers: Block,
    /// `[customers, categories]`.
    pub codes: Vec<u32>,
    pub categories: usize,
}

/// What changes: one row per panel row.
#[derive(Debug, Clone, PartialEq)]
pub struct MonthBlock(pub Block);

/// A panel, encoded once for all models of a fold.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    pub fixed: StaticBlock,
    /// None if no model reads whole histories.
    pub months: Option<MonthBlock>,
}

impl Encoded {
    pub fn new(features: &FittedFeatures, panel: &Panel, kinds: &[ModelKind]) -> Result<Self> {
        let sequence = kinds.iter().any(|kind| *kind != ModelKind::Mlp);
        Ok(Encoded {
            fixed: features.encode_static(panel)?,
            months: if sequence { Some(features.encode_months(panel)?) } else { None },
        })
    }
}

impl FittedFeatures {
    /// Encodes the attributes of all customers.
    pub fn encode_static(&self, panel: &Panel) -> Result<StaticBlock> {
        let layout = self.check(panel)?;
        let customers = panel.customers.len();
        let mut numbers = Block {
            values: vec![0.0; customers * self.static_width()],
            width: self.static_width(),
        };
        let mut raw = vec![0.0; layout.static_numbers.len()];
        for customer in 0..customers {
            for (value, &at) in raw.iter_mut().zip(&layout.static_numbers) {
                let (table, column) = derive::column(panel, at);
                *value = match (&column.cells, table.oldest(customer)) {
                    (AttributeCells::Number(cells), Some(version)) => cells[version],
                    _ => f32::NAN,
                };
            }
            let width = numbers.width;
            scale(&self.static_numbers, &raw, &mut numbers.values[customer * width..][..width]);
        }
        let categories = self.static_categories.len();
        let mut codes = vec![0u32; customers * categories];
        for (c, (fitted, &at)) in
            self.static_categories.iter().zip(&layout.static_categories).enumerate()
        {
            let of = category_codes(panel, fitted, at);
            let table = derive::column(panel, at).0;
            for customer in 0..customers {
                let code = table.oldest(customer).map_or(fitted.code(None), |version| of[version]);
                codes[customer * categories + c] = code;
            }
        }
        Ok(StaticBlock { numbers, codes, categories })
    }

    /// Encodes every month of every customer.
    pub fn encode_months(&self, panel: &Panel) -> Result<MonthBlock> {
        let layout = self.check(panel)?;
        let width = self.month_width();
        let mut values = vec![0.0; panel.rows() * width];
        if width > 0 {
            let mut pieces: Vec<(usize, &mut [f32])> = Vec::with_capacity(panel.customers.len());
            let mut rest = values.as_mut_slice();
            for customer in 0..panel.customers.len() {
                let (piece, tail) = rest.split_at_mut(panel.months_of(customer) * width);
                pieces.push((customer, piece));
                rest = tail;
            }
            let encoder = MonthEncoder::new(self, panel, layout);
            pieces.into_par_iter().for_each(|(customer, piece)| {
                let mut raw = vec![0.0; self.month_numbers.len()];
                for (since, out) in piece.chunks_mut(width).enumerate() {
                    encoder.encode(customer, since, &mut raw, out);
                }
            });
        }
        Ok(MonthBlock(Block { values, width }))
    }
}

/// What the MLP sees of the given snapshots: `[chosen, static + month + window]` numbers, and the
/// codes of their static categories. Only as-of months are encoded.
pub fn snapshots_block(
    fitted: &FittedFeatures,
    panel: &Panel,
    fixed: &StaticBlock,
    snapshots: &Snapshots,
    chosen: &[u32],
) -> Result<(Block, Vec<u32>)> {
    let layout = fitted.check(panel)?;
    let encoder = MonthEncoder::new(fitted, panel, layout);
    let (s, m, w) = (fitted.static_width(), fitted.month_width(), fitted.window_width());
    let width = s + m + w;
    let mut block = Block { values: vec![0.0; chosen.len() * width], width };
    let mut codes = vec![0u32; chosen.len() * fixed.categories];
    let encode = |snapshot: u32, out: &mut [f32]| {
        let customer = snapshots.customers[snapshot as usize] as usize;
        let since = snapshots.months[snapshot as usize] as usize - panel.starts[customer] as usize;
        out[..s].copy_from_slice(fixed.numbers.row(customer));
        let mut raw = vec![0.0; fitted.month_numbers.len().max(fitted.window_numbers.len())];
        encoder.encode(customer, since, &mut raw[..fitted.month_numbers.len()], &mut out[s..s + m]);
        let raw = &mut raw[..fitted.window_numbers.len()];
        derive::windows(panel, &fitted.spec.windows, (customer, since), raw);
        scale(&fitted.window_numbers, raw, &mut out[s + m..]);
    };
    if width > 0 {
        block
            .values
            .par_chunks_mut(width)
            .zip(chosen.par_iter())
            .for_each(|(out, &snapshot)| encode(snapshot, out));
    }
    for (out, &snapshot) in codes.chunks_mut(fixed.categories.max(1)).zip(chosen) {
        let customer = snapshots.customers[snapshot as usize] as usize;
        out.copy_from_slice(&fixed.codes[customer * fixed.categories..][..fixed.categories]);
    }
    Ok((block, codes))
}

struct MonthEncoder<'a> {
    fitted: &'a FittedFeatures,
    panel: &'a Panel,
    layout: Layout,
    /// Per dated category, the code of each version.
    codes: Vec<Vec<u32>>,
}

impl<'a> MonthEncoder<'a> {
    fn new(fitted: &'a FittedFeatures, panel: &'a Panel, layout: Layout) -> Self {
        let codes = fitted
            .month_categories
            .iter()
            .zip(&layout.dated_categories)
            .map(|(category, &at)| category_codes(panel, category, at))
            .collect();
        MonthEncoder { fitted, panel, layout, codes }
    }

    fn encode(&self, customer: usize, since: usize, raw: &mut [f32], out: &mut [f32]) {
        derive::month(self.panel, &self.layout, customer, since, raw);
        let mut at = scale(&self.fitted.month_numbers, raw, out);
        let now = self.panel.calendar.month(self.panel.starts[customer] as usize + since);
        for (c, category) in self.fitted.month_categories.iter().enumerate() {
            let table = derive::column(self.panel, self.layout.dated_categories[c]).0;
            let code = table.version(customer, now).map_or(0, |version| self.codes[c][version]);
            let one_hot = &mut out[at..at + category.codes()];
            one_hot.fill(0.0);
            one_hot[code as usize] = 1.0;
            at += category.codes();
        }
    }
}

/// Scales a row of raw numbers: all values, then the missing indicators. Returns the columns used.
fn scale(numbers: &[FittedNumber], raw: &[f32], out: &mut [f32]) -> usize {
    for (out, (number, &raw)) in out.iter_mut().zip(numbers.iter().zip(raw)) {
        *out = number.apply(raw);
    }
    let mut at = numbers.len();
    for (number, raw) in numbers.iter().zip(raw).filter(|(number, _)| number.indicator) {
        out[at] = f32::from(u8::from(raw.is_nan()));
        at += number.width() - 1;
    }
    at
}

/// The fitted code of every version of a category column.
fn category_codes(panel: &Panel, fitted: &FittedCategory, at: (usize, usize)) -> Vec<u32> {
    let AttributeCells::Category { codes, values } = &derive::column(panel, at).1.cells else {
        unreachable!("the layout lists categories here")
    };
    let map: Vec<u32> = values.iter().map(|value| fitted.code(Some(value))).collect();
    codes.iter().map(|code| code.map_or(fitted.code(None), |c| map[c as usize])).collect()
}

/// The matrix of the logistic regression: the MLP's numbers, and categories one-hot without their
/// first code, `[chosen, columns]`.
pub fn design(
    fitted: &FittedFeatures,
    panel: &Panel,
    encoded: &Encoded,
    snapshots: &Snapshots,
    chosen: &[u32],
) -> Result<Block> {
    let (numbers, codes) = snapshots_block(fitted, panel, &encoded.fixed, snapshots, chosen)?;
    let counts = fitted.category_codes();
    let width = numbers.width + counts.iter().map(|codes| codes - 1).sum::<usize>();
    let mut values = vec![0.0; chosen.len() * width];
    for (row, out) in values.chunks_mut(width.max(1)).enumerate() {
        out[..numbers.width].copy_from_slice(numbers.row(row));
        let mut at = numbers.width;
        for (category, count) in counts.iter().enumerate() {
            let code = codes[row * counts.len() + category] as usize;
            if code > 0 {
                out[at + code - 1] = 1.0;
            }
            at += count - 1;
        }
    }
    Ok(Block { values, width })
}
