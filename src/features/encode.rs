//! Applies fitted features to a panel, customer by customer, straight into the caller's buffers.

use rayon::prelude::*;

use super::derive::{self, Layout};
use super::fit::{FittedCategory, FittedFeatures};
use super::raw::RawKind;
use super::scale::FittedNumber;
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

/// Fitted features, ready to be applied to one panel. It holds no encoded value: what is encoded
/// stands only where it is used.
pub struct Encoder<'a> {
    fitted: &'a FittedFeatures,
    panel: &'a Panel,
    layout: Layout,
    /// Per category that does not change, the code of each version.
    fixed_codes: Vec<Vec<u32>>,
    /// Per dated category, the code of each version.
    dated_codes: Vec<Vec<u32>>,
}

impl<'a> Encoder<'a> {
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind) if the panel has other columns than were fitted.
    pub fn new(fitted: &'a FittedFeatures, panel: &'a Panel) -> Result<Self> {
        let layout = fitted.check(panel)?;
        let codes = |categories: &[FittedCategory], places: &[(usize, usize)]| {
            let of = |(fitted, &at): (&FittedCategory, _)| category_codes(panel, fitted, at);
            categories.iter().zip(places).map(of).collect()
        };
        let fixed_codes = codes(&fitted.static_categories, &layout.static_categories);
        let dated_codes = codes(&fitted.month_categories, &layout.dated_categories);
        Ok(Encoder { fitted, panel, layout, fixed_codes, dated_codes })
    }

    pub fn fitted(&self) -> &FittedFeatures {
        self.fitted
    }

    pub fn panel(&self) -> &Panel {
        self.panel
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The code of a dated category at a customer's `since`-th month.
    pub(super) fn dated_code(&self, category: usize, customer: usize, since: usize) -> u32 {
        let now = self.panel.calendar.month(self.panel.starts[customer] as usize + since);
        let table = derive::column(self.panel, self.layout.dated_categories[category]).0;
        table.version(customer, now).map_or(0, |version| self.dated_codes[category][version])
    }

    /// Numbers that an MLP sees of a snapshot: static, month and window.
    pub fn snapshot_width(&self) -> usize {
        self.fitted.static_width() + self.fitted.month_width() + self.fitted.window_width()
    }

    /// The numbers of a customer that do not change, `[static_width]`.
    pub fn fixed(&self, customer: usize, out: &mut [f32]) {
        let raw = |&at: &(usize, usize)| {
            let (table, column) = derive::column(self.panel, at);
            match (&column.cells, table.oldest(customer)) {
                (AttributeCells::Number(cells), Some(version)) => cells[version],
                _ => f32::NAN,
            }
        };
        let raw: Vec<f32> = self.layout.static_numbers.iter().map(raw).collect();
        scale(&self.fitted.static_numbers, &raw, out);
    }

    /// The codes of a customer's categories that do not change.
    pub fn codes(&self, customer: usize, out: &mut [u32]) {
        let fitted = self.fitted.static_categories.iter().zip(&self.layout.static_categories);
        for ((out, codes), (fitted, &at)) in out.iter_mut().zip(&self.fixed_codes).zip(fitted) {
            let version = derive::column(self.panel, at).0.oldest(customer);
            *out = version.map_or(fitted.code(None), |version| codes[version]);
        }
    }

    /// The first months of a customer, `[months, month_width]`, as many as fit into `out`.
    pub fn months(&self, customer: usize, out: &mut [f32]) {
        let mut raw = vec![0.0; self.fitted.month_numbers.len()];
        for (since, out) in out.chunks_mut(self.fitted.month_width().max(1)).enumerate() {
            self.month(customer, since, &mut raw, out);
        }
    }

    /// The numbers that the MLP sees at one as-of month, `[snapshot_width]`.
    pub fn snapshot(&self, customer: usize, since: usize, out: &mut [f32]) {
        let (fixed, rest) = out.split_at_mut(self.fitted.static_width());
        let (month, window) = rest.split_at_mut(self.fitted.month_width());
        self.fixed(customer, fixed);
        let mut raw = vec![0.0; self.fitted.month_numbers.len()];
        self.month(customer, since, &mut raw, month);
        raw.resize(self.fitted.window_numbers.len(), 0.0);
        derive::windows(self.panel, &self.fitted.spec.windows, (customer, since), &mut raw);
        scale(&self.fitted.window_numbers, &raw, window);
    }

    fn month(&self, customer: usize, since: usize, raw: &mut [f32], out: &mut [f32]) {
        derive::month(self.panel, &self.layout, customer, since, raw);
        let mut at = scale(&self.fitted.month_numbers, raw, out);
        for (c, category) in self.fitted.month_categories.iter().enumerate() {
            let code = self.dated_code(c, customer, since);
            let one_hot = &mut out[at..at + category.codes()];
            one_hot.fill(0.0);
            one_hot[code as usize] = 1.0;
            at += category.codes();
        }
    }
}

