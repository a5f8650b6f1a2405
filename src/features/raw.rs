//! What tree models see of a snapshot: raw numbers, neither scaled nor filled, and category codes.
//!
//! Trees split on the order of values, so that no scaling helps them, and they send missing values
//! their own way. Beside the numbers of the MLP they get each measure month by month, which a
//! network reads as a sequence.

use super::derive;
use super::encode::{Block, Encoder, block};
use super::fit::FittedFeatures;
use crate::panel::{AttributeCells, Snapshots};

/// Most months back at which a level is a column of its own.
const LAGS_MAX: u32 = 12;

/// A column of a raw snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawColumn {
    pub name: String,
    pub kind: RawKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawKind {
    /// NaN is missing.
    Number,
    /// A whole number from 0, less than `codes`; see [`FittedCategory`](super::FittedCategory).
    Category { codes: usize },
}

impl FittedFeatures {
    /// The columns of a raw snapshot, in their order.
    pub fn raw_columns(&self) -> Vec<RawColumn> {
        let number = |name: String| RawColumn { name, kind: RawKind::Number };
        let category = |c: &super::FittedCategory| RawColumn {
            name: c.name.clone(),
            kind: RawKind::Category { codes: c.codes() },
        };
        let numbers = |numbers: &[super::FittedNumber]| -> Vec<RawColumn> {
            numbers.iter().map(|n| number(n.name.clone())).collect()
        };
        let mut columns = numbers(&self.static_numbers);
        columns.extend(self.static_categories.iter().map(category));
        columns.extend(numbers(&self.month_numbers));
        columns.extend(self.month_categories.iter().map(category));
        columns.extend(numbers(&self.window_numbers));
        let lags = self.lags();
        for measure in &self.measures {
            columns.extend((1..=lags).map(|lag| number(format!("{measure}.lag_{lag}"))));
        }
        columns
    }

    /// Months back, besides the as-of month, at which levels are columns.
    pub fn lags(&self) -> usize {
        let longest = self.spec.windows.iter().copied().max().unwrap_or(0);
        longest.min(LAGS_MAX).saturating_sub(1) as usize
    }
}

impl Encoder<'_> {
    /// Writes a raw snapshot, `[raw_columns().len()]`.
    pub fn raw_snapshot(&self, customer: usize, since: usize, out: &mut [f32]) {
        let (fitted, panel, layout) = (self.fitted(), self.panel(), self.layout());
        let (fixed, out) = out.split_at_mut(layout.static_numbers.len());
        for (out, &at) in fixed.iter_mut().zip(&layout.static_numbers) {
            let (table, column) = derive::column(panel, at);
            *out = match (&column.cells, table.oldest(customer)) {
                (AttributeCells::Number(cells), Some(version)) => cells[version],
                _ => f32::NAN,
            };
        }
        let (codes, out) = out.split_at_mut(layout.static_categories.len());
        let mut found = vec![0; codes.len()];
        self.codes(customer, &mut found);
        codes.iter_mut().zip(found).for_each(|(out, code)| *out = code as f32);

        let (month, out) = out.split_at_mut(fitted.month_numbers.len());
        derive::month(panel, layout, customer, since, month);
        let (codes, out) = out.split_at_mut(layout.dated_categories.len());
        for (category, out) in codes.iter_mut().enumerate() {
            *out = self.dated_code(category, customer, since) as f32;
        }
        let (windows, out) = out.split_at_mut(fitted.window_numbers.len());
        derive::windows(panel, &fitted.spec.windows, (customer, since), windows);
        let (lags, first) = (fitted.lags(), panel.offsets[customer]);
        for (measure, out) in out.chunks_mut(lags.max(1)).enumerate() {
            for (out, lag) in out.iter_mut().zip(1..) {
                let before = since.checked_sub(lag);
                *out = before.map_or(f32::NAN, |since| panel.at(first + since)[measure]);
            }
        }
    }
}

/// Raw snapshots, `[chosen, raw_columns().len()]`.
pub fn raw_block(encoder: &Encoder, snapshots: &Snapshots, chosen: &[u32]) -> Block {
    let of = (chosen, encoder.fitted().raw_columns().len());
    block(encoder, snapshots, of, |customer, since, out| {
        encoder.raw_snapshot(customer, since, out);
    })
}