/// A row for each of the chosen snapshots, `[chosen, width]`; `fill` is given a customer, a month of
/// its history, and zeros to write on.
pub(super) fn block(
    encoder: &Encoder,
    snapshots: &Snapshots,
    (chosen, width): (&[u32], usize),
    fill: impl Fn(usize, usize, &mut [f32]) + Sync,
) -> Block {
    let mut values = vec![0.0; chosen.len() * width];
    let rows = values.par_chunks_mut(width.max(1)).zip(chosen.par_iter());
    rows.for_each(|(out, &snapshot)| {
        let (customer, since) = snapshots.place(encoder.panel, snapshot as usize);
        fill(customer, since, out);
    });
    Block { values, width }
}

/// What the MLP sees of the given snapshots, `[chosen, snapshot_width]`.
pub fn snapshots_block(encoder: &Encoder, snapshots: &Snapshots, chosen: &[u32]) -> Block {
    let of = (chosen, encoder.snapshot_width());
    block(encoder, snapshots, of, |customer, since, out| encoder.snapshot(customer, since, out))
}

/// All columns that the MLP has of a snapshot, categories as codes: `[chosen, dense_kinds().len()]`.
pub fn dense_block(encoder: &Encoder, snapshots: &Snapshots, chosen: &[u32]) -> Block {
    let (numbers, width) = (encoder.snapshot_width(), dense_kinds(encoder.fitted).len());
    block(encoder, snapshots, (chosen, width), |customer, since, out| {
        let (out, categories) = out.split_at_mut(numbers);
        encoder.snapshot(customer, since, out);
        let mut codes = vec![0; categories.len()];
        encoder.codes(customer, &mut codes);
        categories.iter_mut().zip(codes).for_each(|(out, code)| *out = code as f32);
    })
}

/// Of the columns of [`dense_block`].
pub fn dense_kinds(fitted: &FittedFeatures) -> Vec<RawKind> {
    let counts = fitted.category_codes();
    let numbers = fitted.static_width() + fitted.month_width() + fitted.window_width();
    let categories = counts.into_iter().map(|codes| RawKind::Category { codes });
    std::iter::repeat_n(RawKind::Number, numbers).chain(categories).collect()
}

/// The matrix of the logistic regression: the MLP's numbers, and categories one-hot without their
/// first code, `[chosen, columns]`.
pub fn design(encoder: &Encoder, snapshots: &Snapshots, chosen: &[u32]) -> Block {
    let counts = encoder.fitted.category_codes();
    let (numbers, width) = (encoder.snapshot_width(), design_width(encoder.fitted));
    block(encoder, snapshots, (chosen, width), |customer, since, out| {
        encoder.snapshot(customer, since, &mut out[..numbers]);
        let mut codes = vec![0; counts.len()];
        encoder.codes(customer, &mut codes);
        let mut at = numbers;
        for (code, count) in codes.into_iter().zip(&counts) {
            if code > 0 {
                out[at + code as usize - 1] = 1.0;
            }
            at += count - 1;
        }
    })
}

/// Columns of [`design`].
pub fn design_width(fitted: &FittedFeatures) -> usize {
    let one_hot = fitted.category_codes().iter().map(|codes| codes - 1).sum::<usize>();
    fitted.static_width() + fitted.month_width() + fitted.window_width() + one_hot
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
